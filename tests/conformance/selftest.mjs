// selftest.mjs [WORD]: proves that the suite can fail. Every mutation of lib/mutations.mjs (or those
// whose description contains WORD) spoils one property on the way to a good server, and each check
// that guards this property must say `not ok`. First the same way unspoiled, where all must pass.
import fs from 'node:fs'
import { Context } from '../e2e/lib/harness.mjs'
import { Probe } from './lib/probe.mjs'
import { mutations } from './lib/mutations.mjs'
import { proxy } from './lib/proxy.mjs'
import { print, run } from './lib/runner.mjs'
import * as ours from './lib/ours.mjs'

for (const f of fs.readdirSync(new URL('checks/', import.meta.url)).sort()) await import(`./checks/${f}`)
const word = process.argv[2] ?? ''
const all = mutations(ours.dictionaryFile && fs.readFileSync(ours.dictionaryFile)).filter(([what]) => what.includes(word))

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
const good = await through({}, guarded.filter((n) => n !== 65), (c, r, s) => r.verdict === 'failed' && print(c, r, s, false))
for (const [i, [what, checks, mutation]] of all.entries()) {
  const at = performance.now()
  const unfit = checks.filter((n) => n !== 65 && good.get(n)?.verdict !== 'passed')
  Probe.patience = 1500
  const by = unfit.length ? null : await through(mutation, checks)
  const missed = by ? checks.filter((n) => by.get(n)?.verdict !== 'failed') : []
  const skipped = unfit.length && unfit.every((n) => good.get(n)?.verdict === 'skipped')
  const took = ((performance.now() - at) / 1000).toFixed(1)
  const verdict = skipped ? 'skipped' : unfit.length || missed.length ? 'failed' : 'passed'
  results[verdict]++
  const why = unfit.length ? `${unfit} ${skipped ? 'was skipped' : 'fails'} without it` : `not noticed by ${missed}`
  console.log(`${verdict === 'failed' ? 'not ok' : 'ok'} ${i + 1} - noticed: ${what} (${checks.join(", ")}, ${took} s)${verdict === 'passed' ? '' : skipped ? ` # SKIP ${why}` : ` # ${why}`}`)
}
await t.undo()
console.log(`# ${((performance.now() - began) / 1000).toFixed(0)} s`)
console.log(`${results.passed} passed, ${results.failed} failed${results.skipped ? `, ${results.skipped} skipped` : ''}`)
process.exit(results.failed ? 1 : 0)
