// The tools beside the router: the load tester on a real server, and the zstd dictionary from training
// to a client that decodes with it what Node compressed.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import zlib from 'node:zlib'
import { WebSocketServer } from 'ws'
import { test } from '../lib/harness.mjs'
import { Moonjet, binary, command, sum } from '../lib/moonjet.mjs'

const network = (t, rate) =>
  Moonjet.start(t, ['simulate', '--listen', '127.0.0.1:0', '--rate', String(rate), '--accounts', '200', '--quiet'])

async function load(t, m, ...args) {
  const { code, out, err } = await command(t, ['load', m.url, '--json', '--ramp', '200ms', '--duration', '60s', ...args])
  const r = JSON.parse(out)
  assert.ok(code === (r.passed ? 0 : 1), `exit ${code} with passed: ${r.passed}\n${err}`)
  return r
}

export default async function suite() {
  await test('load: every subscriber of a real router gets everything, in order, live and from a cursor', async (t) => {
    const s = await network(t, 400)
    const dir = t.dir()
    const data = path.join(dir, 'data')
    const m = await Moonjet.run(t, { source: s.url, data })
    const live = await load(t, m, '--subscribers', '60', '--events', '400', '--stall', '3', '--stamp')
    assert.ok(live.passed, JSON.stringify(live))
    assert.equal(live.connected, 63)
    assert.equal(live.stalled_open, 3)
    assert.ok(live.events >= 60 * 400)
    for (const h of [live.latency_us, live.commit_latency_us])
      assert.ok(h.count > 0 && h.p50 <= h.p99 && h.p99 <= h.max, JSON.stringify(h))
    const replay = await load(t, m, '--subscribers', '20', '--cursor', '0', '--events', '400')
    assert.ok(replay.passed, JSON.stringify(replay))
    const delivered = sum(await m.metrics(), 'jetstream_events_delivered_total')
    assert.ok(delivered >= live.events + replay.events, `${delivered} delivered`)
    // Its journal trains a dictionary while it runs.
    const trained = await command(t, ['dictionary', 'train', '--data', data, '--out', path.join(dir, 'dict'), '--size', '8K'])
    assert.equal(trained.code, 0, trained.err)
    assert.match(trained.out, /judged by \d+ events/)
    await m.finish()
    await s.finish()
  }, { seconds: 120 })

  await test('load: filters hold, and who leaves and comes back at its cursor misses nothing', async (t) => {
    const s = await network(t, 400)
    const m = await Moonjet.run(t, { source: s.url })
    const filtered = await load(t, m, '--subscribers', '30', '--filters', '10', '--filter-dids', '5', '--duration', '2s')
    assert.ok(filtered.passed, JSON.stringify(filtered))
    assert.equal(filtered.filters, 10)
    const mix = path.join(t.dir(), 'mix')
    fs.writeFileSync(mix, '2 wantedCollections=app.bsky.feed.*\n1 wantedCollections=app.bsky.graph.follow&maxMessageSizeBytes=400\n1\n')
    const mixed = await load(t, m, '--subscribers', '20', '--mix', mix, '--duration', '2s')
    assert.ok(mixed.passed, JSON.stringify(mixed))
    const churn = await load(t, m, '--subscribers', '20', '--churn', '40', '--events', '600')
    assert.ok(churn.passed, JSON.stringify(churn))
    assert.ok(churn.churned > 0)
    await m.finish()
    await s.finish()
  }, { seconds: 120 })

  await test('load: says so when the server goes away', async (t) => {
    const s = await network(t, 200)
    const m = await Moonjet.run(t, { source: s.url })
    const running = load(t, m, '--subscribers', '10')
    await m.metricAtLeast('jetstream_subscribers_connected', 10)
    await m.metricAtLeast('jetstream_events_delivered_total', 100)
    await m.finish()
    const r = await running
    assert.equal(r.passed, false)
    assert.deepEqual(r.ends.map((e) => [e.code, e.count]), [[1001, 10]])
    await s.finish()
  })

  await test('dictionary: trained, installed, and tail --zstd prints what Node compressed with it', async (t) => {
    const dir = t.dir()
    const [capture, jsonl, dict] = ['capture', 'events.jsonl', 'dict'].map((f) => path.join(dir, f))
    await command(t, ['simulate', '--out', capture, '--frames', '3000', '--quiet'])
    const decoded = await command(t, ['decode', capture])
    // decode gives the events of one commit one time; a server never does.
    const lines = decoded.lines.map((l, i) => l.replace(/"time_us":\d+/, `"time_us":${1_700_000_000_000_000 + i}`))
    fs.writeFileSync(jsonl, lines.join('\n'))
    const trained = await command(t, ['dictionary', 'train', '--jsonl', jsonl, '--out', dict, '--size', '32K', '--id', '424242'])
    assert.equal(trained.code, 0, trained.err)
    const [without, after] = [/without a dictionary .* ratio ([\d.]+)/, /with the new one .* ratio ([\d.]+)/].map((re) => Number(re.exec(trained.out)[1]))
    assert.ok(after > 1.5 * without, trained.out)
    const installed = await command(t, ['dictionary', 'install', dict, '--data', path.join(dir, 'data')])
    assert.equal(installed.code, 0, installed.err)
    const shown = await command(t, ['dictionary', 'show', '--data', path.join(dir, 'data')])
    assert.match(shown.out, /^id +424242$/m)
    const dictionary = fs.readFileSync(path.join(dir, 'data', 'zstd_dictionary'))
    assert.deepEqual(dictionary, fs.readFileSync(dict))

    const wss = new WebSocketServer({ port: 0, host: '127.0.0.1', perMessageDeflate: false })
    await new Promise((ok) => wss.once('listening', ok))
    t.defer(() => new Promise((ok) => {
      wss.clients.forEach((c) => c.terminate())
      wss.close(ok)
    }))
    const asked = []
    wss.on('connection', (ws, req) => {
      asked.push(req.url)
      for (const line of lines)
        ws.send(zlib.zstdCompressSync(line, { dictionary, params: { [zlib.constants.ZSTD_c_checksumFlag]: 1 } }))
    })
    const url = `ws://127.0.0.1:${wss.address().port}`
    const tail = await command(t, ['tail', url, '--zstd', '--dictionary', dict, '--count', String(lines.length)])
    assert.equal(tail.code, 0, tail.err)
    assert.deepEqual(asked, ['/subscribe?compress=true'])
    assert.deepEqual(tail.lines, lines)
    const loaded = await command(t, ['load', url, '--json', '--zstd', '100', '--dictionary', dict, '--subscribers', '3', '--events', '1000', '--duration', '60s'])
    assert.equal(loaded.code, 0, loaded.out)

    // The same with our own server at the other end.
    const s = await network(t, 400)
    const m = await Moonjet.run(t, { source: s.url, data: path.join(dir, 'data') }) // which holds the dictionary
    const half = await load(t, m, '--subscribers', '20', '--zstd', '50', '--dictionary', dict, '--churn', '20', '--events', '400')
    assert.ok(half.passed, JSON.stringify(half))
    const printed = async (...args) => {
      const r = await command(t, ['tail', m.url, '--cursor', '0', '--count', '300', ...args])
      assert.equal(r.code, 0, r.err)
      return r.lines
    }
    assert.deepEqual(await printed('--zstd', '--dictionary', dict), await printed())
    await m.finish()
    await s.finish()
  }, { seconds: 120 })

  await test('check: scripts of a configuration together, what is wrong and what is odd', async (t) => {
    const dir = t.dir()
    const file = (name, text) => {
      fs.mkdirSync(path.dirname(path.join(dir, name)), { recursive: true })
      fs.writeFileSync(path.join(dir, name), text)
      return path.join(dir, name)
    }
    const good = file('good.lua', 'local key = jet.secret "KEY"\njet.from(jet.stream "posts"):tap(function() return key end)')
    const feeds = file('feeds.lua', 'jet.from "app.bsky.feed.post:create":to(jet.stream "posts")')
    const odd = file('odd.lua', 'jet.from { kind = "identity", op = "create" }:to(jet.print())')
    const bad = file('bad.lua', 'jet.form "*"')
    const conf = file('conf/moonjet.lua', 'script "../good.lua" { secrets = { "KEY" } }\nscript "../feeds.lua" {}\n')
    const json = async (code, args) => {
      const r = await command(t, ['check', '--json', ...args])
      assert.equal(r.code, code, r.err + r.out)
      assert.equal(r.err, '')
      const { scripts, problems } = JSON.parse(r.out)
      return { scripts: scripts.map((s) => s.script), problems }
    }
    // Each is judged with the others: who feeds the stream makes the difference.
    assert.deepEqual(await json(0, [conf]), { scripts: ['good.lua', 'feeds.lua'], problems: [] })
    assert.deepEqual(await json(0, ['--config', conf]), { scripts: ['good.lua', 'feeds.lua'], problems: [] })
    assert.deepEqual((await json(0, [good])).problems,
      [{ level: 'warning', text: 'good.lua:2: from#1 reads the stream posts, which no flow feeds' }])
    assert.deepEqual((await json(1, ['--strict', good])).problems.length, 1)
    assert.deepEqual((await json(0, ['--strict', good, feeds])).problems, [])
    const all = await json(1, [conf, odd, bad])
    assert.deepEqual(all.scripts, ['good.lua', 'feeds.lua', 'odd.lua'])
    assert.deepEqual(all.problems.map((p) => p.level), ['error', 'warning'])
    assert.match(all.problems[0].text, /^bad\.lua:1: jet has no 'form'; did you mean 'from'\?$/)
    assert.match(all.problems[1].text, /^odd\.lua:1: from#1 can match no event: /)
    // Plug-ins are found below the prefix the program is installed in, whichever it is.
    fs.mkdirSync(path.join(dir, 'prefix/bin'), { recursive: true })
    fs.copyFileSync(binary, path.join(dir, 'prefix/bin/moonjet'))
    file('prefix/lib/moonjet/plugins/mine/init.lua', 'return { abi = 1, name = "mine", deliver = function(_, events) return #events end }')
    const mine = file('mine.lua', 'jet.from "*":to(jet.sink "mine")')
    execFileSync(path.join(dir, 'prefix/bin/moonjet'), ['check', '--strict', mine])
    // What the file does not grant is not to be had, here as there.
    file('conf/moonjet.lua', 'script "../good.lua" { secrets = { "OTHER" } }')
    assert.match((await json(1, [conf])).problems[0].text, /secret 'KEY' is not granted/)
    file('conf/moonjet.lua', 'skript "../good.lua" {}')
    assert.match((await json(1, [conf])).problems[0].text, /moonjet\.lua:1: .*skript/)
    const text = await command(t, ['check', good, odd])
    assert.equal(text.code, 0)
    assert.match(text.out, /^good\.lua\n {2}from#1 stream posts +good\.lua:2\n/)
    assert.match(text.err, /^good\.lua:2: .*\nodd\.lua:1: /)
    assert.equal((await command(t, ['check'])).code, 2)
  })
}
