// The page: the category that the address names, so that it survives a reload; the connection state, the waiting orders, and
// the form for a new product; and how all parts are put together. ordercast.js and api.js are the network; board.js
// draws the products; last-hour.js has more numbers of theirs; search.js, overview.js, wall.js, till.js and manage.js are
// what one may see and do beside them; token.js and token-form.js ask for tokens; problem.js says what went wrong.

import * as api from './api.js';
import { Arrivals } from './arrivals.js';
import { Board } from './board.js';
import { Chime } from './chime.js';
import { LastHour } from './last-hour.js';
import { Manage } from './manage.js';
import { Backoff, FORBIDDEN, MAX_ORDERS, NOT_FOUND, NO_ANSWER, UNAUTHORISED } from './ordercast.js';
import { Overview } from './overview.js';
import { ProblemNotice } from './problem.js';
import { Search } from './search.js';
import { formatMoment, formatNumber, stateText, texts, translate } from './texts.js';
import { Till } from './till.js';
import { access } from './token.js';
import { TokenForm } from './token-form.js';
import { Wall, address } from './wall.js';

const UNPROCESSABLE = 422;
const GONE = 410;
/** The most letters of a category's name that a text repeats. */
const MAX_SHOWN = 40;

const page = Object.fromEntries(
  [
    'announcement', 'arrivals', 'board', 'brand', 'category', 'category-add', 'category-edit', 'elsewhere', 'hint',
    'last-orders', 'manage', 'new-product', 'no-orders', 'overview', 'pages', 'period-only', 'period-show',
    'product-form', 'search', 'sort', 'sound', 'state', 'till', 'to-wall', 'waiting',
  ].map((id) => [id, document.getElementById(id)]),
);
translate(document);
const problem = new ProblemNotice();
const board = new Board(page.board, () => wall.refresh());
const overview = new Overview(page.overview, api.totals, loadCategories);
/** The title of each category by its name. */
let titles = new Map();
const wall = new Wall({
  pages: () => board.pages,
  isConnected: () => isConnected(page.state.dataset.state),
  onPage(index) {
    board.showPage(index);
    page.pages.textContent = board.pages > 1 ? `${index + 1}/${board.pages}` : '';
  },
  onCategory: open,
  onRound: loadCategories,
});
const categoriesBackoff = new Backoff();
let categoriesRetry = null;

let category = '';
/** Whether this is a wall of the current period. */
let showsPeriod = false;
/** The last time at which the totals were known to be current. */
let currentDate = null;
/** Ids in the feed that are in no list so far. The list is loaded again once for each. */
const newIds = new Set();
let isReloading = false;
let reloadAgain = false;
/** The state of the feed, also while the page shows that a token is needed. */
let feedState = 'idle';
let periodState = 'idle';

const arrivals = new Arrivals(page.arrivals);
const chime = new Chime();
/** Whether the visitor changes the shop: then hidden products are listed too. */
let isManaging = false;
/** The version of the server that has served this page. */
let version = null;

const feed = api.server.feed({
  query: 'every=100&status=true&catalog=true',
  load: (name) => api.products(name, isManaging),
  onProducts(products) {
    newIds.clear();
    showProducts(category, products);
    loadCategories();
  },
  onTotal(id, total) {
    const former = board.totalOf(id) ?? total;
    if (former < total) chime.play();
    // The screen on a wall has no listener.
    if (former !== total && !wall.isOn && board.has(id)) arrivals.note(id, board.item(id).product.name, total);
    board.setTotal(id, total);
    if (former !== total) lastHour.note();
    if (!board.has(id)) reloadFor(id);
  },
  onStatus(message) {
    version ??= message.version;
    if (message.version !== version) loadNewPage();
  },
  onCatalog() {
    reloadProducts();
    loadCategories();
  },
  onProblem(error) {
    if (error.status === NOT_FOUND) showUnknownCategory();
    else showReadProblem(error);
  },
  onState: showState,
  // Nobody is there to choose another category.
  isPatient: () => wall.isOn,
});

/** The counts of the current period. What else happens, the other feed tells. */
const periodFeed = api.server.feed({
  get query() {
    return `period=current&every=${showsPeriod ? 100 : 250}&status=true`;
  },
  load: async () => [...board.items].map((item) => item.product),
  onTotal(id, count) {
    board.setPeriod(id, count);
  },
  onState(state) {
    periodState = state;
    if (showsPeriod && isConnected(feedState)) showConnection();
  },
});

