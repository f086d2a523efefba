// The client of an Ordercast server for web pages and workers: requests, live totals that resume, and orders that are sent
// until they are answered. It shows nothing, and uses no document. docs/client.md describes it, with an example page. The
// files ordercast-….js belong to it.
//
//   import { Ordercast } from 'http://localhost:3000/ordercast.js';
//   const shop = new Ordercast();
//   shop.feed({ onTotal: (id, total) => console.log(id, total) }).watch('electronics');
//   shop.outbox().add({ id: 'A1', amount: 2 });

import { Feed } from './ordercast-feed.js';
import { Outbox } from './ordercast-outbox.js';
import { send, valueOf } from './ordercast-request.js';

export { Backoff } from './ordercast-backoff.js';
export { ALL, Feed } from './ordercast-feed.js';
export { MAX_ORDERS, Outbox } from './ordercast-outbox.js';
export { CONFLICT, FORBIDDEN, NOT_FOUND, NO_ANSWER, Problem, UNAUTHORISED, valueOf } from './ordercast-request.js';

/** A server. */
export class Ordercast {
  #url;
  #token;

  /**
   * @param {object} [options]
   * @param {string | URL} [options.url] The server's address, with a slash at its end: by default the one that this module
   *   was loaded from.
   * @param {() => string | null} [options.token] Returns the token, if the server needs one. It is called for each request
   *   and each connection.
   */
  constructor({ url = new URL('.', import.meta.url), token = () => null } = {}) {
    this.#url = url;
    this.#token = token;
  }

  /** Live totals, with the callbacks of `Feed`. They begin with `watch(category)`. */
  feed(callbacks) {
    return new Feed(this, callbacks);
  }

  /** Orders that are sent until they are answered, with the options and callbacks of `Outbox`. */
  outbox(options = {}) {
    return new Outbox({ send: (order) => this.order(order), prefix: `ordercast-order:${this.#url}:`, ...options });
  }

  /**
   * Sends one order once. Resolves when it is on the server's disk; rejects with a `Problem`. A repeat with the same key is
   * not counted again.
   */
  order({ id, amount, key }) {
    return this.request(`orders/${encodeURIComponent(id)}`, { body: { amount }, key });
  }

  /**
   * Sends a request: any route of docs/api.md, relative to the server's address. Resolves to the JSON of the answer, or with
   * `accept` to its text; rejects with a `Problem`.
   *
   * @param {string} path
   * @param {{ body?: any, method?: string, key?: string, accept?: string, token?: string | null }} [options] With a `body`
   *   the method is POST, unless another one is given.
   */
  async request(path, options = {}) {
    return valueOf(await this.send(path, options), options.accept !== undefined);
  }

  /** Like `request`, but resolves to `{ ok, status, answer }` whatever the status. */
  send(path, options = {}) {
    return send(new URL(path, this.#url), { token: this.#token(), ...options });
  }

  /**
   * Opens the WebSocket of a path with the parameters of a query. A page cannot set header fields of a handshake: the token is
   * sent as a subprotocol.
   */
  open(path, query) {
    const address = new URL(path, this.#url);
    address.protocol = address.protocol.replace('http', 'ws');
    address.search = query;
    const token = this.#token();
    return new WebSocket(address, token === null ? [] : ['bearer', token]);
  }
}
