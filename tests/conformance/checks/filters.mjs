// 30-38: wantedCollections and wantedDids; and how what cannot be obeyed is refused.
import { check, skip, want, wantLines, wantThat } from '../lib/runner.mjs'

const wanting = (collections) => collections.map((c) => `wantedCollections=${c}`).join('&')

// What a query selects, replayed and live, is what `pass` selects of all events.
export async function selects(s, t, query, pass, who) {
  const { p, got, all } = await s.collect(t, query, who)
  const expected = all.filter((l) => pass(JSON.parse(l), Buffer.byteLength(l)))
  wantLines(query.slice(0, 200), got, expected)
  const some = expected.length > 0 && expected.length < all.length
  if (s.ours) wantThat(`${query.slice(0, 200)} selects some events`, some, 'some, not all', expected.length)
  else if (!some) skip(`all or none of the ${all.length} events of ${s.wait} s pass ${query.slice(0, 200)}`)
  p.destroy()
  return `${expected.length} of ${all.length} events`
}

// The same answer for an upgrade and for a plain GET, body and type to the byte.
export async function refuses(s, t, query, body) {
  for (const headers of [{}, { Upgrade: null, Connection: null, 'Sec-WebSocket-Key': null, 'Sec-WebSocket-Version': null }]) {
    const p = await s.request(t, query, { headers })
    want(`status for ${query.slice(0, 200)}`, p.status, 400)
    want(`body for ${query.slice(0, 200)}`, p.body.toString(), body)
    want('Content-Type', p.headers['content-type'], 'text/plain; charset=UTF-8')
  }
}

export async function accepts(s, t, query) {
  const p = await s.subscribe(t, query)
  p.destroy()
}

const otherThan = (collection) => (e) => e.commit && e.commit.collection !== collection
const names = (n, name) => Array.from({ length: n }, (_, i) => name(i))

check(30, 'wantedCollections=app.bsky.feed.post: posts, and all identity and account events',
  (s, t) => selects(s, t, 'wantedCollections=app.bsky.feed.post', (e) => !otherThan('app.bsky.feed.post')(e)))

check(31, 'app.bsky.* is accepted and matches; app.bsky.feed.* misses app.bsky.feedx', async (s, t) => {
  const below = (prefix) => (e) => !e.commit || e.commit.collection.startsWith(prefix)
  await selects(s, t, 'wantedCollections=app.bsky.feed.*', below('app.bsky.feed.'))
  if (s.ours) return selects(s, t, 'wantedCollections=app.bsky.*', below('app.bsky.'))
  const { got, all } = await s.collect(t, 'wantedCollections=app.bsky.*')
  wantLines('app.bsky.*', got, all.filter((l) => below('app.bsky.')(JSON.parse(l))))
})

check(32, 'app.bsky.graph.fo*: 400 and the exact body', (s, t) =>
  refuses(s, t, 'wantedCollections=app.bsky.graph.fo*', 'invalid subscriber options: invalid collection: app.bsky.graph.fo*'))

check(33, 'commas do not separate: 400', (s, t) =>
  refuses(s, t, 'wantedCollections=app.bsky.feed.post,app.bsky.feed.like',
    'invalid subscriber options: invalid collection: app.bsky.feed.post,app.bsky.feed.like'))

check(34, '100 collections are accepted, 101 are 400', async (s, t) => {
  const some = (n) => wanting(names(n, (i) => (i % 2 ? `org.example.c${i}` : `org.example.p${i}.*`)))
  await accepts(s, t, some(100))
  await refuses(s, t, some(101), 'invalid subscriber options: too many wanted collections')
})

check(35, '101 equal names are accepted, 101 equal prefixes are 400', async (s, t) => {
  await accepts(s, t, wanting(names(101, () => 'app.bsky.feed.post')))
  await refuses(s, t, wanting(names(101, () => 'app.bsky.feed.*')), 'invalid subscriber options: too many wanted collections')
})

check(36, 'wantedDids filters identity and account events, too', async (s, t) => {
  if (s.ours) {
    const who = s.world.BOB
    return selects(s, t, `wantedDids=${who}`, (e) => e.did === who, who)
  }
  const lines = (await s.sample()).map((l) => JSON.parse(l))
  const all = new Set(lines.map((e) => e.did))
  const dids = [...new Set([(lines.find((e) => !e.commit) ?? lines[0]).did, ...all])].slice(0, Math.min(20, Math.ceil(all.size / 2)))
  return selects(s, t, dids.map((d) => `wantedDids=${d}`).join('&'), (e) => dids.includes(e.did))
})

check(37, 'a handle as wantedDids: 400', (s, t) =>
  refuses(s, t, 'wantedDids=alice.example.com', 'invalid subscriber options'))

check(38, '10,000 DIDs are accepted by an update, 10,001 close', async (s, t) => {
  const p = await s.subscribe(t, '')
  const some = s.ours ? [s.world.ALICE] : (await s.sample()).slice(0, 50).map((l) => JSON.parse(l).did)
  const unique = [...new Set(some)]
  const dids = [...unique, ...names(10_000 - unique.length, (i) => `did:web:${i}.example.com`)]
  want('different DIDs', new Set(dids).size, 10_000)
  p.update({ wantedDids: dids })
  await p.barrier()
  const mark = await s.mark()
  const seen = p.messages.length
  const end = await s.stir([p], s.ours ? s.world.ALICE : undefined)
  const got = p.lines.slice(seen).filter((l) => JSON.parse(l).time_us > mark && JSON.parse(l).time_us <= end)
  wantLines('under 10,000 DIDs', got, s.between(mark, end).filter((l) => unique.includes(JSON.parse(l).did)))
  p.update({ wantedDids: [...dids, 'did:plc:onemore'] })
  const { code, reason } = await p.end()
  want('close', `${code} ${reason}`, '1000 failed to parse subscriber options: invalid subscriber options: too many wanted DIDs')
})
