// The `<product-item>` element: one product on the board. Its data is in the light DOM, in the slots `name`, `rrp`, `info`
// and `orders`. Dispatches the events `order`, `undo` and `edit`. Its styles are in product-style.js.

import { fitText } from './layout.js';
import { sheet } from './product-style.js';
import { formatChange, formatNumber, formatTime, texts } from './texts.js';

/** How long a change is shown. A further change within that time is added to it. */
const CHANGE_MS = 1_400;
/** Changes that are animated at a time on the whole board: more would be unrest, and too much for a small computer. */
const MOST_ANIMATED = 8;
let animated = 0;
/** Amounts that take one press. */
const QUICK_AMOUNTS = [2, 5, 10];
/** A larger amount, as of a barcode in the wrong field, is asked about. */
const MOST_UNASKED = 1_000;
/** The width of the sparkline: one unit a minute. Its height is in the same coordinates. */
const MINUTES = 60;
const SPARK_HEIGHT = 16;
/** The least height of a bar, to be seen above the line below all. */
const MIN_BAR = 3;
/** The smallest font of a name on a wall. */
const NAME_MIN_REM = 0.5;

const template = document.createElement('template');
template.innerHTML = `
  <div class="card">
    <slot name="name"></slot>
    <slot name="rrp"></slot>
    <slot name="info"></slot>
    <p class="count"><span class="number"><slot name="orders"></slot></span></p>
    <p class="unit"><span class="place"><span class="word"></span
      ><span class="change" aria-hidden="true"><span></span></span></span><span class="period"></span></p>
    <div class="facts" hidden>
      <svg viewBox="0 0 ${MINUTES} ${SPARK_HEIGHT}" preserveAspectRatio="none" aria-hidden="true" hidden><path></path></svg>
      <span class="hour"></span><span class="last"></span>
    </div>
    <p class="status" hidden><span class="sent"></span><button class="undo" type="button"></button></p>
    <p class="status ask" role="alert"></p>
    <form>
      <button class="edit" type="button" hidden></button>
      <span class="gone"></span>
      <span class="quick"></span>
      <input type="number" step="1" value="1" required>
      <button class="add" type="submit"></button>
    </form>
  </div>`;

const canvas = document.createElement('canvas').getContext('2d');
canvas.font = '650 100px system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif';
/** The width of a text in em, in the font of names; other fonts are not wider. */
const widthOf = (text) => canvas.measureText(text).width / 100;
const { fontBoundingBoxAscent: ascent, fontBoundingBoxDescent: descent } = canvas.measureText('');
/** The height of a line of a name in em, at least that of its letters. */
const NAME_LINE = Math.max(1.18, (ascent + descent) / 100);
/** Widths in em, as in product-style.js: a gap, what a card has beside its quick amounts, and these. */
const GAP = 0.25;
const OTHER_WIDTH = widthOf(`+ ${texts.addOrder}`) + 1.1 + GAP + 3.1;
const EDIT_WIDTH = 2.75 + GAP;
const QUICK_WIDTHS = QUICK_AMOUNTS.map((pieces) => Math.max(2.1, widthOf(formatChange(pieces)) + 0.6) + GAP);

const reducesMotion = matchMedia('(prefers-reduced-motion: reduce)');

class ProductItem extends HTMLElement {
  /** Whether it is on the screen. board.js sets it. */
  isInSight = true;
  #product = { name: '', id: '', rrp: '', info: '' };
  #name = slotted('h2', 'name');
  #rrp = slotted('span', 'rrp');
  #info = slotted('span', 'info');
  #orders = slotted('span', 'orders');
  #parts;
  #total;
  #words = '';
  #isAnimated = false;
  #shownChange = 0;
  /** Orders in each of the last 60 minutes, newest last, and the changes since they were known. */
  #minutes = null;
  #sinceMinutes = 0;
  #ordered = null;
  #period = null;
  #factsChanged = false;
  #showsPeriod = false;
  #nameParts = [];
  #widthInEm = 0;
  /** The amount that is asked about, or `null`. */
  #asked = null;

