// The source that every run is compared with: a firehose without end, and the events it stands for.
// Frame and events of a seq follow from the seed and the seq alone, so nothing needs to be kept: the
// relay makes the frame when it is asked for it, a subscriber's check makes the line it must get.
//
// There are some thousand variants of a frame; a seq chooses one and writes itself into it (seq,
// rev, rkeys). Making a frame is one copy, checking a line one comparison.
import { createHash } from 'node:crypto'
import { random } from './random.mjs'

export const FIRST = 2 ** 33 // seqs have eight bytes in CBOR from here on, as those of real relays
const VARIANTS = 2048
const OPS_MAX = 4
export const COLLECTIONS = ['app.bsky.feed.like', 'app.bsky.feed.post', 'app.bsky.graph.follow', 'org.example.rare']
export const RARE = COLLECTIONS[3]
const TIME = '2026-01-02T03:04:05.678Z'

const ALPHABET = 'abcdefghijklmnopqrstuvwxyz234567'
const SORTED = '234567abcdefghijklmnopqrstuvwxyz'
// Stand-ins, looked for in what was encoded and overwritten by every seq.
const SEQ = 0x0102030405060708n
const REV = '2222222222222'
const KEY = '9999999990'

// ---- as much CBOR as a frame needs ----

function head(major, n) {
  if (n < 24) return Buffer.from([(major << 5) | n])
  if (n < 256) return Buffer.from([(major << 5) | 24, n])
  const b = Buffer.alloc(n < 65536 ? 3 : 5)
  b[0] = (major << 5) | (n < 65536 ? 25 : 26)
  if (n < 65536) b.writeUInt16BE(n, 1)
  else b.writeUInt32BE(n, 1)
  return b
}
class Link {
  constructor(cid) {
    this.cid = cid
  }
}
function cbor(v) {
  if (v === null) return Buffer.from([0xf6])
  if (typeof v === 'boolean') return Buffer.from([v ? 0xf5 : 0xf4])
  if (typeof v === 'number') return head(0, v)
  if (typeof v === 'bigint') {
    const b = Buffer.alloc(9, 0x1b)
    b.writeBigUInt64BE(v, 1)
    return b
  }
  if (typeof v === 'string') return Buffer.concat([head(3, Buffer.byteLength(v)), Buffer.from(v)])
  if (Buffer.isBuffer(v)) return Buffer.concat([head(2, v.length), v])
  if (v instanceof Link) return Buffer.concat([Buffer.from([0xd8, 0x2a]), head(2, v.cid.length + 1), Buffer.from([0]), v.cid])
  if (Array.isArray(v)) return Buffer.concat([head(4, v.length), ...v.map(cbor)])
  const keys = Object.keys(v).sort((a, b) => a.length - b.length || (a < b ? -1 : 1))
  return Buffer.concat([head(5, keys.length), ...keys.flatMap((k) => [cbor(k), cbor(v[k])])])
}
const cidOf = (block) => Buffer.concat([Buffer.from([1, 0x71, 0x12, 0x20]), createHash('sha256').update(block).digest()])
function base32(bytes) {
  let out = 'b', have = 0, bits = 0
  for (const b of bytes) {
    have = ((have << 8) | b) & 0xfff
    for (bits += 8; bits >= 5; bits -= 5) out += ALPHABET[(have >> (bits - 5)) & 31]
  }
  return bits ? out + ALPHABET[(have << (5 - bits)) & 31] : out
}
function car(root, blocks) {
  const section = (b) => {
    let n = b.length
    const v = []
    for (; n > 127; n = Math.floor(n / 128)) v.push((n % 128) | 128)
    return Buffer.concat([Buffer.from([...v, n]), b])
  }
  return Buffer.concat([section(cbor({ roots: [new Link(root)], version: 1 })),
    ...blocks.map((b) => section(Buffer.concat([cidOf(b), b])))])
}

