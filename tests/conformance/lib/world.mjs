// The source of our own runs: a stub relay with accounts, records and frames made for the checks.
// Every event has a name: the rkey of a record, or the seq of an identity or account event.
import { Link, Raw, cbor } from './cbor.mjs'
import { cidOf, commitFrame, frame } from '../../e2e/lib/frames.mjs'
import { relay } from '../../e2e/lib/relay.mjs'

export const did = (name) => `did:plc:${name.padEnd(24, 'a')}`
export const [ALICE, BOB, CAROL] = ['alice', 'bob', 'carol'].map(did)
export const UNDERSCORE = 'did:web:a_b.example'
export const POST = 'app.bsky.feed.post'
export const LIKE = 'app.bsky.feed.like'
export const FOLLOW = 'app.bsky.graph.follow'
export const THING = 'org.example.thing'
export const TIME = '2026-01-02T03:04:05.678Z'

const B32 = '234567abcdefghijklmnopqrstuvwxyz'
// A TID whose order is the number's; as a rev it grows with every commit.
export function tid(n) {
  let s = ''
  for (let v = (1_800_000_000_000_000n + BigInt(n)) << 10n, i = 0; i < 13; i++, v >>= 5n) s = B32[Number(v & 31n)] + s
  return s
}

// Nobody verifies it: checks of signatures are not Jetstream's.
const signature = Buffer.alloc(64, 7)

export const create = (path, record) => ({ action: 'create', path, record })
export const post = (name, text = name) => create(`${POST}/${name}`, { $type: POST, text, createdAt: TIME })
export const thing = (name, fields) => create(`${THING}/${name}`, { $type: THING, ...fields })
export const commit = (repo, ...ops) => ({ repo, ops })
export const identity = (who, handle) => ({ t: '#identity', body: { did: who, ...(handle && { handle }) } })
export const account = (who, active, status) => ({ t: '#account', body: { did: who, active, ...(status && { status }) } })

export const SOME_CID = cidOf(Buffer.from('a0', 'hex'))
export const BAD_TEXT = new Raw('6361ff62') // a, 0xff, b
const FLOAT = (hex) => new Raw(`fb${hex}`)

// Commits of three operations: what stands in the middle may be refused, its siblings may not.
const between = (name, fields) => commit(CAROL, thing(`${name}-before`, { n: 1 }), thing(name, fields), thing(`${name}-after`, { n: 2 }))

