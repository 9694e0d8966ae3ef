// The suites in order, and how much of each: the whole proof, or the minute of it that `make test`
// has time for.
import { random } from './lib/random.mjs'

export const all = ['shim']

const amounts = {
  full: {},
  short: {},
}

export async function suites(wanted = [], size = process.env.RELIABILITY ?? 'full') {
  const seed = process.env.SEED ?? String(Math.floor(Math.random() * 2 ** 32))
  const started = performance.now()
  console.log(`# reliability: ${size}, SEED=${seed}`)
  for (const name of all) {
    if (wanted.length && !wanted.includes(name)) continue
    await (await import(`./suites/${name}.mjs`)).default({ ...amounts[size], size, seed, random: random(seed, name) })
  }
  console.log(`# reliability: ${((performance.now() - started) / 1000).toFixed(0)} s, SEED=${seed}`)
}