function framed(payload) {
  const n = payload.length
  const h = Buffer.alloc(n < 126 ? 2 : n < 65536 ? 4 : 10)
  h[0] = 0x82
  h[1] = n < 126 ? n : n < 65536 ? 126 : 127
  if (n >= 126 && n < 65536) h.writeUInt16BE(n, 2)
  else if (n >= 65536) h.writeBigUInt64BE(BigInt(n), 2)
  return Buffer.concat([h, payload])
}

function places(buf, what) {
  const out = []
  for (let at = buf.indexOf(what); at >= 0; at = buf.indexOf(what, at + 1)) out.push(at)
  return out
}

// ---- variants ----

const commitBlock = cbor({ did: 'did:plc:commit', version: 3 })
const root = cidOf(commitBlock)

function commitVariant(did, ops) {
  const blocks = ops.filter((o) => o.block).map((o) => o.block)
  const body = cbor({
    ops: ops.map((o, k) => ({ cid: o.block ? new Link(cidOf(o.block)) : null, path: `${o.collection}/${KEY}-${k}`, action: o.action })),
    rev: REV, seq: SEQ, repo: did, time: TIME, blobs: [], since: null,
    blocks: car(root, [commitBlock, ...blocks]), commit: new Link(root), rebase: false, tooBig: false,
  })
  return {
    did,
    frame: framed(Buffer.concat([cbor({ t: '#commit', op: 1 }), body])),
    ops: ops.map((o, k) => ({
      collection: o.collection,
      line: `{"did":"${did}","time_us":${KEY}000000,"kind":"commit","commit":{"rev":"${REV}","operation":"${o.action}",` +
        `"collection":"${o.collection}","rkey":"${KEY}-${k}"` +
        (o.block ? `,"record":${o.json},"cid":"${base32(cidOf(o.block))}"` : '') + '}}',
    })),
  }
}

function plainVariant(kind, did, fields) {
  const frame = framed(Buffer.concat([cbor({ t: `#${kind}`, op: 1 }), cbor({ did, seq: SEQ, time: TIME, ...fields })]))
  const all = { did, seq: KEY, time: TIME, ...fields }
  const text = Object.keys(all).sort().map((k) => `"${k}":${k === 'seq' ? all[k] : JSON.stringify(all[k])}`).join(',')
  return { did, frame, ops: [{ collection: null, line: `{"did":"${did}","time_us":${KEY}000000,"kind":"${kind}","${kind}":{${text}}}` }] }
}

const sizes = (i, r) => (i === 7 ? 300_000 : i % 512 === 8 ? 20_000 : i % 16 === 9 ? 2000 : r.below(250))

function variant(i, r, text) {
  const did = `did:plc:${Array.from({ length: 24 }, () => ALPHABET[r.below(32)]).join('')}`
  if (i % 64 === 1) return plainVariant('identity', did, r.chance(0.5) ? { handle: `user${i}.example.com` } : {})
  if (i % 128 === 2) return plainVariant('account', did, r.chance(0.5) ? { active: true } : { active: false, status: 'deactivated' })
  const count = i % 20 === 3 ? 2 + r.below(OPS_MAX - 1) : 1
  return commitVariant(did, Array.from({ length: count }, (_, k) => {
    const collection = i % 100 === 4 ? RARE : COLLECTIONS[[0, 0, 0, 1, 1, 2][r.below(6)]]
    if (r.chance(0.1)) return { action: 'delete', collection }
    const at = r.below(30_000), words = text.slice(at, at + sizes(i, r))
    const record = { k, text: words, $type: collection }
    return {
      action: r.chance(0.05) ? 'update' : 'create', collection, block: cbor(record),
      json: `{"$type":"${collection}","k":${k},"text":"${words}"}`,
    }
  }))
}

// ---- the source ----

