// The wall clock jumps a day back and a day ahead, while the router runs and while it does not:
// time_us goes on rising, and every cursor goes on working.
import assert from 'node:assert/strict'
import path from 'node:path'
import { test } from '../../e2e/lib/harness.mjs'
import { Lives } from '../lib/life.mjs'
import { relay } from '../lib/relay.mjs'
import { clock } from '../lib/shims.mjs'
import { RARE, sourceOf } from '../lib/source.mjs'

const DAY = 86_400

export default async function suite({ seed, random: rng, steps }) {
  await test('clock: steps of the wall clock leave time_us rising and cursors working', async (t) => {
    const source = sourceOf(seed)
    const r = await relay(t, source)
    const c = clock(t)
    const lives = new Lives(t, { relay: r, source, data: path.join(t.dir(), 'data'), args: ['--retain', '30d', '--sync', '50ms'], env: c.env })
    const plain = lives.subscribe('plain')
    lives.subscribe('rare', { collections: [RARE] })
    let m = lives.start()
    await lives.attach(m)
    const more = async () => {
      const end = r.release(100 + rng.below(400))
      await Promise.all(lives.subs.map((s) => s.reached(end)))
      return end
    }
    let end = await more()
    const told = []
    t.notes.push(() => told.join(', '))
    for (let i = 0; i < steps; i++) {
      const [days, how] = [rng.pick([-1, -0.01, 0.01, 1]), rng.pick(['running', 'running', 'stopped', 'killed'])]
      told.push(`${days} days while ${how}`)
      if (how === 'running') {
        c.step(days * DAY)
        // Who comes back with a cursor finds its place, whatever the clock says now.
        const back = rng.pick(lives.subs)
        await back.leave()
        await back.attach(m.url)
      } else {
        await lives.stop(m, how === 'stopped' ? 'SIGTERM' : 'SIGKILL')
        c.step(days * DAY)
        m = lives.start()
        assert.ok(await lives.attach(m), m.err)
      }
      end = await more()
    }
    const fresh = await lives.fresh(m, end)
    assert.equal(fresh.count, plain.count)
    await lives.stop(m)
    await lives.verify()
    console.log(`# ${steps} steps, ${plain.count} events`)
  }, { seconds: 600 })
}
