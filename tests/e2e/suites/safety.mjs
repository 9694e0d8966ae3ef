// What one bad script may cost the others: nothing. And configuration and reload of a running one.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import http from 'node:http'
import net from 'node:net'
import path from 'node:path'
import * as CBOR from '@atcute/cbor'
import * as clients from '../lib/clients.mjs'
import { assertRising, timeUs } from '../lib/events.mjs'
import { commitFrame } from '../lib/frames.mjs'
import { Moonjet, command, sum } from '../lib/moonjet.mjs'
import { relay } from '../lib/relay.mjs'
import { eventually, here, root, test } from '../lib/harness.mjs'

const script = (name) => path.join(here, 'scripts', `${name}.lua`)
const stream = (m, name) => `${m.url}/stream/${name}/subscribe`
const TID = '234567abcdefghijklmnopqrstuvwxyz'

// A post as a frame; each seq has a text of its own.
const post = (seq, text = `post ${seq}`) => commitFrame({
  seq, did: 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa', rev: `3mptbyplu${TID[seq >> 10 & 31]}${TID[seq >> 5 & 31]}${TID[seq & 31]}a`,
  ops: [{ action: 'create', path: `app.bsky.feed.post/p${seq}`,
    record: Buffer.from(CBOR.encode({ $type: 'app.bsky.feed.post', text, createdAt: '2026-07-04T14:38:08.123Z' })) }],
})
const posts = (from, to) => Promise.all(Array.from({ length: to - from }, (_, i) => post(from + i)))
const texts = (c) => c.events.map((e) => e.commit.record.text)

// Ports that are free now: a process that starts itself again must find them again.
async function freePorts(n) {
  const servers = await Promise.all(Array.from({ length: n }, () => new Promise((ok) => {
    const s = net.createServer().listen(0, '127.0.0.1', () => ok(s))
  })))
  const ports = servers.map((s) => s.address().port)
  await Promise.all(servers.map((s) => new Promise((ok) => s.close(ok))))
  return ports
}

// Asks the control socket; resolves to { status, answer }.
const ctl = (socketPath, name, ...args) => new Promise((resolve, reject) => {
  const q = http.request({ socketPath, method: 'POST', path: `/ctl/${name}`, headers: { 'content-type': 'application/json' } }, (r) => {
    let body = ''
    r.setEncoding('utf8')
    r.on('data', (d) => {
      body += d
    })
    r.on('end', () => resolve({ status: r.statusCode, answer: JSON.parse(body) }))
  })
  q.on('error', reject)
  q.end(JSON.stringify({ args }))
})

// A script that marks every post, on main and on a stream.
const marking = (mark) => `jet.main():map(function(d) d.record.mark = "${mark}" return d end)
jet.from "*":to(jet.stream "all")\n`
const marks = (c) => c.events.map((e) => e.commit.record.mark)

