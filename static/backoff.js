// Owns the waits between attempts to reach the server: each about twice as long as the one before, and jittered, so that
// the boards of a whole house do not come back in step after a restart. Knows nothing of what is being attempted.

const FIRST_WAIT_MS = 250;
const LONGEST_WAIT_MS = 15_000;

export class Backoff {
  #failures = 0;

  /** The next wait in milliseconds: between half and all of a ceiling that doubles with every call. */
  next() {
    const ceiling = Math.min(LONGEST_WAIT_MS, 2 * FIRST_WAIT_MS * 2 ** this.#failures);
    this.#failures += 1;
    return ceiling * (0.5 + Math.random() / 2);
  }

  reset() {
    this.#failures = 0;
  }
}
