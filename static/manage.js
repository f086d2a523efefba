// Managing the shop: editing, hiding and showing products, categories and their titles, and the reports and the close of
// periods. Each in a dialog of its own. Requests go through api.js, which asks for a token when one is needed.

import * as api from './api.js';
import { CONFLICT } from './ordercast.js';
import { formatMoment, formatNumber, texts } from './texts.js';

/** The characters of a category's name in addresses. */
const NOT_IN_NAMES = /[^a-z0-9]+/g;
const UMLAUTS = { ä: 'ae', ö: 'oe', ü: 'ue' };
const LONGEST_NAME = 40;
/** How long the question about a close is shown before it can be answered. */
const QUESTION_REST_MS = 1_000;

/**
 * Callbacks:
 * - `onChange()`: products or the title of a category were changed,
 * - `onCategory(name)`: a category was added,
 * - `onReportClosed()`: the visitor has left the report,
 * - `titleOf(name)`: the title of the category with this name, or `undefined`,
 * - `explain(error, action)`: returns the text about an error for people,
 * - `onProblem(text)`: something could not be shown.
 */
export class Manage {
  #callbacks;
  #edit;
  #category;
  #report;
  /** The product that is edited, with its category; the category that is edited, `null` for a new one. */
  #product = null;
  #name = null;
  /** The last prefix that was warned about. */
  #warned = '';

  constructor(callbacks) {
    this.#callbacks = callbacks;
    const { explain } = callbacks;
    this.#edit = new Dialog('edit-dialog', explain, (fields) => this.#saveProduct(fields));
    this.#category = new Dialog('category-dialog', explain, (fields) => this.#saveCategory(fields));
    this.#report = new Report(callbacks);
  }

  editProduct(category, product) {
    this.#product = { category, ...product };
    const { name, rrp, info, hidden } = this.#edit.fields;
    [name.value, rrp.value, info.value, hidden.checked] =
      [product.name, product.rrp, product.info, product.hidden === true];
    this.#edit.open(texts.editOf(product.name));
  }

  /** Asks for the title of a new category, or for another one of the category with this name. */
  editCategory(name = null) {
    this.#name = name;
    this.#warned = '';
    const { title, prefix } = this.#category.fields;
    title.value = name === null ? '' : (this.#callbacks.titleOf(name) ?? name);
    prefix.value = '';
    prefix.disabled = prefix.parentElement.hidden = name !== null;
    this.#category.submit.textContent = name === null ? texts.addCategoryButton : texts.save;
    this.#category.open(name === null ? texts.addCategory : texts.editOf(title.value));
  }

  /** Shows the report of the current period, from which it can be closed. */
  showPeriod() {
    return this.#report.load('current');
  }

  /** Sends what was changed here, so that a colleague's change of something else stays. */
  async #saveProduct({ name, rrp, info, hidden }) {
    const { category, id, ...before } = this.#product;
    before.hidden ??= false;
    const wanted = { name: name.value, rrp: rrp.value, info: info.value, hidden: hidden.checked };
    const changes = Object.entries(wanted).filter(([member, value]) => value !== before[member]);
    if (changes.length === 0) return true;
    await api.changeProduct(category, id, Object.fromEntries(changes));
    this.#callbacks.onChange();
    return true;
  }

