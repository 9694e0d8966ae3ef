// A proxy that spoils one property of a Jetstream and leaves the rest alone, to show that the suite
// notices. A mutation has any of
//   target(text)            the request target            headers(lines)  the request's header lines
//   answer({head, body})    a plain answer, changed in place
//   upgrade(head)           the head of a 101
//   message(m, state, ask)  one message from the server, { op, data }: a list of messages
//   control(f)              a ping, pong or close from the server: a list of frames, or null: hang up
//   client(f)               a frame from the client: a list of frames
// `state` is an object per connection, with the request as it came, `asked` = { target, headers };
// `ask` is the request target as it went on.
import net from 'node:net'
import { Parser, dial, frame, responseHead } from './probe.mjs'

export async function proxy(t, url, mutation) {
  const server = net.createServer((down) => serve(down, url, mutation))
  await new Promise((r) => server.listen(0, '127.0.0.1', r))
  const open = new Set()
  server.on('connection', (c) => open.add(c))
  t.defer(() => {
    open.forEach((c) => c.destroy())
    server.close()
  })
  return `${url.startsWith('ws') ? 'ws' : 'http'}://127.0.0.1:${server.address().port}`
}

function serve(down, url, m) {
  down.setNoDelay(true)
  down.on('error', () => {})
  let up = null
  let request = Buffer.alloc(0)
  let upgraded = false
  const toServer = new Parser()
  const fromClient = (bytes) => {
    for (const f of toServer.push(bytes))
      for (const g of m.client?.(f) ?? [f]) up.write(frame(g.op, g.payload, { mask: true, fin: g.fin ?? true }))
  }
  down.on('data', (d) => {
    if (up) {
      if (upgraded) fromClient(d)
      else request = Buffer.concat([request, d])
      return
    }
    request = Buffer.concat([request, d])
    const end = request.indexOf('\r\n\r\n')
    if (end < 0) return
    const [first, ...headers] = request.subarray(0, end).toString('latin1').split('\r\n')
    request = request.subarray(end + 4)
    const [method, target, version] = first.split(' ')
    const ask = m.target?.(target) ?? target
    up = dial(url)
    up.on('error', () => down.destroy())
    up.write([`${method} ${ask} ${version}`, ...(m.headers?.(headers) ?? headers), '', ''].join('\r\n'))
    relay(ask, { target, headers })
  })
  down.on('close', () => up?.destroy())

  const relay = (ask, asked) => {
    const state = { asked }
    const parser = new Parser()
    let answer = Buffer.alloc(0)
    let head = null
    up.on('data', (d) => {
      if (!upgraded) {
        answer = Buffer.concat([answer, d])
        head = responseHead(answer)
        if (!head || head.status !== 101) return
        const text = answer.subarray(0, head.length).toString('latin1')
        down.write(m.upgrade?.(text) ?? text, 'latin1')
        upgraded = true
        d = answer.subarray(head.length)
        fromClient(request)
      }
      const out = []
      for (const f of parser.push(d)) {
        if (f.op >= 8) {
          const frames = m.control ? m.control(f) : [f]
          if (!frames) {
            down.end(Buffer.concat(out))
            up.destroy()
            return
          }
          for (const g of frames) out.push(frame(g.op, g.payload))
        } else for (const g of m.message?.({ op: f.op, data: f.payload }, state, ask) ?? [{ op: f.op, data: f.payload }]) out.push(g.raw ?? frame(g.op, g.data))
      }
      if (out.length) down.write(Buffer.concat(out))
    })
    up.on('end', () => {
      if (!upgraded && head) {
        const a = { head: answer.subarray(0, head.length).toString('latin1'), body: answer.subarray(head.length).toString('utf8') }
        m.answer?.(a)
        down.write(a.head.replace(/content-length: *\d+/i, `Content-Length: ${Buffer.byteLength(a.body)}`) + a.body)
      }
      down.end()
    })
    up.on('close', () => down.end())
  }
}
