// The suites in order, and how much of each: the whole proof, or the minute of it that `make test`
// has time for.
import { random } from './lib/random.mjs'

export const all = ['shim', 'upstream', 'idle', 'hostile', 'crash', 'powerloss', 'full', 'clock', 'vanish']

const amounts = {
  full: { idle: { seconds: 3600, rate: 20 }, upstream: { cuts: 100 },
    crash: { rounds: 200, retained: 50, longest: 2000, look: 20 }, powerloss: { rounds: 150, longest: 2000 }, full: { each: 3 }, steps: { count: 100 }, vanish: { peers: 20 },
    hostile: { rounds: 3, rate: 1000, warm: 100_000, stalled: 50, loris: 100, swarm: 2000, patient: true, args: [] },
  },
  short: { idle: { seconds: 240, rate: 30 }, upstream: { cuts: 5 },
    crash: { rounds: 10, retained: 3, longest: 500, look: 10 }, powerloss: { rounds: 5, longest: 500 }, full: { each: 1 }, steps: { count: 12 }, vanish: { peers: 0 },
    hostile: { rounds: 1, rate: 500, warm: 20_000, stalled: 10, loris: 10, swarm: 200, patient: false, args: [] },
  },
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