const lastHour = new LastHour(api.rates, (products) => {
  for (const { id, amounts, ordered } of products) {
    const item = board.item(id);
    if (item) item.rates = { minutes: amounts, ordered };
  }
  board.resort();
});

const manage = new Manage({
  onChange() {
    reloadProducts();
    loadCategories();
  },
  onCategory(name) {
    loadCategories();
    location.hash = encodeURIComponent(name);
  },
  onReportClosed: finishManaging,
  titleOf: (name) => titles.get(name),
  explain: (error, action = 'changed') => tokenProblem(error, texts.needsCode[action]) ?? error.message,
  onProblem: (text) => problem.show(text),
});

const till = new Till(page.till, {
  onUndo: ({ id, name, amount, key }) => addOrder({ id, name, amount: -amount, undoes: key }),
  onProduct: (id, ...shown) => board.item(id)?.showOrder(...shown),
  announce(text) {
    page.announcement.textContent = text;
  },
});

const outbox = api.outbox({
  onChange: showWaiting,
  onState(order, state) {
    till.note(order, state);
    showLastOrders();
  },
  onRejected(order, error) {
    const { sentAgain, ordered } = texts.needsCode;
    const why = tokenProblem(error, order.maybeCounted ? sentAgain : ordered) ?? error.message;
    // 404, 410 and 422 are decided after the key is looked up, so the order was not counted. Other rejections come before
    // that.
    const isCertain = !order.maybeCounted || [NOT_FOUND, GONE, UNPROCESSABLE].includes(error.status);
    problem.showRejection(order, isCertain ? why : texts.maybeCounted(why));
  },
  onExpired(order) {
    problem.showRejection(order, texts.expired(order.amount, formatMoment(new Date(order.made))));
  },
});

const search = new Search(page.search, page.elsewhere, {
  isOff: () => wall.isOn,
  onText(text) {
    board.search(text);
    showHint();
    if (text === '') return;
    const found = page.board.childElementCount;
    page.announcement.textContent =
      board.isSearchEmpty ? page.hint.textContent : texts.productCount(found, formatNumber(found));
  },
  onEnter: () => board.sole?.focusAmount(),
  load: api.products,
  onChoice: (name) => choose(name, true),
});

/** With `keepsSearch` the visitor is looking for something there. */
function open(name, keepsSearch = false) {
  if (name === category) return;
  category = name;
  currentDate = null;
  newIds.clear();
  board.clear();
  arrivals.clear();
  problem.hide();
  page.category.value = name;
  page['new-product'].hidden = page['category-edit'].hidden = true;
  if (!keepsSearch) search.clear();
  page['to-wall'].href = `#${encodeURIComponent(name)}?wall`;
  showTitle();
  feed.watch(name);
  lastHour.stop();
  showHint();
}

/** Opens a category that the visitor has chosen on the page. */
function choose(name, keepsSearch) {
  history.pushState(null, '', name === '' ? location.pathname + location.search : `#${encodeURIComponent(name)}`);
  open(name, keepsSearch);
}

/** Shows what the address names: a category, or the wall view of one or of all. */
function openAddress() {
  const { name, isWall, isPeriod } = address();
  const wasWall = wall.isOn;
  showsPeriod = isWall && isPeriod;
  page['period-only'].textContent = showsPeriod ? texts.thisPeriod : '';
  board.showsPeriod = showsPeriod;
  document.body.dataset.view = isWall ? 'wall' : 'board';
  board.isWall = isWall;
  if (isWall) {
    if (isManaging) {
      // Hidden products are not shown there.
      setManaging(false);
      reloadProducts();
    }
    wall.start(name);
  } else if (wasWall) {
    wall.stop();
    page.pages.textContent = '';
  }
  if (name !== '' || !isWall) open(name);
  showTitle();
  // On a wall it has another interval, or is not needed.
  periodFeed.watch('');
  showState(feedState);
}

function showTitle() {
  const title = category === '' ? '' : (titles.get(category) ?? capitalised(category));
  document.title = title === '' ? 'Ordercast' : `${title} · Ordercast`;
  page.brand.textContent = wall.isOn && title !== '' ? title : 'Ordercast';
}

