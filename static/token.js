// The token of this tab, which visitors know as the access code. It is kept in sessionStorage, so that it is not known to
// other tabs and ends with the tab; or, if the visitor wants it, in localStorage, for a screen on a wall. When the server
// rejects a request for its token, the visitor is asked for another one, and the request is sent again.
//
// A token that is entered to change the shop is the manager's: it is kept in memory alone, until `dropManager()` or for
// `MANAGER_IDLE_MS`, and used for nothing else. There is one exception: a tab without a token of its own uses it for
// reading and orders as well, if the board cannot be read without a token.

import { FORBIDDEN, UNAUTHORISED } from './ordercast.js';

/** Contains the path, because several servers may share an origin, each under a path of its own. */
const KEY = `ordercast-token:${new URL('.', document.baseURI).pathname}`;
const SERVER_FAILED = 500;
/** How long the manager's token is kept after its last use. */
const MANAGER_IDLE_MS = 10 * 60_000;

/** What a request needs a token for. */
export const READ = 'read';
export const ORDER = 'order';
export const ADD = 'add';
export const MANAGE = 'manage';
export const CATEGORY = 'category';
export const CLOSE = 'close';
/** Whether it changes the shop. */
export const manages = (need) => need !== READ && need !== ORDER;

/**
 * Why the visitor is asked: there is no token; the token of this tab is not accepted (`REVOKED`) or may not do this; the token
 * just entered is not accepted (`WRONG`) or may not do this.
 */
const MISSING = 'missing';
const REVOKED = 'revoked';
const WRONG = 'wrong';
export const OWN_READS_ONLY = 'own reads only';
export const READS_ONLY = 'reads only';

class Access {
  #token = stored();
  #manager = null;
  #managedAt = 0;
  /** How often the manager has finished. A token that is entered for an earlier request is not kept. */
  #drops = 0;
  /** Whether the server has rejected reading without a token. */
  #readingNeedsToken = false;
  #locked = false;
  /** How often the visitor has cancelled. A request that waited for its turn meanwhile does not ask again. */
  #cancellations = 0;
  /** Resolves when the visitor has answered for the last request in turn: one request asks at a time. */
  #turn = Promise.resolve();
  #ask = async () => null;
  #done = () => {};
  #onChange = () => {};

  /**
   * Callbacks:
   * - `ask(need, why, about)`: resolves to `{ token, keeps }`, the token that the visitor enters and whether this screen keeps
   *   it, or to `null`,
   * - `done()`: the visitor is not asked again,
   * - `onChange()`: `token` or `isLocked` has changed.
   */
  attach({ ask, done, onChange }) {
    this.#ask = ask;
    this.#done = done;
    this.#onChange = onChange;
  }

  /** The token of this tab, or `null`. */
  get token() {
    return this.#token;
  }

  /** The token for orders and for reading, or `null`. */
  get tokenForReading() {
    return this.#tokenFor(READ);
  }

  /** Whether the board needs another token to be read. */
  get isLocked() {
    return this.#locked;
  }

  forget() {
    this.dropManager();
    this.#keep(null);
    removeFromScreen();
  }

  /** The manager has finished. */
  dropManager() {
    this.#manager = null;
    this.#drops += 1;
  }

  /**
   * Resolves to the response to `send(token)`. If the token is rejected, the visitor is asked for another one, and the
   * request is sent again, which is safe because a rejected request changes nothing. If the visitor cancels, it resolves to
   * the response that rejected the token. `about` is what the question names beside the need.
   */
  async request(send, need, about) {
    const used = this.#tokenFor(need);
    const before = { cancellations: this.#cancellations, drops: this.#drops };
    let response = await send(used);
    if (need === READ && used === null) this.#noteReading(response);
    if (need === READ && used !== null && response.status === UNAUTHORISED) {
      // If only orders need a token, the board is read without one, and the next order asks for it.
      response = await send(null);
      this.#noteReading(response);
      if (response.status !== UNAUTHORISED && this.#token === used) this.#replace(used, null);
    }
    if (rejection(response, need, used) !== null) {
      if (need === READ) this.#lock(true);
      const turn = this.#turn.then(() => this.#askFor(send, need, about, used, response, before));
      this.#turn = turn.catch(() => {});
      response = await turn;
    }
    if (need === READ && response.status !== UNAUTHORISED && response.status < SERVER_FAILED) this.#lock(false);
    return response;
  }

  async #askFor(send, need, about, used, response, before) {
    if (this.#cancellations !== before.cancellations) return response;
    const latest = this.#tokenFor(need);
    if (latest !== used) {
      // The visitor has entered a token for another request meanwhile.
      used = latest;
      response = await send(used);
    }
    let why = rejection(response, need, used);
    const rejected = response.status === UNAUTHORISED ? used : null;
    // The till's own token may not manage: that is no reason to tell the manager.
    if (why === WRONG) why = manages(need) && this.#manager === null ? MISSING : REVOKED;
    if (why === READS_ONLY) why = OWN_READS_ONLY;
    try {
      while (why !== null) {
        const given = await this.#ask(need, why, about);
        if (given === null) {
          this.#cancellations += 1;
          return response;
        }
        response = await send(given.token);
        why = rejection(response, need, given.token);
        // Only an accepted token replaces the former one, with which the board may still be read.
        if (why !== null || response.status >= SERVER_FAILED) continue;
        if (!manages(need)) this.#replace(rejected, given.token, given.keeps);
        else if (this.#drops === before.drops) this.#keepManager(given.token);
      }
      return response;
    } finally {
      this.#done();
    }
  }

  #tokenFor(need) {
    if (Date.now() - this.#managedAt > MANAGER_IDLE_MS) this.#manager = null;
    if (!manages(need)) return this.#token ?? (this.#readingNeedsToken ? this.#manager : null);
    this.#managedAt = Date.now();
    return this.#manager ?? this.#token;
  }

  #keepManager(token) {
    this.#manager = token;
    this.#managedAt = Date.now();
  }

  /** Takes the response to a reading request without a token. */
  #noteReading({ ok, status }) {
    if (ok || status === UNAUTHORISED) this.#readingNeedsToken = !ok;
  }

  /** `rejected` is the former token if it is no longer valid. Otherwise other tabs of this screen still need it. */
  #replace(rejected, token, onScreen = false) {
    this.#keep(token, onScreen);
    if (rejected !== null) removeFromScreen(rejected);
  }

  #keep(token, onScreen = false) {
    if (token === this.#token) return;
    this.#token = token;
    store(token, onScreen);
    this.#onChange();
  }

  #lock(locked) {
    if (locked === this.#locked) return;
    this.#locked = locked;
    this.#onChange();
  }
}

export const access = new Access();
// The browser may show this page again from its history, with its memory.
addEventListener('pagehide', () => access.dropManager());

/** Why another token is needed, or `null`. */
function rejection({ status }, need, used) {
  if (status === UNAUTHORISED) return used === null ? MISSING : WRONG;
  // Without a token, 403 means that the origin of the page is not allowed.
  if (status === FORBIDDEN && need !== READ && used !== null) return READS_ONLY;
  return null;
}

/** Throws in a browser that is set to store nothing. The token then ends with the page. */
function stored() {
  try {
    return sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

function store(token, onScreen) {
  try {
    sessionStorage.removeItem(KEY);
    if (token !== null) (onScreen ? localStorage : sessionStorage).setItem(KEY, token);
  } catch {}
}

/** Removes the token that this screen keeps, or only this one. */
function removeFromScreen(token = null) {
  try {
    if (token === null || localStorage.getItem(KEY) === token) localStorage.removeItem(KEY);
  } catch {}
}
