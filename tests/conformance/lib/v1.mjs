// What makes a Moonjet look like the original where the two differ on purpose: its defects, for the
// proxy of lib/proxy.mjs. So the half of the suite that meets foreign servers has one to meet.
import zlib from 'node:zlib'
import { BINARY, CLOSE, TEXT } from './probe.mjs'

const now = () => Date.now() * 1000

// Frames as the original's encoder makes small ones: without a content size.
const pack = (b, dictionary) => zlib.zstdCompressSync(b, {
  dictionary, params: { [zlib.constants.ZSTD_c_checksumFlag]: 1, [zlib.constants.ZSTD_c_contentSizeFlag]: 0 },
})

export const asV1 = (dictionary) => ({
  target: (x) => {
    let t = x.replace('compress=true', 'compress=no').replace('4294967297', '1')
    // A cursor newer than the newest event replays everything.
    t = t.replace(/cursor=(\d{16})\b/, (all, n) => (Number(n) > now() - 1_500_000 && Number(n) <= now() ? 'cursor=0' : all))
    // Events from before the hello are collected and sent after it.
    if (t.includes('requireHello=true') && !/cursor=\d/.test(t)) t += `&cursor=${now()}`
    return t
  },
  headers: (h) => h.filter((x) => !/^socket-encoding/i.test(x)),
  client: (f) => [f.op === TEXT ? { op: TEXT, payload: Buffer.from(f.payload.toString('utf8').replace('"maxMessageSizeBytes":400', '"moon":0')) } : f],
  // A reason that quotes Go's JSON library does not fit into a close frame.
  control: (f) => (f.op === CLOSE && f.payload.includes('must be') ? null : [f]),
  message: (m, state) => {
    const time = Number(/"time_us":(\d+)/.exec(m.data)?.[1])
    if (!state.lost && /cursor=\d{16}/.test(state.asked.target) && time > now() - 500_000) {
      state.lost = true // at the seam
      return []
    }
    const zstd = /compress=true/.test(state.asked.target) || state.asked.headers.some((h) => /^socket-encoding:.*zstd/i.test(h))
    return [zstd && dictionary && m.op === TEXT ? { op: BINARY, data: pack(m.data, dictionary) } : m]
  },
})