function showProducts(of, products) {
  if (of !== category) return;
  board.show(products);
  feed.products = products;
  periodFeed.products = products;
  for (const item of board.items) item.isManaged = isManaging;
  page['new-product'].hidden = false;
  page['category-edit'].hidden = !isManaging;
  showHint();
}

function reloadFor(id) {
  if (newIds.has(id)) return;
  newIds.add(id);
  reloadProducts();
}

async function reloadProducts() {
  if (category === '') return;
  reloadAgain = true;
  if (isReloading) return;
  isReloading = true;
  try {
    while (reloadAgain) {
      reloadAgain = false;
      const of = category;
      showProducts(of, await api.products(of, isManaging));
    }
  } catch (error) {
    showReadProblem(error);
  } finally {
    isReloading = false;
  }
}

function setManaging(value) {
  isManaging = value;
  document.body.toggleAttribute('data-managing', isManaging);
  page.manage.textContent = isManaging ? texts.manageDone : texts.manage;
  page['category-add'].hidden = !isManaging;
  finishManaging();
}

/** The manager's access code is kept only as long as the shop is changed. */
function finishManaging() {
  if (!isManaging) access.dropManager();
}

/** The server has another version than when this page was loaded. */
function loadNewPage() {
  const isBusy = outbox.size > 0 || document.querySelector('dialog[open]') !== null;
  const isIdle = !isBusy && (document.hidden || document.activeElement === document.body);
  if (wall.isOn || isIdle) location.reload();
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
  const lines = categories.map(({ name, title }) => `${name} ${title}`);
  if (lines.join('\n') !== present.map(({ value, text }) => `${value} ${text}`).join('\n')) {
    page.category.replaceChildren(choose, ...categories.map(({ name, title }) => new Option(title, name)));
  }
  titles = new Map(categories.map(({ name, title }) => [name, title]));
  // An open list would lose the line that the visitor has reached.
  if (page.category.value !== category) page.category.value = category;
  overview.categories = categories;
  wall.categories = categories;
  showTitle();
  if (category !== '') return;
  // There is nothing to choose from.
  if (categories.length === 1 && !wall.isOn) open(categories[0].name);
  else showState('idle');
}

function addOrder(order) {
  problem.hide();
  // An order is taken back under one key, so that it counts once, also from a copy of this tab.
  const key = order.undoes === undefined ? undefined : `${order.undoes}-undo`;
  if (outbox.add({ ...order, key }) === null) problem.showRejection(order, texts.tooManyWaiting(MAX_ORDERS));
}

async function addProduct(form) {
  const of = category;
  const { name, rrp, info } = Object.fromEntries(new FormData(form));
  try {
    showProducts(of, await api.addProduct(of, { name, rrp, info }).finally(finishManaging));
    problem.hide();
    form.reset();
    form.elements.name.focus();
  } catch (error) {
    // Without an answer, the live board will show whether it was added.
    const isLasting = error.status !== NO_ANSWER;
    problem.show(`${name}: ${tokenProblem(error, texts.needsCode.added) ?? error.message}`, isLasting);
  }
}

/** The text about a missing token, or `null`. The server's own text is written for programs. */
function tokenProblem(error, action) {
  const needsToken = error.status === UNAUTHORISED || (error.status === FORBIDDEN && access.token !== null);
  return needsToken ? texts.noValidCode(action) : null;
}

function showState(state) {
  // The last hour and the period are followed already.
  const isFollowed = state === 'stale' && feedState === 'live';
  feedState = state;
  if (isConnected(state) && !isFollowed && !access.isLocked) {
    if (!problem.isLasting) problem.hide();
    if (state === 'live') outbox.retryNow();
    lastHour.watch(category);
    // A wall of totals has no place for it.
    if (!wall.isOn || showsPeriod) periodFeed.watch(category);
  }
  showConnection();
}

/** The state of the feed whose numbers are large: on a wall of the period, the worse one of both feeds. */
function showConnection() {
  let state = feedState;
  if (showsPeriod && isConnected(state) && periodState !== 'live') {
    state = ['stale', 'lost'].includes(periodState) ? periodState : 'connecting';
  }
  if (access.isLocked) state = 'locked';
  if (state === 'stale' || (state === 'lost' && isConnected(page.state.dataset.state))) currentDate = feed.currentDate;
  document.body.dataset.state = state;
  page.state.dataset.state = state;
  showStateText();
  showHint();
}

