// The orders of the last hour, read again and again as long as a category is shown.

/** The server tells them by the minute. */
const EVERY_MS = 60_000;
/** When the server still reads its log after a start. */
const SOON_MS = 5_000;

export class LastHour {
  #load;
  #onRates;
  #category = '';
  #timer = null;

  /** `load(category)` resolves to the rates of a category; `onRates(products)` gets those of its products. */
  constructor(load, onRates) {
    this.#load = load;
    this.#onRates = onRates;
  }

  stop() {
    this.#category = '';
    clearTimeout(this.#timer);
  }

  async watch(category) {
    this.stop();
    this.#category = category;
    let wait = EVERY_MS;
    try {
      const { products, complete } = await this.#load(category);
      if (category !== this.#category) return;
      this.#onRates(products);
      if (!complete) wait = SOON_MS;
    } catch {
      // The board shows its totals without them.
    }
    if (category !== this.#category) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.watch(category), wait);
  }
}
