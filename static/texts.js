// The texts in the browser's language, and numbers, times and amounts as it writes them. English is part of the page; another
// language is loaded before anything is shown.

import english from './texts-en.js';

const LANGUAGES = ['en', 'de', 'fr', 'es'];

const wanted = (navigator.languages ?? [navigator.language]).map((tag) => tag.slice(0, 2).toLowerCase());
const language = wanted.find((tag) => LANGUAGES.includes(tag)) ?? 'en';

async function load() {
  if (language === 'en') return english;
  try {
    const { default: texts } = await import(`./texts-${language}.js`);
    return { ...english, ...texts };
  } catch {
    // A board in English is better than none.
    return english;
  }
}

/** The texts: strings, and functions of what they name. */
export const texts = await load();
document.documentElement.lang = texts.language;

/** The language with the visitor's region, for numbers and times. */
const locale = (navigator.languages ?? []).find((tag) => tag.toLowerCase().startsWith(texts.language)) ?? texts.language;
const numbers = new Intl.NumberFormat(locale);
const signed = new Intl.NumberFormat(locale, { signDisplay: 'exceptZero' });
const times = new Intl.DateTimeFormat(locale, { hour: 'numeric', minute: '2-digit' });
const moments = new Intl.DateTimeFormat(locale, { dateStyle: 'medium', timeStyle: 'short' });
const exactTimes = new Intl.DateTimeFormat(locale, { timeStyle: 'medium' });

export const collator = new Intl.Collator(locale, { numeric: true, sensitivity: 'base' });
export const formatNumber = (number) => numbers.format(number);
/** With its sign: `+5`, `-3`. */
export const formatChange = (number) => signed.format(number);
/** The time of a date; of another day than today, with the date. */
export function formatTime(date) {
  return (date.toDateString() === new Date().toDateString() ? times : moments).format(date);
}
export const formatMoment = (date) => moments.format(date);

/** The connection's state in words. `since` is when totals were last current, or `null`. A wall takes no orders. */
export function stateText(state, since, isWall) {
  if (state === 'stale') return since === null ? texts.stale : texts.staleSince(exactTimes.format(since));
  if (state !== 'lost') return texts[state === 'idle' ? 'allCategories' : state];
  if (since === null) return texts.noConnection;
  return texts.connectionLost(exactTimes.format(since)) + (isWall ? '' : ` ${texts.ordersAreKept}`);
}

/** Writes the texts of all elements below `root` that name one: `data-text`, `data-label` and `data-hint`. */
export function translate(root) {
  for (const element of root.querySelectorAll('[data-text]')) element.textContent = texts[element.dataset.text];
  for (const element of root.querySelectorAll('[data-label]')) {
    element.setAttribute('aria-label', texts[element.dataset.label]);
  }
  for (const element of root.querySelectorAll('[data-hint]')) element.placeholder = texts[element.dataset.hint];
}
