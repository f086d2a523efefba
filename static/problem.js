// The notice about a problem. A lasting one stays until it is closed or an action follows; a temporary one goes by itself.

import { texts } from './texts.js';

export class ProblemNotice {
  #element = document.getElementById('problem');
  #text = document.getElementById('problem-text');
  #isLasting = false;
  /** Texts about rejected orders, with the number of orders: several that waited may be rejected together. */
  #rejections = new Map();

  constructor() {
    document.getElementById('problem-close').addEventListener('click', () => this.hide());
  }

  get isLasting() {
    return !this.#element.hidden && this.#isLasting;
  }

  show(text, isLasting = false) {
    this.#text.textContent = text;
    this.#isLasting = isLasting;
    this.#element.hidden = false;
  }

  showRejection({ name }, why) {
    const text = `${name}: ${why}`;
    this.#rejections.set(text, (this.#rejections.get(text) ?? 0) + 1);
    const lines = Array.from(this.#rejections, ([text, count]) => (count === 1 ? text : texts.severalOrders(text, count)));
    this.show(lines.join('\n'), true);
  }

  hide() {
    this.#element.hidden = true;
    this.#text.textContent = '';
    this.#rejections.clear();
  }
}
