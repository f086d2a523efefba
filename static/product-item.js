// The `<product-item>` element: one product on the board. Its data is in the light DOM, in the slots `name`, `rrp`, `info`
// and `orders`. Dispatches the events `order`, `undo` and `edit`. Its styles are in product-style.js.

import { sheet } from './product-style.js';
import { formatChange, formatNumber, formatTime, texts } from './texts.js';

/** How long a change is shown. A further change within that time is added to it. */
const CHANGE_MS = 1_400;
/** Changes that are animated at a time on the whole board: more would be unrest, and too much for a small computer. */
const MOST_ANIMATED = 8;
let animated = 0;
/** Amounts that take one press. */
const QUICK_AMOUNTS = [2, 5, 10];
/** The width of the sparkline: one unit a minute. Its height is in the same coordinates. */
const MINUTES = 60;
const SPARK_HEIGHT = 16;

const template = document.createElement('template');
template.innerHTML = `
  <div class="card">
    <slot name="name"></slot>
    <slot name="rrp"></slot>
    <slot name="info"></slot>
    <p class="count"><span class="number"><slot name="orders"></slot></span></p>
    <p class="unit"><span class="word"></span><span class="period"></span>
      <span class="change" aria-hidden="true"><span></span></span></p>
    <div class="facts" hidden>
      <svg viewBox="0 0 ${MINUTES} ${SPARK_HEIGHT}" preserveAspectRatio="none" aria-hidden="true"><path></path></svg>
      <span class="hour"></span><span class="last"></span>
    </div>
    <p class="status" hidden><span class="sent"></span><button class="undo" type="button"></button></p>
    <form>
      <button class="edit" type="button" hidden></button>
      <span class="note"></span>
      <span class="quick"></span>
      <input type="number" step="1" value="1" required>
      <button class="add" type="submit"></button>
    </form>
  </div>`;

const canvas = document.createElement('canvas').getContext('2d');
canvas.font = '650 100px system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif';
/** The width of a text in em, in the font of names. */
const widthOf = (text) => canvas.measureText(text).width / 100;

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
    };
    const { amount, add, undo, edit, quick } = this.#parts;
    add.innerHTML = '<span aria-hidden="true">+</span> ';
    add.append(texts.addOrder);
    undo.textContent = texts.undo;
    edit.textContent = '✎';
    edit.title = texts.edit;
    find('.note').textContent = texts.hidden;
    for (const pieces of QUICK_AMOUNTS) {
      const button = document.createElement('button');
      button.type = 'button';
      button.textContent = formatChange(pieces);
      button.addEventListener('click', () => this.#order(pieces));
      quick.append(button);
    }
    // So that typing replaces the amount.
    amount.addEventListener('focus', () => amount.select());
    undo.addEventListener('click', () => this.#dispatch('undo'));
    edit.addEventListener('click', () => this.#dispatch('edit'));
    find('form').addEventListener('submit', (event) => {
      event.preventDefault();
      const pieces = amount.valueAsNumber;
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
      // The widths in em, for the font size of a name on a wall.
      this.style.setProperty('--name-width', widthOf(name).toFixed(2));
      this.style.setProperty('--word-width', Math.max(...name.split(/[\s-]+/).map(widthOf)).toFixed(2));
    }
    setText(this.#name, name);
    setText(this.#rrp, rrp);
    setText(this.#info, info);
    if (this.#total === undefined) setText(this.#orders, '–');
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
    const digits = formatNumber(total);
    setText(this.#orders, digits);
    setText(this.#parts.word, texts.orders(total));
    // A separator takes less than half of a digit's width.
    const width = [...digits].reduce((sum, sign) => sum + (/[\d-−]/.test(sign) ? 1 : 0.45), 0);
    if (this.style.getPropertyValue('--digits') !== String(width)) this.style.setProperty('--digits', width);
    if (before === undefined) return;
    this.#sinceMinutes += total - before;
    this.#ordered = new Date();
    this.#factsChanged = true;
    if (this.isInSight) this.#showChange(total - before);
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
    const bar = (amount, at) => `M${at} ${SPARK_HEIGHT}v${-Math.max(1, (SPARK_HEIGHT * amount) / most)}h0.8V${SPARK_HEIGHT}z`;
    const bars = minutes.map((amount, at) => (amount > 0 ? bar(amount, at) : ''));
    this.#parts.spark.setAttribute('d', bars.join(''));
    this.#factsChanged = true;
    this.refreshFacts();
  }

  /** Shows what has changed of the last hour. Not with each order, because the line changes the layout. */
  refreshFacts() {
    if (!this.#factsChanged) return;
    this.#factsChanged = false;
    const { facts, hour, last, period } = this.#parts;
    if (this.#period !== null) setText(period, texts.inThisPeriod(formatNumber(this.#period)));
    if (this.#minutes === null) return;
    const sum = this.lastHour;
    setText(hour, sum === 0 ? '' : texts.inTheLastHour(formatChange(sum)));
    setText(last, this.#ordered === null ? '' : texts.lastOrderAt(formatTime(this.#ordered)));
    facts.hidden = false;
  }

  /** The count of the current period. */
  set period(count) {
    const isFirst = this.#period === null;
    if (count === this.#period) return;
    this.#period = count;
    this.#factsChanged = true;
    if (isFirst) this.refreshFacts();
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
  }

  focusAmount() {
    this.#parts.amount.focus();
  }

  #showChange(change) {
    if (reducesMotion.matches) return;
    if (!this.#isAnimated && animated >= MOST_ANIMATED) return;
    this.#shownChange = this.#isAnimated ? this.#shownChange + change : change;
    setText(this.#parts.change.firstChild, formatChange(this.#shownChange));
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
