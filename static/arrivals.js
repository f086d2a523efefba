// The totals that have changed, in a live region for visitors who listen to the board instead of seeing it. Changes
// that come close to each other are announced together: reading an announcement aloud takes seconds.

import { formatNumber, texts } from './texts.js';

/** The shortest time between two announcements. */
const PAUSE_MS = 10_000;
/** The most products that an announcement names. */
const MOST_NAMED = 3;

export class Arrivals {
  #element;
  /** The name and the total of each product that has changed since the last announcement, by its id. */
  #changed = new Map();
  #timer = null;
  #announcedAt = -Infinity;

  /** `element` is a live region. */
  constructor(element) {
    this.#element = element;
  }

  note(id, name, total) {
    this.#changed.set(id, { name, total });
    const pause = this.#announcedAt + PAUSE_MS - performance.now();
    this.#timer ??= setTimeout(() => this.#announce(), Math.max(0, pause));
  }

  clear() {
    clearTimeout(this.#timer);
    this.#timer = null;
    this.#changed.clear();
    this.#element.textContent = '';
  }

  #announce() {
    this.#timer = null;
    this.#announcedAt = performance.now();
    const changed = [...this.#changed.values()];
    this.#changed.clear();
    const lines = changed.slice(0, MOST_NAMED)
      .map(({ name, total }) => `${name}: ${formatNumber(total)} ${texts.orders(total)}`);
    if (changed.length > MOST_NAMED) lines.push(texts.moreChanged(changed.length - MOST_NAMED));
    this.#element.textContent = lines.join('\n');
  }
}
