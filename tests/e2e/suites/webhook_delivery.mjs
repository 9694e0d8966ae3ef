// Webhooks of a running Moonjet: a script, a simulated network, and receivers that check with other
// people's code. What must arrive is what the same script prints.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import http from 'node:http'
import path from 'node:path'
import { Child, eventually, here, test } from '../lib/harness.mjs'
import { Moonjet, binary, command, sum } from '../lib/moonjet.mjs'
import { receiver, verify } from '../lib/receiver.mjs'

const RETRY = 'retry = { min = "20ms", max = "200ms" }'

// A network that makes so many frames, and stays; a directory with secrets; a script.
async function bed(t, script, { frames = 600, rate = 0, url, secrets: names = ['HOOK'] } = {}) {
  const dir = t.dir()
  const b = { dir, text: {}, data: path.join(dir, 'data'), frames, printed: [], script: path.join(dir, 'hook.lua') }
  const secrets = path.join(dir, 'secrets')
  fs.mkdirSync(secrets)
  for (const name of names) {
    const pair = name.endsWith('_PAIR')
    const made = await command(t, ['webhook', 'secret', ...(pair ? ['--ed25519'] : [])])
    b.text[name] = made.out.trim()
    b.text[`${name}_PUBLIC`] = pair ? /whpk_\S+/.exec(made.err)[0] : undefined
    fs.writeFileSync(path.join(secrets, name), b.text[name], { mode: 0o600 })
  }
  fs.writeFileSync(b.script, `local jet = require "moonjet"\n${script}`)
  b.network = await Moonjet.start(t, ['simulate', '--listen', '127.0.0.1:0', '--frames', `${frames}`, '--rate', `${rate}`, '--quiet'])
  b.start = async (args = []) => {
    b.m = await Moonjet.run(t, { source: b.network.url, data: b.data, scripts: [b.script],
      args: ['--secrets', secrets, ...(url ? ['--config', `url=${url}`] : []), ...args] })
    b.printed.push(b.m)
    return b.m
  }
  b.ctl = async (...args) => {
    const r = await command(t, ['ctl', '--data', b.data, ...args])
    assert.equal(r.code, 0, r.err + r.out)
    return r.out
  }
  b.json = async (...args) => JSON.parse(await b.ctl('--json', ...args))
  b.state = async (name) => (await b.json('deliveries', 'show', name)).delivery
  // All frames of the network have gone through the script.
  b.settled = () => eventually(async () => (await b.json('status')).sources[0].seq >= frames, 'the end of the network', 60_000)
  // What the script printed, in order, each once.
  b.expected = () => {
    const seen = new Map()
    for (const m of b.printed) for (const line of m.lines) {
      const ev = JSON.parse(line)
      if (!seen.has(key(ev))) seen.set(key(ev), ev)
    }
    return seen
  }
  b.end = async () => {
    await b.m.finish()
    await b.network.finish()
  }
  return b
}

const key = (ev) => [ev.did, ev.commit.collection, ev.commit.rkey, ev.commit.rev, ev.commit.operation].join(' ')

// Everything that was to be delivered was; each event always under one id, and the events of an
// account in their order. Returns how many came more than once.
function complete(expected, deliveries) {
  const ids = new Map()
  const last = new Map()
  let repeated = 0
  for (const d of deliveries) {
    const ev = JSON.parse(d.body)
    const k = key(ev)
    if (ids.has(k)) {
      assert.equal(ids.get(k), d.id, `${k} came under two ids`)
      repeated++
      continue
    }
    ids.set(k, d.id)
    assert.ok(expected.has(k), `${k} was never to be sent`)
    assert.ok(!(last.get(ev.did) > ev.time_us), `${k} came behind a later one of its account`)
    last.set(ev.did, ev.time_us)
  }
  assert.equal(new Set(ids.values()).size, ids.size, 'two events share an id')
  assert.deepEqual([...expected.keys()].filter((k) => !ids.has(k)), [], 'never arrived')
  return repeated
}

