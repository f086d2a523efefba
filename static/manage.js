// Managing the shop: editing, hiding and showing products, new categories, and the report and the close of the period. Each
// in a dialog of its own. Requests go through api.js, which asks for a token when one is needed.

import * as api from './api.js';
import { collator, formatMoment, formatNumber, texts } from './texts.js';

/** The characters of a category's name in addresses. */
const NOT_IN_NAMES = /[^a-z0-9]+/g;
const UMLAUTS = { ä: 'ae', ö: 'oe', ü: 'ue' };
const LONGEST_NAME = 40;

/**
 * Callbacks:
 * - `onChange()`: products or categories were changed,
 * - `onCategory(name)`: a category was added,
 * - `hasCategory(name)`: whether there is one with this name,
 * - `explain(error)`: returns the text about an error for people,
 * - `onProblem(text)`: something could not be shown.
 */
export class Manage {
  #callbacks;
  #edit;
  #add;
  #report;
  #lines = document.getElementById('report-lines');
  #sum = document.getElementById('report-sum');
  /** The product that is edited, with its category; the report that is shown. */
  #product = null;
  #shown = null;
  /** The last prefix that was warned about. */
  #warned = '';

  constructor(callbacks) {
    this.#callbacks = callbacks;
    const { explain } = callbacks;
    this.#edit = new Dialog('edit-dialog', explain, (fields) => this.#saveProduct(fields));
    this.#add = new Dialog('category-dialog', explain, (fields) => this.#saveCategory(fields));
    this.#report = new Dialog('report-dialog', explain, () => this.#close());
    document.getElementById('report-print').addEventListener('click', () => print());
    document.getElementById('report-save').addEventListener('click', () => this.#saveReport());
  }

  editProduct(category, product) {
    this.#product = { category, ...product };
    const { name, rrp, info, hidden } = this.#edit.fields;
    [name.value, rrp.value, info.value, hidden.checked] =
      [product.name, product.rrp, product.info, product.hidden === true];
    this.#edit.open(texts.editOf(product.name));
  }

  addCategory() {
    this.#add.form.reset();
    this.#warned = '';
    this.#add.open(texts.addCategory);
  }

  /** Shows the report of the current period, from which it can be closed. */
  async showPeriod() {
    try {
      this.#showReport(await api.report('current'));
    } catch (error) {
      this.#callbacks.onProblem(this.#callbacks.explain(error));
    }
  }

  async #saveProduct({ name, rrp, info, hidden }) {
    const { category, id } = this.#product;
    const patch = { name: name.value, rrp: rrp.value, info: info.value, hidden: hidden.checked };
    await api.changeProduct(category, id, patch);
    this.#callbacks.onChange();
    return true;
  }

  async #saveCategory({ title, prefix }) {
    const name = addressOf(title.value);
    const letters = prefix.value.trim();
    if (name === '') throw new Error(texts.categoryNeedsLetters);
    if (this.#callbacks.hasCategory(name)) throw new Error(texts.categoryExists(title.value));
    if (!/^[\w-]+$/.test(letters)) throw new Error(texts.prefixNeedsLetters);
    if (letters !== this.#warned) {
      // The totals of all categories name all products.
      const isLike = ({ id }) => id.startsWith(letters) && /^\d+$/.test(id.slice(letters.length));
      const taken = (await api.totals('')).find(isLike);
      if (taken !== undefined) {
        this.#warned = letters;
        throw new Error(texts.prefixTaken(letters, taken.id));
      }
    }
    await api.putCategory(name, { title: title.value, prefix: letters });
    this.#callbacks.onCategory(name);
    return true;
  }

  #showReport(report) {
    this.#shown = report;
    const { number, opened, closed, products } = report;
    const since = formatMoment(new Date(opened));
    const span = closed === undefined ? texts.since(since) : texts.fromTo(since, formatMoment(new Date(closed)));
    document.getElementById('report-span').textContent = span;
    const sorted = [...products].sort((one, other) => collator.compare(one.name, other.name));
    this.#lines.replaceChildren(...sorted.map(({ id, name, amount }) => row(name, id, formatNumber(amount))));
    this.#sum.textContent = formatNumber(products.reduce((sum, { amount }) => sum + amount, 0));
    this.#report.submit.hidden = closed !== undefined;
    this.#report.submit.textContent = texts.closePeriod(number);
    document.getElementById('report-warning').hidden = closed !== undefined;
    this.#report.open(texts.period(number));
  }

  /** Closes the period that is shown. A repeat, or another till's close in between, is rejected by its number. */
  async #close() {
    this.#showReport(await api.closePeriod(this.#shown.number));
    return false;
  }

  async #saveReport() {
    const { number, closed } = this.#shown;
    try {
      const csv = await api.reportCsv(closed === undefined ? 'current' : number);
      const link = document.createElement('a');
      link.href = URL.createObjectURL(new Blob([csv], { type: 'text/csv' }));
      link.download = `period-${number}.csv`;
      link.click();
      URL.revokeObjectURL(link.href);
    } catch (error) {
      this.#report.show(this.#callbacks.explain(error));
    }
  }
}

/**
 * A dialog with a form. `save(fields)` resolves to whether the dialog is to be closed; of its error, the dialog shows what
 * `explain` returns.
 */
class Dialog {
  #dialog;
  #reason;
  #title;

  constructor(id, explain, save) {
    this.#dialog = document.getElementById(id);
    this.form = this.#dialog.querySelector('form');
    this.submit = this.#dialog.querySelector('[type=submit]');
    this.#reason = this.#dialog.querySelector('[role=alert]');
    this.#title = this.#dialog.querySelector('h2');
    this.#dialog.querySelector('.cancel').addEventListener('click', () => this.#dialog.close());
    this.form.addEventListener('submit', async (event) => {
      event.preventDefault();
      this.submit.disabled = true;
      this.show('');
      try {
        if (await save(this.fields)) this.#dialog.close();
      } catch (error) {
        this.show(explain(error));
      } finally {
        this.submit.disabled = false;
      }
    });
  }

  get fields() {
    return this.form.elements;
  }

  open(title) {
    this.#title.textContent = title;
    this.show('');
    if (!this.#dialog.open) this.#dialog.showModal();
  }

  show(reason) {
    this.#reason.textContent = reason;
    this.#reason.hidden = reason === '';
  }
}

/** The name of a category in addresses, from its title. */
function addressOf(title) {
  let name = title.normalize('NFC').toLowerCase().replaceAll('ß', 'ss');
  if (texts.language === 'de') name = name.replace(/[äöü]/g, (letter) => UMLAUTS[letter]);
  return name.normalize('NFD').replace(/\p{M}/gu, '').replace(NOT_IN_NAMES, '-').replace(/^-+|-+$/g, '')
    .slice(0, LONGEST_NAME);
}

function row(name, id, amount) {
  const line = document.createElement('tr');
  for (const text of [name, id, amount]) line.append(Object.assign(document.createElement('td'), { textContent: text }));
  return line;
}
