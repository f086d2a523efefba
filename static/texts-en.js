// The texts in English.

const plural = (count, one, many) => (Math.abs(count) === 1 ? one : many);

export default {
  language: 'en',

  // The page.
  category: 'Category',
  chooseCategory: 'Choose a category',
  search: 'Search',
  searchHint: 'Search ( / )',
  sort: 'Order of the products',
  sortList: 'As listed',
  sortName: 'By name',
  sortTotal: 'By total',
  sortBusiest: 'Busiest first',
  products: 'Products',
  categories: 'Categories',
  close: 'Close',
  back: 'Back',
  cancel: 'Cancel',
  save: 'Save',
  sound: 'Sound',
  wall: 'Wall view',
  lastOrders: 'Last orders here',
  noOrdersHere: 'No orders from this page yet.',

  // The state of the connection.
  live: 'Live',
  acceptsNoOrders: 'Orders not accepted',
  connecting: 'Connecting…',
  locked: 'Access code needed',
  noConnection: 'No connection. Trying again.',
  connectionLost: (time) => `Connection lost. Totals as of ${time}.`,
  stale: 'Totals may be old.',
  staleSince: (time) => `Totals may be old (as of ${time}).`,
  ordersAreKept: 'New orders are kept.',
  allCategories: 'All categories',

  // Hints.
  lockedHint: 'You need an access code to see this board.',
  chooseHint: 'Choose a category to see its orders.',
  emptyHint: 'No products here yet. Add the first one below.',
  emptyWallHint: 'No products here yet.',
  noMatch: (title) => `No product in ${title} matches the search.`,
  elsewhere: 'In other categories',
  openOffer: (product) => `Open ${product}`,
  unknownCategory: (name) => `There is no category “${name}”. Please choose one from the list.`,
  productCount: (count, number) => `${number} ${plural(count, 'product', 'products')}`,

  // A product.
  addOrder: 'Add order',
  undo: 'Undo',
  edit: 'Edit',
  reallyOrder: (amount) => `Order ${amount}?`,
  amountOf: (name) => `Amount of ${name}`,
  addOrderOf: (name) => `Add order: ${name}`,
  addPiecesOf: (amount, name) => `Add ${amount}: ${name}`,
  undoOf: (name) => `Undo the last order: ${name}`,
  undoPiecesOf: (change, name) => `Undo ${change}: ${name}`,
  editOf: (name) => `Edit ${name}`,
  orders: (count) => plural(count, 'order', 'orders'),
  moreChanged: (count) => `and ${count} more ${plural(count, 'product', 'products')}`,
  inThisPeriod: (count) => `${count} in this period`,
  thisPeriod: 'this period',
  inTheLastHour: (change) => `${change} in the last hour`,
  lastOrderAt: (time) => `last at ${time}`,
  orderState: {
    sending: (change) => `${change} …`,
    sent: (change) => `${change} sent`,
    waiting: (change) => `${change} waiting`,
    refused: (change) => `${change} refused`,
    undone: (change) => `${change} undone`,
  },

  // Orders without an answer, and those that were refused.
  waiting: (count) =>
    count === 1
      ? '1 order is waiting for confirmation. It is sent again automatically and counted only once.'
      : `${count} orders are waiting for confirmation. They are sent again automatically and counted only once.`,
  // By status.
  refusal: {
    503: 'The server accepts no orders at present.',
    507: 'The server has no space left and accepts no orders.',
  },
  severalOrders: (text, count) => `${text} (${count} orders)`,
  maybeCounted: (why) => `${why} It may already have been counted.`,
  expired: (amount, moment) =>
    `an order of ${amount}, made on ${moment}, was never confirmed and is no longer sent. ` +
    'It may or may not have been counted.',
  tooManyWaiting: (most) =>
    `not ordered, because ${most} orders are already waiting. Please try again later.`,
  noAnswer: 'The server does not answer.',
  unexpectedAnswer: (status) => `The server sent an unexpected answer (${status}).`,

  // A new product.
  addProduct: 'Add product',
  addAProduct: 'Add a product',
  name: 'Name',
  price: 'Price',
  info: 'Description',

  // Access codes.
  needsCode: { sentAgain: 'sent again', ordered: 'ordered', added: 'added', changed: 'changed', closed: 'closed' },
  noValidCode: (action) => `not ${action}, because no valid access code was entered.`,
  accessCode: 'Access code',
  enterCode: 'Enter access code',
  forgetCode: 'Remove access code',
  continue: 'Continue',
  tabRemembers: 'This browser tab remembers it until you close the tab.',
  managerOnly:
    'Used for managing only: it is dropped at “Done”, after a reload and after 10 minutes without a change.',
  keepCode: 'Keep it on this screen, also after a restart',
  malformedCode: 'An access code has 16 to 255 letters, digits or - . _ ~ + and no spaces.',
  codeTitles: {
    read: 'This board needs an access code',
    order: 'Ordering needs an access code',
    add: 'Adding a product needs an access code',
    manage: 'Enter the manager’s code to change products',
    category: 'Enter the manager’s code to change categories',
    close: (number) => `Enter the manager’s code to close period ${number}`,
  },
  codeNextSteps: {
    read: 'Please enter it to see the board.',
    order: 'Please enter it. Your order is then sent.',
    add: 'Please enter it. Your product is then added.',
    manage: 'Your change is then made.',
    close: 'The period is then closed.',
  },
  codeReasons: {
    missing: '',
    revoked: 'Your access code is no longer valid.',
    wrong: 'This access code is not valid.',
    'own reads only': 'With your access code you can see the board, but not order.',
    'reads only': 'With this access code you can see the board, but not order.',
    'does not manage': 'This access code does not allow this.',
  },

  // Managing the shop.
  manage: 'Manage',
  manageDone: 'Done',
  hide: 'Hide it from the board',
  hidden: 'Hidden from the board',
  addCategory: 'Add a category',
  addCategoryButton: 'Add category',
  editCategory: 'Rename this category',
  title: 'Title',
  prefix: 'Letter for product numbers',
  prefixHint: 'such as S',
  prefixNeedsLetters: 'The letter for product numbers may have letters from A to Z, digits, - and _, and no spaces.',
  prefixTaken: (prefix, id) =>
    `Another category has product numbers with ${prefix}, such as ${id}. ` +
    `Press “Add category” again to use ${prefix} here too.`,
  categoryExists: (title) => `There is a category “${title}” already.`,
  categoryNeedsLetters: 'The title needs at least one letter from a to z or a digit.',
  periodReport: 'Period report',
  period: (number) => `Period ${number}`,
  closePeriod: (number) => `Close period ${number}`,
  closeQuestion: (number) => `Close period ${number} for good?`,
  closedBefore: (number) => `Period ${number} had been closed already. This is its report.`,
  notClosed: 'Not closed yet',
  closed: 'Closed',
  closeWarning: 'After the close, counting begins at 0 for the next period. Totals stay. A close cannot be undone.',
  since: (moment) => `Since ${moment}`,
  fromTo: (from, to) => `${from} to ${to}`,
  product: 'Product',
  productNumber: 'Number',
  count: 'Orders',
  sum: 'Sum',
  print: 'Print',
  printedAt: (moment, host) => `Printed ${moment}, ${host}`,
  saveCsv: 'Save as CSV',
};