export default async function suite() {
  for (const kept of [true, false])
    await test(`safety: a script stuck inside C costs a reconnect and no event (${kept ? 'with' : 'without'} --data)`, async (t) => {
      const r = await relay(t, await posts(1, 50))
      const [port, metricsPort] = await freePorts(2)
      const m = await Moonjet.start(t, ['run', script('stuck'), script('sound'), '--source', r.url, '--cursor', kept ? '-1' : '0',
        '--listen', `127.0.0.1:${port}`, '--metrics-listen', `127.0.0.1:${metricsPort}`, ...(kept ? ['--data', path.join(t.dir(), 'data')] : [])],
      { metrics: true })
      const { pid } = m.proc
      const first = await clients.plain(t, `${stream(m, 'sound')}?cursor=0`)
      await first.count(49)
      r.push(await post(50, 'stuck'), ...await posts(51, 60))
      await first.closed
      const again = await m.until(() => /is stuck in where#1.*starting again[^]*(listening on)/.exec(m.err), 'a start after the restart')
      assert.ok(again)
      const { raw } = first
      // With a journal the client's cursor goes on; without one it was in memory, and all that is left is what comes.
      const second = await clients.plain(t, `${stream(m, 'sound')}?cursor=${kept ? timeUs(raw.at(-1)) + 1n : 0}`)
      await second.until((c) => texts(c).includes('post 59'), 'what came after the stuck event')
      assert.deepEqual([...texts(first), ...texts(second)].filter((x, i, all) => all.indexOf(x) === i),
        Array.from({ length: 59 }, (_, i) => (i === 49 ? 'stuck' : `post ${i + 1}`)), 'no gap')
      if (kept) assertRising([...raw, ...second.raw], 'sound')
      assert.equal(m.proc.pid, pid)
      assert.match(m.err, /stuck\.lua was stuck and made us start again \(1 time lately\); it is quarantined/)
      // After its second of quarantine the script runs again.
      await m.until(() => /stuck\.lua runs again after a quarantine of 1s/.test(m.err), 'the end of the quarantine')
      const fragile = await clients.plain(t, stream(m, 'fragile'))
      r.push(await post(60))
      await fragile.count(1)
      assert.equal((await m.metrics())['moonjet_script_state{script="stuck.lua"}'], 1)
      await m.finish()
    })

  await test('safety: a script that is stuck again and again stays out', async (t) => {
    const r = await relay(t, await posts(1, 5))
    const [port, metricsPort] = await freePorts(2)
    const data = path.join(t.dir(), 'data')
    fs.mkdirSync(data)
    const now = Date.now() * 1000
    fs.writeFileSync(path.join(data, 'restarts'), [3, 2].map((s) => `${now - s * 1e6}\twhere#1\t${script('stuck')}\n`).join(''))
    const m = await Moonjet.start(t, ['run', script('stuck'), script('sound'), '--source', r.url, '--listen', `127.0.0.1:${port}`,
      '--metrics-listen', `127.0.0.1:${metricsPort}`, '--data', data], { metrics: true })
    assert.match(m.err, /stuck\.lua was stuck and made us start again \(2 times lately\); it is quarantined/)
    await m.until(() => /runs again after a quarantine of 2s/.test(m.err), 'the end of the quarantine')
    r.push(await post(5, 'stuck'), await post(6))
    await m.until(() => /stuck\.lua was stuck and made us start again \(3 times lately\); it is left out[^]*metrics on/.test(m.err), 'word of the third time')
    const c = await clients.plain(t, `${stream(m, 'sound')}?cursor=0`)
    await c.count(6)
    await eventually(async () => (await m.metrics())['moonjet_script_state{script="stuck.lua"}'] === 3, 'state 3')
    await m.finish()
  })

  await test('safety: after a restart, a script that does not load any more ends nothing', async (t) => {
    const r = await relay(t, await posts(1, 5))
    const dir = t.dir()
    const file = path.join(dir, 'broken.lua')
    fs.writeFileSync(file, 'jet.from(')
    fs.writeFileSync(path.join(dir, 'restarts'), `${Date.now() * 1000 - 1e6}\twhere#1\tother.lua\n`)
    const m = await Moonjet.run(t, { scripts: [file, script('sound')], source: r.url, data: dir })
    assert.match(m.err, /broken\.lua:1: .*; it is left out until it is reloaded/)
    const c = await clients.plain(t, `${stream(m, 'sound')}?cursor=0`)
    await c.count(4)
    await m.finish()
  })

  await test('safety: a script that is stuck while it loads ends the start with words', async (t) => {
    const file = path.join(t.dir(), 'load.lua')
    fs.writeFileSync(file, 'table.insert({}, -2 ^ 31, 1)\n')
    const { code, err } = await command(t, ['run', file, '--source', 'ws://127.0.0.1:1', '--listen', '127.0.0.1:0', '--metrics-listen', ''])
    assert.equal(code, 1)
    assert.match(err, /load\.lua is stuck in loading, inside a C function that nothing can stop; it cannot be loaded/)
  })

  await test('safety: reload by SIGHUP, by ctl and by a changed file; who is connected stays', async (t) => {
    const dir = t.dir()
    const file = path.join(dir, 'mark.lua')
    const data = path.join(dir, 'data')
    const socket = path.join(data, 'control.sock')
    fs.writeFileSync(file, marking('one'))
    const r = await relay(t, [await post(1)])
    const m = await Moonjet.run(t, { scripts: [file], source: r.url, data, args: ['--watch'] })
    const main = await clients.plain(t, `${m.url}/subscribe?cursor=0`)
    const all = await clients.plain(t, `${stream(m, 'all')}?cursor=0`)
    let seq = 1
    const next = async (mark) => {
      r.push(await post(++seq))
      await main.count(seq)
      assert.equal(marks(main).at(-1), mark)
    }
    await main.count(1)
    fs.writeFileSync(`${file}~`, marking('two')) // as editors do
    fs.renameSync(`${file}~`, file)
    await m.until(() => /reload: .*mark\.lua: reloaded, 4 nodes/.test(m.err), 'word of the reload')
    await next('two')

    fs.writeFileSync(file, 'jet.main():map(\n')
    await m.until(() => /mark\.lua:2: .*; the running one goes on/.test(m.err), 'word of the failure')
    await next('two')
    const failed = await ctl(socket, 'reload')
    assert.equal(failed.status, 409)
    assert.match(failed.answer.error, /mark\.lua:2: .*; the running one goes on/)

    fs.writeFileSync(file, marking('three'))
    await m.until(() => m.err.match(/reloaded, 4 nodes/g)?.length === 2, 'word of the second reload')
    await next('three')
    assert.deepEqual((await ctl(socket, 'reload')).answer, { ok: true, text: 'nothing has changed' })
    assert.match((await ctl(socket, 'reload', '--all')).answer.text, /mark\.lua: reloaded/)
    assert.match((await ctl(socket, 'reload', 'nosuch')).answer.error, /no script 'nosuch'/)
    assert.match((await ctl(socket, 'reload', '--all', 'mark')).answer.text, /mark\.lua: reloaded/)
    m.proc.kill('SIGHUP')
    await next('three')

    const { answer } = await ctl(socket, 'scripts')
    assert.equal(answer.scripts.length, 1)
    assert.equal(answer.scripts[0].state, 'running')
    assert.ok(answer.scripts[0].heap_bytes > 10000)
    assert.match((await ctl(socket, 'graph')).answer.text, /stream#1 → \/stream\/all\/subscribe/)
    assert.deepEqual((await ctl(socket, 'repl', '1 + 1', 'mark')).answer, { ok: true, text: '2\n' })
    assert.equal((await ctl(socket, 'repl', 'return 3')).answer.text, '3\n')
    assert.equal((await ctl(socket, 'repl', 'for i = 1, 2 do')).answer.more, true)
    assert.equal((await ctl(socket, 'repl', 'while true do end')).status, 409)
    assert.match((await ctl(socket, 'repl', '1', 'nosuch')).answer.error, /nosuch/)
    const wrong = await ctl(socket, 'graf')
    assert.equal(wrong.status, 404)
    assert.match(wrong.answer.error, /no command 'graf'; did you mean 'graph'/)
    assert.equal(texts(all).length, seq, 'the stream kept its reader and lost nothing')
    await m.finish()
  })

  await test('safety: --watch follows a folder that is swapped, and a script that is a link', async (t) => {
    const dir = t.dir()
    const at = (name) => path.join(dir, name)
    for (const folder of ['scripts', 'next', 'elsewhere']) fs.mkdirSync(at(folder))
    fs.writeFileSync(at('scripts/mark.lua'), marking('one'))
    fs.writeFileSync(at('next/mark.lua'), marking('two'))
    const r = await relay(t, [])
    const m = await Moonjet.run(t, { scripts: [at('scripts/mark.lua')], source: r.url, args: ['--watch'] })
    const reloaded = (n) => m.until(() => m.err.match(/mark\.lua: reloaded/g)?.length === n, `word of reload ${n}`)
    fs.renameSync(at('scripts'), at('before'))
    fs.renameSync(at('next'), at('scripts'))
    await reloaded(1)
    fs.writeFileSync(at('scripts/mark.lua'), marking('three'))
    await reloaded(2)
    fs.writeFileSync(at('elsewhere/real.lua'), marking('four'))
    fs.symlinkSync(at('elsewhere/real.lua'), at('scripts/link'))
    fs.renameSync(at('scripts/link'), at('scripts/mark.lua'))
    await reloaded(3)
    fs.writeFileSync(at('elsewhere/real.lua'), marking('five'))
    await reloaded(4)
    await m.finish()
  })

  await test('safety: reloads under load lose and double nothing', async (t) => {
    const dir = t.dir()
    const file = path.join(dir, 'mark.lua')
    const socket = path.join(dir, 'control.sock')
    fs.writeFileSync(file, marking('0'))
    const r = await relay(t, [await post(1)])
    const m = await Moonjet.run(t, { scripts: [file], source: r.url, args: ['--control', socket] })
    const all = await clients.plain(t, `${stream(m, 'all')}?cursor=0`)
    const main = await clients.plain(t, `${m.url}/subscribe?cursor=0`)
    const frames = await posts(2, 1000)
    const rounds = 50
    for (let i = 0; i < rounds; i++) {
      fs.writeFileSync(file, marking(`${i + 1}`))
      const asked = ctl(socket, 'reload')
      r.push(...frames.slice(i * 20, i * 20 + 20))
      assert.equal((await asked).status, 200)
    }
    const sent = 1 + Math.min(frames.length, rounds * 20)
    await all.count(sent)
    await main.count(sent)
    const want = Array.from({ length: sent }, (_, i) => `post ${i + 1}`)
    assert.deepEqual(texts(all), want)
    assert.deepEqual(texts(main), want)
    assert.ok(new Set(marks(main)).size > 5, 'several versions were at work')
    await m.finish()
  })

  await test('safety: a configuration file, read again while it runs', async (t) => {
    const dir = t.dir()
    const config = path.join(dir, 'moonjet.lua')
    const put = (name, text) => fs.writeFileSync(path.join(dir, name), text)
    const r = await relay(t, [await post(1)])
    const text = (scripts, rate) => `source "${r.url}"
listen { stream = "127.0.0.1:0", metrics = "127.0.0.1:0" }
journal { data = "data" }
limits { replay_rate = ${rate} }
scripting { watch = true }
${scripts}`
    put('a.lua', 'jet.from "*":to(jet.stream(jet.config.name))')
    put('b.lua', 'jet.from "*":to(jet.stream "b")')
    put('moonjet.lua', text('script "a.lua" { config = { name = "one" } }', 0))
    const checked = await command(t, ['run', '--config', config, '--check-config'])
    assert.deepEqual([checked.code, checked.out], [0, `${config}: ok, 1 script\n`])
    const printed = await command(t, ['run', config, '--print-config', '--retain', '2h', '--plugins', 'plug'], { env: { MOONJET_TAIL: '16M' }, cwd: dir })
    for (const line of ['retain = "2h"', `plugins = { "${dir}/plug" }`, 'tail = "16M"', `data = "${dir}/data"`, 'config = { name = "one" }'])
      assert.ok(printed.out.includes(line), `${line} is not in ${printed.out}`)
    put('printed.lua', printed.out)
    assert.equal((await command(t, ['run', '--config', path.join(dir, 'printed.lua'), '--print-config'])).out, printed.out)

    fs.mkdirSync(path.join(dir, 'other'))
    put('other/a.lua', 'jet.from "*":to(jet.stream "other")')
    const alike = /other\/a\.lua: has the same name as .*\/a\.lua, and so the same metrics and state; rename one/
    const twice = await command(t, ['run', '--check-config', path.join(dir, 'a.lua'), path.join(dir, 'other/a.lua')])
    assert.equal(twice.code, 1)
    assert.match(twice.err, alike)

    // Nothing of what is checked goes live, plug-ins neither; lanes have their own rules.
    put('c.lua', `jet.from "*":to(jet.sink("file", { path = "${dir}/c.jsonl" }))`)
    assert.equal((await command(t, ['run', '--check-config', path.join(dir, 'c.lua')])).code, 0)
    assert.ok(!fs.existsSync(path.join(dir, 'c.jsonl')))
    put('c.lua', 'jet.main():where "*"')
    put('lane.lua', 'script "c.lua" { lane = "own" }')
    const lane = await command(t, ['run', '--config', path.join(dir, 'lane.lua'), '--check-config'])
    assert.equal(lane.code, 1)
    assert.match(lane.err, /c\.lua:1: jet\.main\(\) is one line/)
    fs.unlinkSync(path.join(dir, 'c.lua'))

    put('nowhere.lua', 'script "a.lua" { config = { name = "one" }, http_allow = { "10.0.0.256" } }')
    const nowhere = await command(t, ['run', '--config', path.join(dir, 'nowhere.lua'), '--check-config'])
    assert.equal(nowhere.code, 1)
    assert.match(nowhere.err, /a\.lua: http_allow: "10\.0\.0\.256" is no host, address or prefix/)

    put('missing.lua', 'script "a.lua" { config = { name = "one" } }\nset "x" { file = "missing.txt" }')
    const missing = await command(t, ['run', '--config', path.join(dir, 'missing.lua'), '--check-config'])
    assert.equal(missing.code, 1)
    assert.match(missing.err, /missing\.lua:2: set "x": cannot read .*missing\.txt: No such file/)

    put('hook.lua', 'jet.from "*":to(jet.webhook { url = "https://x.example/", secret = jet.secret "HOOK" })')
    const password = await command(t, ['run', path.join(dir, 'hook.lua'), '--check-config'], { env: { MOONJET_SECRET_HOOK: 'password' } })
    assert.equal(password.code, 1)
    assert.match(password.err, /hook\.lua:1: .* is plain text/)
    fs.unlinkSync(path.join(dir, 'hook.lua'))

    const example = path.join(root, 'examples/config/moonjet.lua')
    assert.deepEqual((await command(t, [example, '--check-config'])).out, `${example}: ok, 2 scripts\n`)

    const m = await Moonjet.start(t, ['run', '--config', config], { metrics: true })
    const one = await clients.plain(t, `${stream(m, 'one')}?cursor=0`)
    await one.count(1)
    put('moonjet.lua', text('script "*.lua" { config = { name = "two" } }'.replace('*', '[ab]'), 5))
    await m.until(() => /b\.lua: added/.test(m.err), 'word of the reload')
    assert.match(m.err, /moonjet\.lua: limits\.replay_rate has changed, which takes a restart/)
    await m.until(() => /stream 'one' is fed by nobody any more/.test(m.err), 'word of the stream')
    const [two, b] = [await clients.plain(t, `${stream(m, 'two')}`), await clients.plain(t, `${stream(m, 'b')}`)]
    r.push(await post(2))
    await Promise.all([two.count(1), b.count(1)])
    assert.deepEqual(texts(one), ['post 1'])
    put('moonjet.lua', text('scrip "a.lua"', 5))
    await m.until(() => /moonjet\.lua:6: 'scrip' is not defined here; did you mean 'script'\?.*everything stays/.test(m.err), 'word of the mistake')
    put('moonjet.lua', text('script "[ab].lua"\nscript "other/a.lua"', 5))
    await m.until(() => alike.test(m.err) && /rename one; everything stays/.test(m.err), 'word of the names')
    put('moonjet.lua', text('script "b.lua"', 5))
    await m.until(() => /a\.lua: removed/.test(m.err), 'word of the removal')
    r.push(await post(3))
    await b.count(2)
    assert.deepEqual(texts(two), ['post 2'])
    // What is new in the file is watched, too, also while it is not there.
    put('moonjet.lua', text('script "b.lua"\nset "new" { file = "new.txt" }', 5))
    await m.until(() => /set "new": cannot read .*new\.txt: .*; the scripts stay as they were/.test(m.err), 'word of the missing file')
    put('new.txt', 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa\n')
    const socket = path.join(dir, 'data', 'control.sock')
    await eventually(async () => (await ctl(socket, 'set', 'list')).answer.sets.some((s) => s.set === 'new' && s.members === 1), 'the new set')
    assert.equal((await m.metrics())['moonjet_reloads_total{result="failed"}'], 3)
    await m.finish()
  })

  await test('safety: jet.on_stop runs at the end, and has its time', async (t) => {
    const file = path.join(t.dir(), 'bye.lua')
    fs.writeFileSync(file, 'jet.on_stop(function() jet.sleep "50ms" jet.log.info("bye") end)\njet.from "*":to(jet.stream "x")')
    const r = await relay(t, await posts(1, 5))
    const m = await Moonjet.run(t, { scripts: [file], source: r.url })
    await m.metricAtLeast('moonjet_events_total', 4)
    await m.finish()
    assert.match(m.err, /info bye\.lua: bye/)
  })

  await test('safety: a script that is stuck at the end does not start anything again', async (t) => {
    const file = path.join(t.dir(), 'bye.lua')
    fs.writeFileSync(file, 'jet.on_stop(function() table.insert({}, -2 ^ 31, 1) end)')
    const r = await relay(t, [await post(1)])
    const m = await Moonjet.run(t, { scripts: [file], source: r.url })
    const { code } = await m.stop('SIGTERM')
    assert.equal(code, 1)
    assert.match(m.err, /bye\.lua is stuck in on_stop, inside a C function that nothing can stop; ending without it/)
  })

  await test('safety: asked to end while a script is stuck, it ends', async (t) => {
    const file = path.join(t.dir(), 'deaf.lua')
    fs.writeFileSync(file, 'jet.from "*":tap(function() jet.log.info "now" table.insert({}, -2 ^ 31, 1) end)')
    const r = await relay(t, [await post(1)])
    const m = await Moonjet.run(t, { scripts: [file], source: r.url })
    await m.until(() => /info deaf\.lua: now/.test(m.err), 'the call')
    const { code } = await m.stop('SIGTERM')
    assert.equal(code, 1)
    assert.match(m.err, /deaf\.lua is stuck in tap#1, inside a C function that nothing can stop; ending without it/)
  })

  await test('safety: what waits for an answer at the end gets it, and then it ends', async (t) => {
    const peer = http.createServer((q, a) => setTimeout(() => a.end('farewell'), 300))
    await new Promise((ok) => peer.listen(0, '127.0.0.1', ok))
    t.defer(() => new Promise((ok) => peer.close(ok)))
    const file = path.join(t.dir(), 'bye.lua')
    fs.writeFileSync(file, `local at = "http://127.0.0.1:${peer.address().port}/"
jet.on_stop(function() jet.log.info("bye, %s", jet.http.post(at, "bye").body) end)
jet.serve("GET /x", function() jet.log.info("asked") return jet.http.get(at).body end)`)
    const r = await relay(t, [await post(1)])
    const m = await Moonjet.run(t, { scripts: [file], source: r.url, args: ['--http-allow', '127.0.0.1'] })
    const asked = fetch(`${m.http}/x`).then((a) => a.text())
    await m.until(() => /asked/.test(m.err), 'the request')
    await m.finish()
    assert.equal(await asked, 'farewell')
    assert.match(m.err, /info bye\.lua: bye, farewell/)
  })

  await test('safety: scripts ask HTTP servers that they may, and answer requests', async (t) => {
    const asked = []
    const peer = http.createServer((q, a) => {
      asked.push(q.url)
      a.end('from the peer')
    })
    await new Promise((ok) => peer.listen(0, '127.0.0.1', ok))
    t.defer(() => new Promise((ok) => peer.close(ok)))
    const at = `http://127.0.0.1:${peer.address().port}`
    const dir = t.dir()
    fs.writeFileSync(path.join(dir, 'ask.lua'), `jet.serve("GET /ask", function(q)
  local answer, err = jet.http.get(jet.config.at .. "/" .. q.query.what)
  if not answer then return 502, err end
  return answer.status, answer.body
end)`)
    fs.copyFileSync(path.join(dir, 'ask.lua'), path.join(dir, 'shut.lua'))
    const r = await relay(t, [await post(1)])
    const config = path.join(dir, 'moonjet.lua')
    const text = (name) => `source "${r.url}"
listen { stream = "127.0.0.1:0", metrics = "" , control = "none" }
scripting { watch = true }
script "${name}.lua" { config = { at = "${at}" }${name === 'ask' ? ', http_allow = { "127.0.0.1" }' : ''} }`
    fs.writeFileSync(config, text('ask'))
    const m = await Moonjet.start(t, ['run', '--config', config])
    const a = await fetch(`${m.http}/ask?what=this`)
    assert.deepEqual([a.status, await a.text()], [200, 'from the peer'])
    assert.deepEqual(asked, ['/this'])
    assert.equal((await fetch(`${m.http}/else`)).status, 404)
    fs.writeFileSync(config, text('shut'))
    await m.until(() => /ask\.lua: removed/.test(m.err), 'word of the reload')
    const b = await fetch(`${m.http}/ask?what=that`)
    assert.equal(b.status, 502)
    assert.match(await b.text(), /127\.0\.0\.1/)
    assert.deepEqual(asked, ['/this'], 'the script that may not did not')
    await m.finish()
  })

  await test('safety: named sets from the configuration, edited by ctl and by their file', async (t) => {
    const dir = t.dir()
    const put = (name, text) => fs.writeFileSync(path.join(dir, name), text)
    const r = await relay(t, [])
    const socket = path.join(dir, 'data', 'control.sock')
    const did = 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa'
    put('vips.txt', '# nobody yet\n')
    put('vips.lua', 'jet.from { did = jet.set "vips" }:to(jet.stream "vips")')
    put('moonjet.lua', `source "${r.url}"
listen { stream = "127.0.0.1:0", metrics = "127.0.0.1:0" }
journal { data = "data" }
scripting { watch = true }
set "vips" { file = "vips.txt" }
script "vips.lua"`)
    const m = await Moonjet.start(t, ['run', '--config', path.join(dir, 'moonjet.lua')], { metrics: true })
    const main = await clients.plain(t, `${m.url}/subscribe`)
    const vips = await clients.plain(t, stream(m, 'vips'))
    const filtered = await clients.plain(t, `${m.url}/subscribe?wantedDids=set:vips`)
    let seq = 0
    const next = async () => {
      r.push(await post(++seq))
      await main.count(seq)
    }
    await m.until(() => /connected/.test(m.err), 'the source')
    await next()
    assert.deepEqual((await ctl(socket, 'set', 'list')).answer, { ok: true, sets: [{ set: 'vips', members: 0 }] })
    assert.deepEqual((await ctl(socket, 'set', 'add', 'vips', did, 'did:web:x.example')).answer, { ok: true, added: 2, members: 2 })
    await next()
    await vips.count(1)
    assert.deepEqual((await ctl(socket, 'set', 'remove', 'vips', did)).answer, { ok: true, removed: 1, members: 1 })
    assert.deepEqual((await ctl(socket, 'set', 'show', 'vips')).answer, { ok: true, members: ['did:web:x.example'], shown: 1, of: 1 })
    await next()
    put('vips.txt', `${did}\n`)
    await eventually(async () => (await ctl(socket, 'set', 'list')).answer.sets[0].members === 2, 'the file to be read again')
    await next()
    await vips.count(2)
    assert.deepEqual(texts(vips), ['post 2', 'post 4'])
    await filtered.count(2)
    assert.deepEqual(texts(filtered), ['post 2', 'post 4'])
    assert.deepEqual((await ctl(socket, 'set', 'load', 'vips', 'did:web:y.example')).answer, { ok: true, members: 1 })
    for (const [args, status, error] of [[['show', 'vip'], 404, /no set 'vip'; there are: vips/], [['shew', 'vips'], 400, /set wants/], [[], 400, /set wants/],
      [['add', 'vips', ''], 409, /set vips: /]]) {
      const { status: got, answer } = await ctl(socket, 'set', ...args)
      assert.equal(got, status)
      assert.match(answer.error, error)
    }
    await m.finish()
  })

  await test('safety: a script in a lane of its own: slow, reloaded, stuck; nobody else waits', async (t) => {
    const dir = t.dir()
    const put = (name, text) => fs.writeFileSync(path.join(dir, name), text)
    const r = await relay(t, [])
    const [port] = await freePorts(1)
    const socket = path.join(dir, 'data', 'control.sock')
    const lane = (mark) => `local seen = jet.map("seen", { persist = true })
jet.from "app.bsky.feed.post:create":where(function(ev)
  if ev.text == "stuck" then table.insert({}, -2 ^ 31, 1) end
  seen:incr "n"
  return true
end):map(function(d) d.record.mark = "${mark}" .. seen:get "n" return d end):to(jet.stream "lane")`
    put('lane.lua', lane('a'))
    put('moonjet.lua', `source "${r.url}"
listen { stream = "127.0.0.1:${port}", metrics = "" }
journal { data = "data" }
script "${script('sound')}"
script "lane.lua" { lane = "own", lag = "skip" }`)
    const m = await Moonjet.start(t, ['run', '--config', path.join(dir, 'moonjet.lua')])
    await m.until(() => /connected/.test(m.err), 'the source')
    const mine = await clients.plain(t, stream(m, 'lane'))
    r.push(await post(1), await post(2))
    await mine.count(2)
    assert.deepEqual(marks(mine), ['a1', 'a2'])
    put('lane.lua', 'jet.main():tap(function() end)')
    assert.match((await ctl(socket, 'reload')).answer.error, /lane\.lua/)
    const configured = fs.readFileSync(path.join(dir, 'moonjet.lua'), 'utf8')
    for (const keys of ['lag = "wait"', 'lag = "wait", http_allow = { "127.0.0.1" }']) {
      put('moonjet.lua', configured.replace('lag = "skip"', keys))
      put('lane.lua', lane('a'))
      assert.equal((await ctl(socket, 'reload')).answer.text, `${dir}/lane.lua: reloaded in its lane`, keys)
      assert.equal((await ctl(socket, 'reload')).answer.text, 'nothing has changed')
    }
    // Into the shared lane, out of it, and nowhere: only then its stream is fed by nobody.
    const entry = /script "lane.lua".*/
    for (const [line, unfed] of [['script "lane.lua"', false], [entry.exec(configured)[0], false], ['', true], [entry.exec(configured)[0], false]]) {
      put('moonjet.lua', configured.replace(entry, line))
      const { text } = (await ctl(socket, 'reload')).answer
      assert.equal(/stream 'lane' is fed by nobody any more/.test(text), unfed, text)
    }
    put('lane.lua', lane('b'))
    assert.match((await ctl(socket, 'reload')).answer.text, /lane\.lua: (reloaded|added) in its lane/)
    r.push(await post(3))
    await mine.count(3)
    assert.deepEqual(marks(mine), ['a1', 'a2', 'b3'], 'what it remembers stays')
    const { answer } = await ctl(socket, 'scripts')
    assert.deepEqual(answer.scripts.map((s) => [s.script, s.state, s.lane ?? 'shared']), [['sound.lua', 'running', 'shared'], ['lane.lua', 'running', 'own']])
    assert.match((await ctl(socket, 'graph', 'lane.lua')).answer.text, /stream#1 → \/stream\/lane/)
    // Stuck in its thread: the others go on until the process starts again.
    const sound = await clients.plain(t, stream(m, 'sound'))
    r.push(await post(4, 'stuck'), await post(5))
    await sound.count(2)
    await m.until(() => /lane\.lua is stuck in where#1[^]*listening on/.test(m.err), 'the restart')
    const after = await clients.plain(t, `${stream(m, 'sound')}?cursor=0`)
    await after.count(5)
    await m.finish()
  })
}
