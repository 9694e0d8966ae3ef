// A subscriber that checks every byte it gets against the source: the very lines, in the source's
// order, none missing, none twice, time_us strictly rising, over as many connections as it takes. It
// comes back with the time_us of its last event as cursor; that event must come again and is the
// only one that may.
//
// With zstd, every message is unpacked with the dictionary first.
//
// After a power loss the journal may have lost its newest events, those not synced. Then what the
// subscriber has seen above `synced` may come once more, with new time_us (see lost()).
import fs from 'node:fs'
import path from 'node:path'
import zlib from 'node:zlib'
import { root } from '../../e2e/lib/harness.mjs'
import { before, idIn, idOf, TIME_AT, TIME_DIGITS } from './source.mjs'
import { Frames, masked, open } from './ws.mjs'

const query = ({ collections = [], dids = [], zstd }) =>
  [...collections.map((c) => `wantedCollections=${c}`), ...dids.map((d) => `wantedDids=${d}`), ...(zstd ? ['compress=true'] : [])]

function timeAt(b, at) {
  let n = 0
  for (let i = at; i < at + TIME_DIGITS; i++) n = n * 10 + b[i] - 48
  return n
}

const file = path.join(root, '../shared/data/zstd/legacy_subscribe.zdict')
// { file, bytes } of Jetstream's dictionary, where the shared data and a Node that can use it are.
export const dictionary = zlib.zstdDecompressSync && fs.existsSync(file) ? { file, bytes: fs.readFileSync(file) } : null

export class Subscriber {
  count = 0 // events got, each once
  connections = 0
  pings = 0
  bad = null // what was wrong first
  delays = null // an array, to have the ms from time_us to here collected
  #watchers = new Set()

  // `want` = { collections, dids, zstd: true, skips: seqs the source leaves out }. `record` keeps
  // what was seen, as pairs of id and time; `anywhere`: the first event may be any.
  constructor(t, source, name, want = {}, { record = false, anywhere = false } = {}) {
    Object.assign(this, { source, name, want, last: before, time: 0, synced: 0, record, anywhere })
    this.passing = source.passing(want)
    this.expected = source.next(before, this.passing)
    this.seen = []
    t.defer(() => this.leave())
    t.notes.push(() => `${name}: ${this.count} events, ${this.connections} connections, last ${this.last} at ${this.time}${this.bad ? `; ${this.bad}` : ''}`)
  }

  // Connects; false when the server is not (or no longer) there.
  async attach(url) {
    const q = [...query(this.want), `cursor=${this.time}`].join('&')
    let s
    try {
      s = await open(url, `/subscribe?${q}`)
    } catch (e) {
      if (/^HTTP/.test(e.message)) this.fail(`refused: ${e.message}`)
      return false
    }
    this.connections++
    this.socket = s
    this.again = this.time !== 0
    this.closed = null
    const frames = new Frames((first, b, from, to) => this.#frame(first, b, from, to))
    s.removeAllListeners('close')
    s.removeAllListeners('error')
    s.on('error', () => {})
    this.gone = new Promise((ok) => {
      s.once('close', () => {
        this.#look()
        ok()
      })
    })
    s.on('data', (d) => {
      if (this.bad) return
      try {
        frames.feed(d)
      } catch (e) {
        this.fail(e.stack)
      }
      this.#look()
    })
    if (s.early.length) s.emit('data', s.early)
    s.resume()
    return true
  }

  // The newest events may be gone from the journal; up to `synced` they are not.
  lost(synced) {
    this.synced = this.lossy ? Math.min(this.synced, synced) : synced
    this.lossy = true
  }

  #frame(first, b, from, to) {
    if (this.bad) return
    if (first === 0x89) {
      this.pings++
      return this.socket.write(masked(0x8a, b.subarray(from, to)))
    }
    if (first === 0x88) {
      this.closed = { code: to - from >= 2 ? b.readUInt16BE(from) : 1005, reason: b.toString('utf8', from + 2, to) }
      return this.socket.end(masked(0x88, b.subarray(from, from + 2)))
    }
    if (first === 0x82 && this.want.zstd) {
      const text = zlib.zstdDecompressSync(b.subarray(from, to), { dictionary: dictionary.bytes })
      this.#event(text, 0, text.length)
    } else if (first === 0x81 && !this.want.zstd) {
      this.#event(b, from, to)
    } else {
      this.fail(`a frame that begins with 0x${first.toString(16)}`)
    }
  }

