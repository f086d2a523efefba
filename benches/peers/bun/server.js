// The peer on Bun's built-in server and publish: one process, totals in memory. With DATA each order is a transaction of
// bun:sqlite that is synced; without it nothing is durable.
// Usage: bun server.js CATALOG [DATA]; prints "listening on http://127.0.0.1:PORT".
import { Database } from 'bun:sqlite'

const [, , catalogPath, dataPath] = Bun.argv
const catalog = await Bun.file(catalogPath).json()
const products = new Map()
for (const [category, { products: listed }] of Object.entries(catalog)) {
  for (const { id, total } of listed) products.set(id, { category, total })
}

// Returns a function that keeps an order and returns the total after it.
const openStore = (path) => {
  const database = new Database(path, { create: true, strict: true })
  database.run('PRAGMA journal_mode = WAL')
  database.run('PRAGMA synchronous = FULL')
  database.run('CREATE TABLE totals (id TEXT PRIMARY KEY, total INTEGER NOT NULL) WITHOUT ROWID')
  database.run('CREATE TABLE orders (seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, id TEXT NOT NULL, amount INTEGER NOT NULL)')
  const begin = database.query('INSERT INTO totals VALUES (?, ?)')
  database.transaction(() => products.forEach(({ total }, id) => begin.run(id, total)))()
  const insert = database.query('INSERT INTO orders (at, id, amount) VALUES (?, ?, ?)')
  const update = database.query('UPDATE totals SET total = total + ? WHERE id = ? RETURNING total')
  return database.transaction((id, amount) => {
    insert.run(Date.now(), id, amount)
    return update.get(amount, id).total
  })
}
const keep = dataPath ? openStore(dataPath) : (id, amount) => products.get(id).total + amount

const message = (id, total) => `{"id":"${id}","total":${total}}`

const server = Bun.serve({
  hostname: '127.0.0.1',
  port: 0,
  routes: {
    '/:category': (request) => {
      const listed = catalog[request.params.category]
      return listed ? Response.json(listed.products) : new Response('unknown category', { status: 404 })
    },
    '/orders/:id': {
      async POST (request, server) {
        const { id } = request.params
        const product = products.get(id)
        if (!product) return Response.json({ error: 'unknown product' }, { status: 404 })
        const { amount } = await request.json()
        if (!Number.isSafeInteger(amount)) return Response.json({ error: 'amount must be an integer' }, { status: 422 })
        product.total = keep(id, amount)
        server.publish(product.category, message(id, product.total))
        return Response.json({ ok: true })
      },
      GET (request, server) {
        const category = request.params.id
        if (!(category in catalog)) return new Response('unknown category', { status: 404 })
        if (server.upgrade(request, { data: { category } })) return
        return new Response('upgrade to WebSocket', { status: 426 })
      }
    }
  },
  websocket: {
    perMessageDeflate: false,
    open (socket) {
      const { category } = socket.data
      for (const [id, product] of products) {
        if (product.category === category) socket.send(message(id, product.total))
      }
      socket.subscribe(category)
    },
    message () {}
  }
})

console.log(`listening on http://127.0.0.1:${server.port}`)
