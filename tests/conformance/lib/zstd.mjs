// zstd frames as Jetstream sends them: what the head says (RFC 8878 §3.1.1), and the content.
import fs from 'node:fs'
import path from 'node:path'
import zlib from 'node:zlib'
import { root } from '../../e2e/lib/harness.mjs'

const MAGIC = 0xfd2fb528

// { dictionary id, checksum: bool, contentSize or null } of a frame.
export function zstdHead(b) {
  if (b.length < 6 || b.readUInt32LE(0) !== MAGIC) throw new Error(`no zstd frame: ${b.subarray(0, 8).toString('hex')}`)
  const d = b[4]
  const single = (d & 0x20) !== 0
  const idBytes = [0, 1, 2, 4][d & 3]
  const sizeBytes = [single ? 1 : 0, 2, 4, 8][d >> 6]
  let at = 5 + (single ? 0 : 1)
  const number = (n) => {
    let v = 0
    for (let i = n - 1; i >= 0; i--) v = v * 256 + b[at + i]
    at += n
    return v
  }
  const dictionary = idBytes ? number(idBytes) : null
  const size = sizeBytes ? number(sizeBytes) + (sizeBytes === 2 ? 256 : 0) : null
  return { dictionary, checksum: (d & 4) !== 0, contentSize: size }
}

// The file to use: the one that is named, or the one beside the project; or none.
export const dictionaryFile = process.env.DICTIONARY
  || [path.join(root, '../shared/data/zstd/legacy_subscribe.zdict')].find((f) => fs.existsSync(f))
export const readDictionary = () => dictionaryFile && fs.readFileSync(dictionaryFile)

// The id a dictionary file says it has.
export const dictionaryId = (dictionary) => dictionary.readUInt32LE(4)

// libzstd refuses a wrong dictionary, a wrong checksum and anything left over.
export function unzstd(b, dictionary) {
  return zlib.zstdDecompressSync(b, { dictionary, maxOutputLength: 64 << 20 })
}
export const zstd = (b, dictionary, { checksum = true } = {}) => zlib.zstdCompressSync(b, {
  dictionary, params: { [zlib.constants.ZSTD_c_checksumFlag]: checksum ? 1 : 0, [zlib.constants.ZSTD_c_dictIDFlag]: 1 },
})
