// Firehose frames: capture files ([u32 LE length][frame]…), reading a frame with @atcute/cbor, and
// building real ones (signed commit, MST, CARv1) for records that no PDS would let us write.
import fs from 'node:fs'
import zlib from 'node:zlib'
import { createHash } from 'node:crypto'
import * as CAR from '@atcute/car'
import * as CBOR from '@atcute/cbor'
import * as CID from '@atcute/cid'
import { P256Keypair } from '@atproto/crypto'

export function readCapture(file) {
  let buf = fs.readFileSync(file)
  if (file.endsWith('.zst')) buf = zlib.zstdDecompressSync(buf)
  const frames = []
  for (let o = 0; o < buf.length;) {
    const len = buf.readUInt32LE(o)
    frames.push(buf.subarray(o + 4, o + 4 + len))
    o += 4 + len
  }
  return frames
}

export const capture = (frames) => Buffer.concat(frames.flatMap((f) => {
  const head = Buffer.alloc(4)
  head.writeUInt32LE(f.length)
  return [head, f]
}))

// { t, seq, body, header length } of a frame.
export function parse(frame) {
  const [header, rest] = CBOR.decodeFirst(frame)
  const [body] = CBOR.decodeFirst(rest)
  return { t: header.t, op: header.op, body, seq: body.seq }
}

// Where the block of an op lies in its frame: { at, length } of the block's data.
export function opBlock(frame, op) {
  const want = op.cid.$link
  const { body } = parse(frame)
  const blocks = Buffer.from(CBOR.fromBytes(body.blocks))
  const base = frame.indexOf(blocks)
  for (const e of CAR.fromUint8Array(blocks)) {
    if (CID.toString(e.cid) !== want) continue
    return { at: base + blocks.indexOf(Buffer.from(e.bytes)), length: e.bytes.length }
  }
  throw new Error(`no block ${want}`)
}

const sha256 = (b) => createHash('sha256').update(b).digest()
export const cidOf = (bytes) => CID.toString(CID.fromDigest(CID.CODEC_DCBOR, sha256(bytes)))
const link = (bytes) => ({ $link: cidOf(bytes) })

function car(root, blocks) {
  const varint = (n) => {
    const out = []
    for (; n > 127; n = Math.floor(n / 128)) out.push((n % 128) | 128)
    return Buffer.from([...out, n])
  }
  const section = (b) => [varint(b.length), b]
  const head = CBOR.encode({ roots: [root], version: 1 })
  return Buffer.concat([...section(head), ...blocks.flatMap((b) =>
    section(Buffer.concat([CID.fromDigest(CID.CODEC_DCBOR, sha256(b)).bytes, b])))])
}

export const key = await P256Keypair.create()

export const { fromString } = CID
const TIME = '2026-01-02T03:04:05.678Z'

// Any other frame: #identity, #account, or one nobody knows.
export const frame = (t, body) => Buffer.concat([CBOR.encode({ t, op: 1 }), CBOR.encode({ time: TIME, ...body })])

// A #commit frame whose repository consists of exactly these records. It is signed by `key`, unless
// a signature is given, which then fits nothing. `more` replaces fields.
// `ops` = [{ action, path, record: CBOR bytes | undefined, cid?: string }]
export async function commitFrame({ seq, did, rev, ops, time = TIME, signature, more }) {
  const records = ops.filter((o) => o.record)
  const entries = records.map((o) => ({ p: 0, k: CBOR.toBytes(Buffer.from(o.path)), v: link(o.record), t: null }))
  const mst = CBOR.encode({ l: null, e: entries })
  const unsigned = { did, version: 3, data: link(mst), rev, prev: null }
  const sig = CBOR.toBytes(signature ?? await key.sign(CBOR.encode(unsigned)))
  const commit = CBOR.encode({ ...unsigned, sig })
  return Buffer.concat([
    CBOR.encode({ t: '#commit', op: 1 }),
    CBOR.encode({
      ops: ops.map((o) => ({ cid: o.record ? (o.cid ? { $link: o.cid } : link(o.record)) : null, path: o.path, action: o.action })),
      rev, seq, repo: did, time, blobs: [], since: null, blocks: CBOR.toBytes(car(link(commit), [commit, mst, ...records.map((o) => o.record)])),
      commit: link(commit), rebase: false, tooBig: false, ...more,
    }),
  ])
}
