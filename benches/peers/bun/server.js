// The peer on Bun's built-in server and publish: one process, totals in memory, nothing durable.
// Usage: bun server.js CATALOG; prints "listening on http://127.0.0.1:PORT".
const catalog = await Bun.file(Bun.argv[2]).json()
const products = new Map()
for (const [category, { products: listed }] of Object.entries(catalog)) {
  for (const { id, total } of listed) products.set(id, { category, total })
}

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
        product.total += amount
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
