// moonjet ctl against a running moonjet: what it shows is what is there, what it changes is changed,
// and when there is nobody it says so.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { Child, test, eventually } from '../lib/harness.mjs'
import { Moonjet, binary, command, sum } from '../lib/moonjet.mjs'

const SCRIPT = `
local count = 0
local vips = jet.set("vips", { "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa" })
jet.from "app.bsky.feed.post:create":tap(function() count = count + 1 end):as("counting"):to(jet.stream "posts")
jet.from { did = vips }:to(jet.stream "vips")
`

async function start(t) {
  const dir = t.dir()
  const script = path.join(dir, 'one.lua')
  fs.writeFileSync(script, SCRIPT)
  const network = await Moonjet.start(t, ['simulate', '--listen', '127.0.0.1:0', '--rate', '200', '--quiet'])
  const data = path.join(dir, 'data')
  const m = await Moonjet.run(t, { source: network.url, data, scripts: [script] })
  const ctl = async (...args) => {
    const r = await command(t, ['ctl', '--data', data, ...args])
    assert.equal(r.code, 0, r.err)
    return r
  }
  const json = async (...args) => JSON.parse((await ctl('--json', ...args)).out)
  const fails = async (code, pattern, ...args) => {
    const r = await command(t, ['ctl', '--data', data, ...args])
    assert.equal(r.code, code, r.err + r.out)
    assert.match(r.err, pattern)
  }
  const end = async () => {
    await m.finish()
    await network.finish()
  }
  return { dir, script, data, m, ctl, json, fails, end }
}

