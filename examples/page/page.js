// Live totals and orders on a page of your own, with the client module of the server:
//
//   make run
//   python3 -m http.server 8000 --bind 127.0.0.1 --directory examples/page
//
// and open http://localhost:8000. docs/client.md describes the module.

import { NO_ANSWER, Ordercast } from 'http://localhost:3000/ordercast.js';

const CATEGORY = 'electronics';
const page = Object.fromEntries(
  ['state', 'waiting', 'problem', 'products'].map((id) => [id, document.getElementById(id)]),
);
/** The cell with the total of each product. */
const totals = new Map();

const shop = new Ordercast();

const outbox = shop.outbox({
  keyPrefix: 'canteen-',
  onChange() {
    page.waiting.textContent = outbox.size === 0 ? '' : `Not answered yet: ${outbox.size}.`;
  },
  onRejected(order, problem) {
    page.problem.textContent = `${order.id} was not ordered: ${problem.message}`;
  },
  onExpired(order) {
    page.problem.textContent = `${order.id}: nobody knows whether it was ordered; compare the total.`;
  },
});

const feed = shop.feed({
  // After a lost connection it goes on where it was.
  resumes: true,
  query: 'catalog=true',
  load: (category) => shop.request(category),
  onProducts: showProducts,
  onTotal(id, total) {
    const cell = totals.get(id);
    if (cell) cell.textContent = total;
  },
  // Products were added, changed or hidden: another connection loads the list again.
  onCatalog: () => feed.resume(),
  onState(state) {
    page.state.textContent = state;
    if (state === 'live') outbox.retryNow();
  },
  onProblem(problem) {
    // Without an answer the connection is lost, which the state says, and only until it is live again.
    if (problem.status !== NO_ANSWER) page.problem.textContent = problem.message;
  },
});

function showProducts(products) {
  const rows = products.map(({ id, name }) => {
    const row = document.createElement('tr');
    row.insertCell().textContent = name;
    const cell = row.insertCell();
    cell.dataset.total = id;
    cell.textContent = totals.get(id)?.textContent ?? '';
    totals.set(id, cell);
    const button = document.createElement('button');
    button.textContent = 'Order one';
    button.dataset.order = id;
    button.addEventListener('click', () => outbox.add({ id, amount: 1 }));
    row.insertCell().append(button);
    return row;
  });
  page.products.replaceChildren(...rows);
}

// Orders that had no answer when the page was closed.
outbox.resume();
feed.watch(CATEGORY);
