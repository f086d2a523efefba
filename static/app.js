// The page: the chosen category (in the address as #category, so that it survives a reload), the connection state, the
// problems, the waiting orders, and the form for a new product. api.js, feed.js and outbox.js are the network, board.js
// draws the products, token.js and token-form.js ask for tokens.

import * as api from './api.js';
import { Backoff } from './backoff.js';
import { Board } from './board.js';
import { Feed } from './feed.js';
import { MAX_ORDERS, Outbox } from './outbox.js';
import { FORBIDDEN, UNAUTHORISED, access } from './token.js';
import { TokenForm } from './token-form.js';

const { NO_ANSWER, NOT_FOUND } = api;
const UNPROCESSABLE = 422;
/** A problem that is hidden once the board is live, and one that the visitor has to close. */
const TEMPORARY = 'temporary';
const LASTING = 'lasting';
/** The most letters of a category's name that a text repeats. */
const MAX_SHOWN = 40;

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
/** The last time at which the totals were known to be current. */
let currentDate = null;
/** The category of every product id in a list so far, to ignore late totals of another category. */
const categoryOf = new Map();
/** The title of every category, by its name. */
const titles = new Map();
/** Texts about rejected orders, with the number of orders: several that waited may be rejected together. */
const rejections = new Map();
/** Ids in the feed that are in no list so far. The list is loaded again once for each. */
const newIds = new Set();
let isReloading = false;
let reloadAgain = false;
/** The state of the feed, also while the page shows that a token is needed. */
let feedState = 'idle';

const feed = new Feed({
  load: api.products,
  onProducts(products) {
    newIds.clear();
    showProducts(category, products);
    loadCategories();
  },
  onTotal(id, total) {
    if ((categoryOf.get(id) ?? category) !== category) return false;
    board.setTotal(id, total);
    if (!board.has(id)) reloadFor(id);
    return true;
  },
  onProblem(error) {
    if (error.status === NOT_FOUND) showUnknownCategory();
    else showReadProblem(error);
  },
  onState: showState,
});

const outbox = new Outbox({
  onChange: showWaiting,
  onRejected(order, error) {
    const why = tokenProblem(error, order.maybeCounted ? 'sent again' : 'ordered') ?? error.message;
    // 404 and 422 are decided after the key is looked up, so the order was not counted. Other rejections come before that.
    const isCertain = !order.maybeCounted || error.status === NOT_FOUND || error.status === UNPROCESSABLE;
    showRejection(order, isCertain ? why : `${why} It may already have been counted.`);
  },
  onExpired(order) {
    const made = new Date(order.made).toLocaleString();
    showRejection(
      order,
      `an order of ${order.amount}, made on ${made}, was never confirmed and is no longer sent. ` +
        'It may or may not have been counted.',
    );
  },
});

function open(name) {
  if (name === category) return;
  category = name;
  currentDate = null;
  newIds.clear();
  board.clear();
  hideProblem();
  page.category.value = name;
  page['new-product'].hidden = true;
  showTitle();
  feed.watch(name);
  showHint();
}

function showTitle() {
  document.title = category === '' ? 'Ordercast' : `${titles.get(category) ?? capitalised(category)} · Ordercast`;
}

function showProducts(of, products) {
  if (of !== category) return;
  for (const { id } of products) categoryOf.set(id, of);
  board.show(products);
  page['new-product'].hidden = false;
  showHint();
}

async function reloadFor(id) {
  if (newIds.has(id)) return;
  newIds.add(id);
  reloadAgain = true;
  if (isReloading) return;
  isReloading = true;
  try {
    while (reloadAgain) {
      reloadAgain = false;
      const of = category;
      showProducts(of, await api.products(of));
    }
  } catch (error) {
    showReadProblem(error);
  } finally {
    isReloading = false;
  }
}

