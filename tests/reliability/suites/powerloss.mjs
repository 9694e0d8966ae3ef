// The power goes at any moment (shim/powerloss.c, lib/disk.mjs). The router comes up again; its
// journal is sound; what was synced is there with the same time_us; nothing is lost to a subscriber,
// and what comes to one again had not been synced and has a time_us above all that was ever seen.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { test } from '../../e2e/lib/harness.mjs'
import { Disk } from '../lib/disk.mjs'
import { Lives } from '../lib/life.mjs'
import { relay } from '../lib/relay.mjs'
import { clock, memoryDir, watched } from '../lib/shims.mjs'
import { before, RARE, sourceOf } from '../lib/source.mjs'

export default async function suite({ seed, random, ...powerloss }) {
  const loop = (name, rounds, { args = [], dropped = false, steps = false } = {}) => test(name, async (t) => {
    const rng = random.fork(name)
    const source = sourceOf(seed)
    const r = await relay(t, source, { rate: 1000 })
    const memory = memoryDir(t), root = path.join(memory, 'disk'), log = path.join(memory, 'log')
    fs.mkdirSync(root)
    const w = watched(root, log)
    let disk = new Disk(w.dir, log)
    const c = clock(t)
    const env = steps ? { ...w.env, ...c.env, LD_PRELOAD: `${w.env.LD_PRELOAD}:${c.env.LD_PRELOAD}` } : w.env
    const lives = new Lives(t, { relay: r, source, data: path.join(root, 'data'), env })
    const plain = lives.subscribe('plain', {}, { record: true })
    lives.subscribe('rare', { collections: [RARE] })
    lives.subscribe('dids', { dids: source.variants.slice(100, 140).map((v) => v.did) })

    if (dropped) lives.together(5000)

    // What had been received when the log was so long: everything of it was written before.
    let seen = []
    const watch = () => plain.socket?.on('data', () => {
      if (fs.existsSync(log)) seen.push([plain.last, fs.statSync(log).size])
    })
    let times = new Map() // of every event in the journal, by id
    let synced = before, latest = 0, lost = 0, again = 0, gone = false, told = []
    const note = () => {
      for (let i = 0; i < plain.seen.length; i += 2) times.set(plain.seen[i], plain.seen[i + 1])
      plain.seen = []
      latest = Math.max(latest, ...lives.subs.map((s) => s.time))
    }

    for (let round = 1; round <= rounds; round++) {
      lives.args = ['--segment-bytes', '1M', '--seal-after', rng.pick(['1M', '4M', '512M']), '--sync', rng.pick(['0', '20ms', '100ms', '1s']), ...args]
      const rate = rng.pick([300, 2000, 10_000])
      for (let deaths = rng.chance(0.3) ? 1 + rng.below(3) : 1; deaths > 0; deaths--) {
        r.pace(rate)
        await lives.short(rng.spread(5, powerloss.longest), { serving: rng.chance(0.7), attached: watch })
        r.hold()
        disk.settle()
      }
      note()
      const safe = disk.durable()
      for (const [id, size] of seen) if (size <= safe) synced = Math.max(synced, id)
      seen = []
      if (steps) c.step(rng.pick([-86_400, -10, -1, 10, 86_400]))
      const mode = rng.pick(['exact', 'torn', 'torn', 'prefix', 'all'])
      const how = disk.lose(rng, mode)
      fs.rmSync(log, { force: true })
      disk = new Disk(w.dir, log)
      w.reboot()
      told.push(`${round}: ${how}; ${lives.args.slice(3).join(' ')}; synced up to ${synced}, seen up to ${plain.last}`)
      for (const s of lives.subs) s.lost(synced)
      t.notes.length = 0
      t.notes.push(() => `${told.slice(-3).join('\n')}\n${lives.now.err.slice(-3000)}`)

      lives.lossy = true
      const { m } = await lives.whole()
      lives.lossy = false
      const end = r.release(10)
      await Promise.all(lives.subs.map((s) => s.reached(end)))
      await lives.heed(m)
      watch()
      const fresh = await lives.fresh(m, end, { record: true, anywhere: dropped })
      const now = new Map()
      for (let i = 0; i < fresh.seen.length; i += 2) now.set(fresh.seen[i], fresh.seen[i + 1])
      for (let i = 0; i < plain.seen.length; i += 2)
        assert.ok(now.get(plain.seen[i]) === plain.seen[i + 1] || (dropped && plain.seen[i] < fresh.seen[0]), 'everybody gets the same time_us')
      plain.seen = []
      gone = fresh.seen[0] > before + 1
      for (const [id, time] of times) {
        const after = now.get(id)
        if (after === time || (dropped && id < fresh.seen[0])) continue
        assert.ok(id > synced, `${id} was synced with time_us ${time} and has ${after} now`)
        assert.ok(after > latest, `${id} came again with time_us ${after}, which is not above ${latest}, seen before`)
        lost++
      }
      times = now
      for (const s of lives.subs) {
        again += s.repeated ?? 0
        s.repeated = 0
      }
      await lives.stop(m, rng.pick(['SIGTERM', 'SIGKILL']))
      disk.settle()
      await lives.verify()
      if (round % 20 === 0) console.log(`# ${round} of ${rounds} power losses, ${plain.count} events`)
    }
    assert.ok(synced > before || rounds < 30, 'something was synced')
    assert.ok(gone || !dropped || rounds < 30, 'something was dropped')
    console.log(`# ${rounds} power losses in ${lives.count} lives (${lives.unheard} never listened), ${times.size} events, ` +
      `${lost} of them lost unsynced and read again, ${again} subscribers set back by it`)
  }, { seconds: 3600 })

  await loop('powerloss: what was synced stays, what was not comes again, nothing is lost', powerloss.rounds)
  await loop('powerloss: nor with retention at work', powerloss.retained, { args: ['--retain-bytes', '6M'], dropped: true })
  await loop('powerloss: nor when the clock jumps meanwhile', powerloss.jumps, { args: ['--retain', '1000d'], steps: true })
}
