// The `<product-item>` element: one product on the board. Its data is in the light DOM, in the slots `name`, `rrp`, `info`
// and `orders`. Its form dispatches an `order` event.

/** How long a change is shown. A further change within that time is added to it. */
const CHANGE_MS = 1_400;

const template = document.createElement('template');
template.innerHTML = `
  <div class="card">
    <slot name="name"></slot>
    <slot name="rrp"></slot>
    <slot name="info"></slot>
    <p class="count"><span class="number"><slot name="orders"></slot></span></p>
    <p class="unit"><span class="word">orders</span><span class="change" aria-hidden="true"></span></p>
    <form>
      <input type="number" step="1" value="1" required>
      <button type="submit"><span aria-hidden="true">+</span> Add order</button>
    </form>
  </div>`;

const sheet = new CSSStyleSheet();
sheet.replaceSync(`
  /* Sizes are in em, and the font size depends on the height of a cell (--cell-height, set by board.js), so that everything
     shrinks when many products share the screen. All but the number takes about --other-height. */
  :host {
    display: grid;
    min-width: 0;
    container-type: inline-size;
    font-size: min(1rem, var(--cell-height, 100vh) / 14);
    --other-height: 10.5em;
  }
  :host([dense]) { --other-height: 9em; }
  .card {
    display: grid;
    overflow: hidden;
    grid-template:
      "name name price" auto
      "info info info" auto
      ". . ." 1fr
      "count count count" auto
      "unit unit unit" auto
      ". . ." 1fr
      "form form form" auto / auto 1fr auto;
    gap: 0.2em 0.9em;
    padding: 0.9em 1.1em 1em;
    background: var(--card);
    border: 1px solid var(--edge);
    border-radius: 0.9em;
    box-shadow: var(--shadow);
  }
  :host([dense]) .card {
    grid-template:
      "name name price" auto
      "info info info" auto
      "count count count" 1fr
      "unit form form" auto / auto 1fr auto;
    padding: 0.75em 1em 0.8em;
  }
  ::slotted([slot="name"]) {
    grid-area: name;
    margin: 0;
    font-size: clamp(1.1em, 5cqi, 1.9em);
    font-weight: 650;
    line-height: 1.15;
    letter-spacing: -0.01em;
    overflow-wrap: anywhere;
  }
  ::slotted([slot="info"]) {
    grid-area: info;
    display: -webkit-box;
    overflow: hidden;
    color: var(--quiet);
    font-size: clamp(0.9em, 2.5cqi, 1.15em);
    line-height: 1.3;
    overflow-wrap: anywhere;
    -webkit-box-orient: vertical;
    -webkit-line-clamp: 2;
    /* The same height for short texts and none, so that the numbers of a row are level. */
    min-height: 2.6em;
  }
  :host([dense]) ::slotted([slot="info"]) { -webkit-line-clamp: 1; min-height: 1.3em; }
  ::slotted([slot="rrp"]) {
    grid-area: price;
    align-self: start;
    max-width: 8em;
    padding: 0.12em 0.6em;
    border-radius: 5em;
    background: var(--tag);
    font-size: clamp(0.95em, 3cqi, 1.4em);
    font-weight: 600;
    font-variant-numeric: tabular-nums;
    overflow-wrap: anywhere;
  }
  /* A product without a price keeps the line's height, so that the numbers of a row are level. */
  ::slotted([slot="rrp"]:empty) { visibility: hidden; min-height: 1lh; padding-inline: 0; }
  .count, .unit {
    opacity: var(--total-opacity, 1);
    transition: opacity 0.3s;
  }
  .count {
    grid-area: count;
    place-self: center;
    margin: 0;
  }
  /* The smallest of: the width divided by the digits (0.68 em each), the height left, about half of the whole height. */
  .number {
    color: var(--number);
    font-size: min(88cqi / max(2.1, var(--digits, 1) * 0.68), (var(--cell-height, 100vh) - var(--other-height)) / 0.9, var(--cell-height, 100vh) * 0.55);
    font-weight: 750;
    font-variant-numeric: tabular-nums lining-nums;
    letter-spacing: -0.03em;
    line-height: 0.9;
  }
  .unit {
    grid-area: unit;
    place-self: center;
    position: relative;
    margin: 0;
    color: var(--quiet);
    font-size: clamp(0.95em, 3cqi, 1.6em);
    line-height: 1.3;
  }
  .change {
    position: absolute;
    left: calc(100% + 0.5em);
    padding: 0 0.5em;
    border-radius: 5em;
    background: var(--accent);
    color: var(--on-accent);
    font-weight: 700;
    font-variant-numeric: tabular-nums;
    text-align: center;
    white-space: nowrap;
    opacity: 0;
  }
  :host([dense]) .unit { justify-self: start; }
  :host([dense]) .change { box-sizing: border-box; left: 0; min-width: 100%; }
  form { grid-area: form; display: flex; justify-content: flex-end; gap: 0.5em; }
  input, button {
    box-sizing: border-box;
    min-height: 2.75em;
    border: 1px solid var(--control-edge);
    border-radius: 0.55em;
    background: transparent;
    color: var(--ink);
    font: inherit;
  }
  input {
    width: 5em;
    padding: 0 0.5em;
    font-variant-numeric: tabular-nums;
  }
  button {
    padding: 0 0.9em;
    border-color: transparent;
    background: var(--tag);
    font-weight: 600;
    cursor: pointer;
    touch-action: manipulation;
  }
  button:hover { background: var(--edge); }
  button:active { background: var(--ink); color: var(--card); }
  @media (max-width: 47rem) {
    :host([dense]) ::slotted([slot="info"]) { -webkit-line-clamp: 3; }
  }
  @media (prefers-reduced-motion: reduce) {
    .count, .unit { transition: none; }
  }
  :focus-visible { outline: 3px solid var(--focus); outline-offset: 2px; }
`);

