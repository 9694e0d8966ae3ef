// A receiver of webhooks, independent of ours: Node's HTTP, npm's standardwebhooks and svix for shared
// secrets, Node's crypto for Ed25519. Each delivery is checked by all three as far as it has keys.
import crypto from 'node:crypto'
import http from 'node:http'
import { Webhook as Standard } from 'standardwebhooks'
import { Webhook as Svix } from 'svix'

const SPKI = Buffer.from('302a300506032b6570032100', 'hex') // an Ed25519 public key follows

export function ed25519Fits(whpk, headers, body) {
  const key = crypto.createPublicKey({ key: Buffer.concat([SPKI, Buffer.from(whpk.slice(5), 'base64')]), format: 'der', type: 'spki' })
  const signed = Buffer.concat([Buffer.from(`${headers['webhook-id']}.${headers['webhook-timestamp']}.`), body])
  return headers['webhook-signature'].split(' ').some((s) => s.startsWith('v1a,') && crypto.verify(null, signed, key, Buffer.from(s.slice(4), 'base64')))
}

export const githubFits = (secret, headers, body) =>
  headers['x-hub-signature-256'] === `sha256=${crypto.createHmac('sha256', secret).update(body).digest('hex')}`

// Throws when one of the checkers refuses the delivery.
export function verify({ headers, body }, { secret, publicKey, github }) {
  if (secret) {
    new Standard(secret).verify(body, headers)
    new Svix(secret).verify(body, headers)
  }
  if (publicKey && !ed25519Fits(publicKey, headers, body)) throw new Error('no v1a signature fits')
  if (github && !githubFits(github, headers, body)) throw new Error('X-Hub-Signature-256 does not fit')
}

// keys: { secret, publicKey, github }. `r.answer(delivery)` says what to answer: a status,
// { status, headers, body }, a promise of one, or undefined for nothing at all.
export async function receiver(t, keys = {}, { port = 0 } = {}) {
  const r = { keys, deliveries: [], refused: [], answer: () => 200, connections: 0 }
  const watchers = new Set()
  const server = http.createServer((req, res) => {
    const parts = []
    req.on('data', (b) => parts.push(b))
    req.on('end', async () => {
      const body = Buffer.concat(parts)
      const d = { method: req.method, url: req.url, headers: req.headers, body, id: req.headers['webhook-id'], at: performance.now() }
      try {
        verify(d, r.keys)
      } catch (e) {
        r.refused.push({ ...d, why: e.message })
        res.writeHead(401).end(e.message)
        return
      }
      const a = await r.answer(d)
      d.answered = typeof a === 'object' ? a.status : a
      r.deliveries.push(d)
      if (a !== undefined) res.writeHead(d.answered, a.headers ?? {}).end(a.body ?? '')
      watchers.forEach((w) => w())
    })
  })
  server.keepAliveTimeout = 60_000
  server.on('connection', () => r.connections++)
  r.listen = (at) => new Promise((ok, bad) => server.once('error', bad).listen(at, '127.0.0.1', ok))
  await r.listen(port)
  r.port = server.address().port
  r.url = `http://127.0.0.1:${r.port}/hook`
  // The port refuses connections until up() again.
  r.down = () => new Promise((ok) => {
    server.close(ok)
    server.closeAllConnections()
  })
  r.up = () => r.listen(r.port)
  // Those that were answered with 2xx.
  r.accepted = () => r.deliveries.filter((d) => d.answered >= 200 && d.answered < 300)
  // Resolves once probe() is true, looked at after each delivery.
  r.until = (probe, what, ms = 30_000) => new Promise((ok, bad) => {
    const timer = setTimeout(() => {
      watchers.delete(look)
      bad(new Error(`no ${what} within ${ms} ms (${r.deliveries.length} deliveries, ${r.refused.length} refused${r.refused.length ? `: ${r.refused[0].why}` : ''})`))
    }, ms)
    const look = () => {
      if (!probe()) return
      clearTimeout(timer)
      watchers.delete(look)
      ok()
    }
    watchers.add(look)
    look()
  })
  t.defer(async () => {
    if (server.listening) await r.down()
  })
  return r
}
