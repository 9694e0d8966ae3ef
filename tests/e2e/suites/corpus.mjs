// Recorded production frames: what comes out must be, byte for byte and but for the clock, what a
// production Jetstream sent for them.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import * as clients from '../lib/clients.mjs'
import { assertRising, mask } from '../lib/events.mjs'
import { capture, opBlock, parse } from '../lib/frames.mjs'
import { corpus } from '../lib/corpus.mjs'
import { gate } from '../lib/gate.mjs'
import { Moonjet, command } from '../lib/moonjet.mjs'
import { relay } from '../lib/relay.mjs'
import { test } from '../lib/harness.mjs'

const file = (t, frames) => {
  const f = path.join(t.dir(), 'frames.bin')
  fs.writeFileSync(f, capture(frames))
  return f
}

function assertLines(got, want) {
  assert.equal(got.length, want.length, 'number of lines')
  got.forEach((l, i) => assert.equal(mask(l), mask(want[i]), `line ${i + 1}`))
}

// Runs a router behind a gate, attaches a client, opens the gate and waits for n events.
async function through(t, source, n) {
  const g = await gate(t, source)
  const m = await Moonjet.run(t, { source: g.url })
  const c = await clients.plain(t, `${m.url}/subscribe`)
  g.open()
  await c.count(n)
  return { m, c, g }
}

// Where the number of a corpus frame's "seq" stands: eight bytes after the key and the head 1b.
const SEQ = Buffer.from('637365711b', 'hex')
function withSeq(frame, seq) {
  const f = Buffer.from(frame)
  f.writeBigUInt64BE(BigInt(seq), f.indexOf(SEQ) + SEQ.length)
  return f
}

// The frames with every second seq, and before each a copy with the seq between that cannot be used,
// spoiled in a different way each time; `line` gives the line that now belongs to an original one.
function poisoned(frames) {
  const spoilers = [
    (f) => f.subarray(0, f.length - 1), // ends inside an item
    (f) => Buffer.concat([f, Buffer.from([0])]), // a byte after the payload
    (f) => Buffer.concat([Buffer.from([0xff]), f.subarray(1)]), // no CBOR from the start
    (f) => Buffer.alloc(0),
    (f) => Buffer.from(f).fill(0x9f, 20), // indefinite arrays, as deep as the frame is long
  ]
  const first = parse(frames[0]).seq
  const renumber = (seq) => seq + (seq - first) + 1
  return {
    frames: frames.flatMap((f, i) => {
      const seq = renumber(parse(f).seq)
      return [spoilers[i % spoilers.length](withSeq(f, seq - 1)), withSeq(f, seq)]
    }),
    line: (l) => (l.includes('"kind":"commit"') ? l : l.replace(/"seq":(\d+)/, (_, n) => `"seq":${renumber(Number(n))}`)),
  }
}

// Spoils one byte inside the record of op k: its hash no longer fits.
function spoilRecord(frame, k) {
  const { at, length } = opBlock(frame, parse(frame).body.ops[k])
  const f = Buffer.from(frame)
  f[at + length - 1] ^= 1
  return f
}

