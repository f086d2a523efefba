// The live subscription: one WebSocket, its reconnection, and the check that it still works. The list of products is
// loaded before subscribing, so that totals arrive for known products.

import { NOT_FOUND, openFeed } from './api.js';
import { Backoff } from './backoff.js';
import { UNAUTHORISED } from './token.js';

/** After this time without a total, a new snapshot is requested, which also shows whether the connection works. */
const SILENCE_MS = 25_000;
/** A connection is lost when a handshake or a snapshot takes longer than this. */
const ANSWER_DEADLINE_MS = 8_000;
/** After a connection that was live for this time, the waits between attempts begin with the shortest again. */
const STEADY_MS = 5_000;
/** How often `SILENCE_MS` and `STEADY_MS` are checked. */
const CHECK_MS = 1_000;

/**
 * Callbacks:
 * - `query`: the options of the feed, for its address,
 * - `load(category)`: resolves to the list of products; an error with `status` 404 ends the subscription, one with 401
 *   suspends it until `resume()`,
 * - `onProducts(products)`: the list, before the first total,
 * - `onTotal(id, total)`: each total, in order; returns whether it is of the current category,
 * - `isPatient()`: an unknown category is tried again, as after an error of the server,
 * - `onStatus(status)`: the server's own status, `{ status, version }`,
 * - `onCatalog()`: products of the category were changed,
 * - `onProblem(error)`: a failed load, or an error message on the feed,
 * - `onState(state)`: `idle`, `connecting`, `live` or `lost`, at each change.
 */
export class Feed {
  #callbacks;
  #backoff = new Backoff();
  #category = '';
  #state = 'idle';
  #socket = null;
  /** Number of the current attempt. Answers to an earlier one are discarded. */
  #attempt = 0;
  #retry = null;
  #deadline = null;
  /** The snapshot of a category without products, or with hidden ones alone, has no total that could be waited for. */
  #hasProducts = false;
  /** Whether totals in the feed count: not between a change of category and the subscription to the new one. */
  #subscribed = false;
  /** When the totals were last known to be current: by `performance.now()` and by the date. */
  #currentAt = 0;
  #currentDate = null;
  #liveSince = 0;

  constructor(callbacks) {
    this.#callbacks = callbacks;
    setInterval(() => this.#check(), CHECK_MS);
    addEventListener('online', () => this.#retryNow());
    document.addEventListener('visibilitychange', () => {
      if (!document.hidden) this.#retryNow();
    });
  }

  /** The last time at which the totals were known to be current. */
  get currentDate() {
    return new Date(this.#currentDate);
  }

  /** The products of the category, which may have changed. */
  set products(products) {
    this.#hasProducts = products.some(({ hidden }) => hidden !== true);
  }

  /** Subscribes to `category` instead of the current one. An empty name ends the subscription. */
  watch(category) {
    this.#category = category;
    this.#backoff.reset();
    if (category === '') {
      this.#stop();
    } else {
      this.#setState('connecting');
      this.#connect();
    }
  }

  /** Subscribes again at once, on a new socket. */
  resume() {
    this.#close();
    this.watch(this.#category);
  }

  async #connect() {
    const attempt = this.#newAttempt();
    const category = this.#category;
    let products;
    try {
      products = await this.#callbacks.load(category);
    } catch (error) {
      if (attempt === this.#attempt) this.#loadFailed(error);
      return;
    }
    if (attempt !== this.#attempt) return;
    this.products = products;
    this.#callbacks.onProducts(products);
    if (this.#socket?.readyState === WebSocket.OPEN) {
      this.#requestSnapshot();
    } else {
      this.#open();
    }
  }

  #open() {
    this.#close();
    const socket = openFeed(this.#category, this.#callbacks.query);
    const isCurrent = () => socket === this.#socket;
    socket.onopen = () => isCurrent() && this.#onSubscribed();
    socket.onmessage = ({ data }) => isCurrent() && this.#receive(data);
    socket.onclose = () => isCurrent() && this.#lost();
    this.#socket = socket;
    this.#startDeadline();
  }

  /** Moves the subscription to the current category, or requests its snapshot again. */
  #requestSnapshot() {
    this.#socket.send(JSON.stringify({ cmd: 'update-category', payload: { category: this.#category } }));
    this.#onSubscribed();
  }

  #onSubscribed() {
    this.#subscribed = true;
    if (this.#hasProducts) {
      this.#startDeadline();
    } else {
      this.#markCurrent();
    }
  }

  #receive(data) {
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      return;
    }
    if (message.status !== undefined) {
      this.#callbacks.onStatus?.(message);
      // A quiet shop: the server itself says that nothing is missing.
      if (this.#state === 'live' && this.#deadline === null) this.#markCurrent();
    } else if (message.catalog !== undefined) {
      this.#callbacks.onCatalog?.();
    } else if (message.error !== undefined) {
      this.#callbacks.onProblem(new Error(message.error));
    } else if (this.#subscribed && typeof message.id === 'string' && typeof message.total === 'number') {
      if (this.#callbacks.onTotal(message.id, message.total)) this.#markCurrent();
    }
  }

  #markCurrent() {
    clearTimeout(this.#deadline);
    this.#deadline = null;
    this.#currentAt = performance.now();
    this.#currentDate = Date.now();
    this.#setState('live');
  }

  #startDeadline() {
    clearTimeout(this.#deadline);
    this.#deadline = setTimeout(() => this.#lost(), ANSWER_DEADLINE_MS);
  }

  #loadFailed(error) {
    if (error.status === NOT_FOUND && !this.#callbacks.isPatient?.()) {
      this.#category = '';
      this.#stop();
    } else if (error.status === UNAUTHORISED) {
      // The visitor was asked for a token and gave none. Another attempt would ask again.
      this.#stop();
    } else {
      this.#lost();
    }
    this.#callbacks.onProblem(error);
  }

  #lost() {
    this.#newAttempt();
    this.#close();
    this.#setState('lost');
    this.#retry = setTimeout(() => this.#connect(), this.#backoff.next());
  }

  #stop() {
    this.#newAttempt();
    this.#close();
    this.#setState('idle');
  }

  /** Cancels all timers and returns the number of a new attempt. */
  #newAttempt() {
    clearTimeout(this.#retry);
    clearTimeout(this.#deadline);
    this.#retry = null;
    this.#deadline = null;
    this.#subscribed = false;
    this.#attempt += 1;
    return this.#attempt;
  }

  #close() {
    this.#socket?.close();
    this.#socket = null;
  }

  /** The network is back, or the page is visible again: the next attempt is made now, or the connection is tested. */
  #retryNow() {
    if (this.#retry !== null) {
      this.#connect();
    } else if (this.#state === 'live') {
      this.#testConnection();
    }
  }

  #check() {
    if (this.#state !== 'live') return;
    const now = performance.now();
    if (now - this.#liveSince > STEADY_MS) this.#backoff.reset();
    if (now - this.#currentAt > SILENCE_MS) this.#testConnection();
  }

  #testConnection() {
    const canRequest = this.#socket?.readyState === WebSocket.OPEN && this.#hasProducts;
    if (canRequest && this.#deadline === null) this.#requestSnapshot();
  }

  #setState(state) {
    if (state === this.#state) return;
    this.#state = state;
    if (state === 'live') this.#liveSince = performance.now();
    this.#callbacks.onState(state);
  }
}
