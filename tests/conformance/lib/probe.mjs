// A WebSocket client that hides nothing: it sends exactly the bytes it is told to, keeps every frame
// with its bits, answers pings only if wanted, can stop reading, and says how a connection ended.
// What breaks RFC 6455 is noted in `problems`, not repaired.
import net from 'node:net'
import tls from 'node:tls'
import { createHash, randomBytes } from 'node:crypto'

export const TEXT = 1
export const BINARY = 2
export const CLOSE = 8
export const PING = 9
export const PONG = 10
const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'
const utf8 = new TextDecoder('utf-8', { fatal: true })

// One frame as bytes; `mask` true as clients do, false as servers do.
export function frame(op, payload, { mask = false, fin = true } = {}) {
  const data = Buffer.from(payload)
  const n = data.length
  const head = Buffer.alloc(n < 126 ? 2 : n < 65536 ? 4 : 10)
  head[0] = (fin ? 0x80 : 0) | op
  head[1] = (mask ? 0x80 : 0) | (n < 126 ? n : n < 65536 ? 126 : 127)
  if (head.length === 4) head.writeUInt16BE(n, 2)
  if (head.length === 10) head.writeBigUInt64BE(BigInt(n), 2)
  if (!mask) return Buffer.concat([head, data])
  const key = randomBytes(4)
  for (let i = 0; i < n; i++) data[i] ^= key[i & 3]
  return Buffer.concat([head, key, data])
}

// Takes frames off the front of a stream of bytes.
export class Parser {
  #rest = Buffer.alloc(0)
  // All frames that are complete now: { op, fin, rsv, masked, payload }.
  push(chunk) {
    const frames = []
    let b = this.#rest.length ? Buffer.concat([this.#rest, chunk]) : chunk
    for (;;) {
      this.#rest = b
      if (b.length < 2) return frames
      let n = b[1] & 0x7f
      let at = 2
      if (n === 126) {
        if (b.length < 4) return frames
        n = b.readUInt16BE(2)
        at = 4
      } else if (n === 127) {
        if (b.length < 10) return frames
        n = Number(b.readBigUInt64BE(2))
        at = 10
      }
      const masked = (b[1] & 0x80) !== 0
      const key = masked ? b.subarray(at, at + 4) : null
      if (masked) at += 4
      if (b.length < at + n) return frames
      let payload = b.subarray(at, at + n)
      if (masked) payload = payload.map((c, i) => c ^ key[i & 3])
      frames.push({ op: b[0] & 15, fin: (b[0] & 0x80) !== 0, rsv: (b[0] >> 4) & 7, masked, payload })
      b = b.subarray(at + n)
    }
  }
}

// { status, reason, headers: lower-case names, length of the head in bytes } or null if incomplete.
export function responseHead(bytes) {
  const end = bytes.indexOf('\r\n\r\n')
  if (end < 0) return null
  const [first, ...lines] = bytes.subarray(0, end).toString('latin1').split('\r\n')
  const m = /^HTTP\/1\.[01] (\d{3}) ?(.*)$/.exec(first)
  if (!m) throw new Error(`no HTTP answer: ${first.slice(0, 80)}`)
  const headers = {}
  for (const l of lines) {
    const at = l.indexOf(':')
    const name = l.slice(0, at).toLowerCase()
    const value = l.slice(at + 1).trim()
    headers[name] = name in headers ? `${headers[name]}, ${value}` : value
  }
  return { status: Number(m[1]), reason: m[2], headers, length: end + 4 }
}

// A connection to HOST:PORT, plain or TLS, as the URL's scheme says.
export function dial(url) {
  const u = new URL(url)
  const secure = u.protocol === 'wss:' || u.protocol === 'https:'
  const port = Number(u.port || (secure ? 443 : 80))
  const host = u.hostname.replace(/^\[|\]$/g, '')
  const socket = secure
    ? tls.connect({ host, port, servername: net.isIP(host) ? undefined : host, ALPNProtocols: ['http/1.1'] })
    : net.connect({ host, port })
  socket.setNoDelay(true)
  return socket
}

export class Probe {
  static patience = 10_000 // how long until() waits, in milliseconds
  messages = [] // { op, data, text }: whole data messages, unless a `sink(message)` takes them
  control = [] // { op, payload }: pings, pongs and closes
  problems = []
  body = Buffer.alloc(0) // of an answer that is no upgrade
  #watchers = new Set()
  #parser = new Parser()
  #head = Buffer.alloc(0)
  #partial = null

