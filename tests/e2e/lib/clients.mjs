// Jetstream clients that strangers wrote, all in one shape:
//   { name, raw: [line…] where the client shows bytes, events: [object…], opened, closed, until() }
import fs from 'node:fs'
import path from 'node:path'
import { WebSocket } from 'ws'
import { Jetstream } from '@skyware/jetstream'
import { JetstreamSubscription } from '@atcute/jetstream'
import { Child, here, skip } from './harness.mjs'
import { binary } from './moonjet.mjs'

const CHROMIUM = '/usr/bin/chromium'
const PYTHON = '/usr/bin/python3'

class Client {
  raw = []
  events = []
  invalid = []
  #watchers = new Set()

  constructor(name) {
    this.name = name
    this.opened = new Promise((r) => {
      this.open = r
    })
    this.closed = new Promise((r) => {
      this.close_ = r
    })
  }
  line(text) {
    this.raw.push(text)
    this.event(JSON.parse(text))
  }
  event(e) {
    this.events.push(e)
    this.#watchers.forEach((w) => w())
  }
  // Resolves once `probe(client)` is truthy.
  until(probe, what, ms = 30_000) {
    return new Promise((resolve, reject) => {
      const look = () => {
        const v = probe(this)
        if (!v) return
        clearTimeout(timer)
        this.#watchers.delete(look)
        resolve(v)
      }
      const timer = setTimeout(() => {
        this.#watchers.delete(look)
        reject(new Error(`${this.name}: no ${what} within ${ms} ms; it has ${this.events.length} events, last ${JSON.stringify(this.events.at(-1))?.slice(0, 300)}`))
      }, ms)
      this.#watchers.add(look)
      look()
    })
  }
  count(n, ms) {
    return this.until((c) => c.events.length >= n, `${n} events`, ms)
  }
}

// A plain `ws` client: raw text, close code and reason.
export async function plain(t, url, { headers } = {}) {
  const c = new Client('ws')
  const ws = new WebSocket(url, { maxPayload: 64 << 20, headers })
  c.ws = ws
  t.defer(() => ws.terminate())
  ws.on('message', (d, binary) => {
    if (binary) throw new Error('binary message')
    c.line(d.toString('utf8'))
  })
  ws.on('close', (code, reason) => c.close_({ code, reason: reason.toString() }))
  await new Promise((resolve, reject) => {
    ws.once('open', resolve)
    ws.once('error', reject)
    ws.once('unexpected-response', (_, r) => reject(new Error(`HTTP ${r.statusCode}`)))
  })
  ws.on('error', () => {})
  return c
}

export async function skyware(t, url, { wantedCollections, wantedDids, cursor } = {}) {
  const c = new Client('@skyware/jetstream')
  const js = new Jetstream({ endpoint: url, ws: WebSocket, wantedCollections, wantedDids, cursor })
  js.on('error', (e) => c.invalid.push(String(e?.message ?? e)))
  for (const kind of ['commit', 'identity', 'account']) js.on(kind, (e) => c.event(e))
  js.on('open', () => c.open())
  js.on('close', () => c.close_())
  t.defer(() => js.close())
  js.start()
  await c.opened
  c.updateOptions = (o) => js.updateOptions(o)
  c.stop = () => js.close()
  return c
}

export async function atcute(t, url, { wantedCollections, wantedDids, cursor } = {}) {
  const c = new Client('@atcute/jetstream')
  const sub = new JetstreamSubscription({
    url, cursor, wantedCollections, wantedDids, ws: { WebSocket },
    onConnectionOpen: () => c.open(), onConnectionClose: () => c.close_(),
    onError: (e) => c.invalid.push(e.issues.map((i) => `${i.path?.map((p) => p.key).join('.')}: ${i.message}`).join('; ')),
  })
  const it = sub[Symbol.asyncIterator]()
  t.defer(() => it.return())
  ;(async () => {
    for (let n = await it.next(); !n.done; n = await it.next()) c.event(n.value)
  })()
  await c.opened
  return c
}

export async function python(t, url) {
  const c = new Client('python3-websockets')
  const child = new Child(t, PYTHON, [path.join(here, 'lib/client.py'), url])
  followLines(child, c)
  await child.until(() => child.err.includes('OPEN') || child.err.includes('ModuleNotFound'), 'connection')
  if (child.err.includes('ModuleNotFound')) skip('no python3-websockets', 'MOONJET_REQUIRE_E2E')
  child.until(() => /CLOSE (\d+)/.exec(child.err), 'close', 600_000).then((m) => c.close_({ code: Number(m[1]) }), () => {})
  return c
}

export async function tail(t, url, args = []) {
  const c = new Client('moonjet tail')
  c.child = new Child(t, binary, ['tail', url, ...args])
  followLines(c.child, c)
  return c
}

function followLines(child, client) {
  let rest = ''
  child.proc.stdout.on('data', (s) => {
    const lines = (rest + s).split('\n')
    rest = lines.pop()
    for (const l of lines) if (l) client.line(l)
  })
}

let browser
export async function chromium(t, url) {
  if (!fs.existsSync(CHROMIUM)) skip('no chromium', 'MOONJET_REQUIRE_E2E')
  const { chromium: engine } = await import('playwright-core')
  browser = await engine.launch({
    executablePath: CHROMIUM,
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
      '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  })
  t.defer(() => browser.close())
  const c = new Client('Chromium')
  const page = await browser.newPage()
  await page.exposeFunction('mjLine', (l) => c.line(l))
  await page.exposeFunction('mjClose', (code, reason) => c.close_({ code, reason }))
  await page.evaluate((u) => new Promise((resolve, reject) => {
    const w = new WebSocket(u)
    w.onopen = () => resolve()
    w.onerror = () => reject(new Error('WebSocket error'))
    w.onclose = (e) => window.mjClose(e.code, e.reason)
    w.onmessage = (e) => window.mjLine(e.data)
  }), url)
  return c
}
