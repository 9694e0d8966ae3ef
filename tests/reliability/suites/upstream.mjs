// A source that repeats itself, leaves seqs out, is cut off again and again: nothing comes twice, and
// what is missing is counted.
import assert from 'node:assert/strict'
import { eventually, test } from '../../e2e/lib/harness.mjs'
import { Moonjet, sum } from '../../e2e/lib/moonjet.mjs'
import { relay } from '../lib/relay.mjs'
import { FIRST, seqOf, sourceOf } from '../lib/source.mjs'
import { Subscriber } from '../lib/subscriber.mjs'

export default async function suite({ seed, random: rng, cuts }) {
  await test('upstream: cut off at random and answered from before the cursor, nothing comes twice', async (t) => {
    const source = sourceOf(seed)
    const r = await relay(t, source, { rate: 5000 })
    const m = await Moonjet.run(t, { source: r.url, args: ['--tail', '256M'] })
    const s = new Subscriber(t, source, 'subscriber')
    await s.attach(m.url)
    let repeated = 0, cursor = FIRST
    for (let i = 0; i < cuts; i++) {
      // Past what was repeated, and some more: so all repeats have been seen.
      const some = cursor + 1 + rng.below(300)
      await s.until(() => seqOf(s.last) > some, 'events')
      r.repeat = rng.pick([0, 1, 10, 1000])
      const asked = r.requests.length
      r.cut()
      await eventually(() => r.requests.length > asked, 'a new connection', 60_000)
      cursor = r.requests.at(-1).cursor
      repeated += Math.min(r.repeat, cursor - FIRST + 1)
    }
    await s.until(() => seqOf(s.last) > cursor, 'events')
    await s.reached(r.hold())
    const all = await m.metrics()
    assert.equal(sum(all, 'moonjet_source_seq_gap_total'), 0)
    assert.equal(sum(all, 'moonjet_source_repeated_total'), repeated)
    assert.ok(repeated > 0)
    await m.finish()
  }, { seconds: 600 })

  await test('upstream: seqs that are left out are counted, and the rest is served', async (t) => {
    const source = sourceOf(seed)
    const skips = new Set(Array.from({ length: 50 }, () => FIRST + 100 + rng.below(900)))
    const r = await relay(t, source, { skips })
    const m = await Moonjet.run(t, { source: r.url })
    const s = new Subscriber(t, source, 'subscriber', { skips })
    await s.attach(m.url)
    await s.reached(r.release(2000))
    assert.equal(sum(await m.metrics(), 'moonjet_source_seq_gap_total'), skips.size)
    // Once more from the start of the gaps: all that was there is a repeat, still without the gaps.
    r.repeat = 1900
    r.cut()
    await m.metricAtLeast('moonjet_source_repeated_total', 1900 - skips.size)
    await s.reached(r.release(10))
    const all = await m.metrics()
    assert.equal(sum(all, 'moonjet_source_seq_gap_total'), skips.size)
    assert.equal(sum(all, 'moonjet_source_repeated_total'), 1900 - [...skips].filter((q) => q >= FIRST + 100).length)
    await m.finish()
  })
}
