// Owns the page: the chosen category (kept in the address as #category, so that a board on a wall survives a reload),
// the state in words, the problems, what is said of waiting orders, and the form. What moves over the network is api.js,
// feed.js and outbox.js; what is drawn, board.js; who may, token.js.

import * as api from './api.js';
import { Backoff } from './backoff.js';
import { Board } from './board.js';
import { Feed } from './feed.js';
import { MOST_ORDERS, Outbox } from './outbox.js';
import { access } from './token.js';
import { TokenForm } from './token-form.js';

const NO_ANSWER = 0;
const UNAUTHORISED = 401;
const FORBIDDEN = 403;
const NOT_FOUND = 404;
const UNPROCESSABLE = 422;
/** A problem that is over once the board is live, and one that a visitor's own action has met. */
const PASSING = 'passing';
const LASTING = 'lasting';

const page = Object.fromEntries(
  [
    'category', 'state', 'problem', 'problem-text', 'problem-close', 'waiting', 'hint', 'board', 'new-product',
    'product-form',
  ].map((id) => [id, document.getElementById(id)]),
);
const board = new Board(page.board);
const categoriesBackoff = new Backoff();
let categoriesRetry = null;

let category = '';
/** When the totals were last known to be current. */
let currentAt = null;
/** The category of every product id seen in a list: a late total of another category asks for nothing. */
const homes = new Map();
/** What is said of refused orders, and of how many: several that waited together may be refused together. */
const refusals = new Map();
/** Ids on the feed that no list has had so far. Each makes the page look for a new list once. */
const asked = new Set();
let lookingForNew = false;
let lookAgain = false;
/** What the feed says, as opposed to what is shown while a token is needed. */
let feedState = 'idle';

const feed = new Feed({
  load: api.products,
  onProducts(products) {
    asked.clear();
    showProducts(category, products);
    loadCategories();
  },
  onTotal(id, total) {
    const home = homes.get(id) ?? category;
    if (home !== category) return false;
    board.setTotal(id, total);
    if (!board.has(id)) lookFor(id);
    return true;
  },
  onProblem(error) {
    if (error.status === NOT_FOUND) open('');
    showReadProblem(error);
  },
  onState: showState,
});

const outbox = new Outbox({
  onChange: showWaiting,
  onRefused(order, error) {
    const why = withoutToken(error, order.doubtful ? 'sent again' : 'ordered') ?? error.message;
    // Whoever refuses a product or an amount has looked at the key. Who refuses before that does not know of former tries.
    const doubt = order.doubtful && error.status !== NOT_FOUND && error.status !== UNPROCESSABLE;
    showRefusal(order, doubt ? `${why} It may have been counted before.` : why);
  },
  onExpired(order) {
    const made = new Date(order.made).toLocaleString();
    showRefusal(
      order,
      `an order of ${order.amount}, made on ${made}, has no answer and is not sent any more. It may or may not be counted.`,
    );
  },
});

function open(name) {
  if (name === category) return;
  category = name;
  currentAt = null;
  asked.clear();
  board.clear();
  hideProblem();
  page.category.value = name;
  page['new-product'].hidden = true;
  document.title = name === '' ? 'Ordercast' : `${capitalised(name)} · Ordercast`;
  feed.watch(name);
  showHint();
}

function showProducts(of, products) {
  if (of !== category) return;
  for (const { id } of products) homes.set(id, of);
  board.show(products);
  page['new-product'].hidden = false;
  showHint();
}

async function lookFor(id) {
  if (asked.has(id)) return;
  asked.add(id);
  lookAgain = true;
  if (lookingForNew) return;
  lookingForNew = true;
  try {
    while (lookAgain) {
      lookAgain = false;
      const of = category;
      showProducts(of, await api.products(of));
    }
  } catch (error) {
    showReadProblem(error);
  } finally {
    lookingForNew = false;
  }
}

async function loadCategories() {
  clearTimeout(categoriesRetry);
  let names;
  try {
    names = await api.categories();
  } catch (error) {
    showReadProblem(error);
    if (error.status === UNAUTHORISED) return;
    if (category === '') showState('lost');
    clearTimeout(categoriesRetry);
    categoriesRetry = setTimeout(loadCategories, categoriesBackoff.next());
    return;
  }
  categoriesBackoff.reset();
  const [choose, ...present] = page.category.options;
  if (names.join('\n') !== present.map((option) => option.value).join('\n')) {
    page.category.replaceChildren(choose, ...names.map((name) => new Option(capitalised(name), name)));
  }
  page.category.value = category;
  if (category === '') showState('idle');
}

function addOrder(item, { id, amount }) {
  const name = item.querySelector('[slot=name]').textContent;
  hideProblem();
  if (!outbox.add({ id, name, amount })) {
    showRefusal({ name }, `not ordered, because ${MOST_ORDERS} orders are waiting already. Order it when they are through.`);
  }
}

