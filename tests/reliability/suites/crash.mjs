// kill -9 at any moment under load, again and again on one journal. Every subscriber goes on where it
// was, over all the crashes, and gets exactly the source; so does whoever comes new.
import assert from 'node:assert/strict'
import path from 'node:path'
import { test } from '../../e2e/lib/harness.mjs'
import { Lives } from '../lib/life.mjs'
import { relay } from '../lib/relay.mjs'
import { RARE, sourceOf } from '../lib/source.mjs'
import { dictionary } from '../lib/subscriber.mjs'
import { get } from '../lib/ws.mjs'

const small = ['--segment-bytes', '1M', '--seal-after', '2M']

export default async function suite({ seed, random, ...crash }) {
  const loop = (name, rounds, args, { dropped } = {}) => test(name, async (t) => {
    const rng = random.fork(name)
    const source = sourceOf(seed)
    const r = await relay(t, source, { rate: 1000, repeat: 1 })
    const lives = new Lives(t, { relay: r, source, data: path.join(t.dir(), 'data'), args: [...small, ...args, ...(dictionary ? ['--zstd-dictionary', dictionary.file] : [])] })
    const plain = lives.subscribe('plain')
    lives.subscribe('posts', { collections: ['app.bsky.feed.post'] })
    lives.subscribe('rare', { collections: [RARE] })
    lives.subscribe('dids', { dids: source.variants.slice(100, 140).map((v) => v.did) })
    if (dictionary) lives.subscribe('zstd', { zstd: true, collections: ['app.bsky.feed.like'] })
    let sealed = 0, whole = 0
    const look = async () => {
      const { m, end } = await lives.whole()
      const fresh = await lives.fresh(m, end, { anywhere: dropped })
      if (!dropped) assert.equal(fresh.count, plain.count)
      whole++
      const metrics = await get(`${m.metrics}/metrics`)
      const value = (series) => Number(new RegExp(`^${series} (\\d+)`, 'm').exec(metrics)?.[1] ?? 0)
      sealed = Math.max(sealed, value('moonjet_journal_segments\\{state="sealed"\\}'))
      assert.equal(value('moonjet_source_seq_gap_total\\{[^}]*\\}'), 0)
      assert.equal(value('moonjet_journal_damaged_total'), 0)
      await lives.stop(m, rng.pick(['SIGTERM', 'SIGKILL']))
      await lives.verify()
    }
    for (let i = 1; i <= rounds; i++) {
      r.pace(rng.pick([500, 3000, 20_000]))
      await lives.short(rng.spread(2, crash.longest), { serving: rng.chance(0.7) })
      r.hold()
      if (i % crash.look === 0 || i === rounds) await look()
      if (i % 50 === 0) console.log(`# ${i} of ${rounds} crashes, ${plain.count} events, ${sealed} segments sealed`)
    }
    assert.ok(sealed > 0 || rounds < 50, 'segments were sealed')
    console.log(`# ${rounds} crashes (${lives.unheard} before it listened), ${plain.count} events, ${lives.subs.map((s) => s.count).join(' + ')} received ` +
      `over ${lives.subs.reduce((n, s) => n + s.connections, 0)} connections, ${sealed} segments sealed, ${whole} looks at the whole`)
  }, { seconds: 3600 })

  await loop('crash: kill -9 at any moment loses and repeats nothing', crash.rounds, ['--sync', '50ms'])
  await loop('crash: nor with retention at work', crash.retained, ['--sync', '1s', '--retain-bytes', '64M'], { dropped: true })
}
