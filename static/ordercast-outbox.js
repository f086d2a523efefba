// Orders without a final answer. Each is sent with its key until it is answered, and the server counts a key once. They are
// kept in the browser's storage, so that they survive a reload. Part of ordercast.js.

import { Backoff } from './ordercast-backoff.js';
import { FORBIDDEN, UNAUTHORISED } from './ordercast-request.js';

/** More orders than a visitor makes by hand while a server restarts. */
export const MAX_ORDERS = 100;
/** Without an answer after this time, an order is waiting. */
const LATE_MS = 1_000;
/** The server keeps keys for 24 hours. An order sent again after that would be counted twice. */
const MAX_AGE_MS = 23 * 60 * 60 * 1_000;
/** Statuses of a server that accepts no orders now. They promise that the order was not counted. */
const NOT_COUNTED = [503, 507];

/**
 * Options, all of them optional:
 * - `storage`: a `Storage`, or `null` to keep orders in memory alone; by default `localStorage`, where there is one. Pages
 *   that share it send each other's orders again, under the same keys,
 * - `prefix`: the beginning of the names of its items; by default it names the server,
 * - `keyPrefix`: the beginning of the keys of orders, such as the name of a till,
 * - `send(order)`: sends an order once; rejects with a `Problem`.
 *
 * Callbacks, all of them optional:
 * - `onChange()`: `size`, `waiting` or `refusal` may have changed,
 * - `onState(order, state)`: the order is `sending`, `waiting`, `sent` or `refused`,
 * - `onRejected(order, problem)`: the order was rejected, and is removed,
 * - `onExpired(order)`: the order had no answer for too long, and is removed.
 *
 * An order is `{ id, amount, key, made, maybeCounted }` and what else was given to `add`: `id` of the product, `made` in
 * milliseconds since 1970; an `amount` below 0 takes orders back; `maybeCounted` means that an earlier attempt may have been
 * counted.
 */
export class Outbox {
  #options;
  #prefix;
  /**
   * A queue for each product: its `orders`, oldest first, whether they are `late`, and `retryNow()`, which ends a wait.
   * Orders of one product are sent one after another. Those of different products do not wait for each other.
   */
  #queues = new Map();
  #newest = 0;
  #refusal = null;

  constructor(options) {
    this.#options = { storage: defaultStorage(), keyPrefix: 'page-', ...options };
    this.#prefix = options.prefix;
  }

  /** The number of orders without a final answer. */
  get size() {
    return this.#count(() => true);
  }

  /** The number of orders that are late or were tried without success, and of those behind them. */
  get waiting() {
    return this.#count((queue) => queue.late);
  }

  /** The status with which the server accepts no orders now, or `null`. */
  get refusal() {
    return this.size === 0 ? null : this.#refusal;
  }

