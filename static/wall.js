// The board on a wall: its address, one category or all of them in turn, pages that turn by themselves, and a screen that
// stays on. Knows neither the network nor how products are drawn.

/** How long a page of products is shown. */
const PAGE_MS = 10_000;

/**
 * What the address names: `#electronics`, `#electronics?wall`, or `#?wall` for all categories in turn;
 * `#electronics?wall&period` for the counts of the current period.
 */
export function address() {
  const [name, options = ''] = location.hash.slice(1).split('?');
  const [isWall, isPeriod] = ['wall', 'period'].map((option) => options.split('&').includes(option));
  try {
    return { name: decodeURIComponent(name), isWall, isPeriod };
  } catch {
    return { name: '', isWall, isPeriod };
  }
}

/**
 * Callbacks:
 * - `pages()`: the number of pages of the present category,
 * - `isConnected()`: whether totals arrive; without that no other category is shown, since it could not be loaded,
 * - `onPage(index)`: a page is to be shown,
 * - `onCategory(name)`: a category is to be shown, its first page first,
 * - `onRound()`: the only category has shown all its pages; others may have got products meanwhile.
 */
export class Wall {
  #callbacks;
  #timer = null;
  #page = 0;
  /** All categories, as last listed. */
  #known = [];
  /** The names of those that take turns; `null` while one was chosen. */
  #categories = null;
  #category = '';
  #lock = null;

  constructor(callbacks) {
    this.#callbacks = callbacks;
    document.addEventListener('visibilitychange', () => this.#keepAwake());
  }

  get isOn() {
    return this.#timer !== null;
  }

  /** Begins. With an empty `category` all categories take turns, once they are known. */
  start(category) {
    this.stop();
    this.#page = 0;
    this.#category = category;
    this.#categories = category === '' ? [] : null;
    this.#timer = setInterval(() => this.#turn(), PAGE_MS);
    this.#keepAwake();
    if (this.#known.length > 0) this.categories = this.#known;
  }

  stop() {
    clearInterval(this.#timer);
    this.#timer = null;
    this.#lock?.release().catch(() => {});
    this.#lock = null;
  }

  /**
   * All categories as the server lists them, which may have changed. Those without products have no turn, unless there is
   * no other.
   */
  set categories(categories) {
    this.#known = categories;
    if (this.#categories === null) return;
    const filled = categories.filter(({ products }) => products > 0);
    const names = (filled.length > 0 ? filled : categories).map(({ name }) => name);
    this.#categories = names;
    if (!names.includes(this.#category)) this.#showCategory(names[0] ?? '');
  }

  /** The number of pages may have changed. */
  refresh() {
    if (!this.isOn) return;
    this.#page = Math.min(this.#page, this.#callbacks.pages() - 1);
    this.#callbacks.onPage(this.#page);
  }

  #turn() {
    // A hidden page would only come back to a page that nobody has seen.
    if (document.hidden) return;
    if (this.#page + 1 < this.#callbacks.pages()) {
      this.#page += 1;
    } else {
      this.#page = 0;
      const at = this.#categories?.indexOf(this.#category) ?? -1;
      if (at >= 0 && this.#callbacks.isConnected()) {
        if (this.#categories.length > 1) {
          this.#showCategory(this.#categories[(at + 1) % this.#categories.length]);
          return;
        }
        this.#callbacks.onRound();
      }
    }
    this.#callbacks.onPage(this.#page);
  }

  #showCategory(name) {
    this.#category = name;
    this.#page = 0;
    this.#callbacks.onCategory(name);
  }

  /** Browsers allow a wake lock to a visible page of a secure origin; without one the system decides. */
  async #keepAwake() {
    if (!this.isOn || document.hidden || this.#lock?.released === false) return;
    try {
      this.#lock = await navigator.wakeLock.request('screen');
    } catch {
      this.#lock = null;
    }
  }
}
