// The orders without a final answer. Each is sent with its key until it is answered, and the server counts a key once.
// They are kept in sessionStorage, so that they survive a reload and end with the tab.

import { addOrder } from './api.js';
import { Backoff } from './backoff.js';
import { FORBIDDEN, UNAUTHORISED } from './token.js';

/** More orders than a visitor makes by hand while a server restarts. */
export const MAX_ORDERS = 100;
/** Without an answer after this time, an order is shown as waiting. */
const LATE_MS = 1_000;
/** The server keeps keys for 24 hours. An order sent again after that would be counted twice. */
const MAX_AGE_MS = 23 * 60 * 60 * 1_000;
/** Statuses of a server that accepts no orders now. They promise that the order was not counted. */
const NOT_COUNTED = [503, 507];

/** Contains the path, because several servers may share an origin, each under a path of its own. */
const PREFIX = `ordercast-order:${new URL('.', document.baseURI).pathname}:`;

/**
 * Callbacks:
 * - `onChange()`: `waiting` or `refusal` may have changed,
 * - `onState(order, state)`: the order is `sending`, `waiting`, `sent` or `refused`,
 * - `onRejected(order, problem)`: the order was rejected, and is removed,
 * - `onExpired(order)`: the order had no answer for too long, and is removed.
 *
 * An order is `{ id, name, amount, undoes, key, made, maybeCounted }`: `id` and `name` of the product, `made` in
 * milliseconds since 1970; an `amount` below 0 takes orders back; `undoes` is the key of the order that this one takes
 * back, if any; `maybeCounted` means that an earlier attempt may have been counted.
 */
export class Outbox {
  #callbacks;
  /**
   * A queue for each product: its `orders`, oldest first, whether they are `late`, and `retryNow()`, which ends a wait.
   * Orders of one product are sent one after another. Those of different products do not wait for each other.
   */
  #queues = new Map();
  #newest = 0;
  #refusal = null;

  constructor(callbacks) {
    this.#callbacks = callbacks;
  }

  /** The number of orders without a final answer. */
  get size() {
    return this.#count(() => true);
  }

  /** The number of orders that the visitor should know of: late, or tried without success. */
  get waiting() {
    return this.#count((queue) => queue.late);
  }

  /** The status with which the server accepts no orders now, or `null`. */
  get refusal() {
    return this.size === 0 ? null : this.#refusal;
  }

  /** Sends the orders that were without an answer when the page was closed. */
  resume() {
    for (const order of stored()) this.#enqueue(order).late = true;
    this.#callbacks.onChange();
  }

  /** Sends an order, `{ id, name, amount, undoes }`; `false` if too many have no answer yet. */
  add(wanted) {
    if (this.size >= MAX_ORDERS) return false;
    // Distinct times, so that the sequence of orders survives a reload.
    const made = Math.max(Date.now(), this.#newest + 1);
    // An order is taken back under one key, so that it counts once, also from a copy of this tab.
    const key = wanted.undoes === undefined ? newKey() : `${wanted.undoes}-undo`;
    const order = { ...wanted, key, made, maybeCounted: false };
    store(order);
    this.#callbacks.onState(order, this.#enqueue(order).late ? 'waiting' : 'sending');
    this.#callbacks.onChange();
    return true;
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
        this.#callbacks.onState(order, 'refused');
        this.#callbacks.onExpired(order);
        continue;
      }
      const problem = await this.#send(order, queue);
      if (problem === null) {
        backoff.reset();
        this.#refusal = null;
        this.#remove(queue, 1);
        this.#callbacks.onState(order, 'sent');
      } else if (problem.isFinal) {
        // Without a token all orders of the queue are removed, so that the visitor is asked once and not for each.
        const all = problem.status === UNAUTHORISED || problem.status === FORBIDDEN;
        const rejected = this.#remove(queue, all ? queue.orders.length : 1);
        for (const order of rejected) {
          this.#callbacks.onState(order, 'refused');
          this.#callbacks.onRejected(order, problem);
        }
      } else {
        const isRefused = NOT_COUNTED.includes(problem.status);
        order.maybeCounted ||= !isRefused;
        if (isRefused) this.#refusal = problem.status;
        this.#setLate(queue);
        this.#callbacks.onChange();
        await new Promise((resolve) => {
          queue.retryNow = resolve;
          setTimeout(resolve, backoff.next());
        });
      }
    }
    this.#queues.delete(id);
    this.#callbacks.onChange();
  }

  /** Resolves to the problem, or to `null`. */
  async #send(order, queue) {
    const timer = setTimeout(() => this.#setLate(queue), LATE_MS);
    try {
      await addOrder(order);
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
    for (const order of queue.orders) this.#callbacks.onState(order, 'waiting');
    this.#callbacks.onChange();
  }

  /** Removes the first `count` orders, and returns them. */
  #remove(queue, count) {
    const removed = queue.orders.splice(0, count);
    for (const { key } of removed) unstore(key);
    this.#callbacks.onChange();
    return removed;
  }
}

/** Not `crypto.randomUUID`, which a page loaded over plain HTTP, as on a LAN, does not have. */
function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `board-${Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')}`;
}

/** Each order is an item of its own, so that a page restored from the browser's history cannot overwrite those of another. */
function stored() {
  try {
    return Object.keys(sessionStorage)
      .filter((name) => name.startsWith(PREFIX))
      .map((name) => ({
        ...JSON.parse(sessionStorage.getItem(name)),
        key: name.slice(PREFIX.length),
        // It may have been sent before the page was closed.
        maybeCounted: true,
      }))
      .sort((one, other) => one.made - other.made);
  } catch {
    return [];
  }
}

/** Throws in a browser that is set to store nothing. The order then ends with the page. */
function store({ key, id, name, amount, undoes, made }) {
  try {
    sessionStorage.setItem(PREFIX + key, JSON.stringify({ id, name, amount, undoes, made }));
  } catch {}
}

function unstore(key) {
  try {
    sessionStorage.removeItem(PREFIX + key);
  } catch {}
}
