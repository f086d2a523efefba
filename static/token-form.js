// The dialog that asks the visitor for a token, and the buttons to enter and to forget one. Visitors read "access code".

import { ADD, MISSING, ORDER, OWN_READS_ONLY, READ, READS_ONLY, REVOKED, WRONG, access } from './token.js';

/** The characters allowed both in an Authorization field and in the name of a WebSocket subprotocol. */
const TOKEN = /^[A-Za-z0-9._~+-]{16,255}$/;
const MALFORMED = 'An access code has 16 to 255 letters, digits or - . _ ~ + and no spaces.';

const TITLES = {
  [READ]: 'This board needs an access code',
  [ORDER]: 'Ordering needs an access code',
  [ADD]: 'Adding a product needs an access code',
};
const NEXT_STEPS = {
  [READ]: 'Please enter it to see the board.',
  [ORDER]: 'Please enter it. Your order is then sent.',
  [ADD]: 'Please enter it. Your product is then added.',
};
const REASONS = {
  [MISSING]: '',
  [REVOKED]: 'Your access code is no longer valid.',
  [WRONG]: 'This access code is not valid.',
  [OWN_READS_ONLY]: 'With your access code you can see the board, but not order.',
  [READS_ONLY]: 'With this access code you can see the board, but not order.',
};

/**
 * Callbacks:
 * - `onChange()`: the token, or whether the board can be read, has changed,
 * - `onRetry()`: what needs a token is to be tried again,
 * - `onForget()`: the token is forgotten; `onRetry()` follows.
 */
export class TokenForm {
  #dialog = document.getElementById('token');
  #title = document.getElementById('token-title');
  #nextStep = document.getElementById('token-next-step');
  #reason = document.getElementById('token-reason');
  #input = document.getElementById('token-input');
  #button = document.getElementById('token-use');
  #enter = document.getElementById('token-enter');
  #forget = document.getElementById('token-forget');
  /** Resolves the promise of `#ask`. */
  #resolve = null;

  constructor({ onChange, onRetry, onForget }) {
    this.#dialog.addEventListener('submit', (event) => this.#submit(event));
    document.getElementById('token-cancel').addEventListener('click', () => this.#dialog.close());
    // After Escape, the button or `done()`. The event is delayed: the dialog may already be open for the next request.
    this.#dialog.addEventListener('close', () => {
      if (this.#dialog.open) return;
      this.#input.value = '';
      this.#answer(null);
    });
    this.#enter.addEventListener('click', onRetry);
    this.#forget.addEventListener('click', () => {
      access.forget();
      onForget();
      onRetry();
    });
    access.attach({
      ask: (need, why) => this.#ask(need, why),
      done: () => this.#dialog.close(),
      onChange: () => {
        this.#showButtons();
        onChange();
      },
    });
    this.#showButtons();
  }

  /** Whether the visitor is being asked. */
  get isAsking() {
    return this.#dialog.open;
  }

  #showButtons() {
    this.#enter.hidden = !access.isLocked;
    this.#forget.hidden = access.token === null;
  }

  /** Resolves to the token that the visitor enters, or to `null`. The dialog stays open until the token is accepted. */
  #ask(need, why) {
    this.#title.textContent = TITLES[need];
    this.#nextStep.textContent = NEXT_STEPS[need];
    this.#setBusy(false);
    if (!this.#dialog.open) this.#dialog.showModal();
    this.#showReason(REASONS[why]);
    return new Promise((resolve) => {
      this.#resolve = resolve;
    });
  }

  #submit(event) {
    event.preventDefault();
    const token = this.#input.value.trim();
    if (TOKEN.test(token)) {
      this.#setBusy(true);
      this.#answer(token);
    } else {
      this.#showReason(MALFORMED);
    }
  }

  #answer(token) {
    this.#resolve?.(token);
    this.#resolve = null;
  }

  #showReason(reason) {
    this.#reason.textContent = reason;
    this.#reason.hidden = reason === '';
    this.#input.setAttribute('aria-invalid', String(reason !== ''));
    this.#input.focus();
    this.#input.select();
  }

  #setBusy(busy) {
    this.#input.readOnly = busy;
    this.#button.disabled = busy;
  }
}
