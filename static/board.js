// The grid of products: one `<product-item>` per product, their order, which of them are shown, their places on the screen,
// and the merging of totals: at most one write per product and frame, whatever the number of totals.

import './product-item.js';
import { arrange } from './layout.js';
import { collator } from './texts.js';

/** The smallest cell, in rem, and the height of a cell when the page scrolls. Dense cells use fewer lines. */
const MIN_WIDTH_REM = 17;
const MIN_HEIGHT_REM = 12;
const SCROLLING_HEIGHT_REM = 16;
const DENSE_REM = 20;
/** The widths from which a cell has wide controls, and below which it shows less, in rem. */
const WIDE_REM = 29;
const NARROW_REM = 14;
/** The smallest cell on a wall, in rem: 48 of them fit a screen of 1366 × 768. */
const WALL_MIN_WIDTH_REM = 7.6;
const WALL_MIN_HEIGHT_REM = 5.3;
/** The approximate height of the page below the board. */
const FOOTER_REM = 5.5;
/** How often the lines about the last hour are written anew. */
const FACTS_MS = 1_000;
/**
 * A page that is hidden gets no animation frames, and products out of sight need none. They are written a few at a time, at
 * this interval, so that they hold up no frame of those in sight.
 */
const UNSEEN_FLUSH_MS = 50;
const UNSEEN_AT_A_TIME = 10;

/** Orders of products by name. */
const SORTS = {
  list: () => 0,
  name: (one, other) => collator.compare(one.product.name, other.product.name),
  total: (one, other) => (other.total ?? 0) - (one.total ?? 0),
  busiest: (one, other) => other.lastHour - one.lastHour,
};

export class Board {
  #element;
  #onArrange;
  #items = new Map();
  #totals = new Map();
  /** The counts of the current period. */
  #periods = new Map();
  #changed = new Set();
  #isFrameDue = false;
  #isUnseenDue = false;
  #isWall = false;
  #showsPeriod = false;
  #page = 0;
  #pages = 1;
  #perPage = Infinity;
  #search = '';
  #sort = 'list';
  #inSight = new IntersectionObserver((entries) => this.#look(entries), { rootMargin: '64px' });

