// attack.mjs: every kind of hostile subscriber, in a process of its own so that the healthy ones are
// not kept waiting by the making of 10 MB messages. It takes orders (at the end of this file) from
// suites/hostile.mjs and answers when one is done.
import net from 'node:net'
import { random } from './random.mjs'
import { masked, open, upgrade } from './ws.mjs'

const TEXT = 0x81, BINARY = 0x82, CLOSE = 0x88, PING = 0x89

const gone = (s) => new Promise((ok) => (s.destroyed ? ok() : s.once('close', ok)))
const update = (payload, pad = 0) => JSON.stringify({ type: 'options_update', payload }) + ' '.repeat(pad)
const quiet = '/subscribe?requireHello=true'

// A bare connection that swallows what comes.
function dial(url, { read = true } = {}) {
  const u = new URL(url)
  return new Promise((ok) => {
    const s = new net.Socket()
    if (!read) s.pause()
    s.on('error', () => {})
    s.once('close', () => ok(s))
    s.connect(Number(u.port), u.hostname, () => ok(s))
    if (read) s.resume()
  })
}

// A subscriber that sends these bytes; resolves when the server has closed, or has answered a ping
// sent behind them, which proves that it went on reading (unless only a close will do).
export async function say(url, bytes, { leave, only } = {}) {
  const s = await open(url, quiet)
  if (leave) leave.push(s)
  s.removeAllListeners('error').removeAllListeners('close')
  s.on('error', () => {})
  const answered = new Promise((ok) => s.on('data', (d) => d.includes('PROOF') && ok('goes on')))
  s.resume()
  for (const b of Array.isArray(bytes) ? bytes : [bytes]) s.write(b)
  if (only !== 'closed') s.write(masked(PING, 'PROOF'))
  const what = await Promise.race([answered, gone(s).then(() => 'closed')])
  s.destroy()
  return what
}

const deep = (n) => '['.repeat(n) + ']'.repeat(n)
export const wrong = (rng) => [
  ['text without a mask', masked(TEXT, update({}), { mask: null })],
  ['a mask of zeros', masked(TEXT, update({}), { mask: Buffer.alloc(4) }), 'goes on'],
  ...[0xc1, 0xa1, 0x91, 0xf1].map((b) => [`reserved bits ${b.toString(16)}`, masked(b, update({}))]),
  ...[3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf].map((op) => [`opcode ${op}`, masked(0x80 | op, 'x')]),
  ...[8, 9, 10].map((op) => [`a fragment of control ${op}`, masked(op, 'x')]),
  ...[8, 9, 10].map((op) => [`control ${op} of 126 bytes`, masked(0x80 | op, 'x'.repeat(126))]),
  ['control of 64 KiB', masked(PING, 'x'.repeat(65536))],
  ['a continuation of nothing', masked(0x80, 'x')],
  ['text within text', [masked(0x01, '{"type":'), masked(TEXT, update({}))]],
  ['a ping within text', [masked(0x01, update({}).slice(0, 9)), masked(PING, 'PROOF'), masked(0x80, update({}).slice(9))], 'goes on'],
  ['text in a thousand pieces', [masked(0x01, ''), ...Array(1000).fill(masked(0x00, ' ')), masked(0x80, update({}))], 'goes on'],
  ['UTF-8 that is none', masked(TEXT, Buffer.from([0x22, 0xff, 0xc0, 0x80, 0x22]))],
  ['a surrogate in UTF-8', masked(TEXT, Buffer.from([0x22, 0xed, 0xa0, 0x80, 0x22]))],
  ['2^63 bytes announced', masked(TEXT, 'x', { length: 2 ** 53 }).fill(0xff, 2, 3)],
  ['2^40 bytes announced', masked(TEXT, 'x', { length: 2 ** 40 }), undefined, true],
  ['a close of one byte', masked(CLOSE, 'x')],
  ['a close with 1005', masked(CLOSE, Buffer.from([0x03, 0xed]))],
  ['10 MB that are an update', masked(TEXT, update({}, 10_000_000 - update({}).length)), 'goes on'],
  ['10 MB and a byte', masked(TEXT, update({}, 10_000_001 - update({}).length)), 'goes on'],
  ['11 MB of text', masked(TEXT, 'x'.repeat(11_000_000)), 'goes on'],
  ['11 MB of binary', masked(BINARY, 'x'.repeat(11_000_000)), 'goes on'],
  ['100,000 levels of JSON', masked(TEXT, deep(100_000)), 'closed'],
  ['a million levels within an update', masked(TEXT, `{"type":"options_update","payload":{"x":${deep(1_000_000)}}}`)],
  ['10,000 DIDs', masked(TEXT, update({ wantedDids: Array.from({ length: 10_000 }, (_, i) => `did:plc:${String(i).padStart(24, 'a')}`) })), 'goes on'],
  ['not JSON', masked(TEXT, '{"type":'), 'closed'],
  ...Array.from({ length: 40 }, (_, i) => [`random bytes ${i}`, rng.bytes(1 + rng.below(3000)), undefined, true]),
]

