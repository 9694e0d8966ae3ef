// A writer of DAG-CBOR that can also write what is none: a Raw goes out as its bytes stand, and
// floats, too large integers and text that is not UTF-8 are made of it.
import { fromString } from '../../e2e/lib/frames.mjs'

export class Raw {
  constructor(hex) {
    this.bytes = Buffer.from(hex, 'hex')
  }
}
export class Link {
  constructor(cid) {
    this.cid = cid
  }
}

function head(major, n) {
  const b = Buffer.alloc(9)
  const v = BigInt(n)
  if (v < 24n) return Buffer.from([(major << 5) | Number(v)])
  if (v < 0x100n) return Buffer.from([(major << 5) | 24, Number(v)])
  if (v < 0x10000n) {
    b[0] = (major << 5) | 25
    b.writeUInt16BE(Number(v), 1)
    return b.subarray(0, 3)
  }
  if (v < 0x100000000n) {
    b[0] = (major << 5) | 26
    b.writeUInt32BE(Number(v), 1)
    return b.subarray(0, 5)
  }
  b[0] = (major << 5) | 27
  b.writeBigUInt64BE(v, 1)
  return b
}

const text = (s) => {
  const b = Buffer.from(s)
  return Buffer.concat([head(3, b.length), b])
}

export function cbor(v) {
  if (v instanceof Raw) return v.bytes
  if (v === null) return Buffer.from([0xf6])
  if (typeof v === 'boolean') return Buffer.from([v ? 0xf5 : 0xf4])
  if (typeof v === 'string') return text(v)
  if (typeof v === 'number' || typeof v === 'bigint') return BigInt(v) < 0n ? head(1, -1n - BigInt(v)) : head(0, v)
  if (v instanceof Uint8Array) return Buffer.concat([head(2, v.length), v])
  if (v instanceof Link) {
    const cid = Buffer.concat([Buffer.from([0]), fromString(v.cid).bytes])
    return Buffer.concat([Buffer.from([0xd8, 42]), head(2, cid.length), cid])
  }
  if (Array.isArray(v)) return Buffer.concat([head(4, v.length), ...v.map(cbor)])
  const pairs = Object.entries(v).map(([k, x]) => [text(k), cbor(x)]).sort(([a], [b]) => a.length - b.length || Buffer.compare(a, b))
  return Buffer.concat([head(5, pairs.length), ...pairs.flat()])
}
