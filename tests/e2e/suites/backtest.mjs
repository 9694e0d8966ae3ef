// Scripts over events of the past: the same figures from the journal of a running router, from JSON
// lines and from a capture, all equal to what is counted here; and nothing is sent meanwhile.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import http from 'node:http'
import path from 'node:path'
import { test } from '../lib/harness.mjs'
import { Moonjet, command } from '../lib/moonjet.mjs'

const NEW = `
local posts = jet.from { collection = "app.bsky.feed.post", op = "create" }
posts:where(function(ev) return #ev.text % 2 == 0 end):as("even"):to(jet.stream "even", jet.print())
posts:map(function(draft) draft.record.text = "new" return draft end):to(jet.stream "edited")
jet.from "app.bsky.feed.like:create":to(jet.stream "likes")
`
const OLD = `
local posts = jet.from { collection = "app.bsky.feed.post", op = "create" }
posts:where(function(ev) return #ev.text % 4 == 0 end):to(jet.stream "even")
posts:map(function(draft) draft.record.text = "old" return draft end):to(jet.stream "edited")
posts:to(jet.stream "posts")
jet.main():where(jet.no "app.bsky.feed.like")
`

async function backtest(t, args, options) {
  const r = await command(t, ['backtest', '--json', '--examples', '2', ...args], options)
  assert.equal(r.code, 0, r.err)
  const report = JSON.parse(r.out)
  report.row = (name) => report.outlets.find((o) => o.name === name)
  return report
}

// What the scripts do, done here.
function expected(lines) {
  const events = lines.map((l) => JSON.parse(l))
  const posts = events.filter((e) => e.commit?.collection === 'app.bsky.feed.post' && e.commit.operation === 'create')
  const length = (e) => Buffer.byteLength(e.commit.record.text ?? '')
  const likes = events.filter((e) => e.commit?.collection === 'app.bsky.feed.like')
  return {
    events: events.length,
    posts: posts.length,
    even: posts.filter((e) => length(e) % 2 === 0).length,
    four: posts.filter((e) => length(e) % 4 === 0).length,
    likes: likes.filter((e) => e.commit.operation === 'create').length,
    allLikes: likes.length,
    first: posts.find((e) => length(e) % 2 === 0 && length(e) % 4 !== 0),
  }
}

function check(report, want) {
  assert.equal(report.events, want.events)
  assert.equal(report.bad, 0)
  const figures = (name) => {
    const { new: now, old, newly, no_longer: gone, changed } = report.row(name)
    return [now, old, newly, gone, changed]
  }
  assert.deepEqual(figures('stream even'), [want.even, want.four, want.even - want.four, 0, 0])
  assert.deepEqual(figures('print'), [want.even, 0, want.even, 0, 0])
  assert.deepEqual(figures('stream edited'), [want.posts, want.posts, 0, 0, want.posts])
  assert.deepEqual(figures('stream likes'), [want.likes, 0, want.likes, 0, 0])
  assert.deepEqual(figures('stream posts'), [0, want.posts, 0, want.posts, 0])
  assert.deepEqual(figures('main'), [want.events, want.events - want.allLikes, want.allLikes, 0, 0])
  const [example] = report.row('stream even').examples.newly
  const { did, commit } = want.first
  assert.equal(example.uri, `at://${did}/${commit.collection}/${commit.rkey}`)
  assert.ok(commit.record.text.startsWith(example.text.slice(0, 50)))
}

