// Owns what hangs on the wall: one `<product-item>` per product, their order, the shape of the grid, and the coalescing
// of totals. Hundreds of totals a second become at most one write per product and frame.

import './product-item.js';

/** A product's place is at least this wide; on a phone that makes one column. */
const NARROWEST_PX = 272;
/** In a lower place nothing can be read: rather let the board scroll, with places of a comfortable height. */
const LOWEST_PX = 180;
const COMFORTABLE_PX = 270;
/** In a place lower than this a product shows itself in fewer lines. */
const DENSE_REM = 18;
/** The proportion of width to height at which a product's number becomes largest. */
const PLACE_PROPORTION = 1.6;
/** What is below the board takes about this much of the screen. */
const BELOW_REM = 5.5;
/** A hidden page draws no frames; it is kept current at this pace. */
const HIDDEN_FLUSH_MS = 250;

export class Board {
  #element;
  #items = new Map();
  #totals = new Map();
  #changed = new Set();
  #flushPlanned = false;

  constructor(element) {
    this.#element = element;
    const observer = new ResizeObserver(() => this.#arrange());
    observer.observe(document.documentElement);
    observer.observe(element);
  }

  has(id) {
    return this.#items.has(id);
  }

  get isEmpty() {
    return this.#items.size === 0;
  }

  clear() {
    this.#items.clear();
    this.#totals.clear();
    this.#changed.clear();
    this.#element.replaceChildren();
  }

  /** Shows exactly these products in this order. Elements stay, with focus and a half-typed amount, where ids stay. */
  show(products) {
    const former = this.#items;
    this.#items = new Map();
    for (const [index, product] of products.entries()) {
      const item = former.get(product.id) ?? document.createElement('product-item');
      item.product = product;
      this.#items.set(product.id, item);
      former.delete(product.id);
      if (this.#element.children[index] !== item) {
        this.#element.insertBefore(item, this.#element.children[index] ?? null);
      }
      if (this.#totals.has(product.id)) this.#plan(product.id);
    }
    for (const item of former.values()) item.remove();
    this.#arrange();
  }

  /** Takes a total; one for a product that is not on the board yet is kept until it is. */
  setTotal(id, total) {
    this.#totals.set(id, total);
    if (this.#items.has(id)) this.#plan(id);
  }

  #plan(id) {
    this.#changed.add(id);
    if (this.#flushPlanned) return;
    this.#flushPlanned = true;
    if (document.hidden) {
      setTimeout(() => this.#flush(), HIDDEN_FLUSH_MS);
    } else {
      requestAnimationFrame(() => this.#flush());
    }
  }

  #flush() {
    this.#flushPlanned = false;
    for (const id of this.#changed) {
      const item = this.#items.get(id);
      if (item) item.total = this.#totals.get(id);
    }
    this.#changed.clear();
  }

  /** Chooses the number of columns that makes the numbers largest, and leaves few places empty. */
  #arrange() {
    const count = this.#items.size;
    const { clientWidth: width, offsetTop: top } = this.#element;
    if (count === 0 || width === 0) return;
    const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
    const gap = parseFloat(getComputedStyle(this.#element).rowGap);
    const height = innerHeight - top - BELOW_REM * rem;
    const most = Math.max(1, Math.min(count, Math.floor((width + gap) / (NARROWEST_PX + gap))));
    let best = { columns: 1, placeHeight: 0, size: -Infinity };
    for (let columns = 1; columns <= most; columns += 1) {
      const rows = Math.ceil(count / columns);
      const filled = count / (columns * rows);
      const placeHeight = (height + gap) / rows - gap;
      const size = Math.min(width / columns / PLACE_PROPORTION, placeHeight) * filled;
      if (size > best.size) best = { columns, placeHeight, size };
    }
    const placeHeight = best.placeHeight < LOWEST_PX ? COMFORTABLE_PX : Math.floor(best.placeHeight);
    this.#element.style.setProperty('--columns', best.columns);
    this.#element.style.setProperty('--place-height', `${placeHeight}px`);
    for (const item of this.#items.values()) item.toggleAttribute('dense', placeHeight < DENSE_REM * rem);
  }
}
