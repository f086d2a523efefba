// The styles of a `<product-item>`: on the page, in a low cell (`dense`), and on a wall (`wall`).

export const sheet = new CSSStyleSheet();
sheet.replaceSync(`
  /* Sizes are in em, and the font size depends on the height of a cell (--cell-height, set by board.js), so that everything
     shrinks when many products share the screen. All but the number takes about --other-height. */
  :host {
    display: grid;
    min-width: 0;
    font-size: min(1rem, var(--cell-height) / 16);
    --other-height: 14.4em;
    contain: layout style;
  }
  :host([dense]) { --other-height: 12.6em; }
  :host([hidden]), [hidden] { display: none !important; }
  .card {
    display: grid;
    overflow: hidden;
    grid-template:
      "name name price" auto
      "info info info" auto
      ". . ." 1fr
      "count count count" auto
      "unit unit unit" auto
      "facts facts facts" 2em
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
      "unit unit unit" auto
      "facts facts facts" 2em
      "form form form" auto / auto 1fr auto;
    padding: 0.75em 1em 0.8em;
  }
  ::slotted([slot="name"]) {
    grid-area: name;
    margin: 0;
    font-size: clamp(1.1em, var(--cell-width) * 0.05, 1.9em);
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
    font-size: clamp(0.9em, var(--cell-width) * 0.05, 1em);
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
    font-size: clamp(0.95em, var(--cell-width) * 0.03, 1.4em);
    font-weight: 600;
    font-variant-numeric: tabular-nums;
    overflow-wrap: anywhere;
  }
  /* A product without a price keeps the line's height, so that the numbers of a row are level. */
  ::slotted([slot="rrp"]:empty) { visibility: hidden; min-height: 1lh; padding-inline: 0; }
  /* The font size is the smallest of: the width divided by the digits (0.68 em each), the height left, about half of the
     whole height. The number has a fixed size, so that another one needs no layout of anything else. */
  .count {
    grid-area: count;
    align-self: center;
    margin: 0;
    font-size: min(
      min(var(--cell-width) * 0.88, var(--cell-width) - 2.8em) / max(2.1, var(--digits, 1) * 0.68),
      var(--cell-height) - var(--other-height),
      var(--cell-height) * 0.55);
  }
  .number {
    display: block;
    contain: strict;
    height: 1em;
    line-height: 1em;
    text-align: center;
    color: var(--number);
    font-weight: 750;
    font-variant-numeric: tabular-nums lining-nums;
    letter-spacing: -0.03em;
  }
  .unit {
    grid-area: unit;
    contain: layout style paint;
    position: relative;
    height: 1.3em;
    margin: 0;
    text-align: center;
    color: var(--quiet);
    font-size: min(clamp(0.95em, var(--cell-width) * 0.03, 1.6em), var(--cell-width) * 0.84 / var(--unit-width, 1));
    line-height: 1.3;
  }
  /* A change covers the word "orders" for a moment, on a wall the whole line. */
  .place {
    display: inline-block;
    position: relative;
    min-width: min(calc(var(--change-width, 4) * 1em), var(--cell-width) * 0.8);
    text-align: end;
  }
  .change {
    position: absolute;
    contain: strict;
    inset: 0;
    background: var(--card);
    font-weight: 700;
    font-variant-numeric: tabular-nums;
    text-align: center;
    white-space: nowrap;
    opacity: 0;
  }
  .change span {
    display: inline-block;
    box-sizing: border-box;
    min-width: 4em;
    height: 1.3em;
    padding: 0 0.8em;
    /* The widths of texts are in em (see product-item.js): one that is too wide for the cell gets a smaller font. */
    font-size: min(1em, var(--cell-width) * 0.8 / var(--change-width, 4));
    border-radius: 5em;
    background: var(--accent);
    color: var(--on-accent);
  }
  /* The line about the last hour, and in its place for a while that about an order from here. */
  .facts, .status {
    grid-area: facts;
    align-self: center;
    display: flex;
    align-items: center;
    justify-content: center;
    gap: 0.7em;
    min-width: 0;
    height: 1.8em;
    margin: 0;
    color: var(--quiet);
    font-size: min(clamp(0.85em, var(--cell-width) * 0.024, 1.1em), var(--cell-width) * 0.84 / var(--hour-width, 1));
    font-variant-numeric: tabular-nums;
    line-height: 1.3;
    white-space: nowrap;
  }
  .facts { contain: layout style; overflow: hidden; }
  svg { flex: 1 1 3em; min-width: 0; max-width: 24em; height: 1.5em; }
  path { fill: var(--spark); }
  .hour { flex: none; }
  .last { min-width: 0; overflow: hidden; text-overflow: ellipsis; }
  .status {
    z-index: 1;
    justify-content: space-between;
    margin: 0 -2px;
    padding: 0 2px;
    background: var(--card);
    font-weight: 600;
  }
  .status button { min-height: 2em; }
  .ask { justify-content: flex-end; color: var(--warn); }
  .ask:empty, .gone { display: none; }
  .ask:not(:empty) ~ form .add { background: var(--warn-wash); color: var(--warn); }
  .period:not(:empty)::before { content: " · "; }
  form {
    grid-area: form;
    display: flex;
    align-items: center;
    justify-content: flex-end;
    gap: 0.25em;
    min-height: 2.75em;
  }
  :host([wide]) form { gap: 0.5em; }
  .sent[data-state="sent"] { color: var(--good); }
  .sent[data-state="waiting"] { color: var(--warn); }
  .sent[data-state="refused"] { color: var(--bad); }
  .edit { margin-right: auto; min-width: 2.75em; padding: 0; }
  :host([dense]) .last, :host([narrow]) .last { display: none; }
  .quick { display: flex; gap: inherit; }
  .quick button { min-width: 2.1em; padding: 0 0.25em; }
  :host([wide]) .quick button { min-width: 2.75em; }
  :host([withdrawn]) :is(input, .add, .quick, .undo) { display: none; }
  :host([withdrawn]) .gone { display: block; margin-right: auto; color: var(--quiet); font-weight: 600; }
  :host([withdrawn]) { --number: var(--quiet); }
  :host([withdrawn]) .edit { margin-right: 0; }
  :host([withdrawn]) .card { border: 2px dashed var(--control-edge); }
  :host([withdrawn]) ::slotted([slot="name"]) { color: var(--quiet); text-decoration: line-through; }
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
    width: 3.1em;
    padding: 0 0.4em;
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
  .add { padding: 0 0.5em; white-space: nowrap; }
  :host([wide]) :is(input, .add) { padding: 0 0.9em; }
  :host([wide]) input { width: 5em; padding-right: 0.3em; }
  :host(:not([wide])) input::-webkit-inner-spin-button { display: none; }
  button:hover { background: var(--edge); }
  button:active { background: var(--ink); color: var(--card); }
  @media (max-width: 47rem) {
    :host([dense]) ::slotted([slot="info"]) { -webkit-line-clamp: 3; }
  }
  /* On a wall every size follows from the cell's own: the name takes a third of the height at most, the number a half. The
     font and the lines of a name are computed (fitName in product-item.js) for widths that grow as the font does. */
  :host([wall]) {
    height: 100%;
    font-size: 1rem;
  }
  :host([wall]) .card {
    box-sizing: border-box;
    height: 100%;
    grid-template:
      "name" var(--name-height)
      "count" minmax(0, 1fr)
      "facts" auto / minmax(0, 1fr);
    gap: 0;
    padding: calc(var(--cell-height) * 0.05) var(--wall-padding) calc(var(--cell-height) * 0.04);
    border-radius: min(0.9rem, var(--cell-height) * 0.08);
  }
  :host([wall]) ::slotted([slot="name"]) {
    display: -webkit-box;
    overflow: hidden;
    font-size: var(--name-size);
    line-height: var(--name-line);
    text-rendering: geometricPrecision;
    overflow-wrap: break-word;
    text-wrap: balance;
    -webkit-box-orient: vertical;
    -webkit-line-clamp: var(--name-lines);
  }
  :host([wall]) ::slotted([slot="rrp"]), :host([wall]) ::slotted([slot="info"]), :host([wall]) form { display: none; }
  :host([wall]) .count { font-size: min(var(--cell-width) * 0.86 / max(2.1, var(--digits, 1) * 0.68), var(--cell-height) * 0.46); }
  /* A change covers the line about the last hour for a moment. */
  :host([wall]) .unit {
    grid-area: facts;
    align-self: end;
    /* Its edge may lie on half a pixel. */
    bottom: -2px;
    z-index: 1;
    font-size: min(var(--cell-height) * 0.11, var(--cell-width) * 0.08);
    line-height: 1.3;
  }
  :host([wall]) .place { position: static; }
  :host([wall]) .facts {
    align-self: end;
    height: 1.3em;
    font-size: min(var(--cell-height) * 0.11, var(--cell-width) * 0.052, var(--cell-width) * 0.86 / var(--hour-width, 1));
    gap: 0.5em;
  }
  :host([wall]) .word, :host([wall]) .last, :host([wall]) .period, :host([wall]) .status { display: none; }
  :host([wall]) svg { flex: 0 1 6em; min-width: 0; height: 1.1em; }
  :host([narrow]) .facts svg { display: none; }
  :host([wall][narrow]) .facts {
    font-size: min(var(--cell-height) * 0.11, var(--cell-width) * 0.07, var(--cell-width) * 0.86 / var(--hour-width, 1));
  }
  :focus-visible { outline: 3px solid var(--focus); outline-offset: 2px; }
`);
