// Owns the HTTP side: addresses relative to the page, JSON both ways, and one kind of error with words fit to show.

/** A request that has no answer by then counts as failed. */
const REQUEST_DEADLINE_MS = 8_000;

/** A refusal of the server (its `detail`, its `status`), or no answer at all (`status` 0). */
export class Problem extends Error {
  constructor(message, status) {
    super(message);
    this.name = 'Problem';
    this.status = status;
  }
}

export const categories = () => request('categories');

export const products = (category) => request(encodeURIComponent(category));

/** Adds a product; resolves to the category's updated list. */
export const addProduct = (category, product) => request(encodeURIComponent(category), product);

/** Adds to a product's tally; resolves once the order is on the server's disk. */
export const addOrder = (id, amount) => request(`orders/${encodeURIComponent(id)}`, { amount });

/** The address of a category's live feed. */
export function feedAddress(category) {
  const address = new URL(`orders/${encodeURIComponent(category)}`, document.baseURI);
  address.protocol = address.protocol.replace('http', 'ws');
  address.hash = '';
  return address.href;
}

async function request(path, body) {
  const options = { cache: 'no-store', signal: AbortSignal.timeout(REQUEST_DEADLINE_MS) };
  if (body !== undefined) {
    options.method = 'POST';
    options.headers = { 'Content-Type': 'application/json' };
    options.body = JSON.stringify(body);
  }
  let response;
  let answer;
  try {
    response = await fetch(new URL(path, document.baseURI), options);
    answer = await response.text();
  } catch {
    throw new Problem('The server does not answer.', 0);
  }
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