// Says all of them at once; a server that neither closes nor goes on is only allowed where the frame
// is not over (the last column). Resolves to complaints.
async function malformed(url, rng) {
  const all = wrong(rng), complaints = [], leave = []
  const cases = all.map(async ([name, bytes, want, unfinished]) => {
    const what = await say(url, bytes, { leave: unfinished && leave, only: want })
    if (want && what !== want) complaints.push(`${name}: ${what}`)
  })
  await Promise.all(cases.filter((_, i) => !all[i][3]))
  leave.forEach((s) => s.destroy())
  await Promise.all(cases)
  return complaints
}

// Connects and leaves in every state a connection has.
const exits = {
  'at once': async (url) => (await dial(url)).destroy(),
  'after a reset': async (url) => (await dial(url)).resetAndDestroy(),
  'in the head': async (url, rng) => {
    const s = await dial(url), head = upgrade('/subscribe')
    s.write(head.slice(0, rng.below(head.length)), () => s.destroy())
    await gone(s)
  },
  'with the head out': async (url) => {
    const s = await dial(url)
    s.write(upgrade('/subscribe'), () => s.resetAndDestroy())
    await gone(s)
  },
  'upgraded': async (url) => (await open(url, '/subscribe?cursor=0')).destroy(),
  'upgraded, by reset': async (url) => (await open(url, '/subscribe?cursor=0')).resetAndDestroy(),
  'within its own frame': async (url, rng) => {
    const s = await open(url, '/subscribe'), frame = masked(TEXT, update({}, rng.below(5000)))
    s.write(frame.subarray(0, rng.below(frame.length)), () => s.destroy())
    await gone(s)
  },
  'within ours': async (url, rng) => {
    const s = await open(url, '/subscribe?cursor=0')
    let left = rng.below(100_000)
    s.on('data', (d) => (left -= d.length) < 0 && s.resetAndDestroy())
    s.resume()
    await gone(s)
  },
  'with a close': async (url) => {
    const s = await open(url, '/subscribe')
    s.on('error', () => {})
    s.resume()
    s.end(masked(CLOSE, Buffer.from([0x03, 0xe8])))
    await gone(s)
  },
  'with a close and a reset': async (url) => {
    const s = await open(url, '/subscribe?cursor=0')
    s.write(masked(CLOSE, Buffer.from([0x03, 0xe9])), () => s.resetAndDestroy())
    await gone(s)
  },
}
async function swarm(url, rng, count, together) {
  const ways = Object.values(exits)
  let left = count
  await Promise.all(Array.from({ length: together }, async () => {
    while (left-- > 0) await rng.pick(ways)(url, rng).catch(() => {}) // refused or reset: as well
  }))
}
async function crowd(url, count) {
  const all = await Promise.all(Array.from({ length: count }, () => open(url, '/subscribe').catch(() => null)))
  const there = all.filter(Boolean)
  there.forEach((s) => s.on('error', () => {}))
  return there
}

// Heads and messages, a byte at a time.
async function loris(url, count) {
  const heads = await Promise.all(Array.from({ length: count }, () => dial(url)))
  const messages = await Promise.all(Array.from({ length: count }, async () => {
    const s = await open(url, quiet)
    s.removeAllListeners('error').removeAllListeners('close')
    s.on('error', () => {})
    s.resume()
    s.write(masked(TEXT, '', { length: 1000 }))
    return s
  }))
  const text = upgrade('/subscribe').slice(0, -2) + 'X-More: '
  let i = 0
  const timer = setInterval(() => {
    heads.forEach((s) => s.writable && s.write(text[i] ?? 'x'))
    messages.forEach((s) => s.writable && s.write('x'))
    i++
  }, 100)
  return { heads, messages, timer }
}

// ---- orders ----

let many, slow, stalled
const orders = {
  async stall({ url, count }) {
    stalled = await Promise.all(Array.from({ length: count }, async () => {
      const s = await dial(url, { read: false })
      s.write(upgrade('/subscribe?cursor=0'))
      return s
    }))
  },
  async trickle({ url, count }) {
    slow = await loris(url, count)
  },
  malformed: ({ url, seed }) => malformed(url, random(seed, 'malformed')),
  swarm: ({ url, seed, count }) => swarm(url, random(seed, 'swarm'), count, 100),
  async crowd({ url, count }) {
    many = await crowd(url, count)
    return many.length
  },
  disperse: () => Promise.all(many.map((s, i) => (i % 2 ? s.destroy() : s.resetAndDestroy(), gone(s)))).then(() => {}),
  // The server's deadlines end these.
  heads: () => Promise.all(slow.heads.map(gone)).then(() => {}),
  messages: () => Promise.all(slow.messages.map(gone)).then(() => {}),
  leave() {
    clearInterval(slow.timer)
    for (const s of [...slow.heads, ...slow.messages, ...stalled]) s.destroy()
  },
}
process.on('message', async ({ order, ...what }) => {
  try {
    process.send({ order, answer: (await orders[order](what)) ?? null })
  } catch (e) {
    process.send({ order, error: e.stack })
  }
})
