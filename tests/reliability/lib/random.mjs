// Randomness that a seed repeats. Each use takes a stream of its own by name, so that one more draw
// here does not change what is drawn there.
import { createHash } from 'node:crypto'

export function random(seed, name = '') {
  let s = createHash('sha256').update(`${seed}/${name}`).digest().readUInt32LE(0)
  const u32 = () => {
    s = (s + 0x9e3779b9) | 0
    let z = s
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad)
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97)
    return (z ^ (z >>> 15)) >>> 0
  }
  const unit = () => u32() / 2 ** 32
  const below = (n) => Math.floor(unit() * n)
  return {
    u32, unit, below,
    chance: (p) => unit() < p,
    pick: (list) => list[below(list.length)],
    // As likely between 1 and 10 as between 10 and 100: early moments get their share.
    spread: (low, high) => low * (high / low) ** unit(),
    bytes: (n) => Buffer.from(Array.from({ length: n }, () => below(256))),
    fork: (more) => random(seed, `${name}/${more}`),
  }
}