export default async function suite() {
  await test('corpus: moonjet decode FILE gives the production lines', async (t) => {
    const { frames, lines } = corpus()
    const r = await command(t, ['decode', file(t, frames)])
    assert.equal(r.code, 0)
    assertLines(r.lines, lines)
  })

  await test('corpus: moonjet decode reads standard input, at any chunk size', async (t) => {
    const { frames, lines } = corpus()
    const r = await command(t, ['decode'], { input: capture(frames) })
    assert.equal(r.code, 0)
    assertLines(r.lines, lines)
  })

  await test("corpus: moonjet decode takes time_us from the frame's own time", async (t) => {
    const { frames } = corpus()
    const r = await command(t, ['decode', file(t, frames)])
    const times = new Map()
    for (const f of frames) {
      const { body } = parse(f)
      for (let i = 0; i < Math.max(1, body.ops?.length ?? 1); i++) times.set(`${body.repo ?? body.did} ${body.rev ?? body.seq}`, body.time)
    }
    for (const l of r.lines) {
      const e = JSON.parse(l)
      const time = times.get(`${e.did} ${e.commit?.rev ?? (e.identity ?? e.account).seq}`)
      assert.equal(Math.floor(e.time_us / 1000), Date.parse(time), l)
    }
  })

  await test('corpus: poisoned frames cost nothing but themselves (decode)', async (t) => {
    const { frames, lines } = corpus()
    const bad = poisoned(frames)
    const r = await command(t, ['decode', file(t, bad.frames)])
    assert.equal(r.code, 0)
    assertLines(r.lines, lines.map(bad.line))
    const told = r.err.split('\n').filter(Boolean)
    frames.forEach((_, i) => assert.match(told[i] ?? '', new RegExp(`\\bframe ${2 * i + 1}: .`)))
    assert.equal(told.length, frames.length)
  })

  await test('corpus: a record that does not hash to its CID is dropped alone, its siblings stay', async (t) => {
    const { frames } = corpus()
    let spoiled = 0
    for (const f of frames) {
      const { body } = parse(f)
      for (const [k, op] of (body.ops ?? []).entries()) {
        if (!op.cid || (body.ops.length === 1 && spoiled > 5)) continue
        spoiled++
        const r = await command(t, ['decode', file(t, [spoilRecord(f, k)])])
        const want = body.ops.filter((_, i) => i !== k).map((o) => o.path)
        assert.deepEqual(r.lines.map((l) => `${JSON.parse(l).commit.collection}/${JSON.parse(l).commit.rkey}`), want)
        assert.match(r.err, /hash/)
      }
    }
    assert.ok(spoiled > 5)
  })

  await test('corpus: nothing readable at all is exit 1', async (t) => {
    const r = await command(t, ['decode'], { input: capture([Buffer.from('no frame'), Buffer.from('neither')]) })
    assert.equal(r.code, 1)
    assert.equal(r.out, '')
  })

  await test('corpus: moonjet replay → moonjet run → a client', async (t) => {
    const { frames, lines } = corpus()
    const replay = await Moonjet.start(t, ['replay', file(t, frames), '--listen', '127.0.0.1:0'])
    const { m, c } = await through(t, replay.url, lines.length)
    assertLines(c.raw, lines)
    assertRising(c.raw, 'ws')
    assert.equal(replay.ended, undefined, 'replay stays after the last frame')
    await m.finish()
    await replay.finish()
  })

  await test('corpus: an independent relay → moonjet run → a client', async (t) => {
    const { frames, lines } = corpus()
    const r = await relay(t, frames)
    const { m, c } = await through(t, r.url, lines.length)
    assertLines(c.raw, lines)
    assert.equal(r.requests.length, 1)
    assert.equal(r.requests[0].url, '/xrpc/com.atproto.sync.subscribeRepos')
    assert.match(r.requests[0].agent, /moonjet/i)
    await m.finish()
  })

  await test('corpus: poisoned frames cost nothing but themselves (run), and are counted', async (t) => {
    const { frames, lines } = corpus()
    const bad = poisoned(frames)
    const r = await relay(t, bad.frames)
    const { m, c } = await through(t, r.url, lines.length)
    assertLines(c.raw, lines.map(bad.line))
    assert.equal(r.requests.length, 1, 'and no reconnect')
    const drops = Object.entries(await m.metrics()).filter(([k]) => k.startsWith('moonjet_drops_total{reason='))
    assert.equal(drops.reduce((n, [, v]) => n + v, 0), frames.length, JSON.stringify(drops))
    await m.finish()
  })

  await test('corpus: wantedCollections, wantedDids and maxMessageSizeBytes select lines', async (t) => {
    const { frames, lines } = corpus()
    const r = await relay(t, frames)
    const g = await gate(t, r.url)
    const m = await Moonjet.run(t, { source: g.url })
    const events = lines.map((l) => JSON.parse(l))
    const did = events.find((e) => e.kind === 'commit').did
    const filters = [
      ['wantedCollections=app.bsky.feed.post', (e) => !e.commit || e.commit.collection === 'app.bsky.feed.post'],
      ['wantedCollections=app.bsky.graph.*&wantedCollections=app.bsky.feed.like',
        (e) => !e.commit || e.commit.collection.startsWith('app.bsky.graph.') || e.commit.collection === 'app.bsky.feed.like'],
      [`wantedDids=${did}`, (e) => e.did === did],
      ['maxMessageSizeBytes=500', (_, i) => Buffer.byteLength(lines[i]) <= 500],
    ]
    const open = await clients.plain(t, `${m.url}/subscribe`)
    const filtered = await Promise.all(filters.map(([q]) => clients.plain(t, `${m.url}/subscribe?${q}`)))
    g.open()
    await open.count(lines.length)
    for (const [i, [query, pass]] of filters.entries()) {
      const want = lines.filter((_, k) => pass(events[k], k))
      assert.ok(want.length > 0 && want.length < lines.length, `${query} selects some`)
      await filtered[i].count(want.length)
    }
    await m.finish() // closes every client, so whatever was too much has arrived by now
    for (const [i, [query, pass]] of filters.entries()) {
      await filtered[i].closed
      assert.deepEqual(filtered[i].raw.map(mask), lines.filter((_, k) => pass(events[k], k)).map(mask), query)
    }
  })

  await test('corpus: moonjet record keeps every frame as it came', async (t) => {
    const { frames } = corpus()
    const r = await relay(t, frames)
    const out = path.join(t.dir(), 'out.bin')
    const rec = await command(t, ['record', r.url, '-o', out, '--frames', String(frames.length)])
    assert.equal(rec.code, 0)
    assert.ok(fs.readFileSync(out).equals(capture(frames)), 'the capture equals what was sent')
    const d = await command(t, ['decode', out])
    assert.equal(d.lines.length, corpus().lines.length)
  })
}
