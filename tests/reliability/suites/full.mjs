// A disk that is full, and calls that fail: the router stops with status 1 and says which file and what
// to do; whoever was connected has got all that was published; with room again it goes on, and
// nothing was skipped.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { eventually, skip, test } from '../../e2e/lib/harness.mjs'
import { Disk } from '../lib/disk.mjs'
import { Lives } from '../lib/life.mjs'
import { relay } from '../lib/relay.mjs'
import { memoryDir, watched } from '../lib/shims.mjs'
import { RARE, sourceOf } from '../lib/source.mjs'
import { get } from '../lib/ws.mjs'

const ENOSPC = 28, EIO = 5

export default async function suite({ seed, random: rng, each, some }) {
  const begin = async (t, data, options) => {
    const source = sourceOf(seed)
    const r = await relay(t, source)
    const lives = new Lives(t, { relay: r, source, data, args: ['--segment-bytes', '1M', '--seal-after', '2M', '--sync', '50ms'], ...options })
    const plain = lives.subscribe('plain')
    lives.subscribe('rare', { collections: [RARE] })
    return { r, lives, plain }
  }
  // It ends by itself, with a word about it.
  const stops = async (lives, m, file, words) => {
    const { code, signal } = await m.exit
    assert.deepEqual([code, signal], [1, null], m.err.slice(-2000))
    await lives.left()
    assert.match(m.err, words)
    assert.match(m.err, file)
  }
  // A life whose source says nothing: all that anybody has got is in the journal.
  const holdsWhatTheyGot = async ({ r, lives, plain }) => {
    r.mute = true
    const m = lives.start()
    assert.ok(await lives.attach(m), m.err)
    await lives.freshUntil(m, (s) => s.last >= plain.last)
    r.mute = false
    return m
  }

  const own = process.env.RELIABILITY_NS === '1'
  if (own || each) await test('full: a full disk stops it loudly; with room again nothing is missing', async (t) => {
    if (!own) skip('no mount namespace of its own (see run.sh)')
    const dir = t.dir()
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=24m', 'tmpfs', dir])
    t.defer(() => execFileSync('umount', ['-l', dir]))
    const x = await begin(t, path.join(dir, 'data'))
    const filler = path.join(dir, 'filler')
    fs.writeFileSync(filler, Buffer.alloc(8 << 20))
    const words = /No space left on device.*Make room|Make room.*No space left/s
    x.r.pace(20_000)
    const m = x.lives.start()
    assert.ok(await x.lives.attach(m))
    await stops(x.lives, m, /data\/journal\/\S+/, words)
    x.r.hold()
    assert.ok(x.plain.count > 1000)
    // It does not start on the full disk either, or stops again before it says anything new.
    const again = x.lives.start()
    await x.lives.attach(again)
    await stops(x.lives, again, /data\/journal\/\S+/, /No space left on device/)
    fs.rmSync(filler)
    const third = await holdsWhatTheyGot(x)
    const end = x.r.release(1000)
    await Promise.all(x.lives.subs.map((s) => s.reached(end)))
    const fresh = await x.lives.fresh(third, end)
    assert.equal(fresh.count, x.plain.count)
    await x.lives.stop(third)
    await x.lives.verify()
    console.log(`# stopped at ${x.plain.count} events, went on`)
  }, { seconds: 300 })

  // A failed sync may have lost what was to be synced, so what is left is what was synced before.
  const fails = (call, errno, part, after) => test(`full: ${call} on ${part || 'any file'} fails with ${errno === EIO ? 'EIO' : 'ENOSPC'} after ${after}`, async (t) => {
    const memory = memoryDir(t), root = path.join(memory, 'disk')
    fs.mkdirSync(root)
    const w = watched(root, path.join(memory, 'log'))
    const disk = new Disk(w.dir, w.log)
    const x = await begin(t, path.join(root, 'data'), { env: w.env })
    x.r.pace(20_000)
    const m = x.lives.start({ env: { POWERLOSS_FAIL: `${call}:${errno}:${after}${part && `:${part}`}` } })
    await x.lives.attach(m)
    await stops(x.lives, m, /journal/, errno === EIO ? /Input\/output error/ : /No space left on device/)
    x.r.hold()
    disk.settle()
    if (call === 'sync') {
      disk.lose(rng, 'exact')
      fs.rmSync(w.log)
      w.reboot()
      x.lives.lossy = true
      for (const s of x.lives.subs) s.lost(0)
    } else if (x.plain.count) {
      await x.lives.stop(await holdsWhatTheyGot(x))
    }
    const { m: next, end } = await x.lives.whole()
    const fresh = await x.lives.fresh(next, end)
    assert.equal(fresh.expected, x.plain.expected)
    await x.lives.stop(next)
    await x.lives.verify()
  }, { seconds: 300 })

  // Sealing only saves room: when there is none for it, that is said, and all goes on.
  const unsealed = (call, errno, after) => test(`full: a segment that cannot be sealed (${call} fails) stays as it is`, async (t) => {
    const memory = memoryDir(t), root = path.join(memory, 'disk')
    fs.mkdirSync(root)
    const w = watched(root, path.join(memory, 'log'))
    const x = await begin(t, path.join(root, 'data'), { env: w.env })
    const m = x.lives.start({ env: { POWERLOSS_FAIL: `${call}:${errno}:${after}:sealed` } })
    await x.lives.attach(m)
    const all = async (n) => {
      const end = x.r.release(n)
      await Promise.all(x.lives.subs.map((s) => s.reached(end)))
      return end
    }
    const sealed = async (of) => Number(/^moonjet_journal_segments\{state="sealed"\} (\d+)/m.exec(await get(`${of.metrics}/metrics`))[1])
    await all(20_000)
    await m.until(() => /not sealed/.test(m.err), 'word of it')
    assert.match(m.err, /sealed/)
    await all(1000)
    await x.lives.stop(m)
    const next = x.lives.start()
    assert.ok(await x.lives.attach(next), next.err)
    const end = await all(1000)
    await eventually(async () => (await sealed(next)) > 0, 'segments sealed after all')
    const fresh = await x.lives.fresh(next, end)
    assert.equal(fresh.count, x.plain.count)
    await x.lives.stop(next)
    await x.lives.verify()
  }, { seconds: 300 })

  await unsealed('write', ENOSPC, rng.below(300_000))
  if (each) {
    await unsealed('sync', ENOSPC, 0)
    await unsealed('open', ENOSPC, 0)
  }

  const cases = [
    ['write', ENOSPC, '', 10_000, 5_000_000],
    ['write', EIO, '.data', 1000, 3_000_000],
    ['write', EIO, '.index', 100, 100_000],
    ['write', ENOSPC, '.marks', 1100, 20_000],
    ['write', ENOSPC, 'reserve', 0, 1],
    ['write', EIO, 'collections', 0, 60],
    ['sync', EIO, '.data', 0, 20],
    ['sync', EIO, '.marks', 0, 20],
    ['sync', EIO, '', 0, 50],
    ['open', ENOSPC, '.data', 0, 4],
    ['open', EIO, '.index', 0, 4],
  ]
  const chosen = each ? cases.flatMap((c) => Array(each).fill(c)) : [cases[0], ...Array.from({ length: some }, () => rng.pick(cases.slice(1)))]
  for (const [call, errno, part, low, high] of chosen) await fails(call, errno, part, low + rng.below(high - low))
}
