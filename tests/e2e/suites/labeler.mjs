// Labelers, as the network meets them: labels read back by the official packages, which check them
// against the lexicon, and signatures verified as the reference labeler makes them.
import assert from 'node:assert/strict'
import net from 'node:net'
import path from 'node:path'
import { AtpAgent, lexicons } from '@atproto/api'
import { didDocument } from '@atproto/common-web'
import { Secp256k1Keypair, verifySignature } from '@atproto/crypto'
import { Subscription } from '@atproto/xrpc-server'
import * as cbor from '@ipld/dag-cbor'
import { eventually, here, test } from '../lib/harness.mjs'
import { Moonjet } from '../lib/moonjet.mjs'
import { account, network, post } from '../lib/pds.mjs'
import { freePort } from './feed.mjs'

const SUBSCRIBE = 'com.atproto.label.subscribeLabels'
const POST = 'app.bsky.feed.post'
const SECRET = '33'.repeat(32)
const someone = (i) => `did:web:n${i}.example`

async function start(t, { data = path.join(t.dir(), 'data'), port, args = [] } = {}) {
  const world = await network()
  port ??= await freePort()
  const m = await Moonjet.start(t, ['run', path.join(here, 'scripts', 'labeler.lua'), '--source', world.ws, '--plc', world.plc,
    '--http-allow', '127.0.0.1', '--http-allow', '::1', '--listen', `127.0.0.1:${port}`, '--metrics-listen', '127.0.0.1:0',
    '--data', data, '--config', `hostname=localhost:${port}`, ...args], { metrics: true, env: { MOONJET_SECRET_LABEL_KEY: SECRET } })
  const act = async (calls) => {
    const r = await fetch(`${m.http}/do`, { method: 'POST', body: JSON.stringify(calls) })
    assert.equal(r.status, 204, await r.text())
  }
  return { world, m, port, data, act, did: `did:web:localhost%3A${port}`, agent: new AtpAgent({ service: m.http }) }
}

// Collects { seq, labels } and #info from a subscription of the official package.
function subscribe(t, m, cursor) {
  const abort = new AbortController()
  t.defer(() => abort.abort())
  const s = { messages: [], infos: [], error: null }
  const sub = new Subscription({
    service: m.url, method: SUBSCRIBE, signal: abort.signal, maxReconnectSeconds: 1,
    getParams: () => (cursor === undefined ? {} : { cursor: s.messages.at(-1)?.seq ?? cursor }),
    validate: (body) => lexicons.assertValidXrpcMessage(SUBSCRIBE, body),
  })
  s.ended = (async () => {
    try {
      for await (const m of sub) (m.$type?.endsWith('#info') ? s.infos : s.messages).push(m)
    } catch (e) {
      s.error = e
    }
  })()
  s.count = (n) => eventually(() => s.messages.length >= n, `${n} messages`)
  return s
}

async function assertSigned(label, key) {
  const { sig, ...rest } = label
  delete rest.$type
  assert.equal(rest.ver, 1)
  assert.ok(await verifySignature(key, cbor.encode(rest), sig), `the signature of ${JSON.stringify(rest)}`)
}

const short = ({ uri, val, neg }) => `${neg ? '-' : '+'}${uri} ${val}`