  // `target` is the request target, sent as it stands. Headers replace ours; a null removes one.
  constructor(url, target, { headers = {}, method = 'GET', pong = true } = {}) {
    const u = new URL(url)
    this.what = `${method} ${target.length > 120 ? `${target.slice(0, 120)}…` : target}`
    this.pong = pong
    this.socket = dial(url)
    const key = randomBytes(16).toString('base64')
    this.accept = createHash('sha1').update(key + GUID).digest('base64')
    const all = {
      Host: u.host, Upgrade: 'websocket', Connection: 'Upgrade', 'Sec-WebSocket-Key': key,
      'Sec-WebSocket-Version': '13', 'User-Agent': 'moonjet-conformance', ...headers,
    }
    const lines = Object.entries(all).filter(([, v]) => v !== null).map(([k, v]) => `${k}: ${v}\r\n`)
    this.socket.write(`${method} ${target} HTTP/1.1\r\n${lines.join('')}\r\n`)
    this.answered = new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
    this.answered.catch(() => {})
    this.#ending = new Promise((resolve) => {
      this.#closed = resolve
    })
    this.socket.on('data', (d) => this.#data(d))
    this.socket.on('end', () => this.#finish('FIN'))
    this.socket.on('error', (e) => this.#finish(e.code ?? e.message))
    this.socket.on('close', () => this.#finish('closed'))
  }
  #resolve
  #reject
  #closed
  #ending

  get open() {
    return this.status === 101 && !this.ended
  }
  get lines() {
    return this.messages.map((m) => m.text)
  }

  #data(d) {
    if (this.status === undefined) {
      this.#head = Buffer.concat([this.#head, d])
      let h
      try {
        h = responseHead(this.#head)
      } catch (e) {
        this.#reject(e)
        this.destroy()
        return
      }
      if (!h) return
      d = this.#head.subarray(h.length)
      Object.assign(this, { status: h.status, headers: h.headers })
      if (h.status === 101) this.#resolve(this)
    }
    if (this.status !== 101) {
      this.body = Buffer.concat([this.body, d])
      const n = this.headers['content-length']
      if (n !== undefined && this.body.length >= Number(n)) this.#resolve(this)
      return
    }
    for (const f of this.#parser.push(d)) this.#frame(f)
    this.#tell()
  }

  #frame(f) {
    const bad = (what) => this.problems.push(what)
    if (f.rsv) bad(`reserved bits ${f.rsv} in a frame of opcode ${f.op}`)
    if (f.masked) bad('a masked frame from the server')
    if (f.op >= 8) {
      if (!f.fin || f.payload.length > 125) bad('a control frame that is fragmented or too long')
      this.control.push(f)
      if (f.op === PING && this.pong) this.send(PONG, f.payload)
      if (f.op === CLOSE) {
        const code = f.payload.length >= 2 ? f.payload.readUInt16BE(0) : 1005
        this.closeFrame = { code, reason: f.payload.subarray(2).toString('utf8') }
        this.send(CLOSE, f.payload.subarray(0, 2))
        this.socket.end()
      }
      return
    }
    if (this.closeFrame) bad('data after a close frame')
    if (f.op !== 0) {
      if (f.op > 2) bad(`opcode ${f.op}`)
      this.#partial = { op: f.op, parts: [] }
    }
    if (!f.fin || f.op === 0) bad('a fragmented message')
    if (!this.#partial) return
    this.#partial.parts.push(f.payload)
    if (!f.fin) return
    const data = this.#partial.parts.length === 1 ? f.payload : Buffer.concat(this.#partial.parts)
    const m = { op: this.#partial.op, data }
    if (m.op === TEXT) {
      try {
        m.text = utf8.decode(data)
      } catch {
        bad('a text message that is not UTF-8')
        m.text = data.toString('utf8')
      }
    }
    this.#partial = null
    try {
      if (this.sink) this.sink(m)
      else this.messages.push(m)
    } catch (e) {
      bad(e.message)
    }
  }

  #finish(how) {
    if (this.ended) return
    this.ended = how
    if (this.status === undefined) this.#reject(new Error(`${this.what}: no answer (${how})`))
    else if (this.status !== 101) this.#resolve(this)
    this.#closed({ code: 1006, reason: '', ...this.closeFrame, how })
    this.#tell()
    if (how === 'FIN') this.socket.end()
  }
  #tell() {
    this.#watchers.forEach((w) => w())
  }

  // Bytes as they are, a frame, a text message, JSON.
  raw(bytes) {
    if (!this.ended) this.socket.write(bytes)
  }
  send(op, payload, options) {
    this.raw(frame(op, payload, { mask: true, ...options }))
  }
  text(s) {
    this.send(TEXT, s)
  }
  update(payload) {
    this.text(JSON.stringify({ type: 'options_update', payload }))
  }
  // Resolves when everything sent before has been read by the server: it answers in order.
  async barrier() {
    const id = randomBytes(6).toString('hex')
    this.send(PING, id)
    await this.until(() => this.control.some((f) => f.op === PONG && f.payload.toString() === id), 'pong')
  }

  // Resolves to what `probe()` returns once it is truthy; rejects when the connection ends first.
  until(probe, what, ms = Probe.patience) {
    return new Promise((resolve, reject) => {
      const done = (f, v) => {
        clearTimeout(timer)
        this.#watchers.delete(look)
        f(v)
      }
      const look = () => {
        let v
        try {
          v = probe(this)
        } catch (e) {
          done(reject, e)
          return
        }
        if (v) {
          done(resolve, v)
        } else if (this.ended) {
          const c = this.closeFrame
          done(reject, new Error(`${this.what}: ended (${this.ended}${c ? `, close ${c.code} ${c.reason}` : ''}) before ${what}`))
        }
      }
      const timer = setTimeout(() => done(reject, new Error(`${this.what}: no ${what} within ${ms / 1000} s; ${this.messages.length} messages came`)), ms)
      this.#watchers.add(look)
      look()
    })
  }
  // Resolves to { code, reason, how } when the connection has ended.
  async end() {
    let timer
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`${this.what}: not closed within ${Probe.patience / 1000} s`)), Probe.patience)
    })
    return Promise.race([this.#ending, late]).finally(() => clearTimeout(timer))
  }
  destroy() {
    this.socket.destroy()
  }
}
