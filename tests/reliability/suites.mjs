// The suites in order, and how much of each: the whole proof, or the minute of it that `make test`
// has time for.
import { random } from './lib/random.mjs'

export const all = ['shim', 'upstream', 'idle', 'crash', 'powerloss', 'deliver', 'full', 'clock', 'hostile', 'vanish']

const amounts = {
  full: {
    upstream: { cuts: 100 },
    idle: { seconds: 3600, rate: 20 },
    crash: { rounds: 200, retained: 50, longest: 2000, look: 20 },
    powerloss: { rounds: 120, retained: 40, jumps: 40, longest: 1000 },
    deliver: { rounds: 60, losses: 60, longest: 1500, look: 5 },
    full: { each: 3 },
    clock: { steps: 100 },
    hostile: { rounds: 3, rate: 1000, warm: 100_000, stalled: 50, loris: 100, swarm: 2000, patient: true },
    vanish: { peers: 20 },
  },
  short: {
    upstream: { cuts: 3 },
    idle: { seconds: 120, rate: 30 },
    crash: { rounds: 8, retained: 2, longest: 300, look: 8 },
    powerloss: { rounds: 2, retained: 1, jumps: 2, longest: 300 },
    deliver: { rounds: 3, losses: 2, longest: 400, look: 3 },
    full: { some: 2 },
    clock: { steps: 6 },
    hostile: { rounds: 1, rate: 500, warm: 20_000, stalled: 10, loris: 10, swarm: 200, patient: false },
    vanish: { peers: 0 },
  },
}

export async function suites(wanted = [], size = process.env.RELIABILITY ?? 'full') {
  const seed = process.env.SEED ?? String(Math.floor(Math.random() * 2 ** 32))
  const started = performance.now()
  console.log(`# reliability: ${size}, SEED=${seed}`)
  for (const name of all) {
    if (wanted.length && !wanted.includes(name)) continue
    await (await import(`./suites/${name}.mjs`)).default({ seed, random: random(seed, name), ...amounts[size][name] })
  }
  console.log(`# reliability: ${((performance.now() - started) / 1000).toFixed(0)} s, SEED=${seed}`)
}
