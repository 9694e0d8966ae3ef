// 47-54: zstd with the Jetstream dictionary, and the size limit.
import { check, skip, want, wantLines, wantThat } from '../lib/runner.mjs'
import { dictionaryId, unzstd, zstdHead } from '../lib/zstd.mjs'
import { BINARY, TEXT } from '../lib/probe.mjs'
import { selects } from './filters.mjs'
import { seconds } from '../lib/site.mjs'

const MOST = 2000 // messages of a busy stranger; each loads the dictionary anew

export function needsDictionary(s) {
  if (!s.dictionary) skip('no dictionary: name one with DICTIONARY=FILE', s.ours && 'MOONJET_REQUIRE_SHARED')
}

// All of a span, compressed, equals the plain lines; resolves to the probe.
async function compressed(s, t, query, headers) {
  needsDictionary(s)
  const { p, got, all } = await s.collect(t, query, undefined, { headers, most: MOST })
  want('opcodes', [...new Set(p.messages.map((m) => m.op))], [BINARY])
  const id = dictionaryId(s.dictionary)
  want('dictionary ids', [...new Set(p.messages.map((m) => zstdHead(m.data).dictionary))], [id])
  wantLines('unpacked', got, all)
  return p
}

check(47, 'compress=true: binary, the right dictionary id, the same JSON', async (s, t) => {
  const p = await compressed(s, t, 'compress=true')
  const unpacked = p.messages.filter((m) => m.text)
  const bytes = (of) => unpacked.reduce((n, m) => n + of(m), 0)
  return `ratio ${(bytes((m) => Buffer.byteLength(m.text)) / bytes((m) => m.data.length)).toFixed(2)}`
})

check(48, 'the header Socket-Encoding: zstd does the same', async (s, t) => {
  await compressed(s, t, '', { 'Socket-Encoding': 'zstd' })
  await compressed(s, t, '', { 'Socket-Encoding': 'gzip, zstd' })
})

check(49, 'compress=1 is text', async (s, t) => {
  const { p } = await s.collect(t, 'compress=1')
  want('opcodes', [...new Set(p.messages.map((m) => m.op))], [TEXT])
})

check(50, "a browser's deflate offer with compress=true: 101, no extension", async (s, t) => {
  needsDictionary(s)
  const offer = { 'Sec-WebSocket-Extensions': 'permessage-deflate; client_max_window_bits', Origin: 'https://example.com' }
  for (const query of ['', 'compress=true']) {
    const p = await s.subscribe(t, query, { headers: offer })
    want(`Sec-WebSocket-Extensions with "${query}"`, p.headers['sec-websocket-extensions'] ?? null, null)
    want('Sec-WebSocket-Accept', p.headers['sec-websocket-accept'], p.accept)
    if (s.ours) await s.stir([p])
    else await p.until((x) => x.messages.length, 'an event', s.wait * 1000)
    p.destroy()
  }
})

check(51, 'each zstd frame has a checksum, and it is right', async (s, t) => {
  needsDictionary(s)
  const { p } = await s.collect(t, 'compress=true', undefined, { most: MOST })
  wantThat('messages', p.messages.length > 0, 'some', 0)
  want('frames without a checksum', p.messages.filter((m) => !zstdHead(m.data).checksum).length, 0)
  // That they unpacked means that libzstd found it right; that it looks is shown by a wrong one.
  const spoiled = Buffer.from(p.messages[0].data)
  spoiled[spoiled.length - 1] ^= 1
  let refused = false
  try {
    unzstd(spoiled, s.dictionary)
  } catch {
    refused = true
  }
  want('a spoiled checksum is noticed', refused, true)
})

check(52, 'maxMessageSizeBytes -1, 0, empty, x: no limit', async (s, t) => {
  for (const v of ['-1', '0', '', 'x']) {
    const { got, all } = await s.collect(t, `maxMessageSizeBytes=${v}`)
    wantLines(`maxMessageSizeBytes=${v}`, got, all)
  }
})

check(53, 'a limit of N: length N passes, N+1 is dropped', async (s, t) => {
  const sizes = [...new Set((await s.sample()).map((l) => Buffer.byteLength(l)))].sort((a, b) => a - b)
  // Not below an identity event: ours is fenced by one.
  const n = sizes.find((x, i) => i >= sizes.length >> 1 && x > 300 && sizes.includes(x + 1)) ?? sizes[Math.floor(sizes.length * 0.8)]
  for (const limit of [n, n - 1]) await selects(s, t, `maxMessageSizeBytes=${limit}`, (_, bytes) => bytes <= limit)
  return `N = ${n}`
})

check(54, '4294967297 (v1, a defect: a limit of 1)', async (s, t) => {
  if (s.ours) {
    const { got, all } = await s.collect(t, 'maxMessageSizeBytes=4294967297')
    wantLines('no limit', got, all)
    return
  }
  const p = await s.subscribe(t, 'maxMessageSizeBytes=4294967297')
  const mark = s.newest()
  for (let i = 0; i < 50 && !p.messages.length && s.newest() < mark + 5e6; i++) await seconds(0.2)
  if (p.messages.length) return 'sane: what it says'
  wantThat('the control went on', s.newest() > mark, 'events', 'none')
  return 'as v1: nothing passes'
})
