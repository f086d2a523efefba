// Live totals of an Ordercast server. Part of ordercast.js.

import { Backoff } from './ordercast-backoff.js';
import { NOT_FOUND, UNAUTHORISED } from './ordercast-request.js';

/** The name of the feed of all categories. */
export const ALL = '*';

/** After this time without a message, the connection is tested. The server sends its status every 15 s. */
const SILENCE_MS = 25_000;
/** A connection is lost when a handshake or the first totals take longer than this. */
const ANSWER_DEADLINE_MS = 8_000;
/** After a connection that worked for this time, the waits between attempts begin with the shortest again. */
const STEADY_MS = 5_000;
/** How often `SILENCE_MS` and `STEADY_MS` are checked. */
const CHECK_MS = 1_000;

/** The states in which totals arrive. */
const CONNECTED = ['live', 'stale'];

const pathOf = (category) => (category === ALL ? 'orders' : `orders/${encodeURIComponent(category)}`);

/**
 * The live totals of a category: one WebSocket, its reconnection, and the check that it still works. A list is loaded before
 * each connection, because a page sees the status of a rejected request, and not that of a rejected handshake.
 *
 * Callbacks, all of them optional:
 * - `query`: the options of the feed for its address, such as `every=100`,
 * - `resumes`: whether a connection that was lost is continued where it ended: then every total is delivered, also those of
 *   orders that were made meanwhile, unless the server answers with the current totals,
 * - `load(category)`: resolves to a list of objects with an `id`; the current totals if there is no such callback. An error
 *   with `status` 404 ends the subscription, one with 401 suspends it until `resume()`,
 * - `onProducts(list)`: the list, before the first total,
 * - `onTotal(id, total)`: each total of the category, in order,
 * - `isPatient()`: whether an unknown category is tried again, as after an error of the server,
 * - `onStatus(status)`: the server's own status, `{ status, version }`; its `status` is `live` or `stale`,
 * - `onCatalog()`: products of the category were changed (with `catalog=true` in the query),
 * - `onProblem(error)`: a failed load, or an error message on the feed,
 * - `onState(state)`: `idle`, `connecting`, `live`, `stale` or `lost`, at each change. `stale` means that the connection works
 *   and the server says that its totals may be old.
 */
export class Feed {
  #server;
  #callbacks;
  #backoff = new Backoff();
  #category = '';
  #state = 'idle';
  #socket = null;
  /** Whether the socket's subscription can be moved to another category. */
  #isMovable = false;
  /** Number of the current attempt. Answers to an earlier one are discarded. */
  #attempt = 0;
  #retry = null;
  #deadline = null;
  /** The snapshot of a category without products, or with hidden ones alone, has no total that could be waited for. */
  #hasProducts = false;
  /** The category of each product of the lists so far, to ignore late totals of a former category. */
  #categoryOf = new Map();
  /** Whether totals in the feed count: not between a change of category and the subscription to the new one. */
  #subscribed = false;
  #position = null;
  /** The last status of the server on this socket: `live`, `stale`, or `null` before the first one. */
  #serverStatus = null;
  /** When the connection was last known to work, by `performance.now()`. */
  #heardAt = 0;
  #currentDate = null;
  #steadySince = 0;
  #closing = new AbortController();

