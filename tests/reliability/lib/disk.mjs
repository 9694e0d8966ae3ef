// What lies on a disk, told from the log of shim/powerloss.c: for each file the bytes that were
// synced and, in order, the writes that were not; for the directories likewise the names. From that
// lose() makes a directory as a power loss might leave it:
//
//   exact    what was synced, and nothing else
//   torn     besides, any part of the rest: each 512 bytes of a write there or not, sizes grown or
//            not (zeros in the holes), each rename, unlink and new name done or not
//   prefix   besides, the rest up to some moment, cut in the middle of a write
//   all      everything, as if the caches had been written just in time
//
// This is what POSIX promises and no more: syncing a file does not sync its name, syncing a directory
// syncs its names only.
import fs from 'node:fs'
import path from 'node:path'

const [START, CREATE, OPENED, WRITE, TRUNCATE, RENAME, UNLINK, MKDIR, LINK, SYNC, SYNC_DIR, SYNC_ALL, RESULT, BLIND] =
  Array.from({ length: 14 }, (_, i) => i + 1)
const HEAD = 32
const SECTOR = 512

// The bytes of a file. Behind the last one written there are zeros up to its size, which take no room:
// files are made much larger than they are filled.
class Bytes {
  constructor(b = Buffer.alloc(0), size = b.length) {
    Object.assign(this, { b, end: b.length, size })
  }
  copy() {
    return new Bytes(Buffer.from(this.b.subarray(0, this.end)), this.size)
  }
  resize(n) {
    if (n < this.end) {
      this.b.fill(0, n, this.end)
      this.end = n
    }
    this.size = n
  }
  write(at, data, from = 0, to = data.length) {
    if (to === from) return
    if (at + to > this.b.length) {
      const more = Buffer.alloc(Math.max(at + to, 2 * this.b.length))
      this.b.copy(more, 0, 0, this.end)
      this.b = more
    }
    data.copy(this.b, at + from, from, to)
    this.end = Math.max(this.end, at + to)
    this.size = Math.max(this.size, this.end)
  }
  // Where a file differs, or -1. Far behind its end nobody looks.
  differs(file) {
    const fd = fs.openSync(file)
    const size = fs.fstatSync(fd).size
    const real = Buffer.alloc(Math.min(size, this.end + (1 << 20)))
    fs.readSync(fd, real, 0, real.length, 0)
    fs.closeSync(fd)
    const n = Math.min(real.length, this.end)
    if (real.compare(this.b, 0, n, 0, n) !== 0) return real.findIndex((x, i) => x !== this.b[i])
    const tail = real.subarray(n).findIndex((x) => x !== 0)
    return tail >= 0 ? n + tail : size !== this.size ? Math.min(size, this.size) : -1
  }
  save(file) {
    fs.writeFileSync(file, this.b.subarray(0, this.end))
    fs.truncateSync(file, this.size)
  }
}

class File {
  constructor(bytes = new Bytes()) {
    this.synced = bytes
    this.now = bytes.copy()
    this.pending = [] // { type, at, data | size, position }
  }
  do(op) {
    apply(this.now, op)
    this.pending.push(op)
  }
  sync() {
    for (const op of this.pending) apply(this.synced, op)
    this.pending = []
  }
}
const apply = (bytes, op) => (op.type === WRITE ? bytes.write(op.at, op.data) : bytes.resize(op.size))

// Written through a mapping, and perhaps made by a child that only looks; LMDB makes it anew at each
// start, whatever is in it.
const passing = (name) => path.basename(name) === 'lock.mdb'

const DIR = { dir: true } // every directory: all that matters is the name
const parent = (name) => (name.includes('/') ? name.slice(0, name.lastIndexOf('/')) : '')

// Applies an operation on names to a map; false when what it needs is not there.
function applyName(names, op) {
  if (op.type === UNLINK) return names.delete(op.path)
  if (op.type === RENAME || op.type === LINK) {
    const what = names.get(op.path)
    if (!what) return false
    names.set(op.to, what)
    if (op.type === RENAME) names.delete(op.path)
    return true
  }
  names.set(op.path, op.what)
  return true
}

export class Disk {
  position = 0 // in the log
  rest = Buffer.alloc(0)
  ops = { writes: 0, syncs: 0, names: 0 }

