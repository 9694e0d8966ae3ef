// jet.webhook in a running Moonjet, against a receiver that is not ours: everything at least once and
// under one id, signed, each account's in order, whatever happens to either side.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { Moonjet, command } from '../lib/moonjet.mjs'
import { relay } from '../lib/relay.mjs'
import { receiver } from '../lib/receiver.mjs'
import { test } from '../lib/harness.mjs'
import { DIDS, posts } from './deliver.mjs'

const SECRET = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'
const NEXT = 'whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD'

const hook = (options = '') => `
jet.from "app.bsky.feed.post:create":to(jet.webhook {
  url = jet.config.url, secret = jet.secret "HOOK", allow = "127.0.0.1",
  retry = { min = "20ms", max = "200ms" }, ${options} })
`

const start = (t, r, script, data, url, more = []) => Moonjet.run(t, { scripts: [script].flat(), source: r.url, data,
  args: ['--config', `url=${url}`, ...more], env: { MOONJET_SECRET_HOOK: SECRET, MOONJET_SECRET_NEXT: NEXT } })

// The events of a delivery: { n, did, id }.
function events(d) {
  const body = JSON.parse(d.body)
  const list = body.type === 'moonjet.batch' ? body.data : [{ id: d.id, event: body }]
  return list.map(({ id, event }) => ({ id, did: event.did, n: Number(event.commit.record.text) }))
}

// All numbers came, each under one id, and no account's out of order but for what came again.
function assertDelivered(r, count) {
  assert.deepEqual(r.refused, [], 'every signature fits')
  const all = r.accepted().flatMap(events)
  assert.deepEqual([...new Set(all.map((e) => e.n))].sort((a, b) => a - b), [...Array(count).keys()], 'everything came')
  const ids = new Map()
  const highest = new Map()
  for (const e of all) {
    assert.equal(ids.get(e.n) ?? e.id, e.id, `number ${e.n} has one id`)
    ids.set(e.n, e.id)
    const before = highest.get(e.did) ?? -1
    assert.ok(e.n <= before || e.n === (before < 0 ? e.n % DIDS : before + DIDS), `${e.did}: ${e.n} after ${before}`)
    highest.set(e.did, Math.max(before, e.n))
  }
  assert.equal(new Set(ids.values()).size, count, 'and each its own')
}

const came = (r) => new Set(r.accepted().flatMap(events).map((e) => e.n)).size

