// Owns the live subscription: one WebSocket, its reconnection, and the check that it is not silently dead. It loads the
// product list before it subscribes, so that totals arrive for products that are known. Knows nothing of the page.

import { openFeed } from './api.js';
import { Backoff } from './backoff.js';

/** No total for so long: ask the server for a new snapshot, which also shows whether the socket is still alive. */
const SILENCE_MS = 25_000;
/** A handshake or a snapshot that takes longer than this means the connection is dead. */
const ANSWER_DEADLINE_MS = 8_000;
/** A connection that lived this long was a good one: the next loss starts with the shortest wait again. */
const STEADY_MS = 5_000;
/** How often silence and steadiness are looked at. */
const LOOK_MS = 1_000;

/**
 * Calls back with
 * - `load(category)`: to fetch the product list (a promise; a rejection with `status` 404 ends the subscription, and one
 *   with 401 suspends it until `resume()`),
 * - `onProducts(products)`: the list, before the first total,
 * - `onTotal(id, total)`: each total, in order; it says whether the total is one of the present category,
 * - `onProblem(error)`: a failed load, or an error message on the feed,
 * - `onState(state)`: `idle`, `connecting`, `live` or `lost`, at each change.
 */
export class Feed {
  #callbacks;
  #backoff = new Backoff();
  #category = '';
  #state = 'idle';
  #socket = null;
  /** Numbers the attempts: what belongs to an earlier one is dropped when it arrives. */
  #attempt = 0;
  #retry = null;
  #deadline = null;
  /** An empty category has an empty snapshot: then no message can be expected as an answer. */
  #hasProducts = false;
  /** Between a switch of category and the subscription to the new one, totals of the former are not wanted. */
  #listening = false;
  #heardAt = 0;
  #heardOn = null;
  #liveSince = 0;

  constructor(callbacks) {
    this.#callbacks = callbacks;
    setInterval(() => this.#look(), LOOK_MS);
    addEventListener('online', () => this.#hurry());
    document.addEventListener('visibilitychange', () => {
      if (!document.hidden) this.#hurry();
    });
  }

  /** When the server last said something: totals are known to be current up to then. */
  get heardOn() {
    return new Date(this.#heardOn);
  }

  /** Subscribes to `category` instead of the present one; an empty name ends the subscription. */
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

  /** Tries at once what is wanted, on a new socket. */
  resume() {
    this.#close();
    this.watch(this.#category);
  }

  async #connect() {
    const attempt = this.#begin();
    const category = this.#category;
    let products;
    try {
      products = await this.#callbacks.load(category);
    } catch (error) {
      if (attempt === this.#attempt) this.#loadFailed(error);
      return;
    }
    if (attempt !== this.#attempt) return;
    this.#hasProducts = products.length > 0;
    this.#callbacks.onProducts(products);
    if (this.#socket?.readyState === WebSocket.OPEN) {
      this.#requestSnapshot();
    } else {
      this.#open();
    }
  }

  #open() {
    this.#close();
    const socket = openFeed(this.#category);
    const current = () => socket === this.#socket;
    socket.onopen = () => current() && this.#subscribed();
    socket.onmessage = ({ data }) => current() && this.#receive(data);
    socket.onclose = () => current() && this.#lost();
    this.#socket = socket;
    this.#expectAnswer();
  }

  /** Moves the subscription to the present category (or asks for its snapshot once more). */
  #requestSnapshot() {
    this.#socket.send(JSON.stringify({ cmd: 'update-category', payload: { category: this.#category } }));
    this.#subscribed();
  }

  #subscribed() {
    this.#listening = true;
    if (this.#hasProducts) {
      this.#expectAnswer();
    } else {
      this.#heard();
    }
  }

  #receive(data) {
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      return;
    }
    if (message.error !== undefined) {
      this.#callbacks.onProblem(new Error(message.error));
    } else if (this.#listening && typeof message.id === 'string' && typeof message.total === 'number') {
      if (this.#callbacks.onTotal(message.id, message.total)) this.#heard();
    }
  }

  #heard() {
    clearTimeout(this.#deadline);
    this.#deadline = null;
    this.#heardAt = performance.now();
    this.#heardOn = Date.now();
    this.#setState('live');
  }

  #expectAnswer() {
    clearTimeout(this.#deadline);
    this.#deadline = setTimeout(() => this.#lost(), ANSWER_DEADLINE_MS);
  }

  #loadFailed(error) {
    if (error.status === 404) {
      this.#category = '';
      this.#stop();
    } else if (error.status === 401) {
      // Whoever was asked for a token has given none: asking again and again would not help.
      this.#stop();
    } else {
      this.#lost();
    }
    this.#callbacks.onProblem(error);
  }

  #lost() {
    this.#begin();
    this.#close();
    this.#setState('lost');
    this.#retry = setTimeout(() => this.#connect(), this.#backoff.next());
  }

  #stop() {
    this.#begin();
    this.#close();
    this.#setState('idle');
  }

  /** Makes everything that is still under way void. */
  #begin() {
    clearTimeout(this.#retry);
    clearTimeout(this.#deadline);
    this.#retry = null;
    this.#deadline = null;
    this.#listening = false;
    this.#attempt += 1;
    return this.#attempt;
  }

  #close() {
    this.#socket?.close();
    this.#socket = null;
  }

  /** The network or the viewer has come back: neither wait out a retry nor trust an old socket. */
  #hurry() {
    if (this.#retry !== null) {
      this.#connect();
    } else if (this.#state === 'live') {
      this.#probe();
    }
  }

  #look() {
    if (this.#state !== 'live') return;
    const now = performance.now();
    if (now - this.#liveSince > STEADY_MS) this.#backoff.reset();
    if (now - this.#heardAt > SILENCE_MS) this.#probe();
  }

  #probe() {
    const canAsk = this.#socket?.readyState === WebSocket.OPEN && this.#hasProducts;
    if (canAsk && this.#deadline === null) this.#requestSnapshot();
  }

  #setState(state) {
    if (state === this.#state) return;
    this.#state = state;
    if (state === 'live') this.#liveSince = performance.now();
    this.#callbacks.onState(state);
  }
}
