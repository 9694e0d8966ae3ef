// The peers alone, before Moonjet is asked anything: a broken peer must not be blamed on it.
import assert from 'node:assert/strict'
import { WebSocketServer } from 'ws'
import * as clients from '../lib/clients.mjs'
import { corpus } from '../lib/corpus.mjs'
import { relay } from '../lib/relay.mjs'
import { reference } from '../lib/reference.mjs'
import { bot, exercise, fences, network } from '../lib/pds.mjs'
import { test } from '../lib/harness.mjs'

// Serves lines to anybody on /subscribe, after the hello when one is promised.
async function stubJetstream(t, lines) {
  const wss = new WebSocketServer({ port: 0, host: '127.0.0.1', perMessageDeflate: false })
  await new Promise((r) => wss.once('listening', r))
  wss.on('connection', (ws, req) => {
    const send = () => lines.forEach((l) => ws.send(l))
    if (new URL(req.url, 'http://x').searchParams.get('requireHello') === 'true') ws.once('message', send)
    else send()
  })
  t.defer(() => new Promise((r) => {
    wss.clients.forEach((c) => c.terminate())
    wss.close(r)
  }))
  return `ws://127.0.0.1:${wss.address().port}`
}

export default async function peers() {
  const sample = [
    '{"did":"did:plc:wq4aajammjtxdomz3e23667t","time_us":1783175888085434,"kind":"commit","commit":{"rev":"3mptbypluud2a","operation":"delete","collection":"app.bsky.feed.like","rkey":"3mptbyplj5d2a"}}',
    '{"did":"did:plc:wq4aajammjtxdomz3e23667t","time_us":1783175888085435,"kind":"identity","identity":{"did":"did:plc:wq4aajammjtxdomz3e23667t","handle":"a.test","seq":7,"time":"2026-07-04T14:38:08.999Z"}}',
    '{"did":"did:plc:wq4aajammjtxdomz3e23667t","time_us":1783175888085436,"kind":"account","account":{"active":true,"did":"did:plc:wq4aajammjtxdomz3e23667t","seq":8,"time":"2026-07-04T14:38:08.999Z"}}',
  ]
  const connect = {
    ws: (t, u) => clients.plain(t, `${u}/subscribe`),
    '@skyware/jetstream': (t, u) => clients.skyware(t, `${u}/subscribe`),
    '@atcute/jetstream': (t, u) => clients.atcute(t, u, { cursor: 1 }),
    'python3-websockets': (t, u) => clients.python(t, `${u}/subscribe`),
    Chromium: (t, u) => clients.chromium(t, `${u}/subscribe`),
  }
  for (const [name, open] of Object.entries(connect))
    await test(`peers: ${name} reads a stub Jetstream`, async (t) => {
      const c = await open(t, await stubJetstream(t, sample))
      await c.count(3)
      assert.deepEqual(c.invalid, [])
      assert.deepEqual(c.events, sample.map((l) => JSON.parse(l)))
    })

  await test('peers: @atproto/sync verifies a live PDS through every write path', async (t) => {
    const net = await network()
    const ref = reference(t, net.ws, net.plc)
    const f = await fences(net)
    await exercise(net)
    await bot(net)
    const last = await f.one()
    await ref.until(() => ref.keys.some((k) => k.includes(`/${last} `)), 'the last fence')
    assert.deepEqual(ref.errors, [])
    for (const what of [' create ', ' update ', ' delete ', ' identity ', ' false deactivated', ' false takendown', ' false deleted'])
      assert.ok(ref.keys.some((k) => k.includes(what)), `the PDS emitted no "${what.trim()}"`)
  })

  await test('peers: @atproto/sync reads the corpus from the stub relay', async (t) => {
    const c = corpus()
    const r = await relay(t, c.frames)
    const ref = reference(t, r.url, await c.plc(t))
    await ref.until(() => ref.keys.length >= c.lines.length, `${c.lines.length} events`)
    assert.deepEqual(ref.errors, [])
    assert.deepEqual(ref.keys, c.keys)
  })
}
