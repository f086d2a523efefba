// Requests to the server: addresses relative to the page, JSON, the header fields with the token and the key, and errors
// whose message can be shown to a visitor.

import { texts } from './texts.js';
import { ADD, CATEGORY, CLOSE, MANAGE, ORDER, READ, access } from './token.js';

/** A request without an answer after this time has failed. */
const REQUEST_DEADLINE_MS = 8_000;
/** Statuses of a proxy whose server did not answer it: these count as no answer. */
const UNANSWERED = [502, 504];
/** Statuses of the server or a proxy after which the same request may succeed: too slow, too early, too many. */
const RETRYABLE = [408, 425, 429];
/** The form of a category's name, and names that no category has. */
const CATEGORY_NAME = /^[a-z0-9_-]{1,64}$/;
const ROUTES = ['orders', 'log', 'healthz', 'readyz', 'metrics', 'categories', 'rates', 'periods'];
/** The status of a problem without an answer. */
export const NO_ANSWER = 0;
export const NOT_FOUND = 404;
export const CONFLICT = 409;

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

/** All categories: `[{ name, title, products }]`. */
export const categories = () => request(READ, 'categories');

/** The products of a category; with `hidden` also those that are not shown. An address may name anything. */
export async function products(category, hidden = false) {
  if (!CATEGORY_NAME.test(category) || ROUTES.includes(category)) throw new Problem('', NOT_FOUND);
  return request(READ, `${category}${hidden ? '?hidden=true' : ''}`);
}

/** The current totals of a category: `[{ id, total }]`. */
export const totals = (category) => request(READ, `orders/${encodeURIComponent(category)}`);

/** Adds a product. Resolves to the updated list of the category. */
export const addProduct = (category, product) => request(ADD, encodeURIComponent(category), { body: product });

/** Changes a product: any of `name`, `rrp`, `info` and `hidden`. */
export const changeProduct = (category, id, patch) =>
  request(MANAGE, `${encodeURIComponent(category)}/${encodeURIComponent(id)}`, { method: 'PATCH', body: patch });

/** Creates a category, `{ title, prefix }`, or changes its title. */
export const putCategory = (name, category) =>
  request(CATEGORY, encodeURIComponent(name), { method: 'PUT', body: category });

/** The orders of the last 60 minutes: `{ products: [{ id, amounts, ordered }], complete }`. */
export const rates = (category) => request(READ, `rates/${encodeURIComponent(category)}`);

/** The report of a period: `{ number, opened, closed, products: [{ category, id, name, amount }] }`; `closed` if it is. */
export const report = (number) => request(READ, `periods/${number}`);
export const reportCsv = (number) => request(READ, `periods/${number}`, { accept: 'text/csv' });

/** Closes a period, if it is the current one. Resolves to its report. */
export const closePeriod = (number) => request(CLOSE, 'periods', { body: { number }, about: number });

/** Sends an order. Resolves once it is on the server's disk. A repeat with the same key is not counted again. */
export const addOrder = ({ id, amount, key }) =>
  request(ORDER, `orders/${encodeURIComponent(id)}`, { body: { amount }, key });

/**
 * Opens the live feed of a category, with the options of a query. A page cannot set header fields of a handshake: the token is
 * sent as a subprotocol.
 */
export function openFeed(category, query) {
  const address = new URL(`orders/${encodeURIComponent(category)}?${query}`, document.baseURI);
  address.protocol = address.protocol.replace('http', 'ws');
  address.hash = '';
  const token = access.tokenForReading;
  return new WebSocket(address, token === null ? [] : ['bearer', token]);
}

async function request(need, path, options = {}) {
  let response;
  try {
    response = await access.request((token) => send(path, token, options), need, options.about);
  } catch {
    throw new Problem(texts.noAnswer, NO_ANSWER);
  }
  if (UNANSWERED.includes(response.status)) throw new Problem(texts.noAnswer, NO_ANSWER);
  const { answer } = response;
  if (response.ok && options.accept !== undefined) return answer;
  let detail = texts.unexpectedAnswer(response.status);
  try {
    const value = JSON.parse(answer);
    if (response.ok) return value;
    detail = value.detail ?? detail;
  } catch {
    // Not JSON.
  }
  throw new Problem(detail, response.status);
}

/**
 * Resolves to the status and the text of the answer. The text is read at once: after the deadline it could not be
 * read, and the visitor may be asked for a token before the answer is used.
 */
async function send(path, token, { body, key, accept, method = 'POST' }) {
  const headers = new Headers();
  if (token !== null) headers.set('Authorization', `Bearer ${token}`);
  // A quoted string (draft-ietf-httpapi-idempotency-key-header, section 2.1).
  if (key !== undefined) headers.set('Idempotency-Key', `"${key}"`);
  if (accept !== undefined) headers.set('Accept', accept);
  const options = { headers, cache: 'no-store', signal: AbortSignal.timeout(REQUEST_DEADLINE_MS) };
  if (body !== undefined) {
    headers.set('Content-Type', 'application/json');
    options.method = method;
    options.body = JSON.stringify(body);
  }
  const response = await fetch(new URL(path, document.baseURI), options);
  return { ok: response.ok, status: response.status, answer: await response.text() };
}
