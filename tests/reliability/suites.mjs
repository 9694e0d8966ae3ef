// The suites in order, and how much of each: the whole proof, or the minute of it that `make test`
// has time for.
import { random } from './lib/random.mjs'

export const all = ['shim', 'upstream', 'idle']

const amounts = {
  full: { idle: { seconds: 3600, rate: 20 }, upstream: { cuts: 100 } },
  short: { idle: { seconds: 240, rate: 30 }, upstream: { cuts: 5 } },
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
