// One property spoiled at a time, and the checks that must notice: [what, checks, mutation], and how
// long they are to wait for what may not come, where that is more than usual.
import { BINARY, CLOSE, PONG, TEXT, frame } from './probe.mjs'
import { unzstd, zstd } from './zstd.mjs'

const line = (edit) => ({
  message: (m, state, ask) => {
    if (m.op !== TEXT) return [m]
    const r = edit(m.data.toString('utf8'), state, ask)
    return (Array.isArray(r) ? r : [r]).map((l) => ({ op: TEXT, data: Buffer.from(l) }))
  },
})
const swap = (from, to) => line((l) => l.replace(from, to))
const swapAll = (from, to) => line((l) => l.replaceAll(from, to))
const target = (from, to) => ({ target: (x) => x.replace(from, to) })
const body = (edit) => ({
  answer: (a) => {
    a.body = edit(a.body)
  },
})
const client = (edit) => ({
  client: (f) => {
    if (f.op !== TEXT) return [f]
    const r = edit(f.payload.toString('utf8'))
    return r === null ? [] : [{ op: TEXT, payload: Buffer.from(r) }]
  },
})
const rkey = (name) => (l) => l.includes(`"rkey":"${name}"`)
// An event that should have been refused, made of the one before it.
const refused = (name) => line((l) => (rkey(`${name}-before`)(l) ? [l, l.replace(`${name}-before`, name).replace(/"time_us":(\d+)/, (_, n) => `"time_us":${Number(n) + 1}`)] : l))
const oneLess = (n) => String(BigInt(n) - 1n)