class ProductItem extends HTMLElement {
  #name = slotted('h2', 'name');
  #rrp = slotted('span', 'rrp');
  #info = slotted('span', 'info');
  #orders = slotted('span', 'orders');
  #amount;
  #button;
  #number;
  #word;
  #change;
  #total;
  #animation = null;
  #shownChange = 0;

  constructor() {
    super();
    const root = this.attachShadow({ mode: 'open' });
    root.adoptedStyleSheets = [sheet];
    root.append(template.content.cloneNode(true));
    this.#amount = root.querySelector('input');
    this.#button = root.querySelector('button');
    this.#number = root.querySelector('.number');
    this.#word = root.querySelector('.word');
    this.#change = root.querySelector('.change');
    // So that typing replaces the amount.
    this.#amount.addEventListener('focus', () => this.#amount.select());
    root.querySelector('form').addEventListener('submit', (event) => this.#submit(event));
  }

  connectedCallback() {
    if (this.#name.parentNode !== this) {
      this.append(this.#name, this.#info, this.#rrp, this.#orders);
      this.setAttribute('role', 'listitem');
    }
  }

  /** A product of the server's list: `{ id, name, rrp, info }`. */
  set product({ id, name, rrp, info }) {
    this.dataset.id = id;
    setText(this.#name, name);
    setText(this.#rrp, rrp);
    setText(this.#info, info);
    if (this.#total === undefined) setText(this.#orders, '–');
    this.#amount.setAttribute('aria-label', `Amount of ${name}`);
    this.#button.setAttribute('aria-label', `Add order: ${name}`);
  }

  set total(total) {
    const before = this.#total;
    if (total === before) return;
    this.#total = total;
    const digits = String(total);
    setText(this.#orders, digits);
    setText(this.#word, Math.abs(total) === 1 ? 'order' : 'orders');
    this.style.setProperty('--digits', digits.length);
    if (before !== undefined) this.#showChange(total - before);
  }

  #showChange(change) {
    if (matchMedia('(prefers-reduced-motion: reduce)').matches) return;
    const isRunning = this.#animation?.playState === 'running';
    this.#shownChange = isRunning ? this.#shownChange + change : change;
    setText(this.#change, `${this.#shownChange < 0 ? '−' : '+'}${Math.abs(this.#shownChange)}`);
    if (isRunning) return;
    this.#animation = this.#change.animate(
      [
        { opacity: 1, transform: 'scaleY(0)' },
        { opacity: 1, transform: 'none', offset: 0.1 },
        { opacity: 1, transform: 'none', offset: 0.9 },
        { opacity: 1, transform: 'scaleY(0)' },
      ],
      { duration: CHANGE_MS, easing: 'ease-out' },
    );
    this.#number.animate(
      [{}, { color: 'var(--accent)', transform: 'scale(1.05)', offset: 0.15 }, {}],
      { duration: CHANGE_MS, easing: 'ease-out' },
    );
  }

  #submit(event) {
    event.preventDefault();
    const amount = this.#amount.valueAsNumber;
    this.#amount.value = this.#amount.defaultValue;
    this.dispatchEvent(new CustomEvent('order', { bubbles: true, detail: { id: this.dataset.id, amount } }));
  }
}

function slotted(tag, slot) {
  const element = document.createElement(tag);
  element.slot = slot;
  return element;
}

/** Writes only a different text, so that an unchanged product needs no layout. */
function setText(element, text) {
  if (element.textContent !== String(text)) element.textContent = text;
}

customElements.define('product-item', ProductItem);