export const history = () => [
  commit(ALICE, post('first')),
  identity(ALICE, 'alice.example.com'),
  identity(BOB),
  account(ALICE, true),
  account(BOB, false, 'deleted'),
  account(CAROL, false, 'takendown'),
  commit(ALICE, post('plain', 'hello')),
  commit(ALICE, { action: 'update', path: 'app.bsky.actor.profile/self', record: { $type: 'app.bsky.actor.profile', displayName: 'Alice' } }),
  commit(ALICE, { action: 'delete', path: `${POST}/plain` }),
  commit(ALICE, thing('sorted', { b: 1, a: { z: 1, y: 2, x: { 10: 1, 9: 2 } }, aa: 3, Z: 4, é: 5, 'a-b': [{ d: 1, c: 2 }] })),
  commit(ALICE, thing('blob', { blob: { $type: 'blob', ref: new Link(SOME_CID), mimeType: 'image/png', size: 123 } })),
  commit(ALICE, thing('legacy', { avatar: { mimeType: 'image/jpeg', cid: SOME_CID } })),
  commit(ALICE, thing('ampersand', { text: 'a&b', _: 1, Z: 2, '&k': 3 })),
  commit(ALICE, thing('angles', { text: '<b>x</b>' })),
  commit(ALICE, thing('separators', { text: 'a\u2028b\u2029c é 🌙 \x7f\x80' })),
  commit(ALICE, thing('controls', { text: '\b\f\x1b\x00\t\r\n"\\/' })),
  between('utf8', { text: BAD_TEXT }),
  commit(ALICE, thing('integers', { a: 9007199254740993n, b: -9007199254740993n, c: 9223372036854775807n, d: -9223372036854775808n, e: 0, f: -1 })),
  between('unsigned', { n: new Raw('1bffffffffffffffff') }),
  between('integral', { n: FLOAT('3ff0000000000000') }),
  between('fraction', { n: FLOAT('3ff8000000000000') }),
  commit(ALICE, thing('bytes', { a: Buffer.from([0, 1, 2, 255]), b: Buffer.alloc(0), c: Buffer.from([251, 255]) })),
  commit(ALICE, thing('link', { to: new Link(SOME_CID), all: [new Link(SOME_CID)] })),
  commit(ALICE, thing('empties', { nothing: null, map: {}, list: [], holes: [null, 1, null] })),
  commit(ALICE, thing('keys', { a: 1, 'a b': 2, 'a!': 3, ab: 4 })),
  commit(BOB, post('one'), post('two'), post('three')),
  { t: '#sync', body: { did: ALICE, rev: tid(5), blocks: { $bytes: '' } } },
  { t: '#info', body: { name: 'OutdatedCursor', message: 'no event' } },
  { t: '#unheardof', body: { did: ALICE } },
  { t: '#handle', body: { did: ALICE, handle: 'old.example.com' } },
  { t: '#tombstone', body: { did: ALICE } },
  { t: '#migrate', body: { did: ALICE, migrateTo: null } },
  { ...commit(ALICE, post('toobig')), more: { tooBig: true } },
  account(UNDERSCORE, true),
  commit(UNDERSCORE, post('underscore')),
  commit('did:web:a', post('mistaken')),
  ...[1, 2, 3, 4].flatMap((n) => [ALICE, BOB, CAROL].map((d) => commit(d, post(`turn${n}`)))),
  commit(BOB, { action: 'create', path: `${FOLLOW}/followed`, record: { $type: FOLLOW, subject: ALICE, createdAt: TIME } }),
  commit(BOB, { action: 'create', path: `${LIKE}/liked`, record: { $type: LIKE, createdAt: TIME } }),
  commit(BOB, create('app.bsky.feedx.y/lookalike', { $type: 'app.bsky.feedx.y' })),
  commit(ALICE, post('long', 'long '.repeat(200))),
  commit(ALICE, post('last')),
]

// What of the history a subscriber sees, in order: { did, said }.
export function visible(events) {
  const refused = ['utf8', 'unsigned', 'integral', 'fraction'].map((n) => `${THING}/${n}`)
  return events.flatMap((e) => {
    if (e.repo) return e.more ? [] : e.ops.filter((o) => !refused.includes(o.path)).map((o) => ({ did: e.repo, said: `${o.action} ${o.path}` }))
    return ['#identity', '#account'].includes(e.t) ? [{ did: e.body.did, said: e.t.slice(1) }] : []
  })
}

// One round of everything a filter may tell apart, for live checks.
export const round = (n) => [
  commit(ALICE, post(`round${n}`)),
  commit(BOB, { action: 'create', path: `${LIKE}/round${n}`, record: { $type: LIKE, createdAt: TIME } }),
  commit(CAROL, { action: 'create', path: `${FOLLOW}/round${n}`, record: { $type: FOLLOW, subject: BOB, createdAt: TIME } }),
  identity(ALICE), account(BOB, true),
  commit(BOB, post(`round${n}`), { action: 'delete', path: `${POST}/gone${n}` }, thing(`round${n}`, {})),
  commit(CAROL, post(`round${n}`, 'long '.repeat(100))),
  account(ALICE, true), identity(CAROL, 'carol.example.com'),
]

// A relay that makes frames of what it is given, numbered.
export async function source(t, first = 1) {
  const r = await relay(t, [])
  let seq = first
  r.fences = 0
  const build = (e) => {
    const n = seq++
    if (e.t) return frame(e.t, { seq: n, ...e.body })
    const ops = e.ops.map((o) => ({ ...o, record: o.record && cbor(o.record) }))
    return commitFrame({ seq: n, did: e.repo, rev: tid(n), ops, signature, more: e.more })
  }
  r.feed = async (events) => {
    for (const f of await Promise.all(events.map(build))) r.push(f)
  }
  return r
}
