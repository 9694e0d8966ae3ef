// Whom we test. A site of ours feeds its own source, so everything can be asked for and fenced; a
// foreign one is watched, and what does not come by within `wait` seconds cannot be checked.
//
// Both keep a `control`: one plain subscriber from the start on, whose lines are what happened. A
// check compares what its own connections get with those.
import { timeUs } from '../../e2e/lib/lines.mjs'
import { Probe } from './probe.mjs'
import { skip, want } from './runner.mjs'
import { unzstd } from './zstd.mjs'

export const seconds = (n) => new Promise((r) => setTimeout(r, n * 1000))
const time = (line) => Number(timeUs(line)) // exact until the year 2255

class Site {
  constructor(url, options) {
    Object.assign(this, { url: url.replace(/\/$/, ''), target: new URL(url).pathname, ...options })
    if (this.target === '/') this.target = '/subscribe'
  }

  // How long to wait for an event that must come.
  get patience() {
    return this.ours ? Probe.patience : this.wait * 1000
  }
  // Sends the request for a subscription and resolves to the probe when the answer is there.
  async request(t, query = '', options = {}) {
    const p = new Probe(this.url, options.target ?? (query ? `${this.target}?${query}` : this.target), options)
    ;(t.probes ??= []).push(p)
    t.defer(() => p.destroy())
    let timer
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`${p.what}: no answer within 20 s`)), 20_000)
    })
    await Promise.race([p.answered, late]).finally(() => clearTimeout(timer))
    return p
  }
  async subscribe(t, query, options) {
    const p = await this.request(t, query, options)
    if (p.status !== 101) want(`answer to ${p.what}`, `${p.status} ${p.body}`, '101')
    return p
  }
  // The JSON of a message, unpacked where it is binary.
  decode(m) {
    m.text ??= unzstd(m.data, this.dictionary).toString('utf8')
    return m.text
  }
  newest() {
    const last = this.control.messages.at(-1)
    return last ? time(last.text) : 0
  }
  // What the control has between two times: (after, upTo].
  between(after, upTo) {
    return this.control.lines.filter((l) => time(l) > after && time(l) <= upTo)
  }
}

// Ours: `world` is lib/world.mjs, `source` its relay, `moonjet` the process, `url` where it listens,
// or where a proxy before it does.
export class OurSite extends Site {
  ours = true
  #rounds = 0

  // The control comes from `direct` where that is another way to the same server; the history, which
  // is what checks judge, by the way that is tested.
  async start(t) {
    this.control = await (this.direct ?? this).subscribe(t, 'cursor=0')
    this.control.what = 'the control'
    const end = await this.control.until((c) => c.lines.findIndex((l) => l.includes('"rkey":"last"')) + 1, 'the history', 30_000)
    const p = await this.subscribe(t, 'cursor=0')
    await p.until(() => p.messages.length >= end, 'the history').catch(() => {})
    this.history = p.messages.slice(0, end).map((m) => m.text ?? `(opcode ${m.op})`)
    p.destroy()
    return this
  }
  async mark() {
    return this.newest()
  }
  feed(events) {
    return this.source.feed(events)
  }
  // A line by its record key.
  line(name) {
    return this.history.find((l) => l.includes(`"rkey":"${name}"`)) ?? `(no event ${name})`
  }
  // An identity event of `who`, after everything that was fed before; its arrival at all probes and
  // the control says that the rest is there. Resolves to its time.
  async fence(probes, who = this.world.ALICE) {
    const handle = `fence${++this.source.fences}.example.com`
    await this.feed([this.world.identity(who, handle)])
    const has = (p) => p.messages.some((m) => this.decode(m).includes(handle))
    await Promise.all([...probes, this.control].map((p) => p.until(has, 'fence')))
    return time(this.control.lines.find((l) => l.includes(handle)))
  }
  // Lets everything happen that a filter may tell apart, until the probes have it.
  async stir(probes, who) {
    await this.feed(this.world.round(`${this.source.fences}x${++this.#rounds}`))
    return this.fence(probes, who)
  }
  // Every line a replay with this query and a while of live after it give, and what the control has
  // of the same span.
  async collect(t, query, who, options) {
    const p = await this.subscribe(t, ['cursor=0', query].filter(Boolean).join('&'), options)
    const end = await this.stir([p], who)
    const got = p.messages.map((m) => this.decode(m)).filter((l) => time(l) < end)
    return { p, got, all: this.between(0, end - 1) }
  }
  async sample() {
    return this.history
  }
}

