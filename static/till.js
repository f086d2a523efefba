// The last orders of this till: their states, and taking one back. An order is taken back by another one of the opposite amount
// with a key of its own.

import { formatChange, formatTime, texts } from './texts.js';

/** Orders that are listed. */
const LISTED = 10;
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
  /** `{ order, state, isUndone, line }`, newest first. */
  #entries = [];
  /** The timer of each product that shows an order. */
  #timers = new Map();

  constructor(list, callbacks) {
    this.#list = list;
    this.#callbacks = callbacks;
  }

  get isEmpty() {
    return this.#entries.length === 0;
  }

  /** Notes that an order is in this state now. */
  note(order, state) {
    let entry = this.#entries.find(({ order: { key } }) => key === order.key);
    if (entry === undefined) {
      entry = { order, state, isUndone: false, line: document.createElement('li') };
      this.#entries.unshift(entry);
      this.#list.prepend(entry.line);
      for (const { line } of this.#entries.splice(LISTED)) line.remove();
    }
    entry.state = state;
    this.#draw(entry);
    this.#showAtProduct(entry);
    if (state !== 'sending') this.#callbacks.announce(`${order.name}: ${stateText(entry)}`);
  }

  /** Takes back the last order of this product from here. */
  undo(id) {
    const entry = this.#entries.find(({ order }) => order.id === id);
    if (entry !== undefined && mayUndo(entry)) this.#undo(entry);
  }

  #undo(entry) {
    entry.isUndone = true;
    this.#draw(entry);
    this.#callbacks.onUndo(entry.order);
  }

  #draw(entry) {
    const { order, line } = entry;
    const time = document.createElement('time');
    time.textContent = formatTime(new Date(order.made));
    const name = document.createElement('span');
    name.textContent = order.name;
    const state = document.createElement('span');
    state.className = 'order-state';
    state.dataset.state = entry.state;
    state.textContent = stateText(entry);
    line.replaceChildren(time, name, state);
    if (mayUndo(entry)) {
      const button = document.createElement('button');
      button.type = 'button';
      button.textContent = texts.undo;
      button.setAttribute('aria-label', texts.undoPiecesOf(formatChange(order.amount), order.name));
      button.addEventListener('click', () => this.#undo(entry));
      line.append(button);
    }
  }

  #showAtProduct(entry) {
    const { id, amount } = entry.order;
    this.#callbacks.onProduct(id, entry.state, amount, mayUndo(entry));
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

/** A refused order was not counted. An order that takes another one back is corrected by a new order. */
function mayUndo({ order, state, isUndone }) {
  return !isUndone && state !== 'refused' && order.amount !== 0 && !order.isUndo;
}

function stateText({ order, state }) {
  return texts.orderState[state](formatChange(order.amount));
}
