// Requests to a server: the deadline, the header fields with the token and the key, and errors. Part of ordercast.js.

/** A request without an answer after this time has failed. */
const REQUEST_DEADLINE_MS = 8_000;
/** Statuses of a proxy whose server did not answer it: these count as no answer. */
const UNANSWERED = [502, 504];
/** Statuses of the server or a proxy after which the same request may succeed: too slow, too early, too many. */
const RETRYABLE = [408, 425, 429];
/** The status of a problem without an answer. */
export const NO_ANSWER = 0;
export const UNAUTHORISED = 401;
export const FORBIDDEN = 403;
export const NOT_FOUND = 404;
export const CONFLICT = 409;

/** An error that the server answered with, or no answer (`NO_ANSWER`). */
export class Problem extends Error {
  /** `detail` is the server's text, which says what to do; `null` if there is none. */
  constructor(status, detail = null) {
    super(detail ?? (status === NO_ANSWER ? 'the server does not answer' : `unexpected answer with status ${status}`));
    this.name = 'Problem';
    this.status = status;
    this.detail = detail;
  }

  /** Whether the same request would be rejected again. */
  get isFinal() {
    return this.status >= 400 && this.status < 500 && !RETRYABLE.includes(this.status);
  }
}

/**
 * Sends a request. Resolves to `{ ok, status, answer }`, whatever the status, for `valueOf`; rejects with a `Problem` if
 * there is no answer. With a `body` the method is POST unless another one is given. The answer's text is read at once:
 * after the deadline it could not be read.
 */
export async function send(address, { token, body, key, accept, method = body === undefined ? 'GET' : 'POST' }) {
  const headers = new Headers();
  if (token !== null) headers.set('Authorization', `Bearer ${token}`);
  // A quoted string (draft-ietf-httpapi-idempotency-key-header, section 2.1).
  if (key !== undefined) headers.set('Idempotency-Key', `"${key}"`);
  if (accept !== undefined) headers.set('Accept', accept);
  const options = { method, headers, cache: 'no-store', signal: AbortSignal.timeout(REQUEST_DEADLINE_MS) };
  if (body !== undefined) {
    headers.set('Content-Type', 'application/json');
    options.body = JSON.stringify(body);
  }
  try {
    const response = await fetch(address, options);
    return { ok: response.ok, status: response.status, answer: await response.text() };
  } catch {
    throw new Problem(NO_ANSWER);
  }
}

/** The JSON of a response of `send`, or its text; throws its `Problem`. */
export function valueOf({ ok, status, answer }, asText = false) {
  if (UNANSWERED.includes(status)) throw new Problem(NO_ANSWER);
  if (ok && asText) return answer;
  let value;
  try {
    value = JSON.parse(answer);
  } catch {
    throw new Problem(status);
  }
  if (!ok) throw new Problem(status, value?.detail ?? null);
  return value;
}
