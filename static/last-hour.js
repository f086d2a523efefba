// The orders of the last hour, read again and again as long as a category is shown.

/** The server tells them by the minute. */
const EVERY_MS = 60_000;
/** When the server still reads its log after a start, or an order came while it was asked. */
const SOON_MS = 5_000;

export class LastHour {
  #load;
  #onRates;
  #category = '';
  #timer = null;
  /** Whether an order came since the server was asked: its answer may have been without it. */
  #isNoted = false;
  #wait = EVERY_MS;

  /** `load(category)` resolves to the rates of a category; `onRates(products)` gets those of its products. */
  constructor(load, onRates) {
    this.#load = load;
    this.#onRates = onRates;
  }

  /** An order has come. */
  note() {
    this.#isNoted = true;
  }

  stop() {
    this.#category = '';
    clearTimeout(this.#timer);
  }

  async watch(category) {
    this.stop();
    this.#category = category;
    const before = this.#wait;
    this.#wait = EVERY_MS;
    this.#isNoted = false;
    try {
      const { products, complete } = await this.#load(category);
      if (category !== this.#category) return;
      // In a busy shop there is always one: not every time.
      if (!complete || (this.#isNoted && before === EVERY_MS)) this.#wait = SOON_MS;
      this.#onRates(products);
    } catch {
      // The board shows its totals without them.
    }
    if (category !== this.#category) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.watch(category), this.#wait);
  }
}
