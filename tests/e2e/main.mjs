// main.mjs [SUITE…]: runs the suites in order; the peers always come first.
import fs from 'node:fs'
import { global, results } from './lib/harness.mjs'
import { binary } from './lib/moonjet.mjs'

const suites = [
  'peers', 'corpus', 'scripts', 'simulate', 'lifecycle', 'safety', 'net', 'deliver', 'hooks', 'webhook', 'webhook_delivery', 'agent',
  'richtext', 'bot', 'feed', 'labeler', 'tools', 'specs', 'backtest', 'ctl', 'why', 'state', 'live', 'reliability',
]
const wanted = process.argv.slice(2)
const unknown = wanted.filter((w) => !suites.includes(w))
if (unknown.length) {
  console.error(`unknown suite ${unknown.join(', ')}; there are ${suites.join(', ')}`)
  process.exit(2)
}
if (!fs.existsSync(binary)) {
  console.error(`no binary at ${binary}: build it first`)
  process.exit(2)
}
const started = performance.now()
console.log(`# ${binary}, node ${process.version}`)
for (const name of suites) {
  if (wanted.length && !wanted.includes(name)) continue
  await (await import(`./suites/${name}.mjs`)).default()
  if (name === 'peers' && results.failed) {
    console.log('# the peers themselves fail: Moonjet was not tested')
    break
  }
}
await global.undo()
console.log(`# ${((performance.now() - started) / 1000).toFixed(0)} s`)
console.log(`${results.passed} passed, ${results.failed} failed, ${results.skipped} skipped`)
process.exit(results.failed ? 1 : 0)
