// The texts in German.

const plural = (count, one, many) => (Math.abs(count) === 1 ? one : many);

export default {
  language: 'de',

  category: 'Kategorie',
  chooseCategory: 'Kategorie wählen',
  search: 'Suche',
  searchHint: 'Suche ( / )',
  sort: 'Reihenfolge der Produkte',
  sortList: 'Wie angelegt',
  sortName: 'Nach Name',
  sortTotal: 'Nach Anzahl',
  sortBusiest: 'Meistgefragte zuerst',
  products: 'Produkte',
  categories: 'Kategorien',
  close: 'Schließen',
  cancel: 'Abbrechen',
  back: 'Zurück',
  save: 'Speichern',
  sound: 'Ton',
  wall: 'Wandansicht',
  lastOrders: 'Letzte Bestellungen hier',
  noOrdersHere: 'Von dieser Seite kam noch keine Bestellung.',

  live: 'Live',
  acceptsNoOrders: 'Keine Bestellungen möglich',
  connecting: 'Verbindung wird aufgebaut …',
  locked: 'Zugangscode nötig',
  noConnection: 'Keine Verbindung. Neuer Versuch läuft.',
  connectionLost: (time) => `Verbindung verloren. Zahlen von ${time}.`,
  ordersAreKept: 'Neue Bestellungen werden aufbewahrt.',
  allCategories: 'Alle Kategorien',

  lockedHint: 'Für diese Tafel ist ein Zugangscode nötig.',
  chooseHint: 'Wählen Sie eine Kategorie, um ihre Bestellungen zu sehen.',
  emptyHint: 'Hier gibt es noch keine Produkte. Legen Sie unten das erste an.',
  emptyWallHint: 'Hier gibt es noch keine Produkte.',
  noMatch: 'Kein Produkt passt zur Suche.',
  unknownCategory: (name) => `Die Kategorie „${name}“ gibt es nicht. Bitte wählen Sie eine aus der Liste.`,
  productCount: (count, number) => `${number} ${plural(count, 'Produkt', 'Produkte')}`,

  addOrder: 'Bestellen',
  undo: 'Zurücknehmen',
  edit: 'Bearbeiten',
  amountOf: (name) => `Anzahl ${name}`,
  addOrderOf: (name) => `Bestellen: ${name}`,
  addPiecesOf: (amount, name) => `${amount} bestellen: ${name}`,
  undoOf: (name) => `Letzte Bestellung zurücknehmen: ${name}`,
  undoPiecesOf: (change, name) => `${change} zurücknehmen: ${name}`,
  editOf: (name) => `${name} bearbeiten`,
  orders: (count) => plural(count, 'Bestellung', 'Bestellungen'),
  moreChanged: (count) => `und ${count} ${plural(count, 'weiteres Produkt', 'weitere Produkte')}`,
  inThisPeriod: (count) => `${count} in dieser Periode`,
  thisPeriod: 'diese Periode',
  inTheLastHour: (change) => `${change} in der letzten Stunde`,
  lastOrderAt: (time) => `zuletzt ${time}`,
  orderState: {
    sending: (change) => `${change} …`,
    sent: (change) => `${change} gesendet`,
    waiting: (change) => `${change} wartet`,
    refused: (change) => `${change} abgelehnt`,
    undone: (change) => `${change} zurückgenommen`,
  },

  waiting: (count) =>
    count === 1
      ? '1 Bestellung wartet auf Bestätigung. Sie wird von selbst wieder gesendet und nur einmal gezählt.'
      : `${count} Bestellungen warten auf Bestätigung. Sie werden von selbst wieder gesendet und nur einmal gezählt.`,
  // By status.
  refusal: {
    503: 'Der Server nimmt zurzeit keine Bestellungen an.',
    507: 'Der Server hat keinen Speicherplatz mehr und nimmt keine Bestellungen an.',
  },
  severalOrders: (text, count) => `${text} (${count} Bestellungen)`,
  maybeCounted: (why) => `${why} Vielleicht wurde sie schon gezählt.`,
  expired: (amount, moment) =>
    `eine Bestellung von ${amount} vom ${moment} wurde nie bestätigt und wird nicht mehr gesendet. ` +
    'Vielleicht wurde sie gezählt, vielleicht nicht.',
  tooManyWaiting: (most) =>
    `nicht bestellt, weil schon ${most} Bestellungen warten. Bitte versuchen Sie es später wieder.`,
  noAnswer: 'Der Server antwortet nicht.',
  unexpectedAnswer: (status) => `Der Server hat unerwartet geantwortet (${status}).`,

  addProduct: 'Produkt anlegen',
  addAProduct: 'Produkt anlegen',
  name: 'Name',
  price: 'Preis',
  info: 'Beschreibung',

  needsCode: { sentAgain: 'noch einmal gesendet', ordered: 'bestellt', added: 'angelegt', changed: 'geändert' },
  noValidCode: (action) => `nicht ${action}, weil kein gültiger Zugangscode eingegeben wurde.`,
  accessCode: 'Zugangscode',
  enterCode: 'Zugangscode eingeben',
  forgetCode: 'Zugangscode vergessen',
  continue: 'Weiter',
  tabRemembers: 'Dieser Tab behält ihn, bis Sie den Tab schließen.',
  keepCode: 'Auf diesem Bildschirm behalten, auch nach einem Neustart',
  malformedCode: 'Ein Zugangscode hat 16 bis 255 Buchstaben, Ziffern oder - . _ ~ + und keine Leerzeichen.',
  codeTitles: {
    read: 'Für diese Tafel ist ein Zugangscode nötig',
    order: 'Zum Bestellen ist ein Zugangscode nötig',
    add: 'Zum Anlegen ist ein Zugangscode nötig',
    manage: 'Zum Ändern ist ein Zugangscode nötig',
  },
  codeNextSteps: {
    read: 'Bitte geben Sie ihn ein, um die Tafel zu sehen.',
    order: 'Bitte geben Sie ihn ein. Ihre Bestellung wird dann gesendet.',
    add: 'Bitte geben Sie ihn ein. Ihr Produkt wird dann angelegt.',
    manage: 'Bitte geben Sie ihn ein. Ihre Änderung wird dann gemacht.',
  },
  codeReasons: {
    missing: '',
    revoked: 'Ihr Zugangscode gilt nicht mehr.',
    wrong: 'Dieser Zugangscode gilt nicht.',
    'own reads only': 'Mit Ihrem Zugangscode können Sie die Tafel sehen, aber nicht bestellen.',
    'reads only': 'Mit diesem Zugangscode können Sie die Tafel sehen, aber nicht bestellen.',
    'own does not manage': 'Ihr Zugangscode erlaubt das nicht.',
    'does not manage': 'Dieser Zugangscode erlaubt das nicht.',
  },

  manage: 'Verwalten',
  manageDone: 'Fertig',
  hide: 'Von der Tafel nehmen',
  hidden: 'Von der Tafel genommen',
  addCategory: 'Kategorie anlegen',
  addCategoryButton: 'Kategorie anlegen',
  title: 'Titel',
  prefix: 'Buchstabe für Produktnummern',
  prefixHint: 'zum Beispiel S',
  prefixNeedsLetters: 'Erlaubt sind Buchstaben von A bis Z, Ziffern, - und _, aber keine Leerzeichen.',
  prefixTaken: (prefix, id) =>
    `Eine andere Kategorie hat Produktnummern mit ${prefix}, etwa ${id}. ` +
    `Drücken Sie noch einmal „Kategorie anlegen“, um ${prefix} auch hier zu verwenden.`,
  categoryExists: (title) => `Die Kategorie „${title}“ gibt es schon.`,
  categoryNeedsLetters: 'Der Titel braucht mindestens einen Buchstaben von a bis z oder eine Ziffer.',
  periodReport: 'Periodenbericht',
  period: (number) => `Periode ${number}`,
  closePeriod: (number) => `Periode ${number} abschließen`,
  closeWarning:
    'Nach dem Abschluss beginnt die Zählung der nächsten Periode bei 0. Gesamtzahlen bleiben. ' +
    'Ein Abschluss kann nicht zurückgenommen werden.',
  since: (moment) => `Seit ${moment}`,
  fromTo: (from, to) => `${from} bis ${to}`,
  product: 'Produkt',
  productNumber: 'Nummer',
  count: 'Bestellungen',
  sum: 'Summe',
  print: 'Drucken',
  saveCsv: 'Als CSV speichern',
};
