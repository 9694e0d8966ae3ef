// A webhook, a durable reader, through kill -9 and power loss at any moment, before an endpoint that
// fails now and then. Every event of its collection reaches the endpoint, an account's in order, and
// whatever comes more than once comes under one id.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import http from 'node:http'
import path from 'node:path'
import { eventually, test } from '../../e2e/lib/harness.mjs'
import { Disk } from '../lib/disk.mjs'
import { Lives } from '../lib/life.mjs'
import { relay } from '../lib/relay.mjs'
import { memoryDir, watched } from '../lib/shims.mjs'
import { before, idIn, idOf, sourceOf } from '../lib/source.mjs'

const WANTED = 'app.bsky.graph.follow'
const SCRIPT = `
jet.from "${WANTED}":to(jet.webhook {
  url = jet.config.url, allow = "127.0.0.1", concurrency = 16,
  retry = { tries = 100000, min = "10ms", max = "200ms", ["for"] = "1h" }, refused = "retry", name = "follows",
})
`

// Takes what comes, but refuses, breaks off, or is late now and then; knows what it has taken.
async function endpoint(t, rng) {
  const e = { first: new Map(), taken: 0, again: 0, refused: 0, lastOf: new Map(), wrong: [] }
  const server = http.createServer((req, res) => {
    const parts = []
    req.on('error', () => {})
    req.on('data', (part) => parts.push(part)).on('end', () => {
      const dice = rng.below(100)
      if (dice < 3) return e.refused++, void res.writeHead(rng.pick([500, 503, 429, 404]), { 'retry-after': '0' }).end()
      if (dice < 5) return e.refused++, void req.socket.destroy()
      const line = Buffer.concat(parts).toString()
      const id = idIn(line), { did } = JSON.parse(line), name = req.headers['webhook-id']
      e.taken++
      if (e.first.has(id)) {
        e.again++
        if (e.first.get(id) !== name) e.wrong.push(`${id} came as ${e.first.get(id)} and as ${name}`)
      } else {
        if (e.lastOf.get(did) > id) e.wrong.push(`${id} of ${did} came behind ${e.lastOf.get(did)}`)
        e.first.set(id, name)
        e.lastOf.set(did, id)
      }
      // What is taken and not answered comes again.
      if (dice < 7) req.socket.destroy()
      else res.writeHead(204).end()
    })
  })
  server.keepAliveTimeout = 60_000
  await new Promise((done) => server.listen(0, '127.0.0.1', done))
  t.defer(() => (server.closeAllConnections(), server.close()))
  e.url = `http://127.0.0.1:${server.address().port}/`
  return e
}

export default async function suite({ seed, random, ...deliver }) {
  const run = (name, rounds, { power = false } = {}) => test(name, async (t) => {
    const rng = random.fork(name)
    const source = sourceOf(seed)
    const wanted = source.passing({ collections: [WANTED] })
    for (const [i, v] of source.variants.entries()) wanted.table[i] = v.ops.map((o) => o.collection === WANTED)
    const r = await relay(t, source, { rate: 500, repeat: 1 })
    const dir = power ? memoryDir(t) : t.dir()
    const root = path.join(dir, 'disk'), log = path.join(dir, 'log'), script = path.join(dir, 'follows.lua')
    fs.mkdirSync(root)
    fs.writeFileSync(script, SCRIPT)
    const w = power && watched(root, log)
    let disk = power && new Disk(w.dir, log)
    const e = await endpoint(t, rng)
    const lives = new Lives(t, { relay: r, source, data: path.join(root, 'data'), env: power ? w.env : {} })
    let checked = before, told = []
    t.notes.push(() => told.slice(-3).join('\n'))

    // All there is up to `end` has come.
    const all = (end) => {
      let id = checked
      for (let next; (next = source.next(id, wanted)) < idOf(end, 0); id = next) if (!e.first.has(next)) return false
      checked = id
      return true
    }
    for (let round = 1; round <= rounds; round++) {
      lives.args = ['--segment-bytes', '1M', '--seal-after', rng.pick(['1M', '512M']), '--sync', rng.pick(['0', '20ms', '1s']), script, '--config', `url=${e.url}`]
      for (let deaths = 1 + rng.below(3); deaths > 0; deaths--) {
        r.pace(rng.pick([200, 1000, 3000]))
        await lives.short(rng.spread(5, deliver.longest), { serving: rng.chance(0.8) })
        r.hold()
        if (power) disk.settle()
      }
      if (power) {
        told.push(`${round}: ${disk.lose(rng, rng.pick(['exact', 'torn', 'prefix', 'all']))}; ${lives.args.slice(0, 6).join(' ')}`)
        fs.rmSync(log, { force: true })
        disk = new Disk(w.dir, log)
        w.reboot()
        lives.lossy = true
      }
      if (round % deliver.look && round < rounds) continue
      const m = lives.start()
      assert.ok(await m.up, `it did not start again:\n${m.err.slice(-3000)}`)
      const end = r.release(10)
      // However slow the machine is, as long as something comes.
      for (let came = -1; !all(end) && came < e.first.size; ) {
        came = e.first.size
        await eventually(() => e.first.size > came || all(end), 'more', 60_000).catch(() => {})
      }
      const missing = []
      for (let id = before, next; (next = source.next(id, wanted)) < idOf(end, 0); id = next) if (!e.first.has(next)) missing.push(next)
      assert.equal(missing.length, 0, `${missing.length} of ${missing.length + e.first.size} events have not come: ${missing.slice(0, 3)} … ${missing.at(-1)}`)
      assert.deepEqual(e.wrong, [])
      await lives.stop(m, rng.pick(['SIGTERM', 'SIGKILL']))
      if (power) disk.settle()
      await lives.verify()
    }
    assert.ok(e.refused > 0 || rounds < 10, 'something was refused')
    console.log(`# ${lives.count} lives (${lives.unheard} never listened), ${e.first.size} events, taken ${e.taken} times, refused ${e.refused} times`)
  }, { seconds: 3600 })

  await run('deliver: kill -9 at any moment loses nothing, and an account keeps its order', deliver.rounds)
  await run('deliver: nor does power loss', deliver.losses, { power: true })
}
