// The overview of all categories: what each has, and its orders. Shown as long as no category is chosen.

import { formatNumber, texts } from './texts.js';

/** How often the sums are read again while the overview is seen. */
const REFRESH_MS = 5_000;

export class Overview {
  #list;
  #load;
  #categories = [];
  /** The number of each category on the list. */
  #sums = new Map();
  #timer = null;

  /** `load(name)` resolves to the totals of a category. */
  constructor(list, load) {
    this.#list = list;
    this.#load = load;
  }

  get isEmpty() {
    return this.#categories.length === 0;
  }

  /** Categories as the server lists them: `{ name, title, products }`. */
  set categories(categories) {
    if (JSON.stringify(categories) === JSON.stringify(this.#categories)) return;
    this.#categories = categories;
    this.#list.replaceChildren(...categories.map((category) => this.#line(category)));
    if (this.#timer !== null) this.#refresh();
  }

  set isShown(isShown) {
    if (isShown === (this.#timer !== null)) return;
    this.#list.hidden = !isShown;
    if (isShown) {
      this.#timer = setInterval(() => this.#refresh(), REFRESH_MS);
      this.#refresh();
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
    setSum(sum, this.#sums.get(name) ?? '–');
    const count = document.createElement('p');
    count.textContent = products === undefined ? '' : texts.productCount(products, formatNumber(products));
    link.append(heading, sum, count);
    line.append(link);
    return line;
  }

  async #refresh() {
    if (document.hidden) return;
    await Promise.allSettled(
      this.#categories.map(async ({ name }, at) => {
        const totals = await this.#load(name);
        const sum = formatNumber(totals.reduce((sum, { total }) => sum + total, 0));
        this.#sums.set(name, sum);
        const shown = this.#list.children[at]?.querySelector('.sum');
        if (shown) setSum(shown, sum);
      }),
    );
  }
}

/** Writes a sum, and the number of its characters for its font size. */
function setSum(element, sum) {
  element.textContent = sum;
  element.style.setProperty('--characters', sum.length);
}
