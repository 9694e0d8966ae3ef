// What leaves through :each and plug-ins: everything at least once, each account's in order, over
// kill -9, restarts, reloads and moves from lane to lane; and nothing twice when nobody was killed.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import http from 'node:http'
import path from 'node:path'
import * as CBOR from '@atcute/cbor'
import { commitFrame } from '../lib/frames.mjs'
import { Moonjet, command } from '../lib/moonjet.mjs'
import { relay } from '../lib/relay.mjs'
import { eventually, test } from '../lib/harness.mjs'

export const DIDS = 5
const did = (n) => `did:plc:${'abcdefghijklmnopqrstuvwx'.slice(0, 23)}${'abcdefg'[n % DIDS]}`
const tid = (n) => {
  let s = ''
  for (let i = 0; i < 8; i++, n = Math.floor(n / 32)) s = '234567abcdefghijklmnopqrstuvwxyz'[n % 32] + s
  return `3mptb${s}`
}
const signature = new Uint8Array(64)

// Posts number from … to - 1, their numbers as text; account after account.
export async function posts(from, to) {
  const frames = []
  for (let n = from; n < to; n++) {
    const record = CBOR.encode({ $type: 'app.bsky.feed.post', text: String(n), createdAt: '2026-01-01T00:00:00Z' })
    frames.push(await commitFrame({ seq: n + 1, did: did(n), rev: tid(n), signature,
      ops: [{ action: 'create', path: `app.bsky.feed.post/${tid(n)}`, record }] }))
  }
  return frames
}

// Notes what it is sent, in order; `answer` says what of it is answered, and when.
async function collector(t, answer = (res) => res.end('ok')) {
  const c = { got: [], answer }
  const s = http.createServer(async (req, res) => {
    let body = ''
    for await (const chunk of req) body += chunk
    c.got.push(JSON.parse(body))
    c.answer(res, c.got.at(-1))
  })
  await new Promise((r) => s.listen(0, '127.0.0.1', r))
  t.defer(() => new Promise((r) => {
    s.closeAllConnections()
    s.close(r)
  }))
  c.url = `http://127.0.0.1:${s.address().port}/`
  c.numbers = () => c.got.map((g) => g.n)
  return c
}

const SENDS = `
jet.from "app.bsky.feed.post:create":each(function(ev)
  local answer, why = jet.http.post(jet.config.url, { n = tonumber(ev.text), did = ev.did, id = ev.id, version = VERSION })
  if not answer then jet.retry(why) end
end, { workers = 3, timeout = "20s" }):as "send"
`
const sends = (version) => SENDS.replace('VERSION', version)

const start = (t, r, script, data, url, more = []) => Moonjet.run(t, { scripts: [script].flat(), source: r.url, data,
  args: ['--config', `url=${url}`, '--http-allow', '127.0.0.1', ...more] })

// All numbers are there, and what an account's later attempts repeat is a run of what came last: it
// never goes back behind something that was done before the last start.
function assertComplete(got, count) {
  assert.deepEqual([...new Set(got.map((g) => g.n))].sort((a, b) => a - b), [...Array(count).keys()], 'everything came')
  const ids = new Map()
  for (const g of got) {
    assert.equal(ids.get(g.n) ?? g.id, g.id, `number ${g.n} has one id`)
    ids.set(g.n, g.id)
  }
  assert.equal(new Set(ids.values()).size, count, 'and each its own')
}
function assertOrder(got) {
  const highest = new Map()
  for (const g of got) {
    const before = highest.get(g.did) ?? -1
    // The account's next one, or one again.
    assert.ok(g.n <= before || g.n === (before < 0 ? g.n % DIDS : before + DIDS), `${g.did}: ${g.n} after ${before}`)
    highest.set(g.did, Math.max(before, g.n))
  }
}