  constructor() {
    super();
    const root = this.attachShadow({ mode: 'open' });
    root.adoptedStyleSheets = [sheet];
    root.append(template.content.cloneNode(true));
    const find = (selector) => root.querySelector(selector);
    this.#parts = {
      amount: find('input'), add: find('.add'), number: find('.number'), word: find('.word'), change: find('.change'),
      facts: find('.facts'), spark: find('path'), period: find('.period'), hour: find('.hour'), last: find('.last'),
      status: find('.status'), sent: find('.sent'), undo: find('.undo'), edit: find('.edit'), quick: find('.quick'),
      ask: find('.ask'),
    };
    const { amount, add, undo, edit, quick } = this.#parts;
    add.innerHTML = '<span aria-hidden="true">+</span> ';
    add.append(texts.addOrder);
    undo.textContent = texts.undo;
    edit.textContent = '✎';
    edit.title = texts.edit;
    find('.gone').textContent = texts.hidden;
    for (const pieces of QUICK_AMOUNTS) {
      const button = document.createElement('button');
      button.type = 'button';
      button.textContent = formatChange(pieces);
      button.addEventListener('click', () => this.#order(pieces));
      quick.append(button);
    }
    // So that typing replaces the amount.
    amount.addEventListener('focus', () => amount.select());
    // A second scan of the same code is no answer.
    amount.addEventListener('input', () => this.#ask(null));
    amount.addEventListener('keydown', (event) => {
      // A key that is held down orders once.
      if (event.key === 'Enter' && event.repeat) event.preventDefault();
      if (event.key !== 'Escape' || this.#asked === null) return;
      this.#ask(null);
      amount.value = amount.defaultValue;
      amount.select();
    });
    // The second half of a double click answers no question.
    add.addEventListener('click', (event) => {
      if (event.detail > 1 && this.#asked !== null) event.preventDefault();
    });
    undo.addEventListener('click', () => this.#dispatch('undo'));
    edit.addEventListener('click', () => this.#dispatch('edit'));
    find('form').addEventListener('submit', (event) => {
      event.preventDefault();
      const pieces = amount.valueAsNumber;
      if (Math.abs(pieces) > MOST_UNASKED && this.#asked === null) {
        this.#ask(pieces);
        return;
      }
      this.#ask(null);
      amount.value = amount.defaultValue;
      this.#order(pieces);
    });
  }

  connectedCallback() {
    if (this.#name.parentNode !== this) {
      this.append(this.#name, this.#info, this.#rrp, this.#orders);
      this.setAttribute('role', 'listitem');
    }
  }

  get product() {
    return this.#product;
  }

  /** A product of the server's list: `{ id, name, rrp, info, hidden }`. */
  set product(product) {
    const { id, name, rrp, info, hidden } = product;
    this.#product = product;
    this.#words = `${name} ${id} ${info}`.toLowerCase();
    this.dataset.id = id;
    this.toggleAttribute('withdrawn', hidden === true);
    if (this.#name.textContent !== name) {
      // A line can begin behind a space or a hyphen.
      const parts = name.matchAll(/(\s*)([^\s-]*-+|[^\s-]+)/g);
      this.#nameParts = Array.from(parts, ([, space, word]) => ({ width: widthOf(word), space: widthOf(space) }));
    }
    setText(this.#name, name);
    setText(this.#rrp, rrp);
    setText(this.#info, info);
    if (this.#number === undefined) setText(this.#orders, '–');
    const { amount, add, undo, edit, quick } = this.#parts;
    amount.setAttribute('aria-label', texts.amountOf(name));
    add.setAttribute('aria-label', texts.addOrderOf(name));
    undo.setAttribute('aria-label', texts.undoOf(name));
    edit.setAttribute('aria-label', texts.editOf(name));
    for (const button of quick.children) button.setAttribute('aria-label', texts.addPiecesOf(button.textContent, name));
  }

  /** What a search looks at. */
  get words() {
    return this.#words;
  }

  get total() {
    return this.#total;
  }

  set total(total) {
    const before = this.#total;
    if (total === before) return;
    this.#total = total;
    setText(this.#parts.word, texts.orders(total));
    if (!this.#showsPeriod) this.#showNumber();
    if (before === undefined) return;
    this.#sinceMinutes += total - before;
    this.#ordered = new Date();
    this.#factsChanged = true;
    if (this.isInSight) this.#showChange(total - before);
  }

  get #number() {
    return this.#showsPeriod ? (this.#period ?? undefined) : this.#total;
  }

  /** Whether the large number is the count of the current period instead of the total. */
  set showsPeriod(showsPeriod) {
    if (showsPeriod === this.#showsPeriod) return;
    this.#showsPeriod = showsPeriod;
    this.#showNumber();
  }

  #showNumber() {
    const digits = this.#number === undefined ? '–' : formatNumber(this.#number);
    setText(this.#orders, digits);
    // A separator takes less than half of a digit's width.
    const width = [...digits].reduce((sum, sign) => sum + (/[\d-−]/.test(sign) ? 1 : 0.45), 0);
    this.#setStyle('--digits', width);
  }

  /** Sets the font of the name on a wall. All sizes are in px. */
  fitName(cellWidth, cellHeight, rem) {
    const padding = Math.min(cellWidth * 0.06, cellHeight * 0.07);
    const height = cellHeight * 0.31;
    // Inside the border, and less what the canvas and the page may measure differently.
    const width = (cellWidth - 2 * padding - 2) * 0.98;
    const { size, lines } = fitText(this.#nameParts, {
      width, height, lineHeight: NAME_LINE, minSize: NAME_MIN_REM * rem, maxSize: cellHeight * 0.13,
    });
    this.#setStyle('--wall-padding', `${padding}px`);
    this.#setStyle('--name-height', `${height}px`);
    this.#setStyle('--name-size', `${size}px`);
    this.#setStyle('--name-line', NAME_LINE);
    this.#setStyle('--name-lines', lines);
  }

  /** Each write would cost the styles of the whole element. */
  #setStyle(name, value) {
    if (this.style.getPropertyValue(name) !== String(value)) this.style.setProperty(name, value);
  }

  /** The sum of the last hour's orders. */
  get lastHour() {
    return (this.#minutes ?? []).reduce((sum, amount) => sum + amount, this.#sinceMinutes);
  }

  /** The orders of the last 60 minutes, newest last, and the time of the last order or `null`. */
  set rates({ minutes, ordered }) {
    this.#minutes = minutes;
    this.#sinceMinutes = 0;
    this.#ordered = ordered === null ? null : new Date(ordered);
    const most = Math.max(1, ...minutes);
    const box = (at, width, height) => `M${at} ${SPARK_HEIGHT}v${-height}h${width}V${SPARK_HEIGHT}z`;
    const bar = (amount, at) => box(at, 0.8, Math.max(MIN_BAR, (SPARK_HEIGHT * amount) / most));
    const bars = minutes.map((amount, at) => (amount > 0 ? bar(amount, at) : '')).join('');
    // A line below the whole hour shows that a single bar is a minute of it.
    this.#parts.spark.setAttribute('d', box(0, MINUTES, 1) + bars);
    this.#parts.spark.parentNode.toggleAttribute('hidden', bars === '');
    this.#factsChanged = true;
    this.refreshFacts();
  }

  /** Shows what has changed of the last hour. Not with each order, because the line changes the layout. */
  refreshFacts() {
    if (!this.#factsChanged) return;
    this.#factsChanged = false;
    const { facts, hour, last } = this.#parts;
    if (this.#minutes === null) return;
    const sum = this.lastHour;
    setText(hour, sum === 0 ? '' : texts.inTheLastHour(formatChange(sum)));
    this.#setStyle('--hour-width', Math.ceil(widthOf(hour.textContent)) + 1);
    setText(last, this.#ordered === null ? '' : texts.lastOrderAt(formatTime(this.#ordered)));
    facts.hidden = false;
  }

  /** The count of the current period. */
  set period(count) {
    if (count === this.#period) return;
    this.#period = count;
    if (this.#showsPeriod) this.#showNumber();
    else this.#showPeriod();
  }

  /** The state of the last order from here: `sending`, `waiting`, `sent` or `refused`, or an empty text. */
  showOrder(state, amount, mayUndo) {
    const { status, sent, undo } = this.#parts;
    sent.dataset.state = state;
    setText(sent, state === '' ? '' : texts.orderState[state](formatChange(amount)));
    undo.hidden = !mayUndo;
    status.hidden = state === '';
  }

  set isManaged(isManaged) {
    this.#parts.edit.hidden = !isManaged;
    this.#fitQuick();
  }

  /** The width of the card, in its font size. */
  set widthInEm(width) {
    this.#widthInEm = width;
    this.#fitQuick();
  }

  focusAmount() {
    this.#parts.amount.focus();
  }

  /** The count of the period is the total's difference from the opening, so that both change at once. */
  #showPeriod() {
    const { period, word } = this.#parts;
    setText(period, texts.inThisPeriod(formatNumber(this.#period)));
    this.#setStyle('--unit-width', Math.ceil(widthOf(`${word.textContent} · ${period.textContent}`)));
  }

  /** Shows as many of the quick amounts as have room. */
  #fitQuick() {
    const { edit, quick } = this.#parts;
    const padding = this.hasAttribute('dense') ? 2.1 : 2.3;
    let room = this.#widthInEm - padding - OTHER_WIDTH - (edit.hidden ? 0 : EDIT_WIDTH);
    for (const [at, width] of QUICK_WIDTHS.entries()) {
      room -= width;
      quick.children[at].hidden = room < 0;
    }
  }

  /** Asks whether so many are meant. The same form answers. */
  #ask(pieces) {
    if (pieces === this.#asked) return;
    this.#asked = pieces;
    this.#parts.ask.textContent = pieces === null ? '' : texts.reallyOrder(formatNumber(pieces));
  }

  #showChange(change) {
    if (reducesMotion.matches) return;
    if (!this.#isAnimated && animated >= MOST_ANIMATED) return;
    this.#shownChange = this.#isAnimated ? this.#shownChange + change : change;
    setText(this.#parts.change.firstChild, formatChange(this.#shownChange));
    this.#setStyle('--change-width', Math.max(4, Math.ceil(widthOf(this.#parts.change.textContent) + 2)));
    if (this.#isAnimated) return;
    this.#isAnimated = true;
    animated += 1;
    // Opacity and transforms only, which take no layout and no painting.
    const animation = this.#parts.change.animate(
      [
        { opacity: 1, transform: 'translateY(100%)' },
        { opacity: 1, transform: 'none', offset: 0.1 },
        { opacity: 1, transform: 'none', offset: 0.9 },
        { opacity: 1, transform: 'translateY(100%)' },
      ],
      { duration: CHANGE_MS, easing: 'ease-out' },
    );
    // Also when it is cancelled, as for an element that is removed.
    animation.finished.catch(() => {}).finally(() => {
      this.#isAnimated = false;
      animated -= 1;
    });
    this.#parts.number.animate(
      [{ transform: 'none' }, { transform: 'scale(1.05)', offset: 0.15 }, { transform: 'none' }],
      { duration: CHANGE_MS, easing: 'ease-out' },
    );
  }

  #order(amount) {
    this.#dispatch('order', { id: this.#product.id, amount });
  }

  #dispatch(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { bubbles: true, detail }));
  }
}

function slotted(tag, slot) {
  const element = document.createElement(tag);
  element.slot = slot;
  return element;
}

/** Writes only a different text, into the text that is there: so a number of the same size needs no layout around it. */
function setText(element, text) {
  const there = element.firstChild;
  if (there === null) element.textContent = text;
  else if (there.data !== String(text)) there.data = text;
}

customElements.define('product-item', ProductItem);