  async #saveCategory({ title, prefix }) {
    if (this.#name !== null) {
      await api.putCategory(this.#name, { title: title.value });
      this.#callbacks.onChange();
      return true;
    }
    const name = addressOf(title.value);
    const letters = prefix.value.trim();
    if (name === '') throw new Error(texts.categoryNeedsLetters);
    if (this.#callbacks.titleOf(name) !== undefined) throw new Error(texts.categoryExists(title.value));
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
}

/** The report of one period, with those before and after it. The current period is closed in two steps. */
class Report {
  #callbacks;
  #dialog;
  #page = Object.fromEntries(
    ['title', 'span', 'state', 'note', 'previous', 'next', 'lines', 'sum', 'choices', 'back', 'close', 'confirm',
      'question', 'keep'].map((name) => [name, document.getElementById(`report-${name}`)]),
  );
  #shown = null;
  /** The timer before the question can be answered. */
  #rest = null;
  /** When its numbers were read. */
  #shownAt = null;
  /** Counts the reports that were asked for: only the latest is shown. */
  #asked = 0;

  constructor(callbacks) {
    this.#callbacks = callbacks;
    const { explain, onReportClosed } = callbacks;
    this.#dialog = new Dialog('report-dialog', (error) => explain(error, 'closed'), () => this.#close());
    this.#dialog.element.addEventListener('close', () => {
      // An answer that comes later does not open it again.
      this.#asked += 1;
      onReportClosed();
    });
    const { previous, next, close, keep } = this.#page;
    previous.addEventListener('click', () => this.load(this.#shown.number - 1));
    next.addEventListener('click', () => this.load(this.#shown.number + 1));
    close.addEventListener('click', () => this.load(this.#shown.number, true));
    keep.addEventListener('click', () => this.#ask(false));
    document.getElementById('report-print').addEventListener('click', async () => {
      if (await this.load(this.#shown.number)) print();
    });
    document.getElementById('report-save').addEventListener('click', () => this.#save());
    addEventListener('beforeprint', () => this.#fillPrintout());
  }

  /**
   * Shows a report: of a number, or `current`. With `asks`, the visitor is asked whether to close the period. Resolves to
   * whether it is shown.
   */
  async load(number, asks = false) {
    this.#asked += 1;
    const asked = this.#asked;
    try {
      const report = await api.report(number);
      if (asked !== this.#asked) return false;
      this.#show(report);
      if (asks && report.closed === undefined) this.#ask(true);
      else if (asks) this.#tellClosed();
      return true;
    } catch (error) {
      const text = this.#callbacks.explain(error);
      if (this.#dialog.element.open) this.#dialog.show(text);
      else this.#callbacks.onProblem(text);
      return false;
    }
  }

  #show(report) {
    this.#shown = report;
    this.#shownAt = new Date();
    const { number, opened, closed, products } = report;
    const { span, state, note, previous, next, lines, sum, close } = this.#page;
    const since = formatMoment(new Date(opened));
    const isCurrent = closed === undefined;
    span.textContent = isCurrent ? texts.since(since) : texts.fromTo(since, formatMoment(new Date(closed)));
    state.textContent = isCurrent ? texts.notClosed : texts.closed;
    note.textContent = '';
    previous.hidden = number <= 1;
    previous.textContent = texts.period(number - 1);
    next.hidden = isCurrent;
    next.textContent = texts.period(number + 1);
    for (const group of [...lines.tBodies]) group.remove();
    lines.tFoot.before(...this.#groups(products));
    sum.textContent = sumOf(products);
    close.hidden = !isCurrent;
    close.textContent = `${texts.closePeriod(number)}…`;
    this.#dialog.submit.textContent = texts.closePeriod(number);
    this.#page.question.textContent = texts.closeQuestion(number);
    const wasOpen = this.#dialog.element.open;
    this.#dialog.open(texts.period(number));
    this.#ask(false);
    if (!wasOpen) this.#page.back.focus();
  }

  /** The server lists the products by category. */
  #groups(products) {
    const categories = [...new Set(products.map(({ category }) => category))];
    return categories.map((name) => {
      const group = document.createElement('tbody');
      const own = products.filter(({ category }) => category === name);
      const title = row('th', this.#callbacks.titleOf(name) ?? name, sumOf(own));
      title.firstChild.colSpan = 2;
      group.append(title, ...own.map(({ id, name, amount }) => row('td', name, id, formatNumber(amount))));
      return group;
    });
  }

  /** Changes between the first step and the question. The focus is on the button that changes nothing. */
  #ask(asks) {
    const { choices, confirm, previous, next, back, keep } = this.#page;
    choices.hidden = asks;
    confirm.hidden = this.#dialog.submit.hidden = !asks;
    // A second click on the first button, at the same place of the screen, must not close the period.
    clearTimeout(this.#rest);
    this.#dialog.submit.disabled = asks;
    if (asks) this.#rest = setTimeout(() => (this.#dialog.submit.disabled = false), QUESTION_REST_MS);
    previous.parentElement.hidden = asks || (previous.hidden && next.hidden);
    const focused = document.activeElement;
    if (asks) keep.focus();
    else if (focused === document.body || focused.closest('[hidden]')) back.focus();
  }

  #tellClosed() {
    this.#page.note.textContent = texts.closedBefore(this.#shown.number);
  }

  /** Closes the period that is shown. A repeat, or another till's close in between, is rejected by its number. */
  async #close() {
    const { number } = this.#shown;
    try {
      this.#show(await api.closePeriod(number));
    } catch (error) {
      if (error.status !== CONFLICT) throw error;
      this.#show(await api.report(number));
      this.#tellClosed();
    }
    return false;
  }

  #fillPrintout() {
    const { title, span, lines } = this.#page;
    const [heading, times, table] = [title, span.parentElement, lines].map((part) => part.cloneNode(true));
    const printed = document.createElement('p');
    printed.textContent = texts.printedAt(formatMoment(this.#shownAt), location.host);
    const printout = document.getElementById('printout');
    printout.replaceChildren(heading, times, printed, table);
    for (const part of printout.querySelectorAll('[id]')) part.removeAttribute('id');
  }

  async #save() {
    const { number } = this.#shown;
    try {
      const csv = await api.reportCsv(number);
      const link = document.createElement('a');
      link.href = URL.createObjectURL(new Blob([csv], { type: 'text/csv' }));
      link.download = `period-${number}.csv`;
      link.click();
      URL.revokeObjectURL(link.href);
    } catch (error) {
      this.#dialog.show(this.#callbacks.explain(error));
    }
  }
}

/**
 * A dialog with a form. `save(fields)` resolves to whether the dialog is to be closed; of its error, the dialog shows what
 * `explain` returns.
 */
class Dialog {
  #reason;
  #title;
  /** How often it was opened. */
  #opened = 0;

  constructor(id, explain, save) {
    this.element = document.getElementById(id);
    this.form = this.element.querySelector('form');
    this.submit = this.element.querySelector('[type=submit]');
    this.#reason = this.element.querySelector('[role=alert]');
    this.#title = this.element.querySelector('h2');
    this.element.querySelector('.cancel').addEventListener('click', () => this.element.close());
    this.form.addEventListener('submit', async (event) => {
      event.preventDefault();
      const opened = this.#opened;
      this.submit.disabled = true;
      this.show('');
      try {
        if ((await save(this.fields)) && opened === this.#opened) this.element.close();
      } catch (error) {
        if (opened === this.#opened) this.show(explain(error));
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
    this.#opened += 1;
    this.submit.disabled = false;
    this.show('');
    if (!this.element.open) this.element.showModal();
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

const sumOf = (products) => formatNumber(products.reduce((sum, { amount }) => sum + amount, 0));

function row(cell, ...columns) {
  const line = document.createElement('tr');
  for (const text of columns) line.append(Object.assign(document.createElement(cell), { textContent: text }));
  return line;
}