export default async function suite() {
  await test('deliver: through ten kill -9, an each sees everything at least once, and each account in order', async (t) => {
    const dir = t.dir()
    const script = path.join(dir, 'send.lua')
    fs.writeFileSync(script, sends(1))
    const r = await relay(t, [])
    const c = await collector(t, (res) => setTimeout(() => res.end('ok'), Math.random() * 5))
    const data = path.join(dir, 'data')
    const count = 1000
    let m
    for (let life = 0; life < 10; life++) {
      const seen = c.got.length
      m = await start(t, r, script, data, c.url)
      r.push(...await posts(life * count / 10, (life + 1) * count / 10))
      if (life === 9) break
      await eventually(() => c.got.length > seen + 20 + life * 8, 'the next posts')
      await m.stop('SIGKILL')
    }
    await eventually(() => new Set(c.numbers()).size === count, 'all posts').catch(() => assertComplete(c.got, count))
    await m.finish()
    assertComplete(c.got, count)
    assertOrder(c.got)
    // What was done stays done.
    const before = c.got.length
    m = await start(t, r, script, data, c.url)
    r.push(...await posts(count, count + 1))
    await eventually(() => c.got.at(-1).n === count, 'the newest post')
    assert.equal(c.got.length, before + 1)
    await m.finish()
  })

  await test('deliver: SIGTERM lets what has begun end, and nothing comes twice', async (t) => {
    const dir = t.dir()
    const script = path.join(dir, 'send.lua')
    fs.writeFileSync(script, sends(1))
    const r = await relay(t, [])
    const c = await collector(t, (res) => setTimeout(() => res.end('ok'), 30))
    const data = path.join(dir, 'data')
    const count = 200
    let m
    for (let life = 0; life < 5; life++) {
      const seen = c.got.length
      m = await start(t, r, script, data, c.url)
      if (!life) r.push(...await posts(0, count))
      await eventually(() => c.got.length > seen + 10, 'the next posts')
      if (life < 4) await m.finish()
    }
    await eventually(() => c.got.length >= count, 'all posts')
    await m.finish()
    assert.equal(c.got.length, count)
    assertComplete(c.got, count)
    assertOrder(c.got)
  })

  await test('deliver: reloads under load, into a lane of its own and back, lose, double and reorder nothing', async (t) => {
    const dir = t.dir()
    const script = path.join(dir, 'send.lua')
    const config = path.join(dir, 'moonjet.lua')
    const write = (version) => {
      fs.writeFileSync(script, sends(version))
      fs.writeFileSync(config, `script "send.lua" { lane = ${version % 3 === 1 ? '"own"' : '"shared"'} }\n`)
    }
    write(0)
    const r = await relay(t, [])
    const c = await collector(t, (res) => setTimeout(() => res.end('ok'), Math.random() * 3))
    const m = await start(t, r, [config], path.join(dir, 'data'), c.url)
    const reloads = 60
    for (let i = 1; i <= reloads; i++) {
      r.push(...await posts((i - 1) * 20, i * 20))
      write(i)
      const { code, err } = await command(t, ['ctl', '--data', path.join(dir, 'data'), 'reload'])
      assert.equal(code, 0, err)
    }
    await eventually(() => c.got.length >= reloads * 20, 'all posts')
    assert.ok(new Set(c.got.map((g) => g.version)).size > reloads / 4, 'many versions had a part in it')
    await m.finish()
    assert.equal(c.got.length, reloads * 20)
    assertComplete(c.got, reloads * 20)
    assertOrder(c.got)
  }, { seconds: 180 })

  await test('deliver: what jet.retry puts off waits in the journal until somebody is there', async (t) => {
    const dir = t.dir()
    const script = path.join(dir, 'send.lua')
    fs.writeFileSync(script, sends(1).replace('timeout = "20s"', 'retry = { tries = 0, min = "10ms", max = "200ms" }'))
    const r = await relay(t, await posts(0, 50))
    const c = await collector(t, (res) => res.destroy())
    const m = await start(t, r, script, path.join(dir, 'data'), c.url)
    await eventually(() => c.got.length > 30, 'attempts')
    assert.ok(c.got.every((g) => g.n < DIDS), 'an account waits for its first post')
    const tried = c.got.length
    c.answer = (res) => res.end('ok')
    await eventually(() => new Set(c.numbers()).size === 50, 'all posts')
    await m.finish()
    assertComplete(c.got, 50)
    assertOrder(c.got)
    assert.ok(c.got.length < tried + 60, 'and then each comes once')
    assert.match(m.err, /send\.lua:\d+ send: .*; it comes again/)
  })

  await test('deliver: an error makes a dead letter, which ctl shows and tries again under the same id', async (t) => {
    const dir = t.dir()
    const script = path.join(dir, 'send.lua')
    const data = path.join(dir, 'data')
    fs.writeFileSync(script, sends(1).replace('if not answer then', 'if answer and answer.status == 500 then error "refused" end if not answer then'))
    const r = await relay(t, await posts(0, 20))
    const c = await collector(t, (res, { n }) => {
      res.statusCode = n === 7 ? 500 : 200
      res.end()
    })
    const m = await start(t, r, script, data, c.url)
    const ctl = async (...args) => {
      const { code, out, err } = await command(t, ['ctl', '--data', data, 'deliveries', ...args])
      assert.equal(code, 0, err)
      return out
    }
    await eventually(() => c.got.length === 20, 'all posts, what follows the dead one too')
    const shown = await eventually(async () => {
      const out = await ctl('show', 'send.lua send')
      return /refused/.test(out) && out
    }, 'the dead letter')
    assert.match(shown, /send\.lua:\d+: refused/)
    c.answer = (res) => res.end()
    await ctl('retry', 'send.lua send')
    await eventually(() => c.got.length === 21, 'it once more')
    assert.equal(c.got.at(-1).n, 7)
    assertComplete(c.got, 20)
    await m.finish()
  })

  await test('deliver: a plug-in gets every event, in order, through kill -9 and SIGTERM', async (t) => {
    const dir = t.dir()
    const script = path.join(dir, 'file.lua')
    const file = path.join(dir, 'posts.jsonl')
    fs.writeFileSync(script, 'jet.from "app.bsky.feed.post:create":to(jet.sink("file", { path = jet.config.url }))\n')
    const numbers = () => fs.readFileSync(file, 'utf8').split('\n').slice(0, -1).map((l) => Number(JSON.parse(l).commit.record.text))
    const r = await relay(t, [])
    const data = path.join(dir, 'data')
    const lives = ['SIGKILL', 'SIGTERM', 'SIGKILL', 'SIGKILL', 'SIGTERM']
    for (const [life, signal] of lives.entries()) {
      const before = life ? numbers() : []
      const m = await start(t, r, script, data, file)
      r.push(...await posts(life * 300, life * 300 + 300))
      if (signal === 'SIGTERM') {
        await eventually(() => numbers().at(-1) === life * 300 + 299, 'the last post')
        await m.finish()
      } else {
        await eventually(() => fs.existsSync(file) && numbers().at(-1) > life * 300, 'a new post')
        await m.stop('SIGKILL')
      }
      if (life && lives[life - 1] === 'SIGTERM')
        assert.equal(numbers()[before.length], life * 300, 'after a shutdown it goes on with the next')
    }
    const all = numbers()
    assert.deepEqual([...new Set(all)], [...Array(lives.length * 300).keys()], 'everything, first time in order')
    for (let i = 1; i < all.length; i++) assert.ok(all[i] <= all[i - 1] + 1)
  })
}
