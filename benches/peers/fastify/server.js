// The peer on Fastify with @fastify/websocket: one process, totals in memory. With DATA each order is a transaction of
// better-sqlite3 that is synced; without it nothing is durable.
// Usage: node server.js CATALOG [DATA]; prints "listening on http://127.0.0.1:PORT".
import { readFileSync } from 'node:fs'
import websocket from '@fastify/websocket'
import Database from 'better-sqlite3'
import Fastify from 'fastify'

const [, , catalogPath, dataPath] = process.argv
const catalog = JSON.parse(readFileSync(catalogPath, 'utf8'))
const products = new Map()
const subscribers = new Map()
for (const [category, { products: listed }] of Object.entries(catalog)) {
  subscribers.set(category, new Set())
  for (const { id, total } of listed) products.set(id, { category, total })
}

// Returns a function that keeps an order and returns the total after it.
const openStore = (path) => {
  const database = new Database(path)
  database.pragma('journal_mode = WAL')
  database.pragma('synchronous = FULL')
  database.exec(`
    CREATE TABLE totals (id TEXT PRIMARY KEY, total INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE orders (seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, id TEXT NOT NULL, amount INTEGER NOT NULL)`)
  const begin = database.prepare('INSERT INTO totals VALUES (?, ?)')
  database.transaction(() => products.forEach(({ total }, id) => begin.run(id, total)))()
  const insert = database.prepare('INSERT INTO orders (at, id, amount) VALUES (?, ?, ?)')
  const update = database.prepare('UPDATE totals SET total = total + ? WHERE id = ? RETURNING total')
  return database.transaction((id, amount) => {
    insert.run(Date.now(), id, amount)
    return update.get(amount, id).total
  })
}
const keep = dataPath ? openStore(dataPath) : (id, amount) => products.get(id).total + amount

const message = (id, total) => `{"id":"${id}","total":${total}}`

const app = Fastify()
await app.register(websocket, { options: { perMessageDeflate: false } })

const order = {
  schema: {
    body: { type: 'object', required: ['amount'], properties: { amount: { type: 'integer' } } },
    response: { 200: { type: 'object', properties: { ok: { type: 'boolean' } } } }
  }
}

app.get('/:category', async (request, reply) => {
  const listed = catalog[request.params.category]
  return listed ? listed.products : reply.code(404).send({ error: 'unknown category' })
})

app.post('/orders/:id', order, async (request, reply) => {
  const { id } = request.params
  const product = products.get(id)
  if (!product) return reply.code(404).send({ error: 'unknown product' })
  product.total = keep(id, request.body.amount)
  // One buffer for all: ws would otherwise encode the string once per subscriber.
  const data = Buffer.from(message(id, product.total))
  for (const socket of subscribers.get(product.category)) socket.send(data, { binary: false })
  return { ok: true }
})

app.get('/orders/:category', { websocket: true }, (socket, request) => {
  const { category } = request.params
  const audience = subscribers.get(category)
  if (!audience) return socket.close(1008, 'unknown category')
  for (const [id, product] of products) {
    if (product.category === category) socket.send(message(id, product.total))
  }
  audience.add(socket)
  socket.on('error', () => socket.terminate())
  socket.on('close', () => audience.delete(socket))
})

console.log(`listening on ${await app.listen({ host: '127.0.0.1', port: 0 })}`)
