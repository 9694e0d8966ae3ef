// An hour without an event, in minutes: the clock shim makes time run faster. Hours are counted by
// the pings that the server owes its subscribers every 30 seconds, so nothing here waits for a time.
import assert from 'node:assert/strict'
import { test } from '../../e2e/lib/harness.mjs'
import { Moonjet, sum } from '../../e2e/lib/moonjet.mjs'
import { relay } from '../lib/relay.mjs'
import { clock } from '../lib/shims.mjs'
import { sourceOf } from '../lib/source.mjs'
import { Subscriber } from '../lib/subscriber.mjs'

export default async function suite({ seed, seconds, rate }) {
  const pings = seconds / 30

  const start = async (t, options) => {
    const source = sourceOf(seed)
    const r = await relay(t, source, options)
    const m = await Moonjet.run(t, { source: r.url, env: clock(t, rate).env })
    const s = new Subscriber(t, source, 'subscriber')
    await s.attach(m.url)
    await s.reached(r.release(100))
    return { r, m, s }
  }
  // The hour, by both clocks that tick in it; then it still serves.
  const pass = async ({ r, m, s }) => {
    await s.until(() => s.pings >= pings, `${pings} pings`, 2000 * (seconds / rate) + 30_000)
    assert.equal(m.ended, undefined, 'it runs')
    assert.equal(s.connections, 1)
    await s.reached(r.release(100))
    assert.equal(s.connections, 1)
  }

  await test(`idle: ${seconds} s without an event cost no connection; events flow again`, async (t) => {
    const x = await start(t)
    await pass(x)
    assert.equal(x.r.requests.length, 1, 'one connection to the source')
    assert.ok(x.r.pings >= pings - 2, `${x.r.pings} pings kept the source's connection`)
    assert.equal(sum(await x.m.metrics(), 'moonjet_source_reconnects_total'), 0)
    await x.m.finish()
  }, { seconds: 900 })

  await test(`idle: a source that answers nothing is left after 60 s each time, without a storm`, async (t) => {
    const x = await start(t, { deaf: true })
    await pass(x)
    const n = x.r.requests.length - 1
    const lost = sum(await x.m.metrics(), 'moonjet_source_reconnects_total{socket_url="' + x.r.url + '",reason="silence"}')
    // 60 s of silence, then a wait of up to 30 s that grows.
    assert.ok(n >= Math.floor(seconds / 100) && n <= seconds / 60 + 1, `${n} reconnections in ${seconds} s`)
    assert.ok(Math.abs(lost - n) <= 1, `${lost} of ${n} for silence`)
    assert.ok(x.r.requests.slice(1).every((q) => q.cursor === x.r.requests[1].cursor), 'each with the cursor')
    await x.m.finish()
  }, { seconds: 900 })
}
