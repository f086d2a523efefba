// Requests to the server: addresses relative to the page, JSON, the header fields with the token and the key, and errors
// whose message can be shown to a visitor.

import { ADD, ORDER, READ, access } from './token.js';

/** A request without an answer after this time has failed. */
const REQUEST_DEADLINE_MS = 8_000;
/** Statuses of a proxy whose server did not answer it: these count as no answer. */
const UNANSWERED = [502, 504];
const UNANSWERED_TEXT = 'The server does not answer.';
/** Statuses of the server or a proxy after which the same request may succeed: too slow, too early, too many. */
const RETRYABLE = [408, 425, 429];
/** The status of a problem without an answer. */
export const NO_ANSWER = 0;
export const NOT_FOUND = 404;

/** An error that the server answered with (its `detail` and `status`), or no answer (`NO_ANSWER`). */
export class Problem extends Error {
  constructor(message, status) {
    super(message);
    this.name = 'Problem';
    this.status = status;
  }

  /** Whether the same request would be rejected again. */
  get isFinal() {
    return this.status >= 400 && this.status < 500 && !RETRYABLE.includes(this.status);
  }
}

export const categories = () => request(READ, 'categories');

export const products = (category) => request(READ, encodeURIComponent(category));

/** Adds a product. Resolves to the updated list of the category. */
export const addProduct = (category, product) => request(ADD, encodeURIComponent(category), product);

/** Sends an order. Resolves once it is on the server's disk. A repeat with the same key is not counted again. */
export const addOrder = ({ id, amount, key }) => request(ORDER, `orders/${encodeURIComponent(id)}`, { amount }, key);

/** Opens the live feed of a category. A page cannot set header fields of a handshake: the token is sent as a subprotocol. */
export function openFeed(category) {
  const address = new URL(`orders/${encodeURIComponent(category)}`, document.baseURI);
  address.protocol = address.protocol.replace('http', 'ws');
  address.hash = '';
  return new WebSocket(address, access.token === null ? [] : ['bearer', access.token]);
}

async function request(need, path, body, key) {
  let response;
  let answer;
  try {
    response = await access.request((token) => send(path, body, token, key), need);
    answer = await response.text();
  } catch {
    throw new Problem(UNANSWERED_TEXT, NO_ANSWER);
  }
  if (UNANSWERED.includes(response.status)) throw new Problem(UNANSWERED_TEXT, NO_ANSWER);
  let detail = `The server sent an unexpected answer (${response.status}).`;
  try {
    const value = JSON.parse(answer);
    if (response.ok) return value;
    detail = value.detail ?? detail;
  } catch {
    // Not JSON.
  }
  throw new Problem(detail, response.status);
}

function send(path, body, token, key) {
  const headers = new Headers();
  if (token !== null) headers.set('Authorization', `Bearer ${token}`);
  // A quoted string (draft-ietf-httpapi-idempotency-key-header, section 2.1).
  if (key !== undefined) headers.set('Idempotency-Key', `"${key}"`);
  const options = { headers, cache: 'no-store', signal: AbortSignal.timeout(REQUEST_DEADLINE_MS) };
  if (body !== undefined) {
    headers.set('Content-Type', 'application/json');
    options.method = 'POST';
    options.body = JSON.stringify(body);
  }
  return fetch(new URL(path, document.baseURI), options);
}
