// The search for products: its field and its keys, and what other categories have when the present one has nothing.

import { texts } from './texts.js';

/** Products of other categories that are offered. */
const MOST_OFFERED = 8;
/** How long the lists of other categories are kept. */
const KEPT_MS = 30_000;

/**
 * Callbacks:
 * - `isOff()`: the page has no search now,
 * - `onText(text)`: the text was changed by the visitor,
 * - `onEnter()`: the visitor wants the only product that is shown,
 * - `load(category)`: resolves to the products of a category,
 * - `onChoice(category)`: a product of another category was chosen.
 */
export class Search {
  #field;
  #offers;
  #callbacks;
  /** What the offers are for: a text and a category. */
  #wanted = '';
  /** A promise of the list of each category, and when it was asked for. */
  #lists = new Map();

  constructor(field, offers, callbacks) {
    this.#field = field;
    this.#offers = offers;
    this.#callbacks = callbacks;
    field.addEventListener('input', () => {
      // The key that opens the search, pressed once more.
      if (field.value.startsWith('/')) field.value = field.value.slice(1);
      callbacks.onText(field.value);
    });
    field.addEventListener('keydown', (event) => {
      if (event.isComposing) return;
      if (event.key === 'Escape') {
        this.clear();
        field.blur();
      } else if (event.key === 'Enter') {
        // Otherwise it would submit the form of the field that gets the focus.
        event.preventDefault();
        if (offers.children.length === 1) offers.querySelector('button').click();
        else callbacks.onEnter();
      }
    });
    addEventListener('keydown', (event) => {
      const isTyping = event.target.closest?.('input, select, textarea, dialog, product-item') ?? false;
      if (event.key !== '/' || isTyping || event.ctrlKey || event.metaKey || event.altKey || callbacks.isOff()) return;
      event.preventDefault();
      field.focus();
    });
  }

  clear() {
    this.#field.value = '';
    this.#callbacks.onText('');
  }

  /** Offers what other categories than this one have. `titles` is a map from names. */
  async offer(category, titles) {
    const wanted = `${category} ${this.#field.value}`;
    if (wanted === this.#wanted) return;
    this.hideOffers();
    this.#wanted = wanted;
    const words = this.#field.value.trim().toLowerCase().split(/\s+/);
    for (const [name, title] of titles) {
      if (name === category) continue;
      const products = await this.#list(name);
      if (wanted !== this.#wanted) return;
      for (const product of products) {
        const text = `${product.name} ${product.id} ${product.info}`.toLowerCase();
        if (!words.every((word) => text.includes(word))) continue;
        this.#offers.append(this.#line(name, `${product.name} · ${title}`));
        if (this.#offers.children.length === MOST_OFFERED) return;
      }
    }
  }

  hideOffers() {
    this.#wanted = '';
    this.#offers.replaceChildren();
  }

  #line(category, text) {
    const button = document.createElement('button');
    button.type = 'button';
    button.textContent = text;
    button.setAttribute('aria-label', texts.openOffer(text));
    button.addEventListener('click', () => {
      this.#callbacks.onChoice(category);
      this.#field.focus();
    });
    const line = document.createElement('li');
    line.append(button);
    return line;
  }

  /** The products of a category; none if they cannot be read. */
  #list(name) {
    const kept = this.#lists.get(name);
    if (kept !== undefined && performance.now() - kept.at < KEPT_MS) return kept.products;
    const products = this.#callbacks.load(name).catch(() => []);
    this.#lists.set(name, { at: performance.now(), products });
    return products;
  }
}