  /** `onArrange()` is called when products have got other places. */
  constructor(element, onArrange = () => {}) {
    this.#element = element;
    this.#onArrange = onArrange;
    const observer = new ResizeObserver(() => this.#arrange());
    observer.observe(document.documentElement);
    observer.observe(element);
    setInterval(() => this.#refreshFacts(), FACTS_MS);
  }

  has(id) {
    return this.#items.has(id);
  }

  item(id) {
    return this.#items.get(id);
  }

  get items() {
    return this.#items.values();
  }

  /** The last total of a product, also before it is drawn. */
  totalOf(id) {
    return this.#totals.get(id);
  }

  get isEmpty() {
    return this.#items.size === 0;
  }

  /** Whether products are there, and the search shows none of them. */
  get isSearchEmpty() {
    return this.#items.size > 0 && this.#shown().length === 0;
  }

  /** The only product that is shown, if there is one. */
  get sole() {
    const shown = this.#shown();
    return shown.length === 1 ? shown[0] : null;
  }

  get pages() {
    return this.#pages;
  }

  get page() {
    return this.#page;
  }

  clear() {
    for (const item of this.#items.values()) this.#inSight.unobserve(item);
    this.#items.clear();
    this.#totals.clear();
    this.#periods.clear();
    this.#changed.clear();
    this.#element.replaceChildren();
    this.#page = 0;
  }

  /** Shows these products in this order. The element of an id that was there stays, with its focus and typed amount. */
  show(products) {
    const former = this.#items;
    this.#items = new Map();
    for (const product of products) {
      const known = former.get(product.id);
      const item = known ?? document.createElement('product-item');
      item.showsPeriod = this.#showsPeriod;
      item.product = product;
      this.#items.set(product.id, item);
      former.delete(product.id);
      if (known === undefined) this.#inSight.observe(item);
      if (this.#totals.has(product.id) || this.#periods.has(product.id)) this.#schedule(product.id);
    }
    for (const item of former.values()) {
      this.#inSight.unobserve(item);
      item.remove();
    }
    this.#place();
  }

  /** Shows a total, as soon as its product is on the board. */
  setTotal(id, total) {
    const item = this.#items.get(id);
    // Its first total is not drawn yet: without it, this one would be no change.
    if (item && item.total === undefined && this.#totals.has(id)) item.total = this.#totals.get(id);
    this.#totals.set(id, total);
    if (item) this.#schedule(id);
  }

  /** Shows the count of the current period. */
  setPeriod(id, count) {
    this.#periods.set(id, count);
    if (this.#items.has(id)) this.#schedule(id);
  }

  /** Whether the large numbers are these counts. */
  set showsPeriod(showsPeriod) {
    this.#showsPeriod = showsPeriod;
    for (const item of this.#items.values()) item.showsPeriod = showsPeriod;
  }

  /** On a wall there are no forms, and what does not fit is on other pages. */
  set isWall(isWall) {
    if (isWall === this.#isWall) return;
    this.#isWall = isWall;
    this.#place();
  }

  showPage(page) {
    this.#page = page;
    this.#showPages();
  }

  /** Shows only products whose name, id or description contain all words of the text. */
  search(text) {
    this.#search = text.trim().toLowerCase();
    this.#place();
  }

  sort(name) {
    this.#sort = name in SORTS ? name : 'list';
    this.#place();
  }

  /** Puts the products in order again, if that follows from their numbers. */
  resort() {
    if (this.#sort !== 'list' && !this.#element.contains(document.activeElement)) this.#place();
  }

  #shown() {
    const words = this.#isWall ? [] : this.#search.split(/\s+/);
    const items = [...this.#items.values()].filter((item) => words.every((word) => item.words.includes(word)));
    return this.#sort === 'list' ? items : items.sort(SORTS[this.#sort]);
  }

  /** Puts the elements in order. Only those that have another place are moved, so that the focus stays. */
  #place() {
    const shown = this.#shown();
    const wanted = new Set(shown);
    for (const item of this.#items.values()) if (!wanted.has(item)) item.remove();
    for (const [index, item] of shown.entries()) {
      item.toggleAttribute('wall', this.#isWall);
      const there = this.#element.children[index];
      if (there !== item) this.#element.insertBefore(item, there ?? null);
    }
    this.#arrange();
  }

  #look(entries) {
    for (const { target, isIntersecting } of entries) {
      target.isInSight = isIntersecting;
      if (isIntersecting && this.#changed.has(target.dataset.id)) this.#schedule(target.dataset.id);
    }
  }

  #schedule(id) {
    this.#changed.add(id);
    const isSeen = this.#items.get(id).isInSight && !document.hidden;
    if (isSeen && !this.#isFrameDue) {
      this.#isFrameDue = true;
      requestAnimationFrame(() => {
        this.#isFrameDue = false;
        this.#flush((item) => item.isInSight, Infinity);
      });
    }
    if (!isSeen && !this.#isUnseenDue) {
      this.#isUnseenDue = true;
      setTimeout(() => this.#flushUnseen(), UNSEEN_FLUSH_MS);
    }
  }

  #refreshFacts() {
    if (document.hidden) return;
    for (const item of this.#items.values()) if (item.isInSight) item.refreshFacts();
  }

  #flushUnseen() {
    this.#flush((item) => !item.isInSight || document.hidden, document.hidden ? Infinity : UNSEEN_AT_A_TIME);
    const isLeft = [...this.#changed].some((id) => document.hidden || !this.#items.get(id)?.isInSight);
    this.#isUnseenDue = isLeft;
    if (isLeft) setTimeout(() => this.#flushUnseen(), UNSEEN_FLUSH_MS);
  }

  #flush(isDue, most) {
    let left = most;
    for (const id of this.#changed) {
      const item = this.#items.get(id);
      if (item && !isDue(item)) continue;
      if (left === 0) return;
      left -= 1;
      this.#changed.delete(id);
      if (!item) continue;
      if (this.#totals.has(id)) item.total = this.#totals.get(id);
      if (this.#periods.has(id)) item.period = this.#periods.get(id);
    }
  }

  /** Chooses the number of columns that makes the numbers large and leaves few cells empty. */
  #arrange() {
    const count = this.#element.childElementCount;
    const { clientWidth: width, clientHeight, offsetTop: top } = this.#element;
    if (count === 0 || width === 0) {
      this.#pages = 1;
      return;
    }
    const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
    const gap = parseFloat(getComputedStyle(this.#element).rowGap);
    const wall = {
      height: clientHeight, minWidth: WALL_MIN_WIDTH_REM * rem, minHeight: WALL_MIN_HEIGHT_REM * rem, pages: true,
    };
    const page = {
      height: innerHeight - top - FOOTER_REM * rem, minWidth: MIN_WIDTH_REM * rem, minHeight: MIN_HEIGHT_REM * rem,
      pages: false,
    };
    const best = arrange(count, { width, gap, ...(this.#isWall ? wall : page) });
    let cellHeight = Math.floor(best.cellHeight);
    if (!this.#isWall && cellHeight < MIN_HEIGHT_REM * rem) cellHeight = SCROLLING_HEIGHT_REM * rem;
    this.#element.style.setProperty('--columns', best.columns);
    this.#element.style.setProperty('--rows', best.rows);
    const cellWidth = (width + gap) / best.columns - gap;
    // Lengths instead of container units: with these each change of a number would cost several times as much.
    this.#element.style.setProperty('--cell-height', `${cellHeight}px`);
    this.#element.style.setProperty('--cell-width', `${cellWidth}px`);
    for (const item of this.#element.children) {
      item.toggleAttribute('dense', !this.#isWall && cellHeight < DENSE_REM * rem);
      item.toggleAttribute('wide', cellWidth >= WIDE_REM * rem);
      item.toggleAttribute('narrow', cellWidth < NARROW_REM * rem);
      if (this.#isWall) item.fitName(cellWidth, cellHeight, rem);
      // The font size of a card, as in product-style.js.
      item.widthInEm = cellWidth / Math.min(rem, cellHeight / 16);
    }
    [this.#pages, this.#perPage] = [best.pages, this.#isWall ? best.perPage : Infinity];
    this.#page = Math.min(this.#page, this.#pages - 1);
    this.#showPages();
    this.#onArrange();
  }

  #showPages() {
    const first = this.#page * this.#perPage;
    for (const [index, item] of [...this.#element.children].entries()) {
      item.hidden = this.#perPage !== Infinity && (index < first || index >= first + this.#perPage);
    }
  }
}