const DIGITS = 10
function putSeq(buf, at, seq) {
  for (let i = at + DIGITS - 1, n = seq; i >= at; i--) {
    const q = Math.floor(n / 10)
    buf[i] = 48 + n - q * 10
    n = q
  }
}
function putRev(buf, at, seq) {
  let n = seq
  for (let i = at + 12; n > 0; i--) {
    const q = Math.floor(n / 32)
    buf[i] = SORTED.charCodeAt(n - q * 32)
    n = q
  }
}

export const TIME_AT = 52 // of time_us in a line: DIDs are of one length
export const TIME_DIGITS = 16

export class Source {
  constructor(seed) {
    this.seed = seed
    const r = random(seed, 'source')
    const text = Array.from({ length: 330_000 }, () => ALPHABET[r.below(32)]).join('')
    const key = Buffer.from(KEY), seq = Buffer.alloc(8)
    seq.writeBigUInt64BE(SEQ)
    this.variants = Array.from({ length: VARIANTS }, (_, i) => {
      const v = variant(i, r, text)
      v.index = i
      v.seqAt = v.frame.indexOf(seq)
      v.keysAt = places(v.frame, key)
      v.revAt = v.frame.indexOf(`crev\x6d${REV}`) + 5
      if (v.revAt === 4) v.revAt = -1
      for (const o of v.ops) {
        o.line = Buffer.from(o.line)
        o.revAt = o.line.indexOf(`"${REV}"`) + 1 || -1
        o.keyAt = o.line.indexOf(key, TIME_AT + TIME_DIGITS)
      }
      return v
    })
  }

  of(seq) {
    let z = Math.imul(seq ^ 0x5bd1e995, 0x21f0aaad)
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97)
    return this.variants[((z ^ (z >>> 15)) >>> 0) % VARIANTS]
  }

  // The WebSocket frame of a seq, to be copied before the next call.
  frame(seq) {
    const v = this.of(seq)
    v.frame.writeUInt32BE(Math.floor(seq / 2 ** 32), v.seqAt)
    v.frame.writeUInt32BE(seq >>> 0, v.seqAt + 4)
    if (v.revAt >= 0) putRev(v.frame, v.revAt, seq)
    for (const at of v.keysAt) putSeq(v.frame, at, seq)
    return v.frame
  }

  // The line of an event, with the time_us found at `time` in another buffer.
  line(id, from, time) {
    const seq = Math.floor(id / OPS_MAX)
    const o = this.of(seq).ops[id % OPS_MAX]
    if (o.revAt >= 0) putRev(o.line, o.revAt, seq)
    putSeq(o.line, o.keyAt, seq)
    from.copy(o.line, TIME_AT, time, time + TIME_DIGITS)
    return o.line
  }

  // Which events a filter lets through, for next(); `skips` are seqs that were never sent.
  passing({ collections, dids, skips } = {}) {
    const table = this.variants.map((v) => v.ops.map((o) =>
      (!dids || dids.includes(v.did)) && (!collections || o.collection === null || collections.includes(o.collection))))
    return { table, skips }
  }

  // The id of the next event after `id` that passes.
  next(id, passing) {
    let seq = Math.floor(id / OPS_MAX), k = (id % OPS_MAX) + 1
    for (;; seq++, k = 0) {
      if (passing.skips?.has(seq)) continue
      const ok = passing.table[this.of(seq).index]
      for (; k < ok.length; k++) if (ok[k]) return seq * OPS_MAX + k
    }
  }
}

// One per seed is enough: making it takes half a second.
const made = new Map()
export const sourceOf = (seed) => made.get(seed) ?? made.set(seed, new Source(seed)).get(seed)

// Ids: one number per event, in the order of the source.
export const before = FIRST * OPS_MAX - 1
export const idOf = (seq, k) => seq * OPS_MAX + k
export const seqOf = (id) => Math.floor(id / OPS_MAX)

// The id a line says it is.
export function idIn(line) {
  const e = JSON.parse(line)
  if (e.kind !== 'commit') return idOf(e[e.kind].seq, 0)
  const [seq, k] = e.commit.rkey.split('-').map(Number)
  return idOf(seq, k)
}
