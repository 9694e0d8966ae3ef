// Starting, stopping, losing the source, and the command line as other tools call it.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import * as clients from '../lib/clients.mjs'
import { assertRising, mask } from '../lib/events.mjs'
import { capture, parse } from '../lib/frames.mjs'
import { corpus } from '../lib/corpus.mjs'
import { gate } from '../lib/gate.mjs'
import { Moonjet, command, sum } from '../lib/moonjet.mjs'
import { relay } from '../lib/relay.mjs'
import { here, test } from '../lib/harness.mjs'

const PATH = '/xrpc/com.atproto.sync.subscribeRepos'
const anywhere = ['--listen', '127.0.0.1:0', '--metrics-listen', '127.0.0.1:0']

export default async function suite() {
  await test('lifecycle: SIGTERM and SIGINT close every client with 1001, exit 0; the same data starts again', async (t) => {
    const { frames, lines } = corpus()
    const r = await relay(t, frames)
    const data = path.join(t.dir(), 'data')
    for (const signal of ['SIGTERM', 'SIGINT']) {
      const g = await gate(t, r.url)
      const m = await Moonjet.run(t, { source: g.url, data })
      const [ws, py] = [await clients.plain(t, `${m.url}/subscribe`), await clients.python(t, `${m.url}/subscribe`)]
      g.open()
      await ws.count(lines.length)
      await py.count(lines.length)
      const { code } = await m.stop(signal)
      assert.equal(code, 0, signal)
      assert.equal((await ws.closed).code, 1001, signal)
      assert.equal((await py.closed).code, 1001, signal)
    }
  })

  await test('lifecycle: a restart goes on where the last run ended', async (t) => {
    const { frames, lines } = corpus()
    const half = frames.length >> 1
    const r = await relay(t, frames.slice(0, half))
    const data = path.join(t.dir(), 'data')
    let before = []
    const source = await gate(t, r.url) // the same URL both times: a cursor belongs to a URL
    source.open()
    for (const part of [0, 1]) {
      const m = await Moonjet.run(t, { source: source.url, data })
      if (part) r.push(...frames.slice(half))
      await m.metricAtLeast('moonjet_frames_total', part ? frames.length - half : half)
      const c = await clients.plain(t, `${m.url}/subscribe?cursor=0`)
      const first = lines.filter((l) => frames.slice(0, half).some((f) => sameEvent(l, f)))
      await c.count(part ? lines.length : first.length)
      await m.finish()
      await c.closed
      assert.deepEqual(c.raw.map(mask), (part ? lines : first).map(mask))
      assert.deepEqual(c.raw.slice(0, before.length), before, 'what was served before is served again')
      assertRising(c.raw, 'over the restart')
      before = c.raw
    }
    assert.deepEqual(r.requests.map((q) => q.cursor), [null, parse(frames[half - 1]).seq])
  })

  await test('lifecycle: a journal that is cut while it is served ends the router with words', async (t) => {
    const { frames, lines } = corpus()
    const r = await relay(t, frames)
    for (const query of ['cursor=0', `cursor=0&wantedDids=${JSON.parse(lines[0]).did}`]) {
      const data = path.join(t.dir(), 'data')
      const m = await Moonjet.run(t, { source: r.url, data })
      await m.metricAtLeast('moonjet_frames_total', frames.length)
      const files = fs.readdirSync(path.join(data, 'journal')).filter((f) => f.endsWith('.data'))
      for (const f of files) fs.truncateSync(path.join(data, 'journal', f))
      const c = await clients.plain(t, `${m.url}/subscribe?${query}`)
      await c.closed
      const { code } = await m.exit
      assert.equal(code, 1, m.err)
      assert.match(m.err, /under --data cannot be read any more.*moonjet journal verify/)
    }
  })

  await test('lifecycle: a source lost anywhere, even inside a frame, costs and repeats nothing', async (t) => {
    const { frames, lines } = corpus()
    const size = capture(frames).length
    const r = await relay(t, frames, { inclusive: true })
    for (const share of [0.05, 0.4, 0.77]) {
      const g = await gate(t, r.url)
      const m = await Moonjet.run(t, { source: g.url })
      const c = await clients.plain(t, `${m.url}/subscribe`)
      r.requests = []
      g.cutAfter = Math.floor(size * share)
      g.open()
      await c.count(lines.length)
      assert.deepEqual(c.raw.map(mask), lines.map(mask), `cut at ${g.cutAfter}`)
      assertRising(c.raw, 'ws')
      assert.equal(r.requests.length, 2)
      const seqs = frames.map((f) => parse(f).seq)
      assert.ok(seqs.includes(r.requests[1].cursor), `cursor ${r.requests[1].cursor} is the seq of a frame`)
      await m.finish()
    }
  })

  await test('lifecycle: a source that ends is found again when it is back', async (t) => {
    const { frames, lines } = corpus()
    const half = frames.length >> 1
    const first = await relay(t, frames.slice(0, half))
    const m = await Moonjet.run(t, { source: first.url })
    const c = await clients.plain(t, `${m.url}/subscribe?cursor=0`)
    const seen = lines.filter((l) => frames.slice(0, half).some((f) => sameEvent(l, f))).length
    await c.count(seen)
    await first.close()
    await m.until(() => /trying again/.test(m.err), 'word of the lost source')
    const second = await relay(t, frames, { port: first.port })
    await c.count(lines.length)
    assert.deepEqual(c.raw.map(mask), lines.map(mask))
    assert.equal(second.requests[0].cursor, parse(frames[half - 1]).seq)
    await m.finish()
  })

  await test('lifecycle: several sources, and a URL without a path gets subscribeRepos', async (t) => {
    const { frames, lines } = corpus()
    const a = await relay(t, frames.filter((_, i) => i % 2 === 0))
    const b = await relay(t, frames.filter((_, i) => i % 2 === 1))
    const [ga, gb] = [await gate(t, a.url), await gate(t, b.url)]
    const m = await Moonjet.run(t, { source: [ga.url, `${gb.url}${PATH}`] })
    const c = await clients.plain(t, `${m.url}/subscribe`)
    ga.open()
    gb.open()
    await c.count(lines.length)
    assert.deepEqual(c.raw.map(mask).sort(), lines.map(mask).sort())
    assertRising(c.raw, 'ws')
    assert.equal(a.requests[0].url, PATH)
    assert.equal(b.requests[0].url, PATH)
    await m.finish()
  })

  await test('lifecycle: GET /, /_health and /metrics answer', async (t) => {
    const { frames, lines } = corpus()
    const r = await relay(t, frames)
    const g = await gate(t, r.url)
    const m = await Moonjet.run(t, { source: g.url })
    const c = await clients.plain(t, `${m.url}/subscribe`)
    g.open()
    await c.count(lines.length)
    const root = await fetch(`${m.http}/`)
    assert.equal(root.status, 200)
    assert.match(await root.text(), /Welcome to Jetstream/)
    const health = await fetch(`${m.metricsUrl}/_health`)
    assert.equal(health.status, 200)
    const metrics = await m.metrics()
    assert.equal(sum(metrics, 'jetstream_subscribers_connected'), 1)
    assert.equal(sum(metrics, 'jetstream_events_delivered_total'), lines.length)
    assert.equal((await fetch(`${m.http}/nosuch`)).status, 404)
    for (const [query, body] of [
      ['cursor=abc', 'invalid cursor: abc'],
      ['wantedCollections=nope', 'invalid subscriber options: invalid collection: nope'],
      ['wantedDids=alice.test', 'invalid subscriber options'],
    ]) {
      const bad = await fetch(`${m.http}/subscribe?${query}`)
      assert.equal(bad.status, 400, query)
      assert.equal(await bad.text(), body)
    }
    assert.equal((await fetch(`${m.http}/stream/nosuch/subscribe`)).status, 404)
    await m.finish()
  })

  await test('lifecycle: moonjet tail prints the lines as they came, with filters, and ends on SIGTERM', async (t) => {
    const { frames, lines } = corpus()
    const r = await relay(t, frames)
    const m = await Moonjet.run(t, { source: r.url })
    const ws = await clients.plain(t, `${m.url}/subscribe?cursor=0`)
    await ws.count(lines.length)
    const tail = await clients.tail(t, `${m.url}/subscribe?cursor=0`)
    await tail.count(lines.length)
    assert.deepEqual(tail.raw, ws.raw)
    const likes = lines.filter((l) => !l.includes('"kind":"commit"') || l.includes('"collection":"app.bsky.feed.like"'))
    assert.ok(likes.length > 2 && likes.length < lines.length)
    const some = await command(t, ['tail', m.url, '--cursor', '0', '--collection', 'app.bsky.feed.like', '--count', String(likes.length)])
    assert.equal(some.code, 0, some.err)
    assert.deepEqual(some.lines.map(mask), likes.map(mask))
    const refused = await command(t, ['tail', `${m.url}/stream/nosuch/subscribe`])
    assert.equal(refused.code, 1)
    assert.match(refused.err, /404/)
    const { code } = await tail.child.stop('SIGTERM')
    assert.equal(code, 0)
    await m.finish()
  })

  await test('lifecycle: moonjet replay at a rate, and in a loop with rising seq', async (t) => {
    const { frames } = corpus()
    const file = path.join(t.dir(), 'frames.bin')
    fs.writeFileSync(file, capture(frames))
    const { WebSocket } = await import('ws')
    const listen = async (args, n) => {
      const m = await Moonjet.start(t, ['replay', file, '--listen', '127.0.0.1:0', ...args])
      const got = []
      const started = performance.now()
      await new Promise((resolve, reject) => {
        const ws = new WebSocket(m.url + PATH)
        ws.on('error', reject)
        ws.on('message', (d) => {
          got.push(Buffer.from(d))
          if (got.length === n) {
            ws.terminate()
            resolve()
          }
        })
      })
      await m.finish()
      return { got, seconds: (performance.now() - started) / 1000 }
    }
    const paced = await listen(['--rate', '100'], frames.length)
    assert.ok(capture(paced.got).equals(capture(frames)), 'paced frames are the file')
    assert.ok(paced.seconds > (frames.length / 100) * 0.8, `${frames.length} frames at 100/s took ${paced.seconds} s`)
    const looped = await listen(['--loop'], frames.length * 5)
    const seqs = looped.got.map((f) => parse(f).seq)
    seqs.forEach((s, i) => assert.ok(i === 0 || s > seqs[i - 1], `seq ${s} at ${i}`))
    assert.ok(capture(looped.got.slice(0, frames.length)).equals(capture(frames)), 'the first round is the file')
  })

  await test('lifecycle: version, check and bench answer as tools expect', async (t) => {
    const version = await command(t, ['version'])
    assert.equal(version.code, 0)
    assert.match(version.out, /^moonjet +\d+\.\d+\.\d+/)
    for (const name of ['run', 'replay', 'record', 'decode', 'simulate', 'bench', 'check', 'tail', 'version']) {
      const help = await command(t, [name, '--help'])
      assert.equal(help.code, 0, `${name} --help`)
      assert.match(help.out, /^Usage: moonjet /)
    }
    const bench = await command(t, ['bench', 'resident', '--json', '--seconds', '1'])
    assert.equal(bench.code, 0, bench.err)
    assert.ok(JSON.parse(bench.out).idle_rss_mib > 1)
  })

  await test('lifecycle: bench measures the server, and its readers get every byte', async (t) => {
    const cases = ['fanout', 'zstd', 'replay', 'match', 'memory', 'connects']
    const bench = await command(t, ['bench', ...cases, '--json', '--seconds', '0.02'])
    assert.equal(bench.code, 0, bench.err)
    assert.equal(bench.err, '')
    const figures = JSON.parse(bench.out)
    for (const key of [
      'fanout_live_us_per_delivery', 'fanout_live_p99_ms', 'fanout_zstd_vs_plain', 'zstd_ratio', 'replay_plain_vs_send',
      'replay_filtered_events_per_s', 'replay_sealed_events_per_s', 'match_1000_filters_vs_each',
      'rss_1000_subscribers_mib', 'subscriber_connects_per_s',
    ]) assert.ok(figures[key] > 0, `${key}: ${figures[key]}`)
    assert.ok(figures.idle_subscriber_bytes >= 0) // sanitizers do not tell
    assert.equal(figures.fanout_forced_closes, 0)
  }, { seconds: 180 })

  await test('lifecycle: wrong arguments give exit 2 and say what is wrong', async (t) => {
    for (const [args, want] of [
      [['nosuch'], /nosuch/],
      [['tial'], /tail/],
      [['run', '--sorce', 'ws://127.0.0.1:1'], /--source/],
      [['run', '--listen', 'nonsense', '--source', 'ws://127.0.0.1:1'], /nonsense/],
      [['run', '--source', 'ftp://127.0.0.1', ...anywhere], /ftp/],
      [['replay'], /FILE|file|argument/],
      [['simulate', '--accounts', 'many'], /many/],
      [['decode', 'a', 'b'], /b|argument/],
    ]) {
      const r = await command(t, args)
      assert.equal(r.code, 2, `${args.join(' ')}: exit ${r.code}\n${r.err}`)
      assert.match(r.err, want, args.join(' '))
      assert.equal(r.out, '', 'talk goes to stderr')
    }
    const gone = await command(t, ['decode', '/nonexistent/file'])
    assert.equal(gone.code, 1)
    assert.match(gone.err, /nonexistent/)
    const lost = await command(t, ['run', '/nonexistent/script.lua', '--source', 'ws://127.0.0.1:1', ...anywhere, '--data', path.join(t.dir(), 'd')])
    assert.equal(lost.code, 1)
    assert.match(lost.err, /nonexistent/)
  })

  await test('lifecycle: run is the default command, and the original server\'s variables are understood', async (t) => {
    const { frames, lines } = corpus()
    const r = await relay(t, frames)
    const script = path.join(here, 'scripts/every.lua')
    const data = path.join(t.dir(), 'data')
    const variables = {
      JETSTREAM_WS_URL: r.url, JETSTREAM_LISTEN_ADDR: '127.0.0.1:0', JETSTREAM_METRICS_LISTEN_ADDR: '127.0.0.1:0',
      JETSTREAM_DATA_DIR: data,
    }
    const ways = [
      [['--source', r.url, ...anywhere], {}, 'subscribe'],
      [[script, '--source', r.url, ...anywhere], {}, 'stream/every/subscribe'],
      [[], variables, 'subscribe'],
    ]
    for (const [args, env, where] of ways) {
      const m = await Moonjet.start(t, args, { metrics: true, env, cwd: t.dir() })
      const c = await clients.plain(t, `${m.url}/${where}?cursor=0`)
      await c.count(lines.length)
      assert.deepEqual(c.raw.map(mask), lines.map(mask))
      await m.finish()
    }
    assert.ok(fs.existsSync(data), 'JETSTREAM_DATA_DIR was used')
  })

  await test('lifecycle: a port that is taken is said, with exit 1', async (t) => {
    const r = await relay(t, [])
    const m = await command(t, ['run', '--source', r.url, '--listen', `127.0.0.1:${r.port}`, '--metrics-listen', '127.0.0.1:0',
      '--data', path.join(t.dir(), 'd')])
    assert.equal(m.code, 1)
    assert.match(m.err, /in use/i)
  })
}

// Whether a line belongs to a frame.
function sameEvent(line, frame) {
  const e = JSON.parse(line)
  const { body } = parse(frame)
  if (e.kind !== 'commit') return body.seq === (e.identity ?? e.account).seq
  return body.repo === e.did && body.rev === e.commit.rev
}
