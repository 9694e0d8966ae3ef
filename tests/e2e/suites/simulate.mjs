// The simulated network must pass for a real one: an independent verifier checks every signature and
// proof, and the router gives its clients the same events.
import assert from 'node:assert/strict'
import * as clients from '../lib/clients.mjs'
import { assertRecordMatchesCid, assertSameEvents, key } from '../lib/events.mjs'
import { gate } from '../lib/gate.mjs'
import { test } from '../lib/harness.mjs'
import { Moonjet } from '../lib/moonjet.mjs'
import { reference } from '../lib/reference.mjs'

const simulate = (t, ...args) => Moonjet.start(t, ['simulate', '--listen', '127.0.0.1:0', ...args])

export default async function suite() {
  await test('simulate: @atproto/sync verifies 3,000 events without an error', async (t) => {
    const s = await simulate(t, '--accounts', '30', '--rate', '1500', '--frames', '3300', '--seed', '7')
    const ref = reference(t, s.url, s.http)
    await ref.until(() => ref.errors.length || ref.keys.length >= 3000, '3,000 events', 150_000)
    assert.deepEqual(ref.errors, [])
    for (const what of [' create ', ' update ', ' delete ', ' identity ', ' account '])
      assert.ok(ref.keys.some((k) => k.includes(what)), `no "${what.trim()}" among them`)
    await ref.stop()
    await s.finish()
  }, { seconds: 180 })

  await test('simulate: the same seed is the same network', async (t) => {
    const first = async (seed) => {
      const s = await simulate(t, '--accounts', '5', '--rate', '500', '--seed', seed)
      const ref = reference(t, s.url, s.http)
      await ref.until(() => ref.keys.length >= 200, '200 events', 60_000)
      await ref.stop()
      await s.finish()
      return ref.keys.slice(0, 200).map((k) => k.split(' ').slice(0, 2).join(' '))
    }
    const [a, b, c] = [await first('3'), await first('3'), await first('4')]
    assert.deepEqual(a, b)
    assert.notDeepEqual(a, c)
  }, { seconds: 120 })

  await test('simulate: → moonjet run → clients get what the verifier saw', async (t) => {
    const s = await simulate(t, '--accounts', '20', '--rate', '800', '--seed', '1')
    const g = await gate(t, s.url)
    const m = await Moonjet.run(t, { source: g.url })
    const [ws, sky] = [await clients.plain(t, `${m.url}/subscribe`), await clients.skyware(t, `${m.url}/subscribe`)]
    const ref = reference(t, s.url, s.http)
    g.open()
    await Promise.all([ws.count(2000, 90_000), sky.count(2000, 90_000)])
    const got = ws.events.slice(0, 2000).map(key)
    const last = got.at(-1)
    await ref.until(() => ref.keys.includes(last), 'the last event', 90_000)
    assert.deepEqual(ref.errors, [])
    const start = ref.keys.indexOf(got[0])
    assert.ok(start >= 0, `the verifier does not know ${got[0]}`)
    assertSameEvents(got, ref.keys.slice(start, ref.keys.indexOf(last) + 1), 'ws')
    assertSameEvents(sky.events.slice(0, 2000).map(key), got, '@skyware/jetstream')
    ws.raw.slice(0, 2000).forEach(assertRecordMatchesCid)
    await ref.stop()
    await m.finish()
    await s.finish()
  }, { seconds: 180 })
}
