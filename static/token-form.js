// Owns what a visitor sees of tokens: the dialog that asks for one, its words, what a token can look like, and the
// buttons that ask again and forget. Knows nothing of the server.

import { ADD, MISSING, ORDER, OWN_READS_ONLY, READ, READS_ONLY, REVOKED, WRONG, access } from './token.js';

/** What both an Authorization line and the name of a WebSocket's subprotocol can carry. */
const TOKEN = /^[A-Za-z0-9._~+-]{16,255}$/;
const NO_TOKEN = 'A token is 16 to 255 letters, digits and - . _ ~ + without spaces.';

const TITLES = {
  [READ]: 'This board needs a token',
  [ORDER]: 'Ordering needs a token',
  [ADD]: 'Adding a product needs a token',
};
const PROMISES = {
  [READ]: 'Give the one that lets you see it.',
  [ORDER]: 'Give one that may order, and your order is sent.',
  [ADD]: 'Give one that may order, and your product is added.',
};
const REASONS = {
  [MISSING]: '',
  [REVOKED]: 'The token of this tab is no longer accepted.',
  [WRONG]: 'That token is not accepted.',
  [OWN_READS_ONLY]: 'The token of this tab may see the board and not order.',
  [READS_ONLY]: 'That token may see the board and not order.',
};

/**
 * Calls back with
 * - `onChange()`: the board can be read now, or no longer,
 * - `onAgain()`: the visitor wants what was refused to be tried again,
 * - `onForget()`: the token is forgotten; `onAgain()` follows.
 */
export class TokenForm {
  #dialog = document.getElementById('token');
  #title = document.getElementById('token-title');
  #promise = document.getElementById('token-promise');
  #reason = document.getElementById('token-reason');
  #input = document.getElementById('token-input');
  #button = document.getElementById('token-use');
  #enter = document.getElementById('token-enter');
  #forget = document.getElementById('token-forget');
  #answer = null;

  constructor({ onChange, onAgain, onForget }) {
    this.#dialog.addEventListener('submit', (event) => this.#submit(event));
    document.getElementById('token-cancel').addEventListener('click', () => this.#dialog.close());
    // Escape, the button, or an end of the question: whoever still waits gets no token. The event comes late; the next
    // question may have opened the dialog again.
    this.#dialog.addEventListener('close', () => {
      if (this.#dialog.open) return;
      this.#input.value = '';
      this.#tell(null);
    });
    this.#enter.addEventListener('click', onAgain);
    this.#forget.addEventListener('click', () => {
      access.forget();
      onForget();
      onAgain();
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

  /** Resolves to what the visitor gives, or to `null`. The dialog stays open until it is known whether that was right. */
  #ask(need, why) {
    this.#title.textContent = TITLES[need];
    this.#promise.textContent = PROMISES[need];
    this.#say(REASONS[why]);
    this.#setBusy(false);
    if (!this.#dialog.open) this.#dialog.showModal();
    this.#input.focus();
    this.#input.select();
    return new Promise((resolve) => {
      this.#answer = resolve;
    });
  }

  #submit(event) {
    event.preventDefault();
    const token = this.#input.value.trim();
    if (TOKEN.test(token)) {
      this.#setBusy(true);
      this.#tell(token);
    } else {
      this.#say(NO_TOKEN);
      this.#input.focus();
      this.#input.select();
    }
  }

  #tell(token) {
    this.#answer?.(token);
    this.#answer = null;
  }

  #say(reason) {
    this.#reason.textContent = reason;
    this.#reason.hidden = reason === '';
    this.#input.setAttribute('aria-invalid', String(reason !== ''));
  }

  #setBusy(busy) {
    this.#input.readOnly = busy;
    this.#button.disabled = busy;
  }
}
