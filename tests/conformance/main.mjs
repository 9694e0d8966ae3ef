// main.mjs [URL] [NUMBER|FROM-TO …]: checks a Jetstream v1 server: the one at URL, or our own.
import fs from 'node:fs'
import { Context } from '../e2e/lib/harness.mjs'
import { print, run, selection } from './lib/runner.mjs'
import { ForeignSite } from './lib/site.mjs'
import { readDictionary } from './lib/zstd.mjs'

const words = process.argv.slice(2)
const url = /^(wss?|https?):\/\//.test(words[0] ?? '') ? words.shift().replace(/^http/, 'ws') : null
let selected
try {
  selected = selection(words)
} catch (e) {
  console.error(e.message)
  process.exit(2)
}
for (const f of fs.readdirSync(new URL('checks/', import.meta.url)).sort()) await import(`./checks/${f}`)

const t = new Context()
const began = performance.now()
let site
try {
  if (url) {
    site = new ForeignSite(url, {
      wait: Number(process.env.WAIT || 20), metrics: process.env.METRICS || undefined, dictionary: readDictionary(),
    })
    console.log(`# ${site.url}: what does not come by within ${site.wait} s is skipped`)
  } else {
    const ours = await import('./lib/ours.mjs')
    console.log(`# ${ours.binary}`)
    site = await ours.site(t, await ours.start(t))
  }
  await site.start(t)
} catch (e) {
  console.log(`not ok 0 - the server can be reached\n    ${e.message}`)
  for (const note of t.notes) console.log(note())
  console.log('0 passed, 1 failed, 0 skipped')
  process.exit(1)
}
const r = await run(site, selected, print)
await t.undo()
console.log(`# ${((performance.now() - began) / 1000).toFixed(0)} s`)
console.log(`${r.passed} passed, ${r.failed} failed${r.skipped ? `, ${r.skipped} skipped` : ''}`)
process.exit(r.failed ? 1 : 0)
