// A router that dies again and again on one data directory, before one relay, with the same
// subscribers coming back to each life of it.
import assert from 'node:assert/strict'
import { Child } from '../../e2e/lib/harness.mjs'
import { binary, command } from '../../e2e/lib/moonjet.mjs'
import { idOf } from './source.mjs'
import { Subscriber } from './subscriber.mjs'
import { get } from './ws.mjs'

export class Lives {
  count = 0
  unheard = 0 // died before they listened
  seq = 0 // next_seq of /_health, which never goes back

  constructor(t, { relay, source, data, args = [], env = {} }) {
    Object.assign(this, { t, relay, source, data, args, env, subs: [] })
  }
  subscribe(name, want, options) {
    const s = new Subscriber(this.t, this.source, name, want, options)
    this.subs.push(s)
    return s
  }

  // Starts one; `up` resolves to true once it listens, false when it died before.
  start({ env = {} } = {}) {
    this.count++
    this.lent ??= { defer: (fn) => (this.undo = fn), notes: [] }
    const m = new Child(this.lent, binary, ['run', '--source', this.relay.url, '--listen', '127.0.0.1:0',
      '--metrics-listen', '127.0.0.1:0', '--data', this.data, '--log-level', 'warn', ...this.args], { env: { ...this.env, ...env } })
    if (this.count === 1) {
      this.t.defer(() => this.undo())
      this.t.notes.push(() => `the last life (of ${this.count}):\n${this.now?.err.slice(-3000)}`)
    }
    this.now = m
    m.up = m.until(() => /listening on (ws:[^\s,"]+?)\/subscribe[\s\S]*metrics on (http:[^\s,"]+)\/metrics/.exec(m.err), 'listening', 60_000)
      .then(([, url, metrics]) => Object.assign(m, { url, metrics, listens: true }).listens, () => false)
    return m
  }
  // All subscribers, and the seqs.
  async attach(m) {
    if (!(await m.up)) return false
    try {
      await this.heed(m)
    } catch (e) {
      if (e instanceof assert.AssertionError) throw e // else: killed meanwhile
    }
    await Promise.all(this.subs.map((s) => s.attach(m.url)))
    return true
  }
  // Seqs never go back; after a power loss (`lossy`) that shows with the first new event.
  async heed(m) {
    const { next_seq: next } = JSON.parse(await get(`${m.metrics}/_health`))
    assert.ok(next >= this.seq || this.lossy, `next_seq went back from ${this.seq} to ${next}`)
    this.seq = Math.max(this.seq, next)
  }
  // kill -9 after so many ms, wherever it is then; with `serving` counted from when it serves.
  async short(ms, { serving = false, attached = () => {} } = {}) {
    const m = this.start()
    let timer
    const kill = () => {
      timer = setTimeout(() => m.proc.kill('SIGKILL'), ms)
    }
    if (serving) m.up.then(kill)
    else kill()
    const everybody = this.attach(m).then(attached)
    const { code, signal } = await m.exit
    clearTimeout(timer)
    await everybody
    if (!m.listens) this.unheard++
    assert.equal(signal, 'SIGKILL', `it ended by itself, with ${code}:\n${m.err.slice(-3000)}`)
    await this.left()
    return m
  }
  // Its subscribers have seen the end of the connection, and nothing wrong.
  async left() {
    for (const s of this.subs) {
      if (s.socket) await s.gone
      if (s.bad) throw new Error(s.bad)
    }
  }
  // A life in which everybody gets everything there is up to now.
  async whole(options) {
    const m = this.start(options)
    if (!(await this.attach(m))) throw new Error(`it did not start again:\n${m.err.slice(-3000)}`)
    const end = this.relay.hold()
    await Promise.all(this.subs.map((s) => s.reached(end)))
    return { m, end }
  }
  // Someone new who wants all that is kept; resolves to that subscriber when it has it.
  async fresh(m, end, options) {
    return this.freshUntil(m, (s) => s.expected >= idOf(end, 0), options)
  }
  async freshUntil(m, probe, options) {
    const s = new Subscriber({ defer() {}, notes: [] }, this.source, 'fresh', {}, options)
    await s.attach(m.url)
    await s.until(() => probe(s), 'all there is')
    await s.leave()
    return s
  }
  async stop(m, signal = 'SIGTERM') {
    m.proc.kill(signal)
    const { code, signal: died } = await m.exit
    assert.deepEqual([code, died], signal === 'SIGTERM' ? [0, null] : [null, signal], m.err.slice(-3000))
    await this.left()
  }
  // The journal says of itself that it is sound.
  async verify() {
    const r = await command({ defer() {}, notes: [] }, ['journal', 'verify', this.data], { env: this.env })
    assert.equal(r.code, 0, `moonjet journal verify ${this.data}:\n${r.out.slice(-2000)}${r.err.slice(-2000)}`)
  }
}