  // `dir` as it is now counts as synced.
  constructor(dir, log) {
    Object.assign(this, { dir, log })
    this.#load()
  }
  #load() {
    const names = new Map()
    const walk = (sub) => {
      for (const e of fs.readdirSync(path.join(this.dir, sub), { withFileTypes: true })) {
        const name = sub ? `${sub}/${e.name}` : e.name
        if (e.isDirectory()) {
          names.set(name, DIR)
          walk(name)
        } else names.set(name, new File(new Bytes(fs.readFileSync(path.join(this.dir, name)))))
      }
    }
    walk('')
    this.#begin(names)
  }
  #begin(names) {
    this.synced = names
    this.names = new Map(names)
    this.pending = [] // operations on names, in order
    this.numbers = new Map()
    this.doubtful = null // a record whose result is not known
  }

  // Reads what the log has got since the last time.
  read() {
    if (!fs.existsSync(this.log)) return
    const fd = fs.openSync(this.log, 'r')
    const size = fs.fstatSync(fd).size
    const more = Buffer.alloc(size - this.position - this.rest.length)
    fs.readSync(fd, more, 0, more.length, this.position + this.rest.length)
    fs.closeSync(fd)
    const b = Buffer.concat([this.rest, more])
    let o = 0
    while (b.length - o >= HEAD) {
      const nameLength = b.readUInt32LE(o + 4), n = Number(b.readBigUInt64LE(o + 24))
      const end = o + HEAD + nameLength + n
      if (end > b.length) break
      this.#record({
        type: b.readUInt32LE(o), file: Number(b.readBigUInt64LE(o + 8)), offset: Number(b.readBigInt64LE(o + 16)),
        path: b.toString('utf8', o + HEAD, o + HEAD + nameLength), data: b.subarray(o + HEAD + nameLength, end),
        position: this.position + o,
      })
      o = end
    }
    this.position += o
    this.rest = b.subarray(o) // the process was killed within a record: its call did not happen
  }

  #record(r) {
    if (r.type === RESULT) {
      const done = this.doubtful
      this.doubtful = null
      if (done && r.offset >= 0) this.#did(done, r.offset)
      return
    }
    // Killed between record and result: the call may or may not have had its effect. Its file is
    // looked at by check().
    if (this.doubtful) throw new Error(`record ${r.type} before the result of ${this.doubtful.type}`)
    if (r.type === BLIND) throw new Error(`the shim is blind for: ${r.path}`)
    if (r.type === START) {
      this.numbers.clear()
      return
    }
    if (r.type === SYNC || r.type === SYNC_DIR || r.type === SYNC_ALL) {
      this.ops.syncs++
      if (r.type === SYNC) this.#file(r).sync()
      else this.#syncNames(r.type === SYNC_ALL ? null : r.path)
      if (r.type === SYNC_ALL) for (const f of this.names.values()) f.sync?.()
      return
    }
    this.doubtful = r
  }
  #file(r) {
    const f = this.numbers.get(r.file)
    if (!f) throw new Error(`file ${r.file} was never opened`)
    return f
  }
  #did(r, result) {
    const { type, position } = r
    if (type === OPENED) {
      const f = this.names.get(r.path)
      if (!f) throw new Error(`${r.path} was opened and is not known: it was made unseen`)
      this.numbers.set(r.file, f)
    } else if (type === WRITE) {
      this.ops.writes++
      this.#file(r).do({ type, position, at: r.offset, data: Buffer.from(r.data.subarray(0, result)) })
    } else if (type === TRUNCATE) {
      this.#file(r).do({ type, position, size: r.offset })
    } else {
      this.ops.names++
      const op = { type, position, path: r.path, to: r.data.toString('utf8') }
      if (type === CREATE) this.numbers.set(r.file, op.what = new File())
      if (type === MKDIR) op.what = DIR
      applyName(this.names, op)
      this.pending.push(op)
    }
  }
  #syncNames(dir) {
    const mine = (op) => dir === null || parent(op.path) === dir || (op.to && parent(op.to) === dir)
    for (const op of this.pending.filter(mine)) applyName(this.synced, op)
    this.pending = this.pending.filter((op) => !mine(op))
  }

  // The process is dead: a call without a result is taken as it went, and the log must explain all
  // that lies in the directory.
  settle() {
    this.read()
    this.rest = Buffer.alloc(0)
    if (fs.existsSync(this.log)) fs.truncateSync(this.log, this.position)
    const r = this.doubtful
    this.doubtful = null
    if (r) {
      const real = (name) => fs.existsSync(path.join(this.dir, name))
      if (r.type === WRITE || r.type === TRUNCATE) this.#settleFile(r)
      else if (r.type === OPENED ? this.names.has(r.path) : r.type === UNLINK ? !real(r.path) : r.type === RENAME ? !real(r.path) : real(r.path))
        this.#did(r, 0)
    }
    this.#check()
  }
  #settleFile(r) {
    const file = this.#file(r)
    const name = [...this.names].find(([, f]) => f === file)?.[0]
    if (!name) return
    const fd = fs.openSync(path.join(this.dir, name))
    const size = fs.fstatSync(fd).size
    const real = Buffer.alloc(r.data.length)
    const there = fs.readSync(fd, real, 0, real.length, r.offset)
    fs.closeSync(fd)
    if (r.type === TRUNCATE) {
      if (size === r.offset && file.now.size !== r.offset) this.#did(r, 0)
      return
    }
    // A kill may cut a write short.
    let n = 0
    while (n < there && real[n] === r.data[n]) n++
    if (n) this.#did(r, n)
  }
  #check() {
    const seen = new Set()
    const walk = (sub) => {
      for (const e of fs.readdirSync(path.join(this.dir, sub), { withFileTypes: true })) {
        const name = sub ? `${sub}/${e.name}` : e.name
        seen.add(name)
        const f = this.names.get(name)
        if (passing(name)) continue
        if (e.isDirectory()) walk(name)
        const file = path.join(this.dir, name)
        if (!f) {
          // Killed between making it and recording that.
          if (!e.isDirectory() && fs.statSync(file).size === 0) {
            fs.rmSync(file)
            continue
          }
          throw new Error(`${name} was made unseen`)
        }
        const at = f === DIR ? -1 : f.now.differs(file)
        if (at >= 0) throw new Error(`${name}: changed unseen, first at ${at}; ${f.now.size} bytes by the log`)
      }
    }
    walk('')
    for (const name of this.names.keys()) if (!seen.has(name)) throw new Error(`${name} went away unseen`)
  }

  // The place in the log before which everything is on the disk. Unsynced unlinks do not count, nor do
  // sizes: what comes back with them does no harm to what is
  // there. (Each start cuts the segment the last death left behind, and nobody syncs that.)
  durable() {
    let p = this.position
    const there = new Set([...this.names].filter(([name]) => !passing(name)).map(([, f]) => f))
    for (const f of there) {
      const op = f.pending?.find((x) => x.type === WRITE)
      if (op) p = Math.min(p, op.position)
    }
    for (const op of this.pending) if (op.type !== UNLINK && !passing(op.path)) p = Math.min(p, op.position)
    return p
  }

  // Makes the directory what a power loss leaves of it. Returns what was lost, in words.
  lose(rng, mode) {
    const names = new Map(this.synced)
    const odds = rng.pick([0.1, 0.5, 0.9])
    const until = mode === 'prefix' ? this.#moment(rng) : Infinity
    const takes = (op) => (mode === 'all' ? true : mode === 'exact' ? false : mode === 'prefix' ? op.position < until : rng.chance(odds))
    let lost = 0, kept = 0
    for (const op of this.pending) {
      if (takes(op) && applyName(names, op)) kept++
      else lost++
    }
    // What lies in a directory that is not there is not there.
    const there = (name) => name === '' || (names.has(name) && there(parent(name)))
    const left = [...names].filter(([name]) => there(name)).sort(([a], [b]) => (a < b ? -1 : 1))
    for (const e of fs.readdirSync(this.dir)) fs.rmSync(path.join(this.dir, e), { recursive: true })
    const done = new Map() // two names of one file
    let bytes = 0
    for (const [name, f] of left) {
      const full = path.join(this.dir, name)
      if (f === DIR) {
        fs.mkdirSync(full)
        continue
      }
      if (!done.has(f)) done.set(f, this.#remains(f, rng, mode, odds, until))
      bytes += f.now.end - done.get(f).end
      done.get(f).save(full)
    }
    const words = `${mode}${mode === 'torn' ? ` ${odds}` : ''}, ${lost} names and ${kept} kept, ${bytes} bytes less`
    // What is there now is all that is on the disk.
    const files = new Map([...done].map(([f, b]) => [f, new File(b)]))
    this.#begin(new Map(left.map(([name, f]) => [name, files.get(f) ?? DIR])))
    return words
  }
  #moment(rng) {
    const from = this.durable()
    return from + rng.below(this.position - from + 1)
  }
  #remains(f, rng, mode, odds, until) {
    if (mode === 'all') return f.now.copy()
    const out = f.synced.copy()
    if (mode === 'exact') return out
    const sizes = [out.size]
    for (const op of f.pending) {
      if (mode === 'prefix') {
        if (op.position >= until) break
        const last = op === f.pending.findLast((x) => x.position < until)
        if (last && op.type === WRITE) out.write(op.at, op.data, 0, rng.below(op.data.length + 1))
        else apply(out, op)
        continue
      }
      if (op.type === TRUNCATE) {
        if (rng.chance(odds)) out.resize(op.size)
        sizes.push(out.size)
        continue
      }
      for (let at = op.at; at < op.at + op.data.length;) {
        const end = Math.min((Math.floor(at / SECTOR) + 1) * SECTOR, op.at + op.data.length)
        if (rng.chance(odds)) out.write(op.at, op.data, at - op.at, end - op.at)
        at = end
      }
      sizes.push(Math.max(out.size, sizes.at(-1)))
    }
    if (mode === 'torn' && rng.chance(0.5)) out.resize(Math.max(f.synced.size, rng.pick(sizes)))
    else if (mode === 'torn' && rng.chance(0.5)) out.resize(Math.max(out.size, f.now.size)) // the size went ahead of the bytes
    return out
  }
}