export class ForeignSite extends Site {
  ours = false

  async start(t) {
    this.control = await this.subscribe(t, '')
    this.control.what = 'the control'
    this.began = performance.now()
    return this
  }
  // What came live in the first `wait` seconds, up to shortly before their end: while a server is
  // still moving a replay over to live, its newest second proves nothing.
  #settled
  sample() {
    this.#settled ??= (async () => {
      while (performance.now() - this.began < (this.wait + 4) * 1000 && this.control.messages.length < 100_000) await seconds(0.2)
      const upTo = this.newest() - 4_000_000
      const lines = this.control.lines.filter((l) => time(l) <= upTo)
      if (lines.length < 10) throw new Error(`only ${lines.length} events came in ${this.wait} s: is ${this.url} live?`)
      return lines
    })()
    return this.#settled
  }
  // Looks in the sample, then in a replay of the last minutes, for events that `pass`.
  async find(pass, what, query) {
    const lines = query ? [] : (await this.sample()).filter(pass)
    if (lines.length) return lines
    const found = (await this.#replayed(query)).filter(pass)
    return found.length ? found : skip(`no ${what} within ${this.wait} s of searching`)
  }
  #replays = new Map()
  #replayed(query = '') {
    if (!this.#replays.has(query)) this.#replays.set(query, this.#replay(query))
    return this.#replays.get(query)
  }
  async #replay(query) {
    const t = { defer() {} }
    const now = this.newest()
    const from = query ? 0 : now - 10 * 60_000_000
    const p = await this.subscribe(t, [`cursor=${from}`, query].filter(Boolean).join('&'))
    const end = performance.now() + this.wait * 1000
    const live = () => p.messages.length && time(p.messages.at(-1).text) >= now
    while (performance.now() < end && p.messages.length < 100_000 && p.open && !live()) await seconds(0.05)
    p.destroy()
    return p.lines
  }
  // A time after all that was sent to any probe until now. The control's copy of it may still be on
  // its way, and nothing can be asked to tell, so this waits.
  async mark() {
    await seconds(0.5)
    return this.newest()
  }
  // Lets time pass until the control and the probes have moved on; resolves to the end of the span
  // in which they can be compared.
  async stir(probes) {
    const from = this.newest()
    const end = performance.now() + this.wait * 1000
    const moved = (p) => p.messages.length && time(this.decode(p.messages.at(-1))) > from + 1_000_000
    while (performance.now() < end && !(moved(this.control) && probes.every(moved))) await seconds(0.05)
    return this.newest() - 500_000
  }
  async collect(t, query, who, { most = Infinity, ...options } = {}) {
    const lines = (await this.sample()).slice(-most)
    const [a, b] = [time(lines[0]), time(lines.at(-1))]
    const p = await this.subscribe(t, [`cursor=${a}`, query].filter(Boolean).join('&'), options)
    const end = performance.now() + this.wait * 1000
    const passed = () => p.messages.length && time(this.decode(p.messages.at(-1))) >= b
    while (performance.now() < end && p.open && !passed()) await seconds(0.05)
    const got = []
    for (const m of p.messages) {
      const line = this.decode(m)
      if (time(line) > b) break // unpacking the rest would take long
      got.push(line)
    }
    return { p, got, all: lines }
  }
}
export { time }
