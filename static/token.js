// The token of this tab, which visitors know as the access code. It is kept in sessionStorage, so that it is not known to
// other tabs and ends with the tab; or, if the visitor wants it, in localStorage, for a screen on a wall. When the server
// rejects a request for its token, the visitor is asked for another one, and the request is sent again.

const KEY = 'ordercast-token';
export const UNAUTHORISED = 401;
export const FORBIDDEN = 403;
const SERVER_FAILED = 500;

/** What a request needs a token for. */
export const READ = 'read';
export const ORDER = 'order';
export const ADD = 'add';
export const MANAGE = 'manage';

/**
 * Why the visitor is asked: there is no token; the token of this tab is not accepted (`REVOKED`) or may only read; the token
 * just entered is not accepted (`WRONG`) or may only read.
 */
export const MISSING = 'missing';
export const REVOKED = 'revoked';
export const WRONG = 'wrong';
export const OWN_READS_ONLY = 'own reads only';
export const READS_ONLY = 'reads only';

class Access {
  #token = stored();
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
   * - `ask(need, why)`: resolves to `{ token, keeps }`, the token that the visitor enters and whether this screen keeps it,
   *   or to `null`,
   * - `done()`: the visitor is not asked again,
   * - `onChange()`: `token` or `isLocked` has changed.
   */
  attach({ ask, done, onChange }) {
    this.#ask = ask;
    this.#done = done;
    this.#onChange = onChange;
  }

  /** The token, or `null`. */
  get token() {
    return this.#token;
  }

  /** Whether the board needs another token to be read. */
  get isLocked() {
    return this.#locked;
  }

  forget() {
    this.#keep(null);
  }

  /**
   * Resolves to the response to `send(token)`. If the token is rejected, the visitor is asked for another one, and the
   * request is sent again, which is safe because a rejected request changes nothing. If the visitor cancels, it resolves to
   * the response that rejected the token.
   */
  async request(send, need) {
    const used = this.#token;
    const cancellations = this.#cancellations;
    let response = await send(used);
    if (need === READ && used !== null && response.status === UNAUTHORISED) {
      // If only orders need a token, the board is read without one, and the next order asks for it.
      response = await send(null);
      if (response.status !== UNAUTHORISED && this.#token === used) this.#keep(null);
    }
    if (rejection(response, need, used) !== null) {
      if (need === READ) this.#lock(true);
      const turn = this.#turn.then(() => this.#askFor(send, need, used, response, cancellations));
      this.#turn = turn.catch(() => {});
      response = await turn;
    }
    if (need === READ && response.status !== UNAUTHORISED && response.status < SERVER_FAILED) this.#lock(false);
    return response;
  }

  async #askFor(send, need, used, response, cancellations) {
    if (this.#cancellations !== cancellations) return response;
    if (this.#token !== used) {
      // The visitor has entered a token for another request meanwhile.
      used = this.#token;
      response = await send(used);
    }
    let why = rejection(response, need, used);
    if (why === WRONG) why = REVOKED;
    if (why === READS_ONLY) why = OWN_READS_ONLY;
    try {
      while (why !== null) {
        const given = await this.#ask(need, why);
        if (given === null) {
          this.#cancellations += 1;
          return response;
        }
        response = await send(given.token);
        why = rejection(response, need, given.token);
        // Only an accepted token replaces the former one, with which the board may still be read.
        if (why === null && response.status < SERVER_FAILED) this.#keep(given.token, given.keeps);
      }
      return response;
    } finally {
      this.#done();
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