export default async function suite() {
  await test('labeler: labels of posts are read back, and their signatures hold', async (t) => {
    const { m, world, did, agent, act } = await start(t)
    const live = subscribe(t, m)
    await m.metricAtLeast('moonjet_label_subscribers', 1)
    const alice = await account(world, 'alice')
    const good = await alice.create(POST, post('hello'))
    const bad = await alice.create(POST, post('SPAM and eggs'))
    await act([['apply', alice.did, 'rude', { exp: '1h' }], ['apply', someone(1), '!hide'], ['apply', someone(1), '!hide']])
    await live.count(3)

    const document = didDocument.parse(await (await fetch(`${m.http}/.well-known/did.json`)).json())
    const key = document.verificationMethod.find((v) => v.id === `${did}#atproto_label`)
    const didKey = `did:key:${key.publicKeyMultibase}`
    assert.equal(didKey, (await Secp256k1Keypair.import(SECRET)).did())
    assert.equal(document.service.find((s) => s.id === '#atproto_labeler').type, 'AtprotoLabeler')

    const query = async (params) => (await agent.com.atproto.label.queryLabels(params)).data
    const { labels } = await query({ uriPatterns: [bad.uri] })
    assert.equal(labels.length, 1)
    assert.equal(labels[0].cid, bad.cid)
    assert.equal(labels[0].src, did)
    assert.equal((await query({ uriPatterns: [good.uri] })).labels.length, 0)
    for (const l of [...labels, ...live.messages.flatMap((x) => x.labels)]) await assertSigned(l, didKey)
    assert.deepEqual((await query({ uriPatterns: ['did:web:*', `at://${alice.did}/*`] })).labels.map(short).sort(),
      [`+${bad.uri} spam`, `+${someone(1)} !hide`].sort())
    assert.equal((await query({ uriPatterns: ['*'], sources: ['did:web:other.example'] })).labels.length, 0)
    assert.equal((await query({ uriPatterns: ['*'], sources: [did] })).labels.length, 3)

    await act([['negate', someone(1), '!hide'], ['negate', someone(1), '!hide']])
    await live.count(4)
    assert.deepEqual(live.messages.map((x) => x.seq), [1, 2, 3, 4])
    assert.equal(live.messages[3].labels[0].neg, true)
    await assertSigned(live.messages[3].labels[0], didKey)
    assert.equal((await query({ uriPatterns: [someone(1)] })).labels.length, 0)
    assert.doesNotMatch(m.err, new RegExp(SECRET))
    await m.finish()
  }, { seconds: 120 })

  await test('labeler: a query goes page by page, and says what is wrong with it', async (t) => {
    const { m, agent, act } = await start(t)
    const all = Array.from({ length: 300 }, (_, i) => someone(String(i).padStart(3, '0')))
    await act(all.map((uri) => ['apply', uri, 'x']))
    await m.metricAtLeast('moonjet_labels_seq', 300)
    const seen = []
    let cursor
    do {
      const { data } = await agent.com.atproto.label.queryLabels({ uriPatterns: ['did:web:n*', someone('007')], limit: 90, cursor })
      seen.push(...data.labels.map((l) => l.uri))
      cursor = data.cursor
    } while (cursor)
    assert.deepEqual(seen, all)
    const status = async (query) => {
      const r = await fetch(`${m.http}/xrpc/com.atproto.label.queryLabels?${query}`)
      return [r.status, (await r.json()).error]
    }
    for (const query of ['', 'uriPatterns=a*b', 'uriPatterns=*&limit=0', 'uriPatterns=*&limit=251', 'uriPatterns=*&cursor=zz', 'uriPatterns=%zz'])
      assert.deepEqual(await status(query), [400, 'InvalidRequest'], query)
    assert.equal((await fetch(`${m.http}/xrpc/${SUBSCRIBE}`)).status, 426)
    await m.finish()
  })

  await test('labeler: cursors replay, the future is an error, and seqs go on from where another labeler was', async (t) => {
    const { m, act, port, data } = await start(t, { args: ['--config', 'seq=1000'] })
    await act(Array.from({ length: 50 }, (_, i) => ['apply', someone(i), 'x']))
    await m.metricAtLeast('moonjet_labels_seq', 1049)
    const whole = subscribe(t, m, 0)
    await whole.count(50)
    assert.deepEqual(whole.messages.map((x) => x.seq), Array.from({ length: 50 }, (_, i) => 1000 + i))
    const tail = subscribe(t, m, 1040)
    await tail.count(9)
    assert.equal(tail.messages[0].seq, 1041)
    assert.equal(tail.infos.length, 0)
    const old = subscribe(t, m, 12)
    await old.count(50)
    assert.deepEqual(old.infos.map((i) => i.name), ['OutdatedCursor'])
    const future = subscribe(t, m, 5000)
    await future.ended
    assert.equal(future.error.error, 'FutureCursor')
    await act([['apply', someone('new'), 'x']])
    for (const s of [whole, tail, old]) await eventually(() => s.messages.at(-1).seq === 1050, 'the new label')
    await m.finish()
    const again = await start(t, { data, port })
    await again.act([['apply', someone('newer'), 'x']])
    await tail.count(11)
    assert.equal(tail.messages.at(-1).seq, 1051, 'the subscriber has come back by itself')
    await again.m.finish()
  })

  await test('labeler: 10 times kill -9 take back nothing that was seen', async (t) => {
    const seen = new Map()
    const data = path.join(t.dir(), 'data')
    const port = await freePort()
    let next = 0
    for (let round = 0; round < 10; round++) {
      const { m, act } = await start(t, { data, port })
      const s = subscribe(t, m, 0)
      const dead = m.exit
      const busy = (async () => {
        for (;;) {
          const calls = Array.from({ length: 40 }, () => ['apply', someone(next++), 'x'])
          if (await Promise.race([act(calls).catch(() => 'dead'), dead]) !== undefined) return
        }
      })()
      await eventually(() => s.messages.length > seen.size + 100, 'labels')
      await m.stop('SIGKILL')
      await busy
      for (const { seq, labels } of s.messages) {
        const told = short(labels[0])
        assert.equal(seen.get(seq) ?? told, told, `seq ${seq}`)
        seen.set(seq, told)
      }
    }
    const { m } = await start(t, { data, port })
    const s = subscribe(t, m, 0)
    await s.count(seen.size)
    assert.deepEqual(s.messages.map((x) => x.seq), s.messages.map((_, i) => i + 1), 'no gap')
    for (const { seq, labels } of s.messages) assert.equal(seen.get(seq) ?? short(labels[0]), short(labels[0]))
    assert.equal(new Set(s.messages.map((x) => short(x.labels[0]))).size, s.messages.length, 'nothing twice')
    await m.finish()
  }, { seconds: 180 })

  await test('labeler: a subscriber that takes nothing is cut, and others do not notice', async (t) => {
    const { m, act, port } = await start(t, { args: ['--stall-seconds', '2'] })
    for (let k = 0; k < 10; k++) await act(Array.from({ length: 1000 }, (_, i) => ['apply', someone(`${k}-${i}`), 'x']))
    await m.metricAtLeast('moonjet_labels_seq', 10000)
    const slow = net.connect(port, '127.0.0.1')
    slow.on('error', () => {})
    t.defer(() => slow.destroy())
    await new Promise((r) => slow.on('connect', r))
    slow.pause()
    slow.write(`GET /xrpc/${SUBSCRIBE}?cursor=0 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n`
      + 'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n')
    const rude = net.connect(port, '127.0.0.1') // speaks something else behind the handshake
    rude.on('error', () => {})
    t.defer(() => rude.destroy())
    rude.write(`GET /xrpc/${SUBSCRIBE} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n`
      + 'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n')
    await new Promise((r) => rude.once('data', r))
    for (let i = 0; i < 50; i++) rude.write('\xff'.repeat(1000))
    const s = subscribe(t, m, 0)
    await s.count(10000)
    await eventually(async () => (await m.metrics())['moonjet_label_subscribers_ended_total{reason="bad_message"}'] === 1, 'the rude one is cut')
    await eventually(async () => (await m.metrics())['moonjet_label_subscribers_ended_total{reason="stalled"}'] === 1, 'the slow one is cut')
    await act([['apply', someone('last'), 'x']])
    await s.count(10001)
    await m.finish()
  })
}
