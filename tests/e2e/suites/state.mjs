// What scripts remember, and named sets: over restarts and kill -9, for subscribers, and edited live.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import WebSocket from 'ws'
import * as clients from '../lib/clients.mjs'
import { frame } from '../lib/frames.mjs'
import { eventually, test } from '../lib/harness.mjs'
import { Moonjet, command, sum } from '../lib/moonjet.mjs'
import { relay } from '../lib/relay.mjs'

const did = (name) => `did:web:${name}.example`
const [A, B, C] = ['a', 'b', 'c'].map(did)
let seq = 0
const account = (who) => frame('#account', { seq: ++seq, did: who, active: true })
const dids = (c) => c.events.map((e) => e.did)

// Counts events by account and shows the counts as metrics; lets those in the set onto a stream.
const SCRIPT = `
local seen = jet.map("seen", { persist = true })
local order = jet.zset("order", { persist = true })
local vips = jet.set("vips", { file = "vips.txt", persist = true })
local count, best = jet.gauge("seen", { "did" }), jet.gauge "best"
jet.from "#account":tap(function(ev)
  count:set(ev.did, seen:incr(ev.did))
  order:incr(ev.did)
  best:set(order:top(1)[1].score)
end):where(function(ev) return vips:has(ev.did) end):to(jet.stream "vips")
`

function setup(t) {
  const dir = t.dir()
  fs.writeFileSync(path.join(dir, 'state.lua'), SCRIPT)
  fs.writeFileSync(path.join(dir, 'vips.txt'), `# from the file\n${B}\n`)
  return { script: path.join(dir, 'state.lua'), data: path.join(dir, 'data'), file: path.join(dir, 'vips.txt') }
}

const count = async (m, who) => (await m.metrics())[`moonjet_script_seen{script="state.lua",did="${who}"}`] ?? 0

export default async function suite() {
  await test('state: a named set is edited by ctl while subscribers and the script look into it', async (t) => {
    const { script, data, file } = setup(t)
    const r = await relay(t, [])
    const m = await Moonjet.run(t, { scripts: [script], source: r.url, data })
    const ctl = async (...args) => {
      const { code, err } = await command(t, ['ctl', '--data', data, 'set', ...args])
      assert.equal(code, 0, err)
    }
    const plain = await clients.plain(t, `${m.url}/subscribe`)
    const all = [
      await clients.plain(t, `${m.url}/subscribe?wantedDids=set:vips`),
      await clients.skyware(t, `${m.url}/subscribe`, { wantedDids: ['set:vips', C] }),
      await clients.plain(t, `${m.url}/stream/vips/subscribe`),
    ]
    let sent = 0
    const push = async (...who) => {
      r.push(...who.map(account))
      sent += who.length
      await plain.count(sent)
    }
    await eventually(() => r.sockets.size, 'the router at its source')
    await push(A, B, C)
    await ctl('add', 'vips', A)
    await push(A, B)
    await ctl('remove', 'vips', B)
    await push(A, B)
    fs.writeFileSync(file, `${B}\n${did('d')}\n`) // it has changed, so it counts as a whole
    await command(t, ['ctl', '--data', data, 'reload', '--all'])
    await push(B, did('d'), A)
    await ctl('clear', 'vips')
    await push(A, B, C)
    const want = [B, A, B, A, B, did('d'), A]
    await all[1].count(want.length + 2)
    await eventually(() => all[0].events.length >= want.length && all[2].events.length >= want.length, 'the events of the set')
    assert.deepEqual(dids(all[0]), want)
    assert.deepEqual(dids(all[1]), [B, C, A, B, A, B, did('d'), A, C])
    assert.deepEqual(dids(all[2]), want)

    assert.equal(await count(m, A), 5, 'the map lived through the reload')

    const refused = await new Promise((ok) => {
      new WebSocket(`${m.url}/subscribe?wantedDids=set:nobody`).on('error', () => {}).on('unexpected-response', (_, res) => {
        let body = ''
        res.on('data', (d) => {
          body += d
        }).on('end', () => ok({ status: res.statusCode, body }))
      })
    })
    assert.deepEqual(refused, { status: 400, body: 'invalid subscriber options: no such set: set:nobody; there are: vips' })
    await m.finish()
  })

  await test('state: what scripts persist, and live members, survive a restart and kill -9', async (t) => {
    const { script, data } = setup(t)
    const r = await relay(t, [])
    let total = 0
    const push = async (m, who, n) => {
      r.push(...Array.from({ length: n }, () => account(who)))
      total += n
      await eventually(async () => (await count(m, who)) === total, `${total} events of ${who} counted`)
    }
    for (const signal of ['SIGTERM', 'SIGKILL', 'SIGKILL', 'SIGTERM']) {
      const m = await Moonjet.run(t, { scripts: [script], source: r.url, data })
      await eventually(() => r.sockets.size, 'the router at its source')
      await push(m, A, 10) // goes on from what the run before had
      await command(t, ['ctl', '--data', data, 'set', 'add', 'vips', did(`live${total}`)])
      if (signal === 'SIGKILL') {
        // Two transactions later everything from before the first is there.
        const before = sum(await m.metrics(), 'moonjet_state_commits_total')
        await eventually(async () => {
          r.push(account(C))
          return sum(await m.metrics(), 'moonjet_state_commits_total') >= before + 2
        }, 'two more transactions')
      }
      await eventually(async () => (await m.metrics())['moonjet_state_entries{script="",name="vips"}'] === 1 + total / 10, 'all members that were added')
      await m.stop(signal)
      // What the source sends again after a kill -9 must not be counted twice by this test.
      r.frames = []
    }
    const m = await Moonjet.run(t, { scripts: [script], source: r.url, data })
    await eventually(() => r.sockets.size, 'the router at its source')
    await push(m, A, 1)
    assert.ok((await m.metrics())['moonjet_script_best{script="state.lua"}'] >= total)
    assert.equal(sum(await m.metrics(), 'moonjet_state_damaged_total'), 0)
    await m.finish()
  }, { seconds: 120 })
}