async function addProduct(form) {
  const of = category;
  const { name, rrp, info } = Object.fromEntries(new FormData(form));
  try {
    showProducts(of, await api.addProduct(of, { name, rrp, info }));
    hideProblem();
    form.reset();
    form.elements.name.focus();
  } catch (error) {
    // Whether it was added shows on the board once that is live.
    const kind = error.status === NO_ANSWER ? PASSING : LASTING;
    showProblem(`${name}: ${withoutToken(error, 'added') ?? error.message}`, kind);
  }
}

/** What the server says to a program that has no token is not for a visitor, who was asked for one. */
function withoutToken(error, done) {
  const refused = error.status === UNAUTHORISED || (error.status === FORBIDDEN && access.token !== null);
  return refused ? `not ${done}, because no valid token was given.` : null;
}

function showState(state) {
  feedState = state;
  if (access.isLocked) state = 'locked';
  if (state === 'lost' && page.state.dataset.state === 'live') currentAt = feed.heardOn;
  if (state === 'live') {
    if (page.problem.dataset.kind === PASSING) hideProblem();
    outbox.hurry();
  }
  document.body.dataset.state = state;
  page.state.dataset.state = state;
  page.state.textContent = words(state);
  showHint();
}

function words(state) {
  switch (state) {
    case 'live':
      return 'Live';
    case 'connecting':
      return 'Connecting…';
    case 'locked':
      return 'A token is needed';
    case 'lost':
      return currentAt === null
        ? 'No connection. Trying again.'
        : `Connection lost. Totals as of ${currentAt.toLocaleTimeString()}. New orders wait.`;
    default:
      return 'No category chosen';
  }
}

function showHint() {
  const state = page.state.dataset.state;
  let hint = '';
  if (state === 'locked') {
    hint = 'This board is shown to those who have a token.';
  } else if (category === '') {
    hint = 'Choose a category to see its orders.';
  } else if (state === 'live' && board.isEmpty) {
    hint = 'No products here yet. Add the first one below.';
  }
  page.hint.textContent = hint;
  page.hint.hidden = hint === '';
  page.board.hidden = hint !== '';
}

function showWaiting() {
  // An order that waits for a token waits for the visitor, who is being asked.
  const count = tokenForm.isAsking ? 0 : outbox.waiting;
  const text =
    count === 1
      ? '1 order is waiting for the server; it is sent again by itself and counts once.'
      : `${count} orders are waiting for the server; they are sent again by themselves and count once each.`;
  page.waiting.textContent = count === 0 ? '' : text;
}

/** No answer shows in the state, a missing token in the hint. What a visitor has not dismissed is not written over. */
function showReadProblem(error) {
  if (error.status === NO_ANSWER || error.status === UNAUTHORISED) return;
  if (page.problem.hidden || page.problem.dataset.kind === PASSING) showProblem(error.message, PASSING);
}

function showRefusal({ name }, why) {
  const text = `${name}: ${why}`;
  refusals.set(text, (refusals.get(text) ?? 0) + 1);
  const lines = Array.from(refusals, ([text, count]) => (count === 1 ? text : `${text} (${count} orders)`));
  showProblem(lines.join('\n'), LASTING);
}

function showProblem(text, kind) {
  page['problem-text'].textContent = text;
  page.problem.dataset.kind = kind;
  page.problem.hidden = false;
}

function hideProblem() {
  page.problem.hidden = true;
  page['problem-text'].textContent = '';
  refusals.clear();
}

function capitalised(name) {
  return name.charAt(0).toUpperCase() + name.slice(1);
}

function categoryInAddress() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return '';
  }
}

page.category.addEventListener('change', () => {
  const name = page.category.value;
  history.pushState(null, '', name === '' ? location.pathname + location.search : `#${encodeURIComponent(name)}`);
  open(name);
});
addEventListener('hashchange', () => open(categoryInAddress()));
page.board.addEventListener('order', ({ target, detail }) => addOrder(target, detail));
page['product-form'].addEventListener('submit', (event) => {
  event.preventDefault();
  addProduct(event.target);
});
page['problem-close'].addEventListener('click', hideProblem);
// Orders end with their tab: the browser asks whoever closes it while some have no answer.
addEventListener('beforeunload', (event) => {
  if (outbox.size > 0) event.preventDefault();
});

const tokenForm = new TokenForm({
  onChange: () => showState(feedState),
  // With another token, or none, the server decides anew what may be seen.
  onAgain() {
    loadCategories();
    feed.resume();
  },
  // What only a token lets see goes with it.
  onForget: () => board.clear(),
});

showHint();
loadCategories();
open(categoryInAddress());
outbox.resume();
