// The board's requests: addresses relative to the page, the token that each needs, and errors whose message can be shown to a
// visitor. ordercast.js sends them.

import { NOT_FOUND, NO_ANSWER, Ordercast, Problem, valueOf } from './ordercast.js';
import { texts } from './texts.js';
import { ADD, CATEGORY, CLOSE, MANAGE, ORDER, READ, access } from './token.js';

/** The form of a category's name, and names that no category has. */
const CATEGORY_NAME = /^[a-z0-9_-]{1,64}$/;
const ROUTES = ['orders', 'log', 'healthz', 'readyz', 'metrics', 'categories', 'rates', 'periods'];

/** The server of the page. */
export const server = new Ordercast({
  url: new URL('.', document.baseURI),
  token: () => access.tokenForReading,
});

/** All categories: `[{ name, title, products }]`. */
export const categories = () => request(READ, 'categories');

/** The products of a category; with `hidden` also those that are not shown. An address may name anything. */
export async function products(category, hidden = false) {
  if (!CATEGORY_NAME.test(category) || ROUTES.includes(category)) throw new Problem(NOT_FOUND, '');
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

const addOrder = ({ id, amount, key }) =>
  request(ORDER, `orders/${encodeURIComponent(id)}`, { body: { amount }, key });

/** Orders of this tab, which end with it. Several servers may share an origin, each under a path of its own. */
export const outbox = (callbacks) =>
  server.outbox({
    send: addOrder,
    storage: tabStorage(),
    prefix: `ordercast-order:${new URL('.', document.baseURI).pathname}:`,
    keyPrefix: 'board-',
    ...callbacks,
  });

/** Reading it throws in a browser that is set to store nothing. */
function tabStorage() {
  try {
    return sessionStorage;
  } catch {
    return null;
  }
}

async function request(need, path, options = {}) {
  try {
    const response = await access.request((token) => server.send(path, { ...options, token }), need, options.about);
    return valueOf(response, options.accept !== undefined);
  } catch (problem) {
    // The server's texts are shown as they are.
    const { status = NO_ANSWER, detail } = problem;
    const text = status === NO_ANSWER ? texts.noAnswer : texts.unexpectedAnswer(status);
    throw new Problem(status, detail ?? text);
  }
}