/** Beside a live feed, the server may accept no orders. */
function showStateText() {
  const { state } = page.state.dataset;
  const isRefusing = state === 'live' && outbox.refusal !== null;
  page.state.toggleAttribute('data-refuses', isRefusing);
  const text = isRefusing ? texts.acceptsNoOrders : stateText(state, currentDate, wall.isOn);
  // A screen reader would read the same text again.
  if (page.state.textContent !== text) page.state.textContent = text;
}

function showHint() {
  const state = page.state.dataset.state;
  let hint = '';
  if (state === 'locked') {
    hint = texts.lockedHint;
  } else if (category === '') {
    hint = texts.chooseHint;
  } else if (isConnected(state) && board.isEmpty) {
    hint = wall.isOn ? texts.emptyWallHint : texts.emptyHint;
  } else if (board.isSearchEmpty) {
    hint = texts.noMatch(titles.get(category) ?? capitalised(category));
    search.offer(category, titles);
  }
  if (!board.isSearchEmpty) search.hideOffers();
  const showsOverview = category === '' && state !== 'locked' && !wall.isOn;
  overview.isShown = showsOverview;
  // It has nothing to search or to sort.
  document.body.toggleAttribute('data-overview', showsOverview);
  page.hint.textContent = hint;
  page.hint.hidden = hint === '' || (showsOverview && !overview.isEmpty);
  page.board.hidden = hint !== '';
}

function showWaiting() {
  // While the dialog is open, orders wait for the visitor and not for the server.
  const count = tokenForm.isAsking ? 0 : outbox.waiting;
  const why = texts.refusal[outbox.refusal];
  const text = count === 0 ? '' : texts.waiting(count);
  page.waiting.textContent = text !== '' && why !== undefined ? `${text} ${why}` : text;
  showStateText();
}

function showLastOrders() {
  page['no-orders'].hidden = !till.isEmpty;
}

/** The category of the address is not there, as after a typing error. The server's text is written for programs. */
function showUnknownCategory() {
  const name = category.length > MAX_SHOWN ? `${category.slice(0, MAX_SHOWN)}…` : category;
  // On a wall it is tried again, or another one of the list takes its turn.
  if (wall.isOn) loadCategories();
  else open('');
  problem.show(texts.unknownCategory(name));
  page.category.focus();
}

/** The state shows a missing answer, the hint a missing token. A lasting problem is not replaced. */
function showReadProblem(error) {
  if (error.status === NO_ANSWER || error.status === UNAUTHORISED) return;
  if (!problem.isLasting) problem.show(error.message);
}

/** Whether totals arrive in this state of a feed. */
const isConnected = (state) => state === 'live' || state === 'stale';
const capitalised = (name) => name.charAt(0).toUpperCase() + name.slice(1);

page.category.addEventListener('change', () => {
  choose(page.category.value);
});
addEventListener('hashchange', openAddress);
page.board.addEventListener('order', ({ target, detail }) => addOrder({ name: target.product.name, ...detail }));
page.board.addEventListener('edit', ({ target }) => manage.editProduct(category, target.product));
page.manage.addEventListener('click', () => {
  setManaging(!isManaging);
  reloadProducts();
});
page['category-add'].addEventListener('click', () => manage.editCategory());
page['category-edit'].addEventListener('click', () => manage.editCategory(category));
page['period-show'].addEventListener('click', () => manage.showPeriod());
page.sound.addEventListener('change', () => {
  chime.isOn = page.sound.checked;
});
page.board.addEventListener('undo', ({ target }) => till.undo(target.product.id));
page.sort.addEventListener('change', () => board.sort(page.sort.value));
for (const details of [page['new-product'], page['last-orders']]) {
  details.addEventListener('toggle', () => details.open && details.scrollIntoView({ block: 'nearest' }));
}
page['product-form'].addEventListener('submit', (event) => {
  event.preventDefault();
  addProduct(event.target);
});
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
showLastOrders();
loadCategories();
openAddress();
outbox.resume();
