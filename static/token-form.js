// The dialog that asks the visitor for a token, and the buttons to enter and to forget one. Visitors read "access code".

import { texts } from './texts.js';
import { ADD, MANAGE, OWN_READS_ONLY, READ, READS_ONLY, access, manages } from './token.js';

/** The characters allowed both in an Authorization field and in the name of a WebSocket subprotocol. */
const TOKEN = /^[A-Za-z0-9._~+-]{16,255}$/;
/** A till's token that may not change the shop is no mistake: the manager's is asked for. */
const MANAGE_REASONS = { [OWN_READS_ONLY]: 'missing', [READS_ONLY]: 'does not manage' };

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
  #keeps = document.getElementById('token-keep');
  #note = document.getElementById('token-note');
  #button = document.getElementById('token-use');
  #cancel = document.getElementById('token-cancel');
  #enter = document.getElementById('token-enter');
  #forget = document.getElementById('token-forget');
  /** Resolves the promise of `#ask`. */
  #resolve = null;
  /** Whether a code is being tried. The request has been sent with it, so cancelling would not prevent the change. */
  #isBusy = false;

  constructor({ onChange, onRetry, onForget }) {
    this.#dialog.addEventListener('submit', (event) => this.#submit(event));
    this.#keeps.addEventListener('change', () => {
      this.#note.hidden = this.#keeps.checked;
    });
    this.#cancel.addEventListener('click', () => this.#dialog.close());
    this.#dialog.addEventListener('cancel', (event) => {
      if (this.#isBusy) event.preventDefault();
    });
    // After Escape, the button or `done()`. The event is delayed: the dialog may already be open for the next request.
    this.#dialog.addEventListener('close', () => {
      if (this.#dialog.open) return;
      // Chromium closes a dialog at the second Escape in succession, whatever its `cancel` event says.
      if (this.#isBusy) this.#dialog.showModal();
      else this.#answer(null);
    });
    this.#enter.addEventListener('click', onRetry);
    this.#forget.addEventListener('click', () => {
      access.forget();
      onForget();
      onRetry();
    });
    access.attach({
      ask: (...question) => this.#ask(...question),
      done: () => {
        this.#input.value = '';
        this.#setBusy(false);
        this.#dialog.close();
      },
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

  /** Resolves to what the visitor enters, or to `null`. The dialog stays open until the token is accepted. */
  #ask(need, why, about) {
    const isRefused = why === OWN_READS_ONLY || why === READS_ONLY;
    // Where adding needs a token, it may be that of all tills. After a 403 it is the manager's.
    const title = texts.codeTitles[need === ADD && isRefused ? MANAGE : need];
    this.#title.textContent = typeof title === 'function' ? title(about) : title;
    this.#nextStep.textContent = texts.codeNextSteps[need] ?? texts.codeNextSteps.manage;
    this.#note.textContent = manages(need) ? texts.managerOnly : texts.tabRemembers;
    this.#setBusy(false);
    if (!this.#dialog.open) {
      this.#input.value = '';
      this.#dialog.showModal();
    }
    this.#showReason(texts.codeReasons[(manages(need) && MANAGE_REASONS[why]) || why]);
    // A screen on a wall only reads. A token that does more is not left on it.
    this.#keeps.checked = false;
    this.#note.hidden = false;
    this.#keeps.parentElement.hidden = need !== READ;
    return new Promise((resolve) => {
      this.#resolve = resolve;
    });
  }

  #submit(event) {
    event.preventDefault();
    const token = this.#input.value.trim();
    if (TOKEN.test(token)) {
      this.#setBusy(true);
      this.#answer({ token, keeps: this.#keeps.checked });
    } else {
      this.#showReason(texts.malformedCode);
    }
  }

  #answer(answer) {
    this.#resolve?.(answer);
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
    this.#isBusy = busy;
    this.#input.readOnly = this.#button.disabled = this.#cancel.disabled = busy;
  }
}