  constructor(server, callbacks) {
    this.#server = server;
    this.#callbacks = callbacks;
    const timer = setInterval(() => this.#check(), CHECK_MS);
    const { signal } = this.#closing;
    signal.addEventListener('abort', () => clearInterval(timer));
    // A worker has the first of these events alone.
    globalThis.addEventListener?.('online', () => this.#retryNow(), { signal });
    globalThis.addEventListener?.('visibilitychange', () => {
      if (globalThis.document?.hidden === false) this.#retryNow();
    }, { signal });
  }

  /** When the totals were last known to be current; `null` if the server was stale when the connection began. */
  get currentDate() {
    return this.#currentDate === null ? null : new Date(this.#currentDate);
  }

  /** The position of the last total, for `watch`, if the feed resumes; `null` before the first one. */
  get position() {
    return this.#position;
  }

  /** The products of the category, which may have changed. */
  set products(products) {
    this.#hasProducts = products.some(({ hidden }) => hidden !== true);
    for (const { id } of products) this.#categoryOf.set(id, this.#category);
  }

  /**
   * Subscribes to `category`, or to `ALL`, instead of the current one. An empty name ends the subscription. With a position
   * a feed that resumes begins where that ended.
   */
  watch(category, position = null) {
    this.#category = category;
    this.#position = position;
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

  /** Ends the subscription for good. */
  close() {
    this.watch('');
    this.#closing.abort();
  }

  async #connect() {
    const attempt = this.#newAttempt();
    const category = this.#category;
    let products;
    try {
      products = await (this.#callbacks.load?.(category) ?? this.#server.request(pathOf(category)));
    } catch (error) {
      if (attempt === this.#attempt) this.#loadFailed(error);
      return;
    }
    if (attempt !== this.#attempt) return;
    this.products = products;
    this.#callbacks.onProducts?.(products);
    if (this.#socket?.readyState === WebSocket.OPEN && this.#isMovable && category !== ALL) {
      this.#requestSnapshot();
    } else {
      this.#open();
    }
  }

  #open() {
    this.#close();
    const query = new URLSearchParams(this.#callbacks.query);
    query.set('status', 'true');
    if (this.#callbacks.resumes) query.set('since', this.#position ?? '');
    const socket = this.#server.open(pathOf(this.#category), query);
    const isCurrent = () => socket === this.#socket;
    socket.onopen = () => isCurrent() && this.#onSubscribed();
    socket.onmessage = ({ data }) => isCurrent() && this.#receive(data);
    socket.onclose = () => isCurrent() && this.#lost();
    this.#socket = socket;
    this.#serverStatus = null;
    this.#isMovable = this.#category !== ALL;
    this.#startDeadline();
  }

  /** Moves the subscription to the current category, or requests its snapshot again. */
  #requestSnapshot() {
    this.#socket.send(JSON.stringify({ cmd: 'update-category', payload: { category: this.#category } }));
    this.#onSubscribed();
  }

  #onSubscribed() {
    this.#subscribed = true;
    // Without products there is no total to wait for. The status comes first on each socket, and says whether it is stale.
    if (this.#hasProducts || this.#serverStatus === null) {
      this.#startDeadline();
    } else {
      this.#markHeard();
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
      this.#receiveStatus(message);
    } else if (message.catalog !== undefined) {
      this.#callbacks.onCatalog?.();
    } else if (message.error !== undefined) {
      this.#callbacks.onProblem?.(new Error(message.error));
    } else if (this.#subscribed && typeof message.id === 'string' && typeof message.total === 'number') {
      this.#receiveTotal(message);
    }
  }

  #receiveStatus(message) {
    // Totals from before this socket may be newer than those of the server, whose age is not known.
    if (this.#serverStatus === null && message.status === 'stale') this.#currentDate = null;
    this.#serverStatus = message.status;
    this.#callbacks.onStatus?.(message);
    // A quiet shop: the server itself says whether totals are missing. Where a feed resumes, or has no products, there may be
    // no total to wait for.
    const isQuiet = this.#isConnected && this.#deadline === null;
    const needsNoTotal = this.#subscribed && (this.#position !== null || !this.#hasProducts);
    if (isQuiet || needsNoTotal) this.#markHeard();
    else if (this.#isConnected && message.status === 'stale') this.#setState('stale');
  }

  #receiveTotal({ id, total, position = null }) {
    const isOfAnother = (this.#categoryOf.get(id) ?? this.#category) !== this.#category;
    if (isOfAnother && this.#category !== ALL) return;
    this.#callbacks.onTotal?.(id, total);
    this.#position = position;
    this.#markHeard();
  }

  /** Totals or the status have come: the connection works, and the totals are current unless the server is stale. */
  #markHeard() {
    clearTimeout(this.#deadline);
    this.#deadline = null;
    this.#heardAt = performance.now();
    const isStale = this.#serverStatus === 'stale';
    if (!isStale) this.#currentDate = Date.now();
    this.#setState(isStale ? 'stale' : 'live');
  }

  get #isConnected() {
    return CONNECTED.includes(this.#state);
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
      // Another attempt would need another token.
      this.#stop();
    } else {
      this.#lost();
    }
    this.#callbacks.onProblem?.(error);
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
    } else if (this.#isConnected) {
      this.#testConnection();
    }
  }

  #check() {
    if (!this.#isConnected) return;
    const now = performance.now();
    if (now - this.#steadySince > STEADY_MS) this.#backoff.reset();
    if (now - this.#heardAt > SILENCE_MS) this.#testConnection();
  }

  #testConnection() {
    if (this.#deadline !== null) return;
    if (this.#socket?.readyState === WebSocket.OPEN && this.#hasProducts && this.#isMovable) {
      this.#requestSnapshot();
    } else if (performance.now() - this.#heardAt > SILENCE_MS) {
      this.#lost();
    }
  }

  #setState(state) {
    if (state === this.#state) return;
    if (CONNECTED.includes(state) && !this.#isConnected) this.#steadySince = performance.now();
    this.#state = state;
    this.#callbacks.onState?.(state);
  }
}