export default async function suite() {
  for (const [what, options] of [['single events', ''], ['batches', 'batch = { max = 7, every = "20ms" }']])
    await test(`hooks: ${what} through kill -9 and a receiver that often fails`, async (t) => {
      const dir = t.dir()
      const script = path.join(dir, 'hook.lua')
      fs.writeFileSync(script, hook(options))
      const r = await relay(t, [])
      const to = await receiver(t, { secret: SECRET })
      to.answer = () => (Math.random() < 0.2 ? [500, 503, 429][Math.floor(Math.random() * 3)] : 204)
      const data = path.join(dir, 'data')
      let m
      for (let life = 0; life < 5; life++) {
        const seen = came(to)
        m = await start(t, r, script, data, to.url)
        r.push(...await posts(life * 60, life * 60 + 60))
        if (life === 4) break
        await to.until(() => came(to) > seen + 20, 'the next posts')
        await m.stop('SIGKILL')
      }
      await to.until(() => came(to) === 300, 'all posts')
      await m.finish()
      assertDelivered(to, 300)
    })

  await test('hooks: SIGTERM lets what is in the air arrive, and nothing comes twice', async (t) => {
    const dir = t.dir()
    const script = path.join(dir, 'hook.lua')
    fs.writeFileSync(script, hook())
    const r = await relay(t, await posts(0, 100))
    const to = await receiver(t, { secret: SECRET })
    to.answer = () => new Promise((ok) => setTimeout(() => ok(200), 20))
    const data = path.join(dir, 'data')
    for (let life = 0; life < 3; life++) {
      const m = await start(t, r, script, data, to.url)
      await to.until(() => came(to) >= (life + 1) * 30, 'the next posts')
      if (life === 2) await to.until(() => came(to) === 100, 'all posts')
      await m.finish()
    }
    assertDelivered(to, 100)
    assert.equal(to.deliveries.length, 100)
  })

  await test('hooks: a reload changes address and secrets, and keeps the place', async (t) => {
    const dir = t.dir()
    const script = path.join(dir, 'hook.lua')
    const data = path.join(dir, 'data')
    fs.writeFileSync(script, hook())
    const r = await relay(t, [])
    const to = await receiver(t, { secret: SECRET })
    const other = await receiver(t, { secret: NEXT })
    const m = await start(t, r, script, data, to.url)
    r.push(...await posts(0, 50))
    await to.until(() => came(to) === 50, 'the first half')
    // Both secrets sign, so that either end may change first.
    fs.writeFileSync(script, hook(`name = "webhook.1"`).replace('jet.config.url', `"${other.url}"`)
      .replace('secret = jet.secret "HOOK"', 'secret = { jet.secret "HOOK", jet.secret "NEXT" }').replace('name = "webhook.1"', ''))
    assert.equal((await command(t, ['ctl', '--data', data, 'reload'])).code, 0)
    r.push(...await posts(50, 100))
    await other.until(() => came(other) === 50, 'the second half')
    await m.finish()
    assert.deepEqual([...to.refused, ...other.refused], [])
    assert.equal(to.deliveries.length, 50)
    assert.equal(other.deliveries.length, 50)
    assert.ok(other.deliveries.every((d) => d.headers['webhook-signature'].split(' ').length === 2))
    // A mistake leaves what runs as it is, and says what it is; never the secret.
    assert.doesNotMatch(m.err, /MfKQ9r8GK|C2FVsBQ/)
  })

  await test('hooks: a script in a lane of its own posts, and its function writes the body', async (t) => {
    const dir = t.dir()
    fs.writeFileSync(path.join(dir, 'hook.lua'), hook('format = function(ev) return { text = ev.text, uri = ev.uri, id = ev.id } end'))
    const config = path.join(dir, 'moonjet.lua')
    fs.writeFileSync(config, 'script "hook.lua" { lane = "own" }\n')
    const r = await relay(t, await posts(0, 40))
    const to = await receiver(t, { secret: SECRET })
    const m = await start(t, r, [config], path.join(dir, 'data'), to.url)
    await to.until(() => to.accepted().length === 40, 'all posts')
    await m.finish()
    assert.deepEqual(to.refused, [])
    for (const d of to.accepted()) assert.equal(JSON.parse(d.body).id, d.headers['webhook-id'])
    const texts = to.accepted().map((d) => Number(JSON.parse(d.body).text))
    assert.deepEqual(texts.sort((a, b) => a - b), [...Array(40).keys()])
  })

  await test('hooks: a script that declares nonsense does not load, and says why', async (t) => {
    const dir = t.dir()
    const script = path.join(dir, 'hook.lua')
    const refused = async (text, why) => {
      fs.writeFileSync(script, text)
      const { code, err } = await command(t, ['run', script, '--source', 'ws://127.0.0.1:9', '--listen', '127.0.0.1:0',
        '--metrics-listen', '127.0.0.1:0', '--config', 'url=https://x.example/'], { env: { MOONJET_SECRET_HOOK: SECRET, MOONJET_SECRET_BAD: 'whsec_c2hvcnQ=' } })
      assert.equal(code, 1)
      assert.match(err, why)
      assert.doesNotMatch(err, /c2hvcnQ/)
    }
    await refused(hook('batch = { size = 5 }'), /hook\.lua:\d+: jet\.webhook: batch has no option 'size'/)
    await refused(hook().replace('jet.secret "HOOK"', 'jet.secret "BAD"'), /hook\.lua:\d+: jet\.webhook: .*24/)
    await refused(hook().replace('"127.0.0.1"', '"10.0.0.0/99"'), /no host, address or prefix/)
    await refused(hook('headers = { ["webhook-id"] = "1" }'), /set by Moonjet/)
  })
}
