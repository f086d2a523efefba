// The grid of products: one `<product-item>` per product, their order, the number of columns, and the merging of totals:
// at most one write per product and frame, whatever the number of totals.

import './product-item.js';

/** The smallest width of a cell: one column on a phone. */
const MIN_WIDTH_PX = 272;
/** The smallest readable height of a cell. If the cells would be lower, the page scrolls, with cells of another height. */
const MIN_HEIGHT_PX = 180;
const SCROLLING_HEIGHT_PX = 270;
/** In cells lower than this, a product uses fewer lines. */
const DENSE_REM = 18;
/** The ratio of width to height of a cell in which the number becomes largest. */
const CELL_RATIO = 1.6;
/** The approximate height of the page below the board. */
const FOOTER_REM = 5.5;
/** A hidden page gets no animation frames. It writes totals at this interval. */
const HIDDEN_FLUSH_MS = 250;

export class Board {
  #element;
  #items = new Map();
  #totals = new Map();
  #changed = new Set();
  #flushScheduled = false;

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

  /** Shows these products in this order. The element of an id that was there stays, with its focus and typed amount. */
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
      if (this.#totals.has(product.id)) this.#scheduleFlush(product.id);
    }
    for (const item of former.values()) item.remove();
    this.#arrange();
  }

  /** Shows a total, as soon as its product is on the board. */
  setTotal(id, total) {
    this.#totals.set(id, total);
    if (this.#items.has(id)) this.#scheduleFlush(id);
  }

  #scheduleFlush(id) {
    this.#changed.add(id);
    if (this.#flushScheduled) return;
    this.#flushScheduled = true;
    if (document.hidden) {
      setTimeout(() => this.#flush(), HIDDEN_FLUSH_MS);
    } else {
      requestAnimationFrame(() => this.#flush());
    }
  }

  #flush() {
    this.#flushScheduled = false;
    for (const id of this.#changed) {
      const item = this.#items.get(id);
      if (item) item.total = this.#totals.get(id);
    }
    this.#changed.clear();
  }

  /** Chooses the number of columns that makes the numbers large and leaves few cells empty. */
  #arrange() {
    const count = this.#items.size;
    const { clientWidth: width, offsetTop: top } = this.#element;
    if (count === 0 || width === 0) return;
    const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
    const gap = parseFloat(getComputedStyle(this.#element).rowGap);
    const height = innerHeight - top - FOOTER_REM * rem;
    const maxColumns = Math.max(1, Math.min(count, Math.floor((width + gap) / (MIN_WIDTH_PX + gap))));
    let best = { columns: 1, cellHeight: 0, size: -Infinity };
    for (let columns = 1; columns <= maxColumns; columns += 1) {
      const rows = Math.ceil(count / columns);
      const filled = count / (columns * rows);
      const cellHeight = (height + gap) / rows - gap;
      const size = Math.min(width / columns / CELL_RATIO, cellHeight) * filled;
      if (size > best.size) best = { columns, cellHeight, size };
    }
    const cellHeight = best.cellHeight < MIN_HEIGHT_PX ? SCROLLING_HEIGHT_PX : Math.floor(best.cellHeight);
    this.#element.style.setProperty('--columns', best.columns);
    this.#element.style.setProperty('--cell-height', `${cellHeight}px`);
    for (const item of this.#items.values()) item.toggleAttribute('dense', cellHeight < DENSE_REM * rem);
  }
}
