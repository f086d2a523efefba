// The peer on Node's http and ws: one process, totals in memory, nothing durable.
// Usage: node server.js CATALOG; prints "listening on http://127.0.0.1:PORT".
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { WebSocketServer } from 'ws'

const catalog = JSON.parse(readFileSync(process.argv[2], 'utf8'))
const products = new Map()
const subscribers = new Map()
for (const [category, { products: listed }] of Object.entries(catalog)) {
  subscribers.set(category, new Set())
  for (const { id, total } of listed) products.set(id, { category, total })
}

const message = (id, total) => `{"id":"${id}","total":${total}}`

function answer (response, status, body) {
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) })
  response.end(body)
}

function take (id, text, response) {
  const product = products.get(id)
  if (!product) return answer(response, 404, '{"error":"unknown product"}')
  let amount
  try {
    amount = JSON.parse(text).amount
  } catch {
    return answer(response, 400, '{"error":"not JSON"}')
  }
  if (!Number.isSafeInteger(amount)) return answer(response, 422, '{"error":"amount must be an integer"}')
  product.total += amount
  // One buffer for all: ws would otherwise encode the string once per subscriber.
  const data = Buffer.from(message(id, product.total))
  for (const socket of subscribers.get(product.category)) socket.send(data, { binary: false })
  answer(response, 200, '{"ok":true}')
}

const server = createServer((request, response) => {
  const listed = catalog[request.url.slice(1)]
  if (request.method === 'GET' && listed) return answer(response, 200, JSON.stringify(listed.products))
  if (request.method !== 'POST' || !request.url.startsWith('/orders/')) return answer(response, 404, '{"error":"not found"}')
  const id = request.url.slice('/orders/'.length)
  let text = ''
  request.setEncoding('utf8')
  request.on('data', (chunk) => { text += chunk })
  request.on('end', () => take(id, text, response))
})

const sockets = new WebSocketServer({ noServer: true, perMessageDeflate: false })
server.on('upgrade', (request, socket, head) => {
  const category = request.url.slice('/orders/'.length)
  const audience = subscribers.get(category)
  if (!audience) return socket.end('HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n')
  sockets.handleUpgrade(request, socket, head, (subscriber) => {
    for (const [id, product] of products) {
      if (product.category === category) subscriber.send(message(id, product.total))
    }
    audience.add(subscriber)
    subscriber.on('error', () => subscriber.terminate())
    subscriber.on('close', () => audience.delete(subscriber))
  })
})

server.listen(0, '127.0.0.1', () => console.log(`listening on http://127.0.0.1:${server.address().port}`))
