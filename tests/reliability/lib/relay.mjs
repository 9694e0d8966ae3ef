// A relay as fast as its reader: serves the endless source on com.atproto.sync.subscribeRepos to
// each consumer from its ?cursor= (one without a cursor gets everything), holds back when the
// consumer does, and can be made to misbehave.
//
//   head     seqs below exist; grows with `rate` frames a second, or by release()
//   repeat   how many frames before its cursor a consumer gets once more
//   skips    a set of seqs that are never sent
//   deaf     does not answer pings
//   mute     sends nothing
import { createHash } from 'node:crypto'
import net from 'node:net'
import { FIRST } from './source.mjs'

const CHUNK = 128 << 10

export async function relay(t, source, { rate = 0, repeat = 0, skips = new Set(), deaf = false } = {}) {
  const r = { head: FIRST, rate, repeat, skips, deaf, mute: false, requests: [], pings: 0, sent: 0, sockets: new Set() }
  const chunk = Buffer.allocUnsafe(CHUNK + (512 << 10))
  let since = performance.now(), from = r.head

  const grow = () => {
    if (r.rate) r.head = Math.max(r.head, from + Math.floor(((performance.now() - since) / 1000) * r.rate))
  }
  r.pace = (framesPerSecond) => {
    grow()
    since = performance.now()
    from = r.head
    r.rate = framesPerSecond
  }
  // Holds the head where it is, or lets n more frames out; returns the head.
  r.hold = () => {
    r.pace(0)
    return r.head
  }
  r.release = (n) => {
    r.hold()
    r.head += n
    r.sockets.forEach(pump)
    return r.head
  }

  function pump(c) {
    if (c.destroyed || !c.open || r.mute) return
    grow()
    for (let turns = 0; c.seq < r.head && !c.writableNeedDrain; turns++) {
      if (turns === 4) { // others have their turn
        setImmediate(pump, c)
        return
      }
      let n = 0
      for (; c.seq < r.head && n < CHUNK; c.seq++) {
        if (r.skips.has(c.seq)) continue
        n += source.frame(c.seq).copy(chunk, n)
        r.sent++
      }
      c.write(Buffer.from(chunk.subarray(0, n)))
    }
  }

  // What a client says: pings want their pongs, a close ends it.
  function listen(c, bytes) {
    c.in = Buffer.concat([c.in, bytes])
    while (c.in.length >= 6) {
      const n = c.in[1] & 127
      if (n > 125 || !(c.in[1] & 128)) return c.destroy()
      if (c.in.length < 6 + n) return
      const payload = Buffer.from(c.in.subarray(6, 6 + n)).map((b, i) => b ^ c.in[2 + (i & 3)])
      const op = c.in[0] & 15
      c.in = c.in.subarray(6 + n)
      if (op === 9) r.pings++
      if (op === 9 && !r.deaf) c.write(Buffer.concat([Buffer.from([0x8a, n]), payload]))
      if (op === 8) return c.end(Buffer.concat([Buffer.from([0x88, n]), payload]))
    }
  }

  const server = net.createServer((c) => {
    c.in = Buffer.alloc(0)
    c.setNoDelay(true)
    c.on('error', () => {})
    c.on('close', () => r.sockets.delete(c))
    c.on('drain', () => pump(c))
    c.on('data', (bytes) => {
      if (c.open) return listen(c, bytes)
      c.in = Buffer.concat([c.in, bytes])
      const end = c.in.indexOf('\r\n\r\n')
      if (end < 0) return
      const text = c.in.toString('latin1', 0, end)
      c.in = c.in.subarray(end + 4)
      const cursor = /[?&]cursor=(\d+)/.exec(text)?.[1]
      const key = /sec-websocket-key: *(\S+)/i.exec(text)[1]
      const accept = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64')
      r.requests.push({ cursor: cursor === undefined ? null : Number(cursor), at: performance.now() })
      c.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`)
      c.seq = Math.max(FIRST, cursor === undefined ? FIRST : Number(cursor) + 1 - r.repeat)
      c.open = true
      r.sockets.add(c)
      pump(c)
    })
  })
  await new Promise((ok) => server.listen(0, '127.0.0.1', ok))
  const timer = setInterval(() => r.sockets.forEach(pump), 5)
  r.url = `ws://127.0.0.1:${server.address().port}`
  r.cut = () => r.sockets.forEach((c) => c.resetAndDestroy())
  t.defer(() => new Promise((ok) => {
    clearInterval(timer)
    r.cut()
    server.close(ok)
  }))
  return r
}
