// selftest.mjs [WORD]: proves that the suite can fail. Every mutation of lib/mutations.mjs (or those
// whose description contains WORD) spoils one property on the way to a good server, and each check
// that guards this property must say `not ok`. First the same way unspoiled, where all must pass.
// Then the suite meets our server as a stranger, as it is and with the original's defects: nothing
// may fail, and the remarks must say which of the two it is.
import fs from 'node:fs'
import { Context } from '../e2e/lib/harness.mjs'
import { Probe } from './lib/probe.mjs'
import { mutations } from './lib/mutations.mjs'
import { proxy } from './lib/proxy.mjs'
import { print, run } from './lib/runner.mjs'
import { ForeignSite, seconds } from './lib/site.mjs'
import { asV1 } from './lib/v1.mjs'
import * as ours from './lib/ours.mjs'
import * as world from './lib/world.mjs'
import { readDictionary } from './lib/zstd.mjs'

for (const f of fs.readdirSync(new URL('checks/', import.meta.url)).sort()) await import(`./checks/${f}`)
const word = process.argv[2] ?? ''
const all = mutations(readDictionary()).filter(([what]) => what.includes(word))

const t = new Context()
const began = performance.now()
const base = await ours.start(t)
const results = { passed: 0, failed: 0, skipped: 0 }

// The results of some checks behind a proxy, by number.
async function through(mutation, numbers, report) {
  const u = new Context()
  try {
    const site = await ours.site(u, base, (v, url) => proxy(v, url, mutation))
    await site.start(u)
    return (await run(site, (n) => numbers.includes(n), report)).by
  } catch (e) {
    // Spoiled so much that not even the history came through.
    return new Map(numbers.map((n) => [n, { verdict: 'failed', error: e }]))
  } finally {
    await u.undo()
  }
}

const guarded = [...new Set(all.flatMap(([, checks]) => checks))]
// 65 takes half a minute, and 66 is about what a proxy hides.
const alone = [65, 66]
const good = await through({}, guarded.filter((n) => !alone.includes(n)), (c, r, s) => r.verdict === 'failed' && print(c, r, s, false))
for (const [i, [what, checks, mutation, patience = 1500]] of all.entries()) {
  const at = performance.now()
  const unfit = checks.filter((n) => !alone.includes(n) && good.get(n)?.verdict !== 'passed')
  Probe.patience = patience
  const by = unfit.length ? null : await through(mutation, checks)
  const missed = by ? checks.filter((n) => by.get(n)?.verdict !== 'failed') : []
  const skipped = unfit.length && unfit.every((n) => good.get(n)?.verdict === 'skipped')
  const took = ((performance.now() - at) / 1000).toFixed(1)
  const verdict = skipped ? 'skipped' : unfit.length || missed.length ? 'failed' : 'passed'
  results[verdict]++
  const why = unfit.length ? `${unfit} ${skipped ? 'was skipped' : 'fails'} without it` : `not noticed by ${missed}`
  const tail = verdict === 'passed' ? '' : skipped ? ` # SKIP ${why}` : ` # ${why}`
  console.log(`${verdict === 'failed' ? 'not ok' : 'ok'} ${i + 1} - noticed: ${what} (${checks.join(', ')}; ${took} s)${tail}`)
}

// Checks a foreign site that is ours in truth, while its source is busy.
async function asStranger(n, what, mutation, remarks) {
  if (!`a foreign server, ${what}`.includes(word)) return
  const u = new Context()
  const at = performance.now()
  const wrong = []
  const skipped = []
  try {
    const url = await proxy(u, base.moonjet.url, mutation)
    const site = new ForeignSite(`${url}/subscribe`, { wait: 3, dictionary: readDictionary(), metrics: base.moonjet.metricsUrl })
    await site.start(u)
    // Not 65 and 66: they take as long as they take.
    const { by } = await run(site, (n) => n < 65 || (n > 66 && n < 73), (c, r, s) => {
      if (r.verdict === 'failed' || process.env.VERBOSE) print(c, r, s, false)
      if (r.verdict === 'skipped') skipped.push(c.n)
    })
    for (const [k, r] of by) if (r.verdict === 'failed') wrong.push(`${k} failed`)
    for (const [k, start] of Object.entries(remarks)) {
      const { note } = by.get(Number(k))
      if (!note?.startsWith(start)) wrong.push(`${k} says "${note}", not "${start}…"`)
    }
  } catch (e) {
    wrong.push(e.message)
  }
  await u.undo()
  results[wrong.length ? 'failed' : 'passed']++
  const took = ((performance.now() - at) / 1000).toFixed(1)
  const tail = wrong.length ? wrong.join('; ') : `skipped there: ${skipped}`
  console.log(`${wrong.length ? 'not ok' : 'ok'} ${all.length + n} - a foreign server, ${what} (${took} s) # ${tail}`)
}
const remarks = (start, ...numbers) => Object.fromEntries(numbers.map((n) => [n, start]))

Probe.patience = 10_000
let busy = true
const traffic = (async () => {
  for (let n = 0; busy; n++) {
    await base.source.feed(world.round(`stranger${n}`))
    await seconds(0.05)
  }
})()
await Promise.all([
  asStranger(1, 'sane', {}, remarks('sane', 45, 46, 54, 56, 63)),
  asStranger(2, 'with the defects of the original', asV1(readDictionary()), remarks('as v1', 45, 46, 54, 56, 63)),
])
busy = false
await traffic
await t.undo()
console.log(`# ${((performance.now() - began) / 1000).toFixed(0)} s`)
console.log(`${results.passed} passed, ${results.failed} failed${results.skipped ? `, ${results.skipped} skipped` : ''}`)
process.exit(results.failed ? 1 : 0)
