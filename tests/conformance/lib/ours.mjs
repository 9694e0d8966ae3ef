// Starts Moonjet for a run of ours: a stub relay with the world of lib/world.mjs, and the process.
import { corpus } from '../../e2e/lib/corpus.mjs'
import { Moonjet, binary, command } from '../../e2e/lib/moonjet.mjs'
import { relay } from '../../e2e/lib/relay.mjs'
import * as world from './world.mjs'
import { OurSite } from './site.mjs'
import { dictionaryFile, readDictionary } from './zstd.mjs'

// The options this build knows, by its own help.
let help
export async function knows(t, option) {
  help ??= (await command(t, ['run', '--help'])).out
  return new RegExp(`--${option}(?![\\w-])`).test(help)
}

// A Moonjet over a source, with the dictionary where it takes one.
export async function moonjet(t, source, { args = [], data, dictionary = true } = {}) {
  const zstd = dictionary && dictionaryFile && await knows(t, 'zstd-dictionary') ? ['--zstd-dictionary', dictionaryFile] : []
  return Moonjet.run(t, { source: source.url, args: [...zstd, ...args], data })
}

export async function start(t) {
  const source = await world.source(t)
  const m = await moonjet(t, source)
  const history = world.history()
  await source.feed(history)
  return { source, moonjet: m, expected: world.visible(history) }
}

// A site over what start() gave. `through(t, url)` resolves to the URL of a proxy before it.
export async function site(t, { source, moonjet: m, expected }, through) {
  const to = async (url) => (through ? through(t, url) : url)
  return new OurSite(`${await to(m.url)}/subscribe`, {
    direct: through && new OurSite(`${m.url}/subscribe`), world, source, moonjet: m, expected, corpus, knows: (o) => knows(t, o), metrics: await to(m.metricsUrl),
    dictionary: readDictionary(),
    // A second Moonjet, for checks that stop it, load it or want other options. Its source: a relay
    // of `frames`, the given one (after a restart), or a new one that can be fed.
    another: async (u, { frames, source: given, ...options } = {}) => {
      const r = given ?? (frames ? await relay(u, frames) : await world.source(u))
      const n = await moonjet(u, r, options)
      return { site: await site(u, { source: r, moonjet: n }, through), source: r, moonjet: n }
    },
  })
}
export { binary }