  /** Sends the orders that were without an answer when the page was closed. */
  resume() {
    const known = new Set([...this.#queues.values()].flatMap(({ orders }) => orders.map(({ key }) => key)));
    for (const order of this.#stored()) {
      if (!known.has(order.key)) this.#enqueue(order).late = true;
    }
    this.#options.onChange?.();
  }

  /**
   * Sends an order, `{ id, amount }` and what else belongs to it, under a new key or under its own `key`. Returns the order;
   * `null` if too many have no answer yet.
   */
  add(wanted) {
    if (this.size >= MAX_ORDERS) return null;
    // Distinct times, so that the sequence of orders survives a reload.
    const made = Math.max(Date.now(), this.#newest + 1);
    const order = { ...wanted, key: wanted.key ?? newKey(this.#options.keyPrefix), made, maybeCounted: false };
    this.#store(order);
    const { late } = this.#enqueue(order);
    this.#options.onState?.(order, late ? 'waiting' : 'sending');
    this.#options.onChange?.();
    return order;
  }

  /** The server answers again: ends all waits between attempts. */
  retryNow() {
    for (const queue of this.#queues.values()) queue.retryNow();
  }

  #count(counts) {
    return [...this.#queues.values()].filter(counts).reduce((sum, { orders }) => sum + orders.length, 0);
  }

  #enqueue(order) {
    this.#newest = Math.max(this.#newest, order.made);
    let queue = this.#queues.get(order.id);
    if (queue) {
      queue.orders.push(order);
    } else {
      queue = { orders: [order], late: false, retryNow() {} };
      this.#queues.set(order.id, queue);
      this.#sendAll(order.id, queue);
    }
    return queue;
  }

  async #sendAll(id, queue) {
    const backoff = new Backoff();
    while (queue.orders.length > 0) {
      const [order] = queue.orders;
      if (Date.now() - order.made > MAX_AGE_MS) {
        this.#remove(queue, 1);
        this.#options.onState?.(order, 'refused');
        this.#options.onExpired?.(order);
        continue;
      }
      const problem = await this.#send(order, queue);
      if (problem === null) {
        backoff.reset();
        this.#refusal = null;
        this.#answered(queue);
        this.#remove(queue, 1);
        this.#options.onState?.(order, 'sent');
      } else if (problem.isFinal) {
        // Without a token all orders of the queue are removed, so that a visitor is asked once and not for each.
        const all = problem.status === UNAUTHORISED || problem.status === FORBIDDEN;
        if (!all) this.#answered(queue);
        const rejected = this.#remove(queue, all ? queue.orders.length : 1);
        for (const order of rejected) {
          this.#options.onState?.(order, 'refused');
          this.#options.onRejected?.(order, problem);
        }
      } else {
        const isRefused = NOT_COUNTED.includes(problem.status);
        order.maybeCounted ||= !isRefused;
        if (isRefused) this.#refusal = problem.status;
        this.#setLate(queue);
        this.#options.onChange?.();
        await new Promise((resolve) => {
          queue.retryNow = resolve;
          setTimeout(resolve, backoff.next());
        });
      }
    }
    this.#queues.delete(id);
    this.#options.onChange?.();
  }

  /** Resolves to the problem, or to `null`. */
  async #send(order, queue) {
    const timer = setTimeout(() => this.#setLate(queue), LATE_MS);
    try {
      await this.#options.send(order);
      return null;
    } catch (problem) {
      return problem;
    } finally {
      clearTimeout(timer);
    }
  }

  #setLate(queue) {
    if (queue.late) return;
    queue.late = true;
    for (const order of queue.orders) this.#options.onState?.(order, 'waiting');
    this.#options.onChange?.();
  }

  /** The first order has its answer. The next one is late when its own takes too long. */
  #answered(queue) {
    if (!queue.late) return;
    queue.late = false;
    for (const order of queue.orders.slice(1)) this.#options.onState?.(order, 'sending');
  }

  /** Removes the first `count` orders, and returns them. */
  #remove(queue, count) {
    const removed = queue.orders.splice(0, count);
    for (const { key } of removed) this.#unstore(key);
    this.#options.onChange?.();
    return removed;
  }

  /** Each order is an item of its own, so that a page restored from the browser's history cannot overwrite those of another. */
  #stored() {
    const { storage } = this.#options;
    let items;
    try {
      const names = Object.keys(storage).filter((name) => name.startsWith(this.#prefix));
      items = names.map((name) => [name.slice(this.#prefix.length), storage.getItem(name)]);
    } catch {
      return [];
    }
    return items
      .map(([key, text]) => this.#parse(key, text))
      .filter((order) => order !== null)
      .sort((one, other) => one.made - other.made);
  }

  /** The order of a stored item. An item that is no order is removed, and `null` returned. */
  #parse(key, text) {
    try {
      const order = JSON.parse(text);
      // It may have been sent before the page was closed.
      if ('id' in order && Number.isFinite(order.made)) return { ...order, key, maybeCounted: true };
    } catch {}
    this.#unstore(key);
    return null;
  }

  /** Throws in a browser that is set to store nothing. The order then ends with the page. */
  #store({ key, maybeCounted, ...order }) {
    try {
      this.#options.storage.setItem(this.#prefix + key, JSON.stringify(order));
    } catch {}
  }

  #unstore(key) {
    try {
      this.#options.storage.removeItem(this.#prefix + key);
    } catch {}
  }
}

/** A worker has no storage, and reading it throws in a browser that is set to store nothing. */
function defaultStorage() {
  try {
    return globalThis.localStorage ?? null;
  } catch {
    return null;
  }
}

/** Not `crypto.randomUUID`, which a page loaded over plain HTTP, as on a LAN, does not have. */
function newKey(prefix) {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return prefix + Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