const SIMPLE = `
local posts = jet.from "app.bsky.feed.post:create"
posts:to(jet.print())
posts:to(jet.webhook { name = "hook", url = jet.config.url, secret = jet.secret "HOOK", allow = "127.0.0.1", ${RETRY} })`

export default async function suite() {
  await test('webhook: each event once, signed for old and new keys, in order per account', async (t) => {
    const r = await receiver(t)
    const b = await bed(t, `
local posts = jet.from "app.bsky.feed.post:create"
posts:to(jet.print())
posts:to(jet.webhook { name = "hook", url = jet.config.url, allow = "127.0.0.1", github_secret = jet.secret "HUB",
  secret = { jet.secret "OLD", jet.secret "NEW", jet.secret "KEY_PAIR" } })`, { url: r.url, secrets: ['OLD', 'NEW', 'KEY_PAIR', 'HUB'] })
    r.keys = { secret: b.text.OLD, publicKey: b.text.KEY_PAIR_PUBLIC, github: b.text.HUB }
    await b.start()
    await b.settled()
    const expected = b.expected()
    assert.ok(expected.size > 30, `${expected.size} posts`)
    await r.until(() => r.accepted().length >= expected.size, `${expected.size} deliveries`)
    assert.equal(complete(expected, r.accepted()), 0)
    assert.deepEqual(r.refused, [])
    for (const d of r.deliveries) verify(d, { secret: b.text.NEW })
    const { headers, body } = r.deliveries[0]
    assert.equal(headers['content-type'], 'application/json')
    assert.equal(headers['moonjet-reader'], 'hook.lua hook')
    assert.equal(headers['moonjet-attempt'], '1')
    assert.equal(Number(headers['moonjet-cursor']), JSON.parse(body).time_us)
    assert.equal(headers['idempotency-key'], headers['webhook-id'])
    assert.match(headers['user-agent'], /^moonjet\/\d/)
    // The body is what a subscriber gets, byte for byte.
    assert.ok(b.m.lines.includes(body.toString()))
    const s = await b.state('hook')
    assert.deepEqual([s.state, s.waiting, s.delivered, s.failed], ['live', 0, expected.size, 0])
    // Secrets are nowhere to be seen.
    const said = b.m.err + (await b.ctl('graph')) + (await b.ctl('metrics')) + (await b.ctl('--json', 'deliveries'))
    for (const secret of Object.values(b.text).filter((s) => /^whs/.test(s ?? ''))) assert.ok(!said.includes(secret.slice(6, 26)))
    await b.end()
  }, { seconds: 90 })

  await test('webhook: an outage and kill -9 lose nothing, and repeat only under the same id', async (t) => {
    const r = await receiver(t)
    const b = await bed(t, SIMPLE, { url: r.url, frames: 3000, rate: 600 })
    r.keys = { secret: b.text.HOOK }
    await b.start()
    await r.until(() => r.accepted().length >= 40, '40 deliveries')
    await b.m.stop('SIGKILL') // with requests in the air
    await b.start()
    const before = r.accepted().length
    await r.until(() => r.accepted().length >= before + 20, '20 deliveries after the restart')
    await r.down()
    await eventually(async () => (await b.state('hook')).failed > 0, 'a failure')
    await b.m.stop('SIGKILL') // while nobody answers
    await b.start()
    await eventually(async () => (await b.state('hook')).waiting > 50, 'a backlog')
    await r.up()
    await b.settled()
    await eventually(async () => (await b.state('hook')).waiting === 0, 'an empty backlog', 90_000)
    const repeated = complete(b.expected(), r.accepted())
    assert.ok(repeated < 200, `${repeated} events came more than once`)
    assert.deepEqual(r.refused, [])
    await b.end()
  }, { seconds: 180 })

  await test('webhook: batches, of which the receiver takes a part', async (t) => {
    const r = await receiver(t)
    const b = await bed(t, `
local posts = jet.from "app.bsky.feed.post:create"
posts:to(jet.print())
posts:to(jet.webhook { name = "hook", url = jet.config.url, secret = jet.secret "HOOK", allow = "127.0.0.1", ${RETRY},
  batch = { max = 20, every = "100ms" } })`, { url: r.url })
    r.keys = { secret: b.text.HOOK }
    const taken = new Map() // id → event
    const refusedOnce = new Set()
    r.answer = (d) => {
      const batch = JSON.parse(d.body)
      assert.equal(batch.type, 'moonjet.batch')
      assert.ok(batch.data.length >= 1 && batch.data.length <= 20)
      assert.match(d.id, batch.data.length > 1 ? /^bat_[0-9a-f]{32}$/ : /^evt_[0-9a-f]{32}$/)
      const failed = []
      for (const { id, event } of batch.data) {
        if (/[0-7]$/.test(id) && !refusedOnce.has(id)) { // half of them
          refusedOnce.add(id)
          failed.push(id)
        } else {
          assert.ok(!taken.has(id), `${id} was taken already`)
          taken.set(id, event)
        }
      }
      return { status: 200, body: JSON.stringify({ failed }) }
    }
    await b.start()
    await b.settled()
    const expected = b.expected()
    await r.until(() => taken.size >= expected.size, 'all events')
    assert.ok(refusedOnce.size > 0, 'none was refused')
    assert.deepEqual([...taken.values()].map(key).sort(), [...expected.keys()].sort())
    assert.ok(r.deliveries.length < expected.size, `${r.deliveries.length} requests for ${expected.size} events`)
    await b.end()
  }, { seconds: 90 })

  await test('webhook: of two endpoints one hangs; the other gets everything meanwhile', async (t) => {
    const good = await receiver(t)
    const hangs = await receiver(t)
    hangs.answer = () => new Promise(() => {})
    const b = await bed(t, `
local posts = jet.from "app.bsky.feed.post:create"
posts:to(jet.print())
posts:to(jet.webhook { name = "good", url = "${good.url}", secret = jet.secret "HOOK", allow = "127.0.0.1" })
posts:to(jet.webhook { name = "hangs", url = "${hangs.url}", secret = jet.secret "HOOK", allow = "127.0.0.1", timeout = "10m" })`)
    good.keys = { secret: b.text.HOOK }
    await b.start()
    await b.settled()
    const expected = b.expected()
    await good.until(() => good.accepted().length >= expected.size, 'all events at the good one')
    complete(expected, good.accepted())
    const s = await b.state('hangs')
    assert.deepEqual([s.delivered, s.waiting, s.in_flight], [0, expected.size, 4])
    const list = await b.ctl('deliveries')
    assert.match(list, /^hook\.lua good .* live /m)
    // One that hangs does not hold up the end.
    await b.end()
  }, { seconds: 90 })

  await test('webhook: dead letters are shown, retried and purged', async (t) => {
    const r = await receiver(t)
    const b = await bed(t, SIMPLE, { url: r.url, frames: 300 })
    r.keys = { secret: b.text.HOOK }
    r.answer = () => ({ status: 422, body: 'a field is \x1b[31mmissing' })
    await b.start()
    await b.settled()
    const expected = b.expected()
    await r.until(() => r.deliveries.length >= expected.size, 'all deliveries')
    const shown = await eventually(async () => {
      const s = await b.json('deliveries', 'show', 'hook')
      return s.dead_letters.length === expected.size && s
    }, 'dead letters')
    assert.deepEqual([shown.delivery.waiting, shown.delivery.dead], [0, expected.size])
    const [first, second] = shown.dead_letters
    assert.deepEqual([first.attempts, first.status], [1, 422])
    assert.equal(first.id, r.deliveries[0].id)
    const one = (await b.json('deliveries', 'show', `${first.letter}`)).dead_letters[0]
    assert.equal(one.answer, 'a field is \x1b[31mmissing')
    assert.deepEqual(one.events.map(key), [key(JSON.parse(r.deliveries[0].body))])
    const text = await b.ctl('deliveries', 'show', `${first.letter}`)
    assert.match(text, /^answer +a field is  \[31mmissing$/m)
    // They survive kill -9: LMDB has them within a second or so.
    await eventually(async () => (await command(t, ['deliveries', '--data', b.data, '--json'])).out.includes(`"dead_letters":${expected.size}`), 'letters on disk')
    assert.match((await command(t, ['deliveries', '--data', b.data])).err, /one is running there/)
    await b.m.stop('SIGKILL')
    const stopped = await command(t, ['deliveries', '--data', b.data, 'show', 'hook'])
    assert.deepEqual([stopped.code, stopped.err], [0, ''])
    assert.match(stopped.out, /^state +stopped$/m)
    assert.match(stopped.out, new RegExp(`^dead letters +${expected.size}$`, 'm'))
    await b.start()
    // Still refused: back with one more attempt.
    const refused = r.deliveries.length
    await b.ctl('deliveries', 'retry', `${first.letter}`)
    await r.until(() => r.deliveries.length > refused, 'the retry')
    assert.equal(r.deliveries.at(-1).id, first.id)
    assert.equal(r.deliveries.at(-1).headers['moonjet-replay'], 'true')
    await eventually(async () => (await b.json('deliveries', 'show', first.id)).dead_letters[0].attempts === 2, 'a second attempt')
    r.answer = () => 200
    await b.ctl('deliveries', 'retry', first.id)
    await r.until(() => r.accepted().length === 1, 'the retry')
    assert.equal(r.accepted()[0].id, first.id)
    assert.match(await b.ctl('deliveries', 'purge', `${second.letter}`), /1 dead letter removed/)
    assert.match(await b.ctl('deliveries', 'retry', '--all'), new RegExp(`^${expected.size - 2} dead letters to be delivered once more`))
    await r.until(() => r.accepted().length === expected.size - 1, 'the others')
    await eventually(async () => (await b.state('hook')).dead_letters === 0, 'no dead letters')
    assert.equal(new Set(r.accepted().map((d) => d.id)).size, expected.size - 1)
    await b.end()
  }, { seconds: 120 })

  await test('webhook: pause, resume, rewind; what they change is kept over a restart', async (t) => {
    const r = await receiver(t)
    const b = await bed(t, SIMPLE, { url: r.url, frames: 400 })
    r.keys = { secret: b.text.HOOK }
    await b.start()
    await b.settled()
    const expected = b.expected()
    await r.until(() => r.accepted().length >= expected.size, 'all events')
    const ids = r.accepted().map((d) => d.id).sort()
    assert.match(await b.ctl('deliveries', 'pause', 'hook'), /hook\.lua hook is paused/)
    assert.match(await b.ctl('deliveries', 'rewind', 'hook', '--at=oldest'), /goes on from the oldest event/)
    let s = await b.state('hook')
    assert.deepEqual([s.state, s.waiting], ['paused', expected.size])
    await eventually(async () => /"state":"paused","waiting":[1-9]/.test((await command(t, ['deliveries', '--data', b.data, '--json'])).out), 'the pause on disk')
    await b.m.stop('SIGKILL')
    await b.start()
    s = await b.state('hook')
    assert.deepEqual([s.state, s.waiting], ['paused', expected.size])
    assert.equal(r.deliveries.length, expected.size)
    await b.ctl('deliveries', 'resume', 'hook')
    await r.until(() => r.accepted().length >= 2 * expected.size, 'all events once more')
    assert.deepEqual(r.accepted().slice(expected.size).map((d) => d.id).sort(), ids)
    // Into the past by a duration, and to a moment.
    const middle = JSON.parse(r.deliveries[Math.floor(expected.size / 2)].body).time_us
    const later = [...expected.values()].filter((ev) => ev.time_us >= middle).length
    await b.ctl('deliveries', 'rewind', 'hook.lua', 'hook', `--at=${middle}`)
    await r.until(() => r.accepted().length >= 2 * expected.size + later, 'the later half')
    await b.ctl('deliveries', 'rewind', 'hook', '--at=-2h')
    await r.until(() => r.accepted().length >= 3 * expected.size + later, 'all of it')
    await eventually(async () => (await b.state('hook')).waiting === 0, 'the end')
    assert.equal(r.accepted().length, 3 * expected.size + later)
    await b.end()
  }, { seconds: 120 })

  await test('webhook: 410 disables until somebody resumes, also over a restart', async (t) => {
    const r = await receiver(t)
    const b = await bed(t, SIMPLE, { url: r.url, frames: 300 })
    r.keys = { secret: b.text.HOOK }
    r.answer = () => 410
    await b.start()
    await b.settled()
    const expected = b.expected()
    await eventually(async () => (await b.state('hook')).state === 'disabled', 'disabled')
    assert.equal(sum(await b.m.metrics(), 'moonjet_webhook_requests_total'), r.deliveries.length)
    await eventually(async () => sum(await b.m.metrics(), 'moonjet_reader_state') === 3, 'the state as a metric')
    await eventually(async () => (await command(t, ['deliveries', '--data', b.data])).out.includes(' disabled '), 'on disk')
    await b.m.stop('SIGKILL')
    r.answer = () => 200
    const asked = r.deliveries.length
    await b.start()
    assert.match(await b.ctl('deliveries'), /disabled .*410/)
    assert.equal(r.deliveries.length, asked)
    await b.ctl('deliveries', 'resume', 'hook')
    await r.until(() => r.accepted().length >= expected.size, 'all events')
    complete(expected, r.accepted())
    await b.end()
  }, { seconds: 120 })

  await test('webhook: redirects are not followed, private addresses not reached', async (t) => {
    const target = await receiver(t)
    const moved = await receiver(t)
    moved.answer = () => ({ status: 307, headers: { location: target.url } })
    const b = await bed(t, `
local posts = jet.from "app.bsky.feed.post:create"
local options = { secret = jet.secret "HOOK", retry = { tries = 1 } }
local function hook(name, url, allow)
  posts:to(jet.webhook { name = name, url = url, allow = allow, secret = options.secret, retry = options.retry })
end
hook("moved", "${moved.url}", "127.0.0.1")
hook("private", "https://127.0.0.1:${target.port}/")
hook("named", "https://localhost:${target.port}/")
hook("odd", "https://0x7f.1:${target.port}/")
hook("mapped", "https://[::ffff:127.0.0.1]:${target.port}/")
hook("other", "https://127.0.0.1:${target.port}/", { "10.0.0.0/8" })`, { frames: 200 })
    moved.keys = { secret: b.text.HOOK }
    await b.start()
    await b.settled()
    await eventually(async () => (await b.json('deliveries')).deliveries.every((d) => d.dead > 0), 'dead letters everywhere')
    assert.equal(target.connections, 0)
    const letter = async (name) => (await b.json('deliveries', 'show', name)).dead_letters[0].reason
    assert.match(await letter('moved'), /redirects \(307\)/)
    for (const name of ['private', 'named', 'odd', 'mapped', 'other']) assert.match(await letter(name), /allow|not .*public|loopback/, name)
    assert.ok(sum(await b.m.metrics(), 'moonjet_webhook_requests_total{script="hook.lua",node="private",status="refused"}') > 0)
    await b.end()
    // Plain http is for who is named.
    fs.writeFileSync(b.script, 'local jet = require "moonjet"\njet.from "*":to(jet.webhook { url = "http://example.com/" })')
    const check = await command(t, ['check', b.script])
    assert.equal(check.code, 1)
    assert.match(check.err, /hook\.lua:2: .*http/)
  }, { seconds: 90 })

  await test('ctl deliveries: asks at a terminal before what cannot be undone, and says what is wrong', async (t) => {
    const r = await receiver(t)
    const b = await bed(t, SIMPLE, { url: r.url, frames: 200 })
    r.keys = { secret: b.text.HOOK }
    await b.start()
    await b.settled()
    const expected = b.expected()
    await r.until(() => r.accepted().length >= expected.size, 'all events')
    // steps: what is waited for, and what is typed then.
    const at = async (steps, ...args) => {
      const c = new Child(t, '/usr/bin/python3', [path.join(here, 'lib/terminal.py'), binary, 'ctl', '--data', b.data, 'deliveries', ...args])
      c.proc.stdin.end(steps.map((s) => JSON.stringify(s)).join('\n'))
      return { ...(await c.exit), out: c.out }
    }
    const no = await at([['[y/N]', 'n\n']], 'rewind', 'hook', '--at=oldest')
    assert.equal(no.code, 1)
    assert.match(no.out, /hook\.lua hook goes on from the oldest event there is: everything from there is delivered again/)
    assert.match(no.out, /nothing was changed/)
    assert.equal((await b.state('hook')).waiting, 0)
    const yes = await at([['[y/N]', 'y\n']], 'rewind', 'hook', '--at=oldest')
    assert.equal(yes.code, 0, yes.out)
    await r.until(() => r.accepted().length >= 2 * expected.size, 'all events again')
    const unasked = await at([], 'rewind', 'hook', '--at=oldest', '--yes')
    assert.equal(unasked.code, 0, unasked.out)
    await r.until(() => r.accepted().length >= 3 * expected.size, 'all events a third time')

    const fails = async (code, pattern, ...args) => {
      const c = await command(t, ['ctl', '--data', b.data, 'deliveries', ...args])
      assert.equal(c.code, code, c.err + c.out)
      assert.match(c.err, pattern)
    }
    await fails(2, /did you mean 'resume'\?/, 'resum', 'hook')
    await fails(2, /pause wants NAME/, 'pause')
    await fails(2, /rewind wants NAME --at=TIME/, 'rewind', 'hook')
    await fails(2, /--at yesterday: expected -2h/, 'rewind', 'hook', '--at', 'yesterday')
    await fails(2, /--at is for rewind/, 'pause', 'hook', '--at=-2h')
    await fails(1, /no delivery is called 'nobody'/, 'show', 'nobody')
    await fails(1, /there is no dead letter 4711/, 'retry', '4711')
    await fails(1, /a script delivers hook\.lua hook/, 'forget', 'hook')
    const socket = path.join(b.data, 'control.sock')
    const raw = (body) => new Promise((ok, bad) => {
      const q = http.request({ socketPath: socket, path: '/ctl/deliveries', method: 'POST' }, (a) => {
        let text = ''
        a.on('data', (d) => (text += d)).on('end', () => ok({ status: a.statusCode, ...JSON.parse(text) }))
      })
      q.on('error', bad).end(body)
    })
    assert.equal((await raw('{"args":["list"]}')).deliveries.length, 1)
    assert.equal((await raw('')).deliveries.length, 1)
    assert.deepEqual(await raw('{"args":["rewind","hook","-2x"]}').then((a) => a.status), 400)
    assert.equal((await raw('{"args":["pause"]}')).status, 400)
    // Many at a time: some may be told to come again, none is lost.
    const many = await Promise.all(Array.from({ length: 50 }, () => raw('{"args":["list"]}')))
    assert.ok(many.every((a) => a.status === 200 || a.status === 503))

    // Without the script it is gone, and can be forgotten.
    fs.writeFileSync(b.script, 'local jet = require "moonjet"\njet.from "app.bsky.feed.post:create":to(jet.print())')
    await b.ctl('reload')
    await eventually(async () => (await b.state('hook')).state === 'gone', 'gone')
    assert.match(await b.ctl('deliveries', 'forget', 'hook'), /is forgotten/)
    assert.match(await b.ctl('deliveries'), /^nothing is delivered/)
    await b.end()
    const offline = async (code, pattern, ...args) => {
      const c = await command(t, ['deliveries', ...args])
      assert.equal(c.code, code, c.err + c.out)
      assert.match(c.err + c.out, pattern)
    }
    await offline(0, /^nothing is delivered/, '--data', b.data)
    await offline(2, /Give --data DIR/)
    await offline(2, /there are list and show here/, '--data', b.data, 'retry', '1')
    await offline(1, /no delivery is called 'hook'/, '--data', b.data, 'show', 'hook')
    await offline(1, /No such file/, '--data', path.join(b.dir, 'none'))
  }, { seconds: 120 })
}
