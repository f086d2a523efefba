// The token of this tab, which visitors know as the access code. It is kept in sessionStorage, so that it is not known to
// other tabs and ends with the tab; or, if the visitor wants it, in localStorage, for a screen on a wall. When the server
// rejects a request for its token, the visitor is asked for another one, and the request is sent again.
//
// A token that is entered to change the shop, in a tab that has one already, is the manager's: it is used for nothing
// else, and kept in memory alone, until `dropManager()` or for `MANAGER_IDLE_MS`.

const KEY = 'ordercast-token';
export const UNAUTHORISED = 401;
export const FORBIDDEN = 403;
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
export const MISSING = 'missing';
export const REVOKED = 'revoked';
export const WRONG = 'wrong';
export const OWN_READS_ONLY = 'own reads only';
export const READS_ONLY = 'reads only';

class Access {
  #token = stored();
  #manager = null;
  #managedAt = 0;
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

  /** The token for orders and for reading, or `null`. */
  get token() {
    return this.#token;
  }

  /** Whether the board needs another token to be read. */
  get isLocked() {
    return this.#locked;
  }

  forget() {
    this.dropManager();
    this.#keep(null);
  }

  /** The manager has finished. */
  dropManager() {
    this.#manager = null;
  }

  /**
   * Resolves to the response to `send(token)`. If the token is rejected, the visitor is asked for another one, and the
   * request is sent again, which is safe because a rejected request changes nothing. If the visitor cancels, it resolves to
   * the response that rejected the token. `about` is what the question names beside the need.
   */
  async request(send, need, about) {
    const used = this.#tokenFor(need);
    const cancellations = this.#cancellations;
    let response = await send(used);
    if (need === READ && used !== null && response.status === UNAUTHORISED) {
      // If only orders need a token, the board is read without one, and the next order asks for it.
      response = await send(null);
      if (response.status !== UNAUTHORISED && this.#token === used) this.#keep(null);
    }
    if (rejection(response, need, used) !== null) {
      if (need === READ) this.#lock(true);
      const turn = this.#turn.then(() => this.#askFor(send, need, about, used, response, cancellations));
      this.#turn = turn.catch(() => {});
      response = await turn;
    }
    if (need === READ && response.status !== UNAUTHORISED && response.status < SERVER_FAILED) this.#lock(false);
    return response;
  }

  async #askFor(send, need, about, used, response, cancellations) {
    if (this.#cancellations !== cancellations) return response;
    const latest = this.#tokenFor(need);
    if (latest !== used) {
      // The visitor has entered a token for another request meanwhile.
      used = latest;
      response = await send(used);
    }
    let why = rejection(response, need, used);
    // Of the till's own token, a manager learns nothing.
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
        if (why === null && response.status < SERVER_FAILED) this.#accept(given, need);
      }
      return response;
    } finally {
      this.#done();
    }
  }

  #tokenFor(need) {
    if (!manages(need)) return this.#token;
    if (Date.now() - this.#managedAt > MANAGER_IDLE_MS) this.dropManager();
    this.#managedAt = Date.now();
    return this.#manager ?? this.#token;
  }

  #accept({ token, keeps }, need) {
    if (!manages(need) || (this.#token ?? this.#manager) === null) {
      this.#keep(token, keeps);
    } else {
      this.#manager = token;
      this.#managedAt = Date.now();
    }
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
    localStorage.removeItem(KEY);
    if (token !== null) (onScreen ? localStorage : sessionStorage).setItem(KEY, token);
  } catch {}
}
