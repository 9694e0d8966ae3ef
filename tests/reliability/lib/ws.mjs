// The client's half of WebSocket on a bare socket, so that a peer can be as wrong as it likes:
// open() does a proper upgrade, masked() makes a proper frame, Frames takes a server's stream apart.
import net from 'node:net'
import { randomBytes } from 'node:crypto'

export const upgrade = (path, more = '') =>
  `GET ${path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n` +
  `Sec-WebSocket-Key: ${randomBytes(16).toString('base64')}\r\n${more}\r\n`

// A client's frame. `first` is the first byte, FIN and opcode in one.
export function masked(first, payload = '', { mask = randomBytes(4), length } = {}) {
  const p = Buffer.from(payload)
  const n = length ?? p.length
  const h = Buffer.alloc(n < 126 ? 2 : n < 65536 ? 4 : 10)
  h[0] = first
  h[1] = (mask ? 128 : 0) | (n < 126 ? n : n < 65536 ? 126 : 127)
  if (n >= 126 && n < 65536) h.writeUInt16BE(n, 2)
  else if (n >= 65536) h.writeBigUInt64BE(BigInt(n), 2)
  if (!mask) return Buffer.concat([h, p])
  const body = Buffer.allocUnsafe(p.length)
  for (let i = 0; i < p.length; i++) body[i] = p[i] ^ mask[i & 3]
  return Buffer.concat([h, mask, body])
}

// Frames of a server's stream: frame(first byte, buffer, start, end) for each whole one.
export class Frames {
  #rest = null
  #need = 0
  constructor(frame) {
    this.frame = frame
  }
  feed(bytes) {
    let b = bytes
    if (this.#rest) {
      this.#rest.push(bytes)
      this.size += bytes.length
      if (this.size < this.#need) return
      b = Buffer.concat(this.#rest)
      this.#rest = null
    }
    let o = 0
    for (;;) {
      const left = b.length - o
      let need = 2
      if (left >= 2) {
        const small = b[o + 1]
        const h = small < 126 ? 2 : small === 126 ? 4 : 10
        need = h
        if (left >= h) {
          const n = h === 2 ? small : h === 4 ? b.readUInt16BE(o + 2) : Number(b.readBigUInt64BE(o + 2))
          need = h + n
          if (left >= need) {
            this.frame(b[o], b, o + h, o + need)
            o += need
            continue
          }
        }
      }
      if (left) {
        this.#rest = [b.subarray(o)]
        this.size = left
        this.#need = need
      }
      return
    }
  }
}

// Connects and upgrades; resolves to the socket with `early`, the bytes that came with the answer,
// and reading paused. Rejects when it is refused.
export function open(url, path, more) {
  const u = new URL(url)
  return new Promise((resolve, reject) => {
    const s = net.connect(Number(u.port), u.hostname)
    let got = Buffer.alloc(0)
    s.setNoDelay(true)
    s.on('error', reject)
    s.once('close', () => reject(new Error('closed during the upgrade')))
    s.once('connect', () => s.write(upgrade(path, more)))
    s.on('data', function look(d) {
      got = Buffer.concat([got, d])
      const end = got.indexOf('\r\n\r\n')
      if (end < 0) return
      s.off('data', look)
      if (!got.subarray(0, 13).equals(Buffer.from('HTTP/1.1 101 '))) {
        s.destroy()
        return reject(new Error(got.toString('latin1', 0, 300)))
      }
      s.pause()
      s.early = got.subarray(end + 4)
      resolve(s)
    })
  })
}

// The body of a GET; rejects when the server dies over it, which fetch() does not always notice.
export function get(url) {
  const u = new URL(url)
  return new Promise((resolve, reject) => {
    const s = net.connect(Number(u.port), u.hostname)
    let got = ''
    s.setEncoding('utf8')
    s.on('error', reject)
    s.on('data', (d) => (got += d))
    s.on('end', () => (/^HTTP\/1.1 200 /.test(got) ? resolve(got.slice(got.indexOf('\r\n\r\n') + 4)) : reject(new Error(got.slice(0, 200) || 'no answer'))))
    s.write(`GET ${u.pathname} HTTP/1.1\r\nHost: localhost\r\n\r\n`)
  })
}
