// What one bad script may cost the others: nothing. And configuration and reload of a running one.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import * as CBOR from '@atcute/cbor'
import * as clients from '../lib/clients.mjs'
import { assertRising, timeUs } from '../lib/events.mjs'
import { commitFrame } from '../lib/frames.mjs'
import { Moonjet, command, sum } from '../lib/moonjet.mjs'
import { relay } from '../lib/relay.mjs'
import { eventually, here, test } from '../lib/harness.mjs'

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

  await test('safety: a script that is stuck while it loads ends the start with words', async (t) => {
    const file = path.join(t.dir(), 'load.lua')
    fs.writeFileSync(file, 'local x = ("a"):rep(2 ^ 24):find(("a"):rep(2 ^ 20) .. "b", 1, true)\n')
    const { code, err } = await command(t, ['run', file, '--source', 'ws://127.0.0.1:1', '--listen', '127.0.0.1:0', '--metrics-listen', ''])
    assert.equal(code, 1)
    assert.match(err, /load\.lua is stuck in loading, inside a C function that nothing can stop; it cannot be loaded/)
  })
}