  #event(b, from, to) {
    const time = timeAt(b, from + TIME_AT)
    if (this.again) {
      this.again = false
      if (time === this.time) {
        this.lossy = false
        if (!this.#is(this.last, b, from, to)) this.fail(`at its cursor it got ${this.#show(b, from, to)} instead of ${this.last}`)
        return
      }
      if (!this.lossy) return this.fail(`the event of its cursor ${this.time} (id ${this.last}) did not come again, but ${this.#show(b, from, to)}`)
      // The event of the cursor is lost; the stream goes on somewhere above what was synced.
      const id = idIn(b.toString('utf8', from, to))
      if (id > this.expected) return this.fail(`gap after a power loss: ${id} instead of ${this.expected} or one before`)
      if (this.source.next(id - 1, this.passing) !== id) return this.fail(`${id} is not for this filter`)
      if (id <= this.synced) return this.fail(`${id} came again although everything up to ${this.synced} was synced`)
      this.repeated = (this.repeated ?? 0) + 1
      this.expected = id
      this.lossy = false
    }
    if (this.anywhere) {
      this.expected = idIn(b.toString('utf8', from, to))
      this.anywhere = false
    }
    if (time <= this.time) return this.fail(`time_us went from ${this.time} to ${time}: ${this.#show(b, from, to)}`)
    if (!this.#is(this.expected, b, from, to)) return this.fail(`after ${this.last} it got ${this.#show(b, from, to)} instead of ${this.expected}`)
    this.last = this.expected
    this.time = time
    this.count++
    if (this.record) this.seen.push(this.last, time)
    if (this.delays) this.delays.push((performance.timeOrigin + performance.now()) - time / 1000)
    this.expected = this.source.next(this.last, this.passing)
  }

  #is(id, b, from, to) {
    const want = this.source.line(id, b, from + TIME_AT)
    return want.length === to - from && b.compare(want, 0, want.length, from, to) === 0
  }
  #show(b, from, to) {
    const line = b.toString('utf8', from, to)
    let id
    try {
      id = idIn(line)
    } catch {
      id = 'nonsense'
    }
    return `${id} (${line.slice(0, 200)})`
  }

  fail(why) {
    this.bad ??= `${this.name}: ${why}`
    this.socket?.destroy()
    this.#look()
  }
  #look() {
    this.#watchers.forEach((w) => w())
  }

  // Resolves once `probe()` holds; fails with what was wrong with the stream, or when the server
  // is gone.
  until(probe, what, ms = 60_000) {
    return new Promise((resolve, reject) => {
      const done = (f, v) => {
        clearTimeout(timer)
        this.#watchers.delete(look)
        f(v)
      }
      const look = () => {
        if (this.bad) return done(reject, new Error(this.bad))
        if (probe()) return done(resolve)
        if (this.socket.destroyed) done(reject, new Error(`${this.name}: cut off (${JSON.stringify(this.closed)}) before ${what}, at ${this.last}`))
      }
      const timer = setTimeout(() => done(reject, new Error(`${this.name}: no ${what} within ${ms} ms, at ${this.last}, expecting ${this.expected}`)), ms)
      this.#watchers.add(look)
      look()
    })
  }
  // Everything below this seq has arrived.
  reached(seq, ms) {
    return this.until(() => this.expected >= idOf(seq, 0), `everything below seq ${seq}`, ms)
  }

  leave() {
    this.socket?.destroy()
    return this.gone
  }
}