export const mutations = (dictionary) => [
  ['a fragmented message', [1], { message: (m) => [{ raw: Buffer.concat([frame(m.op, m.data.subarray(0, 9), { fin: false }), frame(0, m.data.subarray(9))]) }] }],
  ['binary instead of text', [1, 49], { message: (m) => [{ op: BINARY, data: m.data }] }],
  ['masked frames', [1], { message: (m) => [{ raw: frame(m.op, m.data, { mask: true }) }] }],
  ['a newline after each event', [1, 5], line((l) => `${l}\n`)],
  ['a subscription without a cursor replays', [1, 39], { target: (x) => (/cursor=\d/.test(x) ? x : `${x.replace('cursor=', '')}${x.includes('?') ? '&' : '?'}cursor=0`) }],
  ['time_us first', [2, 5], swap(/^\{("did":"[^"]*"),("time_us":\d+)/, '{$2,$1')],
  ['a cursor after time_us', [2, 5], swap(/("time_us":\d+),/, '$1,"cursor":1,')],
  ['operation before rev', [3, 4], swap(/("rev":"[^"]*"),("operation":"[^"]*")/, '$2,$1')],
  ['a delete with an empty cid', [4], line((l) => (l.includes('"operation":"delete"') ? l.replace(/\}\}$/, ',"cid":""}}') : l))],
  ['an empty handle', [6], line((l) => l.replace(/("kind":"identity","identity":\{"did":"[^"]*"),"seq"/, '$1,"handle":"","seq"'))],
  ['the handle last', [7], swap(/("handle":"[^"]*"),(.*?)\}\}/, '$2,$1}}')],
  ['a status on active accounts', [8], line((l) => (l.includes('"active":true') ? l.replace('"time":', '"status":"active","time":') : l))],
  ['the status last', [9], swap(/("status":"[^"]*"),("time":"[^"]*")/, '$2,$1')],
  ['no status', [9], swap(/"status":"[^"]*",/, '')],
  ['keys in CBOR order', [10], swap('"aa":3,"b":1', '"b":1,"aa":3')],
  ['keys of a nested map in numeric order', [10], swap('{"10":1,"9":2}', '{"9":2,"10":1}')],
  ['a blob sorted', [11, 5], swap(/("\$type":"blob"),("ref":\{[^}]*\}),("mimeType":"[^"]*")/g, '$1,$3,$2')],
  ['a legacy blob sorted otherwise', [12], swap(/("cid":"[^"]*"),("mimeType":"[^"]*")/, '$2,$1')],
  ['a raw &', [13], swapAll('\\u0026', '&')],
  ['a raw <', [14], swapAll('\\u003c', '<')],
  ['upper-case hexadecimal', [14], swapAll('\\u003e', '\\u003E')],
  ['a raw U+2028', [15], swapAll('\\u2028', '\u2028')],
  ['an escaped é', [15], swapAll('é', '\\u00e9')],
  ['\\b', [16], swapAll('\\u0008', '\\b')],
  ['an escaped /', [16], swapAll('/', '\\/')],
  ['bad UTF-8 printed', [17, 29], refused('utf8')],
  ['an integer rounded', [18], swapAll('9007199254740993', '9007199254740992')],
  ['an integer above 2^63-1 printed', [19], refused('unsigned')],
  ['an integral float printed', [20], refused('integral')],
  ['a fraction printed', [21], refused('fraction')],
  ['a sibling of a fraction lost', [21], line((l) => (rkey('fraction-after')(l) ? [] : l))],
  ['bytes with padding', [22], swapAll('AAEC/w', 'AAEC/w==')],
  ['bytes in the alphabet of URLs', [22], swapAll('+/8', '-_8')],
  ['a link as text', [23], swap(/"to":\{"\$link":("[^"]*")\}/, '"to":$1')],
  ['a null left out', [24], swap(',"nothing":null', '')],
  ['{} as []', [24], swap('"map":{}', '"map":[]')],
  ['keys in the order of their text', [25], swap('"a b":2,"a!":3,"a":1', '"a":1,"a b":2,"a!":3')],
  ['one time for a whole commit', [26, 28], line((l, s) => {
    if (rkey('one')(l)) s.time = /"time_us":\d+/.exec(l)[0]
    return rkey('two')(l) && s.time ? l.replace(/"time_us":\d+/, s.time) : l
  })],
  ['two events of a DID in the wrong order', [27, 28], line((l, s) => {
    if (rkey('turn2')(l) && l.includes('plc:bob')) {
      s.held = l
      return []
    }
    if (!s.held || !rkey('turn3')(l) || !l.includes('plc:bob')) return l
    return [l, s.held]
  })],
  ['an event lost', [27, 29], line((l) => (rkey('turn3')(l) ? [] : l))],
  ['an event twice', [28, 29], line((l) => (rkey('turn3')(l) ? [l, l] : l))],
  ['a tooBig commit sent', [29], line((l) => (rkey('underscore')(l) ? [l.replace('underscore', 'toobig'), l] : l))],
  ['wantedCollections ignored', [30, 31, 32, 33, 34, 35], { target: (x) => x.replaceAll('wantedCollections', 'moon') }],
  ['identity events filtered by collection', [30], line((l, _, ask) => (ask.includes('wantedCollections') && l.includes('"kind":"identity"') && !l.includes('fence') ? [] : l))],
  ['a prefix that matches without its dot', [31], target('app.bsky.feed.*', 'app.bsky.*')],
  ['commas separate', [33], target(/,app\.bsky/, '&wantedCollections=app.bsky')],
  ['a newline after an error', [32, 33, 34, 35, 37, 40, 67], body((b) => `${b}\n`)],
  ['another content type', [32, 40], { answer: (a) => { a.head = a.head.replace('charset=UTF-8', 'charset=utf-8') } }],
  ["v2's words", [32, 34, 37], body((b) => b.replace('invalid subscriber options', 'subscribe: invalid options'))],
  ['wantedDids ignored', [36, 37], { target: (x) => x.replaceAll('wantedDids', 'moon') }],
  ['wantedDids ignored by account events', [36], { target: (x) => x.replace(/(wantedDids=did:plc:bob\w*)/, '$1&wantedDids=did:plc:aliceaaaaaaaaaaaaaaaaaaa') }],
  ['updates ignored', [38, 55, 56, 57, 58, 60, 61], client(() => null)],
  ['a limit of 10,001 DIDs', [38], client((x) => x.replace(',"did:plc:onemore"', ''))],
  ['an empty cursor replays', [39], target(/cursor=(&|$)/, 'cursor=0$1')],
  ['bad cursors are live', [40], target(/cursor=(abc|1\.5|1e6|9{1,}\d*)/, 'cursor=')],
  ['a cursor that excludes its event', [41], target(/cursor=(\d{16})\b/, (_, n) => `cursor=${BigInt(n) + 1n}`)],
  ['a cursor that starts one too early', [41], target(/cursor=(\d{16})\b/, (_, n) => `cursor=${BigInt(n) - 1000000n}`)],
  ['a future cursor replays', [42], { target: (x) => x.replace(/cursor=(\d{16,})/, (_, n) => (Number(n) > Date.now() * 1000 ? 'cursor=0' : `cursor=${n}`)) }],
  ['cursor=0 is live', [43], target(/cursor=0$/, 'cursor=')],
  ['an old cursor is live', [43], target('cursor=1000000000000000', 'cursor=')],
  ['a cursor in seconds replays everything', [44], target(/cursor=\d{10}$/, 'cursor=0')],
  ['a cursor in milliseconds replays everything', [44], target(/cursor=\d{13}$/, 'cursor=0')],
  ['a cursor newer than the newest event replays', [45], target(/cursor=\d{16}$/, 'cursor=0')],
  ['an event lost at the seam', [46, 70], line((l, s, ask) => (ask.includes('cursor=') && (s.n = (s.n ?? 0) + 1) === 700 ? [] : l))],
  ['compress=true ignored', [47, 51], { target: (x) => x.replace('compress=true', 'compress=no') }],
  ['packed without the dictionary', [47], packed(dictionary, (b) => zstd(b, undefined))],
  ['packed with other content', [47, 48], packed(dictionary, (b) => zstd(Buffer.from(b.toString().replace('"kind"', '"kins"')), dictionary))],
  ['Socket-Encoding ignored', [48], { headers: (h) => h.filter((x) => !/^socket-encoding/i.test(x)) }],
  ['compress=1 compresses', [49], target('compress=1', 'compress=true')],
  ['permessage-deflate negotiated', [50], { upgrade: (h) => h.replace('\r\n\r\n', '\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n') }],
  ['no checksum', [51], packed(dictionary, (b) => zstd(b, dictionary, { checksum: false }))],
  ['a negative limit is taken', [52], target('maxMessageSizeBytes=-1', 'maxMessageSizeBytes=300')],
  ['a limit that excludes its own length', [53], target(/maxMessageSizeBytes=(\d+)/, (_, n) => `maxMessageSizeBytes=${oneLess(n)}`)],
  ['a limit modulo 2^32', [54], target('4294967297', '1')],
  ['updates that merge', [55], client((x) => x.replace('{"wantedDids":', '{"wantedCollections":["app.bsky.feed.like"],"wantedDids":'))],
  ["an update's size limit ignored", [56], client((x) => x.replace('maxMessageSizeBytes', 'moon'))],
  ['another close code', [38, 57, 58, 60], closing((code, reason) => [code === 1000 ? 1007 : code, reason])],
  ['no close reason', [57, 58, 60], closing((code) => [code, ''])],
  ['no close frame', [57, 58], { control: (f) => (f.op === CLOSE ? null : [f]) }],
  ['binary messages read as text', [59], { client: (f) => (f.op === BINARY ? [{ op: TEXT, payload: f.payload }] : [f]) }],
  ['large messages obeyed', [59], client((x) => x.trimEnd())],
  ['payload null ignored', [60], client((x) => (x.includes('"payload":null') ? null : x))],
  ['an unknown type is a hello', [61], client((x) => x.replace('"moon"', '"options_update","payload":{}'))],
  ['requireHello ignored', [61, 63], target('requireHello=true', '')],
  ["the replay has the URL's filters", [62], client((x) => x.replace('app.bsky.feed.post', 'app.bsky.feed.like'))],
  ['events from before the hello', [63], target(/(requireHello=true.*)/, '$1&cursor=0')],
  ['requireHello=1 waits', [64], target('requireHello=1', 'requireHello=true')],
  ['a pong without its payload', [65], { control: (f) => (f.op === PONG ? [{ op: PONG, payload: Buffer.alloc(0) }] : [f]) }],
  ['a reader that stops is never noticed', [66], {}, 8000], // the proxy goes on reading
  ['another welcome', [68], body((b) => b.replace('Welcome', 'Hello'))],
  ['a metric under another name', [69], body((b) => b.replaceAll('jetstream_bytes_emitted_total', 'moon'))],
  ['a DID cut at its underscore', [71], { target: (x) => x.replaceAll('did:web:a_b.example', 'did:web:a') }],
  ['malformed parameters refused', [72], target(/^(.*%zz)/, (x) => x.replace('cursor=0', 'cursor=x'))],
  ['kinds= ignored', [101, 108], { target: (x) => x.replaceAll('kinds=', 'moon=') }],
  ['operations= ignored', [102, 108], { target: (x) => x.replaceAll('operations=', 'moon=') }],
  ['caught_up too early', [103], line((l, s, ask) => {
    const first = !s.seen && ask.includes('info=true')
    s.seen = true
    if (first) return ['{"time_us":1,"kind":"info","info":{"name":"caught_up"}}', l]
    return l.includes('"kind":"info"') ? [] : l
  })],
  ['a heartbeat ahead of the stream', [104], line((l) => (l.includes('"name":"cursor"') ? l.replace(/"time_us":\d+/, `"time_us":${Date.now() * 1000 + 3_600_000_000}`) : l))],
  ['another status than 429', [105, 106], { answer: (a) => { a.head = a.head.replace('429', '503') } }],
  ['X-Forwarded-For ignored', [106], { headers: (h) => h.filter((x) => !/^x-forwarded-for/i.test(x)) }],
  ['no word about the dictionary', [109], body((b) => b.replaceAll('dictionary', 'moon'))],
  ['/status is no JSON', [107], body((b) => (b.startsWith('{') ? 'fine' : b))],
]

// A zstd message packed again.
function packed(dictionary, pack) {
  return { message: (m) => [m.op === BINARY ? { op: BINARY, data: pack(unzstd(m.data, dictionary)) } : m] }
}

function closing(edit) {
  return {
    control: (f) => {
      if (f.op !== CLOSE || f.payload.length < 2) return [f]
      const [code, reason] = edit(f.payload.readUInt16BE(0), f.payload.subarray(2).toString())
      const payload = Buffer.concat([Buffer.alloc(2), Buffer.from(reason)])
      payload.writeUInt16BE(code)
      return [{ op: CLOSE, payload }]
    },
  }
}