export default async function suite() {
  await test('ctl: shows a running moonjet, as tables and as JSON', async (t) => {
    const { ctl, json, fails, m, data, end } = await start(t)
    await m.metricAtLeast('moonjet_events_total', 200)
    const status = await json('status')
    assert.ok(status.journal && status.sources?.length === 1, JSON.stringify(status))
    assert.match((await ctl('status')).out, /^sources\n(.*\n)?url +connected/m)
    const { scripts } = await json('scripts')
    assert.deepEqual(scripts.map((s) => [s.script, s.state]), [['one.lua', 'running']])
    assert.match((await ctl('scripts')).out, /^script +state/m)
    assert.match((await ctl('graph')).out, /^one\.lua\n {2}from#1 app\.bsky\.feed\.post:create +one\.lua:4\n/)
    assert.match((await ctl('graph', 'one.lua')).out, /counting/)
    await fails(1, /no script 'two\.lua'/, 'graph', 'two.lua')
    assert.match((await ctl('streams')).out, /posts/)
    assert.match((await ctl('metrics')).out, /^moonjet_events_total \d+$/m)
    const tail = new Child(t, binary, ['tail', `${m.url}/stream/posts/subscribe`])
    await tail.until(() => tail.out.includes('\n'), 'an event')
    const { subscribers } = await json('subscribers')
    assert.deepEqual(subscribers.map((s) => s.stream), ['posts'], JSON.stringify(subscribers))
    assert.match((await ctl('subscribers')).out, /^subscribers\n.*stream/m)
    await tail.stop('SIGTERM')
    const top = await ctl('top', '--once', '--interval', '500ms')
    assert.match(top.lines[0], /^\d+ events\/s in, \d+ delivered to \d+ subscribers$/)
    const node = top.lines.find((l) => l.includes('counting')).trim().split(/\s+/)
    assert.equal(node[0], 'one.lua')
    assert.ok(Number(node[2]) > 0, top.out)
    // Only its user may open the socket.
    assert.equal(fs.statSync(path.join(data, 'control.sock')).mode & 0o777, 0o600)
    await end()
    await fails(1, /control\.sock: .*is moonjet running/, 'status')
  }, { seconds: 60 })

  await test('ctl: named sets are edited while flows use them', async (t) => {
    const { dir, ctl, json, fails, m, end } = await start(t)
    const members = async () => (await json('set', 'show', 'vips')).members.sort()
    assert.deepEqual((await json('set', 'list')).sets.map((s) => [s.set, s.members]), [['vips', 1]])
    const all = await command(t, ['tail', m.url, '--count', '20', '--cursor', '0'])
    const did = JSON.parse(all.lines.at(-1)).did
    await ctl('set', 'add', 'vips', did)
    assert.deepEqual(await members(), ['did:plc:aaaaaaaaaaaaaaaaaaaaaaaa', did].sort())
    const [event] = (await command(t, ['tail', `${m.url}/stream/vips/subscribe`, '--count', '1'])).lines
    assert.equal(JSON.parse(event).did, did)
    await ctl('set', 'remove', 'vips', did)
    assert.equal((await members()).length, 1)
    const list = path.join(dir, 'list')
    const dids = Array.from({ length: 20000 }, (_, i) => `did:plc:${String(i).padStart(24, 'a').replace(/[0189]/g, 'b')}`)
    const distinct = [...new Set(dids)].sort()
    fs.writeFileSync(list, `# everybody\n\n${distinct.join('\n')}   # and the last\nzz#1 # a comment\n`)
    distinct.push('zz#1')
    await ctl('set', 'load', 'vips', list)
    assert.deepEqual((await json('set', 'list')).sets[0].members, distinct.length)
    assert.deepEqual(await members(), distinct)
    const many = path.join(dir, 'many')
    fs.writeFileSync(many, Array.from({ length: 100001 }, (_, i) => `did:web:m${i}.example`).join('\n'))
    await fails(1, /set vips holds 100000 members, these are 100001/, 'set', 'load', 'vips', many)
    assert.deepEqual(await members(), distinct)
    await ctl('set', 'clear', 'vips')
    assert.deepEqual(await members(), [])
    await fails(1, /no set 'nobody'/, 'set', 'show', 'nobody')
    await fails(2, /set load wants NAME and FILE/, 'set', 'load', 'vips')
    await fails(1, /No such file/, 'set', 'load', 'vips', path.join(dir, 'none'))
    await end()
  }, { seconds: 60 })

  await test('ctl: reloads, and keeps what runs when the new text is wrong', async (t) => {
    const { script, ctl, fails, m, end } = await start(t)
    await m.metricAtLeast('moonjet_events_total', 50)
    fs.writeFileSync(script, SCRIPT.replace('counting', 'renamed'))
    await ctl('reload')
    assert.match((await ctl('graph')).out, /renamed/)
    fs.writeFileSync(script, 'jet.form "*"')
    await fails(1, /one\.lua:1: jet has no 'form'/, 'reload')
    assert.match((await ctl('graph')).out, /renamed/)
    await end()
  }, { seconds: 60 })

  await test('ctl repl: lines run inside the running script', async (t) => {
    const { data, m, end } = await start(t)
    await m.metricAtLeast('moonjet_events_total', 100)
    const repl = (input, ...args) => command(t, ['ctl', '--data', data, 'repl', ...args], { input })
    const one = await repl('count > 0\nlocal x =\n  21\nx = 21\nx * 2\n', 'one.lua')
    assert.deepEqual(one.lines.slice(0, 1), ['true'], one.out + one.err)
    assert.equal(one.lines.at(-1), '42')
    // The script's own variable, from outside.
    assert.equal((await repl('count = -1000000\n')).code, 0)
    assert.match((await repl('count < 0\n')).out, /^true$/m)
    const bad = await repl('nothing.here\n')
    assert.equal(bad.code, 1)
    assert.match(bad.err, /nothing/)
    const none = await repl('1\n', 'two.lua')
    assert.equal(none.code, 1)
    assert.match(none.err, /two/)
    // An endless loop ends, and costs nobody anything.
    const endless = await repl('while true do end\n')
    assert.equal(endless.code, 1)
    const before = sum(await m.metrics(), 'moonjet_events_total')
    await eventually(async () => sum(await m.metrics(), 'moonjet_events_total') > before, 'events go on')
    await end()
  }, { seconds: 60 })

  await test('ctl: says what is wrong', async (t) => {
    const dir = t.dir()
    const env = { ...process.env, MOONJET_DATA: '', MOONJET_CONTROL: '', JETSTREAM_DATA_DIR: '', XDG_RUNTIME_DIR: '' }
    const fails = async (code, pattern, ...args) => {
      const r = await command(t, ['ctl', ...args], { env })
      assert.equal(r.code, code, r.err + r.out)
      assert.match(r.err, pattern)
    }
    await fails(2, /which one\? Give --control PATH/, 'status')
    await fails(2, /did you mean 'status'\?/, 'statsu')
    await fails(2, /status wants nothing behind it/, '--control', 'x', 'status', 'now')
    await fails(1, /No such file or directory; is moonjet running/, '--control', path.join(dir, 'none'), 'status')
    fs.writeFileSync(path.join(dir, 'file'), '')
    await fails(1, /file: /, '--control', path.join(dir, 'file'), 'status')
    await fails(1, /at most 107 bytes/, '--control', 'x'.repeat(200), 'status')
  })
}
