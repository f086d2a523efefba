// Owns this tab's token: where it is kept (in sessionStorage, so that no other tab knows it and it ends with the tab),
// when a visitor is asked for one, and that what was refused is sent once more with it. Knows neither addresses nor the
// page.

const KEY = 'ordercast-token';
const UNAUTHORISED = 401;
const FORBIDDEN = 403;
const SERVER_FAILED = 500;

/** What a request is for. */
export const READ = 'read';
export const ORDER = 'order';
export const ADD = 'add';

/** Why a visitor is asked: there is no token, or this tab's (or the one just given) is not accepted, or may only read. */
export const MISSING = 'missing';
export const REVOKED = 'revoked';
export const WRONG = 'wrong';
export const OWN_READS_ONLY = 'own reads only';
export const READS_ONLY = 'reads only';

class Access {
  #token = stored();
  #locked = false;
  /** Counts the times that a visitor gave no token: whoever has waited for one then waits no longer. */
  #dismissals = 0;
  /** One question at a time: it ends when the one before has an answer. */
  #turn = Promise.resolve();
  #ask = async () => null;
  #done = () => {};
  #onChange = () => {};

  /**
   * Calls back with
   * - `ask(need, why)`: a promise of the token that a visitor gives, or `null`,
   * - `done()`: no further question follows,
   * - `onChange()`: `token` or `isLocked` has changed.
   */
  attach({ ask, done, onChange }) {
    this.#ask = ask;
    this.#done = done;
    this.#onChange = onChange;
  }

  /** `null` when this tab has none. */
  get token() {
    return this.#token;
  }

  /** Whether the board cannot be read without another token. */
  get isLocked() {
    return this.#locked;
  }

  forget() {
    this.#keep(null);
  }

  /**
   * Resolves to the response to `send(token)`. If it refuses the token, a visitor is asked for another one, and it is
   * sent again: a refused request has done nothing. A visitor who gives none gets the refusal.
   */
  async request(send, need) {
    const used = this.#token;
    const dismissals = this.#dismissals;
    let response = await send(used);
    if (need === READ && used !== null && response.status === UNAUTHORISED) {
      // Perhaps only orders need a token: then the board goes on without one, and an order asks for it.
      response = await send(null);
      if (response.status !== UNAUTHORISED && this.#token === used) this.#keep(null);
    }
    if (refusal(response, need, used) !== null) {
      if (need === READ) this.#lock(true);
      const turn = this.#turn.then(() => this.#askFor(send, need, used, response, dismissals));
      this.#turn = turn.catch(() => {});
      response = await turn;
    }
    if (need === READ && response.status !== UNAUTHORISED && response.status < SERVER_FAILED) this.#lock(false);
    return response;
  }

  async #askFor(send, need, used, refused, dismissals) {
    let response = refused;
    let own = used;
    if (this.#dismissals !== dismissals) return response;
    if (this.#token !== used) {
      // Another request has asked meanwhile.
      own = this.#token;
      response = await send(own);
    }
    let why = refusal(response, need, own);
    if (why === WRONG) why = REVOKED;
    if (why === READS_ONLY) why = OWN_READS_ONLY;
    try {
      while (why !== null) {
        const given = await this.#ask(need, why);
        if (given === null) {
          this.#dismissals += 1;
          return response;
        }
        response = await send(given);
        why = refusal(response, need, given);
        // Only a token that has been accepted takes the place of the former one, which may still be good for reading.
        if (why === null && response.status < SERVER_FAILED) this.#keep(given);
      }
      return response;
    } finally {
      this.#done();
    }
  }

  #keep(token) {
    if (token === this.#token) return;
    this.#token = token;
    store(token);
    this.#onChange();
  }

  #lock(locked) {
    if (locked === this.#locked) return;
    this.#locked = locked;
    this.#onChange();
  }
}

export const access = new Access();

/** Why another token is needed; `null` when the response is about something else. */
function refusal({ status }, need, used) {
  if (status === UNAUTHORISED) return used === null ? MISSING : WRONG;
  // Without a token it is a page of a foreign origin that is refused; a token could not help.
  if (status === FORBIDDEN && need !== READ && used !== null) return READS_ONLY;
  return null;
}

/** A browser that was told to keep nothing throws; the token then lives as long as the page. */
function stored() {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null;
  }
}

function store(token) {
  try {
    if (token === null) sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, token);
  } catch {
    // See above.
  }
}
