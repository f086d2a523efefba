// Owns the HTTP side: addresses relative to the page, JSON both ways, the lines that carry a token, and one kind of
// error with words fit to show.

import { ADD, ORDER, READ, access } from './token.js';

/** A request that has no answer by then counts as failed. */
const REQUEST_DEADLINE_MS = 8_000;
/** What a proxy says for a server that did not answer it (502, 504): no answer of the server's either. */
const UNANSWERED = [502, 504];
/** Refusals of this moment: too slow, too early, too many at a time (the server, or a proxy). */
const PASSING = [408, 425, 429];

/** A refusal of the server (its `detail`, its `status`), or no answer at all (`status` 0). */
export class Problem extends Error {
  constructor(message, status) {
    super(message);
    this.name = 'Problem';
    this.status = status;
  }

  /** Whether the same request would be refused again. */
  get stands() {
    return this.status >= 400 && this.status < 500 && !PASSING.includes(this.status);
  }
}

export const categories = () => request(READ, 'categories');

export const products = (category) => request(READ, encodeURIComponent(category));

/** Adds a product; resolves to the category's updated list. */
export const addProduct = (category, product) => request(ADD, encodeURIComponent(category), product);

/** Adds to a product's tally; resolves once the order is on the server's disk. A repeat under its key counts nothing. */
export const addOrder = ({ id, amount, key }) => request(ORDER, `orders/${encodeURIComponent(id)}`, { amount }, key);

/** Opens a category's live feed. A page cannot set the lines of a handshake, so a token goes as a subprotocol's name. */
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
    throw new Problem('The server does not answer.', 0);
  }
  if (UNANSWERED.includes(response.status)) throw new Problem('The server does not answer.', 0);
  let value;
  try {
    value = JSON.parse(answer);
  } catch {
    throw new Problem(`The server answered with status ${response.status} and no JSON.`, response.status);
  }
  if (!response.ok) {
    throw new Problem(value?.detail ?? `The server answered with status ${response.status}.`, response.status);
  }
  return value;
}

function send(path, body, token, key) {
  const headers = new Headers();
  if (token !== null) headers.set('Authorization', `Bearer ${token}`);
  // A string in quotes (draft-ietf-httpapi-idempotency-key-header, section 2.1).
  if (key !== undefined) headers.set('Idempotency-Key', `"${key}"`);
  const options = { headers, cache: 'no-store', signal: AbortSignal.timeout(REQUEST_DEADLINE_MS) };
  if (body !== undefined) {
    headers.set('Content-Type', 'application/json');
    options.method = 'POST';
    options.body = JSON.stringify(body);
  }
  return fetch(new URL(path, document.baseURI), options);
}