export default async function suite() {
  await test('backtest: the journal beside its router, its lines and a capture give what is counted here', async (t) => {
    const dir = t.dir()
    const file = (name, text) => {
      fs.writeFileSync(path.join(dir, name), text)
      return path.join(dir, name)
    }
    const [now, old] = [file('new.lua', NEW), file('old.lua', OLD)]
    const capture = path.join(dir, 'capture')
    await command(t, ['simulate', '--out', capture, '--frames', '4000', '--quiet'])
    const replay = await Moonjet.start(t, ['replay', '--listen', '127.0.0.1:0', capture])
    const data = path.join(dir, 'data')
    // Small segments, so that most of it is sealed.
    const m = await Moonjet.run(t, { source: replay.url, data, args: ['--segment-bytes', '256K', '--seal-after', '256K'] })
    const decoded = (await command(t, ['decode', capture])).lines
    await m.metricAtLeast('moonjet_events_total', decoded.length)
    await m.metricAtLeast('jetstream_events_emitted_total', decoded.length)
    const want = expected(decoded)
    assert.ok(want.even > want.four && want.four > 0 && want.likes > 0)

    const fromJournal = await backtest(t, ['--data', data, '--old', old, now])
    check(fromJournal, want)
    check(await backtest(t, ['--capture', capture, '--old', old, now]), want)
    check(await backtest(t, ['--lines', file('lines', decoded.join('\n')), '--old', old, now]), want)
    check(await backtest(t, ['--lines', '-', '--old', old, now], { input: decoded.join('\n') }), want)

    // Without --old, and without main: what no flow wants is not even read.
    const alone = await backtest(t, ['--data', data, now])
    assert.equal(alone.row('stream even').new, want.even)
    assert.equal(alone.row('main'), undefined)
    assert.ok(alone.read === want.posts + want.likes && alone.read < alone.events, JSON.stringify(alone.read))
    assert.equal(alone.nodes.find((n) => n.node === 'even').out, want.even)

    // The table says the same.
    const table = await command(t, ['backtest', '--data', data, '--old', old, now])
    assert.equal(table.code, 0, table.err)
    const row = table.lines.find((l) => l.startsWith('stream even')).trim().split(/\s+/).map((w) => w.replaceAll(',', ''))
    assert.deepEqual(row.slice(2).map(Number), [want.four, want.even, want.even - want.four, 0, 0])
    assert.ok(table.lines.includes('stream even, newly'))

    // Its half: the clock of --since is the newest event's.
    const tail = await command(t, ['tail', m.url, '--cursor', '0', '--count', String(decoded.length)])
    const times = tail.lines.map((l) => JSON.parse(l).time_us)
    const middle = new Date(times[2000] / 1000 + 1)
    const half = await backtest(t, ['--data', data, '--since', middle.toISOString(), now])
    assert.equal(half.events, times.filter((us) => us >= middle.getTime() * 1000).length)
    assert.equal((await backtest(t, ['--data', data, '--since', '1h', now])).events, decoded.length)
    assert.equal((await backtest(t, ['--data', data, '--until', '1h', now])).events, 0)
    await m.finish()
    await replay.finish()
    // And with nobody writing.
    check(await backtest(t, ['--data', data, '--old', old, now]), want)
  }, { seconds: 120 })

  await test('backtest: nothing is sent, written or printed, whatever the script wants', async (t) => {
    const dir = t.dir()
    let asked = 0
    const web = http.createServer((req, res) => (asked++, res.end('x')))
    await new Promise((ok) => web.listen(0, '127.0.0.1', ok))
    t.defer(() => web.close())
    const script = path.join(dir, 'bot.lua')
    fs.writeFileSync(script, `
local url = "http://127.0.0.1:${web.address().port}/"
local posts = jet.from "app.bsky.feed.post:create"
posts:each(function(ev) jet.http.post(url, ev:json()) end)
posts:to(jet.print())
if jet.spawn then jet.spawn(function() jet.http.get(url) end) end
jet.from "app.bsky.feed.like:create":tap(function(ev) jet.http.get(url) end)
print "loading"
jet.map("seen", { persist = true })
`)
    const capture = path.join(dir, 'capture')
    await command(t, ['simulate', '--out', capture, '--frames', '1000', '--quiet'])
    const before = fs.readdirSync(dir).sort()
    const report = await backtest(t, ['--capture', capture, script])
    const posts = (await command(t, ['decode', capture])).lines
      .filter((l) => l.includes('"operation":"create","collection":"app.bsky.feed.post"')).length
    assert.equal(report.row('each#1').new, posts)
    assert.equal(report.row('print').new, posts)
    assert.equal(asked, 0)
    assert.equal((await command(t, ['backtest', '--capture', capture, '--old', script, script])).err, '')
    assert.deepEqual(fs.readdirSync(dir).sort(), before)
    assert.ok(report.errors.length === 1 && /bot\.lua:7/.test(report.errors[0].text), JSON.stringify(report.errors))
  })

  await test("backtest: time is the events' time, for operators, state and the script itself", async (t) => {
    const dir = t.dir()
    const script = path.join(dir, 'clock.lua')
    fs.writeFileSync(script, `
local posts = jet.from "app.bsky.feed.post:create"
posts:dedupe { by = "text", within = "10m" }:to(jet.stream "deduped")
posts:limit { rate = "2/h" }:to(jet.stream "limited")
local seen = jet.map("seen", { ttl = "10m" })
posts:where(function(ev)
  local known = seen:has(ev.text)
  if not known then seen:set(ev.text, true) end
  return not known
end):to(jet.stream "remembered")
posts:where(function(ev) return math.abs(jet.time() - ev.time_us / 1e6) < 1 end):to(jet.stream "now")
`)
    const post = (minute, text) => JSON.stringify({
      did: 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa', time_us: (1_700_000_000 + minute * 60) * 1_000_000, kind: 'commit',
      commit: { rev: '3jzfcijpj2z2a', operation: 'create', collection: 'app.bsky.feed.post', rkey: `r${minute}`,
        record: { $type: 'app.bsky.feed.post', createdAt: '2023-11-14T22:13:20Z', text } },
    })
    // Half an hour between the last two: all of it is forgotten by then.
    const lines = [post(0, 'a'), post(1, 'a'), post(2, 'b'), post(3, 'a'), post(4, 'b'), post(34, 'a')]
    const report = await backtest(t, ['--lines', '-', script], { input: lines.join('\n') })
    const figures = ['deduped', 'limited', 'remembered', 'now'].map((name) => report.row(`stream ${name}`).new)
    assert.deepEqual(figures, [3, 3, 3, 6])
  })

  await test('backtest: a script that runs too long loses those events, and is judged on all others', async (t) => {
    const script = path.join(t.dir(), 'slow.lua')
    fs.writeFileSync(script, `
jet.from "app.bsky.feed.post:create":where(function(ev)
  if ev.text == "slow" then while true do end end
  return true
end):to(jet.stream "rest")
`)
    const post = (n, text) => JSON.stringify({
      did: 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa', time_us: 1_700_000_000_000_000 + n, kind: 'commit',
      commit: { rev: '3jzfcijpj2z2a', operation: 'create', collection: 'app.bsky.feed.post', rkey: `r${n}`,
        record: { $type: 'app.bsky.feed.post', createdAt: '2023-11-14T22:13:20Z', text } },
    })
    const lines = Array.from({ length: 60 }, (_, n) => post(n, n % 10 === 5 ? 'slow' : 'quick'))
    const report = await backtest(t, ['--lines', '-', script], { input: lines.join('\n') })
    assert.equal(report.row('stream rest').new, 54)
    assert.equal(report.nodes.find((n) => n.node === 'where#1').errors, 6)
    assert.deepEqual(report.errors.map((e) => e.count), [6], JSON.stringify(report.errors))
  })

  await test('backtest: says what is wrong', async (t) => {
    const dir = t.dir()
    const good = path.join(dir, 'good.lua')
    const bad = path.join(dir, 'bad.lua')
    fs.writeFileSync(good, 'jet.from "*":to(jet.stream "all")')
    fs.writeFileSync(bad, 'jet.form "*"')
    const fails = async (code, pattern, args, input = '') => {
      const r = await command(t, ['backtest', ...args], { input, env: { ...process.env, MOONJET_DATA: '', JETSTREAM_DATA_DIR: '' } })
      assert.equal(r.code, code, r.err)
      assert.match(r.err, pattern)
      assert.equal(r.out, '')
    }
    await fails(2, /give --data DIR, --capture FILE or --lines FILE/, [good])
    await fails(2, /--config words: expected KEY=VALUE/, ['--lines', '-', '--config', 'words', good])
    await fails(2, /one of the two/, ['--capture', 'x', '--lines', 'y', good])
    await fails(2, /expected 36h, 7d or a time/, ['--lines', '-', '--since', 'yesterday', good])
    await fails(2, /only a journal tells/, ['--lines', '-', '--since', '1h', good])
    await fails(1, /no journal here|No such file/, ['--data', path.join(dir, 'none'), good])
    await fails(1, /No such file/, ['--capture', path.join(dir, 'none'), good])
    await fails(1, /bad\.lua:1: .*form/, ['--lines', '-', bad])
    await fails(1, /--old: .*bad\.lua:1/, ['--lines', '-', '--old', bad, good])
    // Lines that are no events are counted, and the first one is named.
    const line = JSON.stringify({ did: 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa', time_us: 1, kind: 'identity',
      identity: { did: 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa', seq: 1, time: '2026-01-02T03:04:05Z' } })
    const some = await command(t, ['backtest', '--lines', '-', good], { input: `${line}\n{"did":1}\nx\n${line}` })
    assert.equal(some.code, 0)
    assert.match(some.out, /2 could not be read: line 2, byte 8/)
    assert.match(some.out, /^stream all +2 /m)
  })
}
