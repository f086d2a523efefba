// Owns the page: the chosen category (kept in the address as #category, so that a board on a wall survives a reload),
// the state in words, the problems, and the form. What moves over the network is api.js and feed.js; what is drawn, board.js;
// who may, token.js.

import * as api from './api.js';
import { Backoff } from './backoff.js';
import { Board } from './board.js';
import { Feed } from './feed.js';
import { access } from './token.js';
import { TokenForm } from './token-form.js';

const NO_ANSWER = 0;
const UNAUTHORISED = 401;
const FORBIDDEN = 403;
const NOT_FOUND = 404;
/** A problem that is over once the board is live, and one that a visitor's own action has met. */
const PASSING = 'passing';
const LASTING = 'lasting';

const page = Object.fromEntries(
  ['category', 'state', 'problem', 'problem-text', 'problem-close', 'hint', 'board', 'new-product', 'product-form'].map(
    (id) => [id, document.getElementById(id)],
  ),
);
const board = new Board(page.board);
const categoriesBackoff = new Backoff();
let categoriesRetry = null;

let category = '';
/** When the totals were last known to be current. */
let currentAt = null;
/** The category of every product id seen in a list: a late total of another category asks for nothing. */
const homes = new Map();
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

async function addOrder(item, { id, amount }) {
  const name = item.querySelector('[slot=name]').textContent;
  try {
    await api.addOrder(id, amount);
    hideProblem();
  } catch (error) {
    const doubt = error.status === NO_ANSWER ? ' The order may or may not be counted: check the total first.' : '';
    showProblem(`${name}: ${withoutToken(error, 'ordered') ?? error.message}${doubt}`, LASTING);
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
    showProblem(`${name}: ${withoutToken(error, 'added') ?? error.message}`, LASTING);
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
  if (state === 'live' && page.problem.dataset.kind === PASSING) hideProblem();
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
        : `Connection lost. Totals as of ${currentAt.toLocaleTimeString()}. Trying again.`;
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

/** No answer shows in the state, a missing token in the hint. */
function showReadProblem(error) {
  if (error.status !== NO_ANSWER && error.status !== UNAUTHORISED) showProblem(error.message, PASSING);
}

function showProblem(text, kind) {
  page['problem-text'].textContent = text;
  page.problem.dataset.kind = kind;
  page.problem.hidden = false;
}

function hideProblem() {
  page.problem.hidden = true;
  page['problem-text'].textContent = '';
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

new TokenForm({
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
