// main.mjs [SUITE…]: the reliability proof; see README.md. RELIABILITY=short for the one of `make test`.
import fs from 'node:fs'
import { global, results } from '../e2e/lib/harness.mjs'
import { binary } from '../e2e/lib/moonjet.mjs'
import { all, suites } from './suites.mjs'

const wanted = process.argv.slice(2)
const unknown = wanted.filter((w) => !all.includes(w))
if (unknown.length) {
  console.error(`unknown suite ${unknown.join(', ')}; there are ${all.join(', ')}`)
  process.exit(2)
}
if (!fs.existsSync(binary)) {
  console.error(`no binary at ${binary}: build it first`)
  process.exit(2)
}
await suites(wanted)
await global.undo()
console.log(`${results.passed} passed, ${results.failed} failed, ${results.skipped} skipped`)
process.exit(results.failed ? 1 : 0)
