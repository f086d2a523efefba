// The waits between attempts to reach the server: each about twice as long as the one before, with jitter, so that many
// boards do not reconnect at the same moment after a restart.

const FIRST_WAIT_MS = 250;
const LONGEST_WAIT_MS = 15_000;

export class Backoff {
  #failures = 0;

  /** The next wait in milliseconds: between half and all of a limit that doubles with every call. */
  next() {
    const limit = Math.min(LONGEST_WAIT_MS, 2 * FIRST_WAIT_MS * 2 ** this.#failures);
    this.#failures += 1;
    return limit * (0.5 + Math.random() / 2);
  }

  reset() {
    this.#failures = 0;
  }
}
