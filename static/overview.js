// The overview of all categories: what each has, and its orders. Shown as long as no category is chosen.

import { formatNumber, texts } from './texts.js';

/** How often categories and sums are read again while the overview is seen. */
const REFRESH_MS = 5_000;

export class Overview {
  #list;
  #load;
  #reload;
  #categories = [];
  /** The sum of each category's totals. */
  #sums = new Map();
  #timer = null;

  /**
   * `load(name)` resolves to the totals of a category. `reload()` reads the categories again, and shows whether the server
   * answers.
   */
  constructor(list, load, reload) {
    this.#list = list;
    this.#load = load;
    this.#reload = reload;
  }

  get isEmpty() {
    return this.#categories.length === 0;
  }

  /** Categories as the server lists them: `{ name, title, products }`. */
  set categories(categories) {
    if (JSON.stringify(categories) === JSON.stringify(this.#categories)) return;
    this.#categories = categories;
    this.#list.replaceChildren(...categories.map((category) => this.#line(category)));
    if (this.#timer !== null) this.#addUp();
  }

  set isShown(isShown) {
    if (isShown === (this.#timer !== null)) return;
    this.#list.hidden = !isShown;
    if (isShown) {
      this.#timer = setInterval(() => this.#refresh(), REFRESH_MS);
      if (!this.isEmpty) this.#refresh();
    } else {
      clearInterval(this.#timer);
      this.#timer = null;
    }
  }

  #line({ name, title, products }) {
    const line = document.createElement('li');
    const link = document.createElement('a');
    link.href = `#${encodeURIComponent(name)}`;
    const heading = document.createElement('h2');
    heading.textContent = title;
    const sum = document.createElement('p');
    sum.className = 'sum';
    link.append(heading, sum, document.createElement('p'));
    line.append(link);
    this.#write(line, name, products);
    return line;
  }

  #write(line, name, products) {
    const sum = this.#sums.get(name);
    const [shown, words] = line.querySelectorAll('p');
    const number = sum === undefined ? '–' : formatNumber(sum);
    shown.textContent = number;
    // For its font size.
    shown.style.setProperty('--characters', number.length);
    const count = products === undefined ? '' : texts.productCount(products, formatNumber(products));
    words.textContent = [sum === undefined ? '' : texts.orders(sum), count].filter(Boolean).join(' · ');
  }

  #refresh() {
    if (document.hidden) return;
    this.#reload();
    this.#addUp();
  }

  async #addUp() {
    await Promise.allSettled(
      this.#categories.map(async ({ name, products }, at) => {
        const totals = await this.#load(name);
        this.#sums.set(name, totals.reduce((sum, { total }) => sum + total, 0));
        const line = this.#list.children[at];
        if (line) this.#write(line, name, products);
      }),
    );
  }
}