async function loadCategories() {
  clearTimeout(categoriesRetry);
  let categories;
  try {
    categories = await api.categories();
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
  const lines = (options) => options.map(({ text, value }) => `${value} ${text}`).join('\n');
  const options = categories.map(({ name, title }) => new Option(title, name));
  if (lines(options) !== lines(present)) {
    titles.clear();
    for (const { name, title } of categories) titles.set(name, title);
    page.category.replaceChildren(choose, ...options);
  }
  page.category.value = category;
  showTitle();
  if (category === '') showState('idle');
}

function addOrder(item, { id, amount }) {
  const name = item.querySelector('[slot=name]').textContent;
  hideProblem();
  if (!outbox.add({ id, name, amount })) {
    showRejection({ name }, `not ordered, because ${MAX_ORDERS} orders are already waiting. Please try again later.`);
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
    // Without an answer, the live board will show whether it was added.
    const kind = error.status === NO_ANSWER ? TEMPORARY : LASTING;
    showProblem(`${name}: ${tokenProblem(error, 'added') ?? error.message}`, kind);
  }
}

/** The text about a missing token, or `null`. The server's own text is written for programs. */
function tokenProblem(error, action) {
  const needsToken = error.status === UNAUTHORISED || (error.status === FORBIDDEN && access.token !== null);
  return needsToken ? `not ${action}, because no valid access code was entered.` : null;
}

function showState(state) {
  feedState = state;
  if (access.isLocked) state = 'locked';
  if (state === 'lost' && page.state.dataset.state === 'live') currentDate = feed.currentDate;
  if (state === 'live') {
    if (page.problem.dataset.kind === TEMPORARY) hideProblem();
    outbox.retryNow();
  }
  document.body.dataset.state = state;
  page.state.dataset.state = state;
  page.state.textContent = stateText(state);
  showHint();
}

function stateText(state) {
  switch (state) {
    case 'live':
      return 'Live';
    case 'connecting':
      return 'Connecting…';
    case 'locked':
      return 'Access code needed';
    case 'lost':
      return currentDate === null
        ? 'No connection. Trying again.'
        : `Connection lost. Totals as of ${currentDate.toLocaleTimeString()}. New orders are kept.`;
    default:
      return 'No category chosen';
  }
}

function showHint() {
  const state = page.state.dataset.state;
  let hint = '';
  if (state === 'locked') {
    hint = 'You need an access code to see this board.';
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
  // While the dialog is open, orders wait for the visitor and not for the server.
  const count = tokenForm.isAsking ? 0 : outbox.waiting;
  const text =
    count === 1
      ? '1 order is waiting for confirmation. It is sent again automatically and counted only once.'
      : `${count} orders are waiting for confirmation. They are sent again automatically and counted only once.`;
  page.waiting.textContent = count === 0 ? '' : text;
}

/** The category of the address is not there, as after a typing error. The server's text is written for programs. */
function showUnknownCategory() {
  const name = category.length > MAX_SHOWN ? `${category.slice(0, MAX_SHOWN)}…` : category;
  open('');
  showProblem(`There is no category “${name}”. Please choose one from the list.`, TEMPORARY);
  page.category.focus();
}

/** The state shows a missing answer, the hint a missing token. A lasting problem is not replaced. */
function showReadProblem(error) {
  if (error.status === NO_ANSWER || error.status === UNAUTHORISED) return;
  if (page.problem.hidden || page.problem.dataset.kind === TEMPORARY) showProblem(error.message, TEMPORARY);
}

function showRejection({ name }, why) {
  const text = `${name}: ${why}`;
  rejections.set(text, (rejections.get(text) ?? 0) + 1);
  const lines = Array.from(rejections, ([text, count]) => (count === 1 ? text : `${text} (${count} orders)`));
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
  rejections.clear();
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
// Orders are lost with their tab: the browser asks before it closes a tab with orders that have no answer.
addEventListener('beforeunload', (event) => {
  if (outbox.size > 0) event.preventDefault();
});

const tokenForm = new TokenForm({
  onChange: () => showState(feedState),
  // With another token, or none, the visitor may be allowed to see other data.
  onRetry() {
    loadCategories();
    feed.resume();
  },
  // The board may show data that only the forgotten token allows to see.
  onForget: () => board.clear(),
});

showHint();
loadCategories();
open(categoryInAddress());
outbox.resume();
