// The last orders of this till: their states, and taking one back. An order is taken back by another one of the opposite amount
// with a key of its own. They are kept in sessionStorage, so that the list survives a reload and ends with the tab.

import { formatChange, formatTime, texts } from './texts.js';

/** Orders that are listed. */
const LISTED = 30;
/** Contains the path for the same reason as in api.js. */
const STORED = `ordercast-till:${new URL('.', document.baseURI).pathname}`;
/** How long a product shows that its order was sent, and offers to take it back. */
const SHOWN_MS = 10_000;

/**
 * Callbacks:
 * - `onUndo(order)`: the visitor takes this order back,
 * - `onProduct(id, state, amount, mayUndo)`: what a product shows of its last order; `state` is empty when it shows nothing,
 * - `announce(text)`: for screen readers.
 */
export class Till {
  #list;
  #callbacks;
  /** `{ order, state, line }`, newest first. */
  #entries = [];
  /** The timer of each product that shows an order. */
  #timers = new Map();

  constructor(list, callbacks) {
    this.#list = list;
    this.#callbacks = callbacks;
    for (const { order, state } of stored()) this.#add(order, state);
    // After all are there, because an order's line depends on the one that takes it back.
    for (const entry of this.#entries) this.#draw(entry);
  }

  get isEmpty() {
    return this.#entries.length === 0;
  }

  /** Notes that an order is in this state now. */
  note(order, state) {
    let entry = this.#entries.find(({ order: { key } }) => key === order.key);
    entry ??= this.#add(order, state);
    entry.state = state;
    this.#draw(entry);
    const undone = this.#entries.find(({ order: { key } }) => key === order.undoes);
    if (undone !== undefined) this.#draw(undone);
    this.#showAtProduct(entry);
    store(this.#entries);
    if (state !== 'sending') this.#callbacks.announce(`${order.name}: ${this.#stateText(entry)}`);
  }

  /** Takes back the last order of this product from here. */
  undo(id) {
    const entry = this.#entries.find(({ order }) => order.id === id);
    if (entry !== undefined && this.#mayUndo(entry)) this.#callbacks.onUndo(entry.order);
  }

  #add(order, state) {
    const entry = { order, state, line: document.createElement('li') };
    this.#entries.unshift(entry);
    this.#list.prepend(entry.line);
    for (const { line } of this.#entries.splice(LISTED)) line.remove();
    return entry;
  }

  /** The state of the order that takes this one back, if there is one that was not refused. */
  #undoState({ order: { key } }) {
    return this.#entries.find(({ order, state }) => order.undoes === key && state !== 'refused')?.state;
  }

  /** A refused order was not counted. An order that takes another one back is corrected by a new order. */
  #mayUndo(entry) {
    const { order, state } = entry;
    return state !== 'refused' && order.amount !== 0 && !order.undoes && this.#undoState(entry) === undefined;
  }

  #stateOf(entry) {
    return this.#undoState(entry) === 'sent' ? 'undone' : entry.state;
  }

  #stateText(entry) {
    return texts.orderState[this.#stateOf(entry)](formatChange(entry.order.amount));
  }

  #draw(entry) {
    const { order, line } = entry;
    const time = document.createElement('time');
    time.textContent = formatTime(new Date(order.made));
    const name = document.createElement('span');
    name.textContent = order.name;
    const state = document.createElement('span');
    state.className = 'order-state';
    state.dataset.state = this.#stateOf(entry);
    state.textContent = this.#stateText(entry);
    line.replaceChildren(time, name, state);
    if (this.#mayUndo(entry)) {
      const button = document.createElement('button');
      button.type = 'button';
      button.textContent = texts.undo;
      button.setAttribute('aria-label', texts.undoPiecesOf(formatChange(order.amount), order.name));
      button.addEventListener('click', () => this.#callbacks.onUndo(order));
      line.append(button);
    }
  }

  #showAtProduct(entry) {
    const { id, amount } = entry.order;
    this.#callbacks.onProduct(id, entry.state, amount, this.#mayUndo(entry));
    clearTimeout(this.#timers.get(id));
    this.#timers.delete(id);
    if (entry.state === 'sent' || entry.state === 'refused') {
      const hide = () => {
        this.#timers.delete(id);
        this.#callbacks.onProduct(id, '', 0, false);
      };
      this.#timers.set(id, setTimeout(hide, SHOWN_MS));
    }
  }
}

/** The orders of this tab, oldest first. */
function stored() {
  try {
    return JSON.parse(sessionStorage.getItem(STORED)) ?? [];
  } catch {
    return [];
  }
}

/** Throws in a browser that is set to store nothing. The list then ends with the page. */
function store(entries) {
  try {
    sessionStorage.setItem(STORED, JSON.stringify(entries.map(({ order, state }) => ({ order, state })).reverse()));
  } catch {}
}
