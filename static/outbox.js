// Owns the orders that the server has not answered for good: their keys, their turn, their place in sessionStorage (so
// that they survive a reload, and end with the tab), and that each is sent until it is answered. Under its key an order
// counts once, however often it is sent. Knows nothing of the page.

import { addOrder } from './api.js';
import { Backoff } from './backoff.js';

/** More than anybody makes by hand while a server restarts. */
export const MOST_ORDERS = 100;
/** An answer that takes longer than this is worth a word. */
const PATIENCE_MS = 1_000;
/** The server forgets keys after 24 hours; an order that is sent again after that would count again. */
const SENT_FOR_MS = 23 * 60 * 60 * 1_000;
const UNAUTHORISED = 401;
const FORBIDDEN = 403;
/** What the server says when it has made sure that an order was not counted. */
const NOT_COUNTED = [503, 507];

/** Several servers may share an origin, each under a path of its own: an order is for the one that it was made at. */
const PREFIX = `ordercast-order:${new URL('.', document.baseURI).pathname}:`;

/**
 * Calls back with
 * - `onChange()`: `waiting` may have changed,
 * - `onRefused(order, problem)`: the order was refused, and is forgotten,
 * - `onExpired(order)`: the order had no answer for too long, and is forgotten.
 *
 * An order is `{ id, name, amount, key, made, doubtful }`: `id` and `name` are the product's, `made` is when, in
 * milliseconds since 1970, and it is `doubtful` when a try of it may have been counted without an answer that says so.
 */
export class Outbox {
  #callbacks;
  /**
   * By product: its `orders`, oldest first, whether they are `late`, and how to `wake` them from a pause. Orders to one
   * product are sent one after another, in their order; those to different products do not wait for each other.
   */
  #lines = new Map();
  #newest = 0;

  constructor(callbacks) {
    this.#callbacks = callbacks;
  }

  /** All orders without an answer for good, also those that were sent a moment ago. */
  get size() {
    return this.#count(() => true);
  }

  /** The orders that have been without an answer for so long, or in vain, that a visitor should know. */
  get waiting() {
    return this.#count((line) => line.late);
  }

  /** Goes on with what waited when the page was left. */
  resume() {
    for (const order of stored()) this.#enqueue(order).late = true;
    this.#callbacks.onChange();
  }

  /** Sends an order, `{ id, name, amount }`; `false` if too many wait already. */
  add(wanted) {
    if (this.size >= MOST_ORDERS) return false;
    // No two at the same time, so that their order survives a reload.
    const made = Math.max(Date.now(), this.#newest + 1);
    const order = { ...wanted, key: newKey(), made, doubtful: false };
    store(order);
    this.#enqueue(order);
    this.#callbacks.onChange();
    return true;
  }

  /** The server is there again: no pause is waited out. */
  hurry() {
    for (const line of this.#lines.values()) line.wake();
  }

  #count(counts) {
    return [...this.#lines.values()].filter(counts).reduce((sum, { orders }) => sum + orders.length, 0);
  }

  #enqueue(order) {
    this.#newest = Math.max(this.#newest, order.made);
    let line = this.#lines.get(order.id);
    if (line) {
      line.orders.push(order);
    } else {
      line = { orders: [order], late: false, wake() {} };
      this.#lines.set(order.id, line);
      this.#work(order.id, line);
    }
    return line;
  }

  async #work(id, line) {
    const backoff = new Backoff();
    while (line.orders.length > 0) {
      const [order] = line.orders;
      if (Date.now() - order.made > SENT_FOR_MS) {
        this.#forget(line, 1);
        this.#callbacks.onExpired(order);
        continue;
      }
      const problem = await this.#send(order, line);
      if (problem === null) {
        backoff.reset();
        this.#forget(line, 1);
      } else if (problem.stands) {
        // A visitor who has given no token for one order is not asked anew for each one behind it.
        const all = problem.status === UNAUTHORISED || problem.status === FORBIDDEN;
        const refused = this.#forget(line, all ? line.orders.length : 1);
        for (const order of refused) this.#callbacks.onRefused(order, problem);
      } else {
        order.doubtful ||= !NOT_COUNTED.includes(problem.status);
        this.#delay(line);
        await new Promise((resolve) => {
          line.wake = resolve;
          setTimeout(resolve, backoff.next());
        });
      }
    }
    this.#lines.delete(id);
    this.#callbacks.onChange();
  }

  /** Resolves to what was wrong, or to `null`. */
  async #send(order, line) {
    const patience = setTimeout(() => this.#delay(line), PATIENCE_MS);
    try {
      await addOrder(order);
      return null;
    } catch (problem) {
      return problem;
    } finally {
      clearTimeout(patience);
    }
  }

  #delay(line) {
    line.late = true;
    this.#callbacks.onChange();
  }

  #forget(line, count) {
    const forgotten = line.orders.splice(0, count);
    for (const { key } of forgotten) unstore(key);
    this.#callbacks.onChange();
    return forgotten;
  }
}

/** `crypto.randomUUID` is missing where a page came over plain HTTP, as on a LAN. */
function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `board-${Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')}`;
}

/** Each order is an item of its own, so that a page that the browser brings back from its history overwrites no other's. */
function stored() {
  try {
    return Object.keys(sessionStorage)
      .filter((name) => name.startsWith(PREFIX))
      .map((name) => ({
        ...JSON.parse(sessionStorage.getItem(name)),
        key: name.slice(PREFIX.length),
        // It may have been under way when the page was left.
        doubtful: true,
      }))
      .sort((one, other) => one.made - other.made);
  } catch {
    return [];
  }
}

/** A browser that was told to keep nothing throws; an order then waits as long as the page lives. */
function store({ key, id, name, amount, made }) {
  try {
    sessionStorage.setItem(PREFIX + key, JSON.stringify({ id, name, amount, made }));
  } catch {
    // See above.
  }
}

function unstore(key) {
  try {
    sessionStorage.removeItem(PREFIX + key);
  } catch {
    // See above.
  }
}
