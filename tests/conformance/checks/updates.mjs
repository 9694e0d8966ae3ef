// 55-64: what clients may say, and requireHello.
import { check, skip, want, wantLines, wantThat } from '../lib/runner.mjs'
import { BINARY } from '../lib/probe.mjs'
import { time } from '../lib/site.mjs'

// After an update has been read: what comes live is what `pass` selects.
async function live(s, p, what, pass, who) {
  await p.barrier()
  const mark = await s.mark()
  const end = await s.stir([p], who)
  const got = p.lines.filter((l) => time(l) > mark && time(l) <= end)
  wantLines(what, got, s.between(mark, end).filter((l) => pass(JSON.parse(l), Buffer.byteLength(l))))
}
const all = () => true

// v1 could not send a reason above 123 bytes and dropped the connection instead; where the reason
// quotes its JSON library that happens, so a foreign server may.
async function closes(s, p, what, code, reason, maybeLong = false) {
  const c = await p.end()
  if (!s.ours && maybeLong && c.code === 1006) return
  want(`${what}: close code`, c.code, code)
  wantThat(`${what}: close reason`, c.reason.startsWith(reason), `${reason}…`, c.reason)
}

check(55, 'an update replaces both filters; what it leaves out is off', async (s, t) => {
  const [did, other] = s.ours ? [s.world.ALICE, s.world.BOB] : (await s.sample()).map((l) => JSON.parse(l).did)
  const p = await s.subscribe(t, `wantedCollections=app.bsky.feed.post&wantedDids=${did}`)
  p.update({ wantedCollections: ['app.bsky.feed.like'] })
  await live(s, p, 'collections only', (e) => !e.commit || e.commit.collection === 'app.bsky.feed.like')
  p.update({ wantedDids: [other] })
  await live(s, p, 'DIDs only', (e) => e.did === other, other)
  p.update({ wantedCollections: ['app.bsky.feed.post'], wantedDids: [other] })
  await live(s, p, 'both', (e) => e.did === other && (!e.commit || e.commit.collection === 'app.bsky.feed.post'), other)
  p.update({})
  await live(s, p, 'neither', all)
})

check(56, 'maxMessageSizeBytes of an update (v1, a defect: ignored)', async (s, t) => {
  const p = await s.subscribe(t, '')
  p.update({ maxMessageSizeBytes: 400 })
  if (s.ours) return live(s, p, 'limit 400', (_, bytes) => bytes <= 400)
  await p.barrier()
  const mark = await s.mark()
  const end = await s.stir([p])
  const above = (l) => Buffer.byteLength(l) > 400
  if (!s.between(mark, end).some(above)) skip('no event above 400 bytes came by')
  const got = p.lines.filter((l) => time(l) > mark && time(l) <= end)
  if (got.some(above)) return 'as v1: ignored'
  wantLines('limit 400', got, s.between(mark, end).filter((l) => !above(l)))
  return 'sane: applied'
})

check(57, 'bad JSON closes: 1000 and a reason', async (s, t) => {
  for (const text of ['{', 'hello', '{"type":1}', '[]']) {
    const p = await s.subscribe(t, '')
    p.text(text)
    await closes(s, p, text, 1000, 'failed to unmarshal subscriber sourced message: ', text !== '{')
  }
  for (const payload of ['[]', '{"wantedDids":"x"}', '{"maxMessageSizeBytes":1e3}', '{"maxMessageSizeBytes":"1"}', '{"maxMessageSizeBytes":1.5}']) {
    const p = await s.subscribe(t, '')
    p.text(`{"type":"options_update","payload":${payload}}`)
    await closes(s, p, payload, 1000, 'failed to unmarshal subscriber options update: ', true)
  }
})

check(58, 'a bad NSID or DID in an update closes: 1000 and a reason', async (s, t) => {
  for (const [payload, reason] of [
    [{ wantedCollections: ['app.bsky.graph.fo*'] }, ': invalid collection: app.bsky.graph.fo*'],
    [{ wantedCollections: [''] }, ': invalid collection: '],
    [{ wantedDids: ['alice.example.com'] }, ''],
  ]) {
    const p = await s.subscribe(t, '')
    p.update(payload)
    await closes(s, p, JSON.stringify(payload), 1000, `failed to parse subscriber options: invalid subscriber options${reason}`)
  }
})

check(59, 'unknown types, binary messages, more than 10 MB: ignored, the connection stays', async (s, t) => {
  const p = await s.subscribe(t, '')
  p.text('{"type":"moon","payload":{"wantedDids":["did:plc:nobody"]}}')
  p.text('{}')
  p.send(BINARY, '{"type":"options_update","payload":{"wantedDids":["did:plc:nobody"]}}')
  await live(s, p, 'unknown type, binary', all)
  const big = JSON.stringify({ type: 'options_update', payload: { wantedDids: ['did:plc:nobody'] } })
  p.text(big.padEnd(10_000_001))
  await live(s, p, 'above 10 MB', all)
})

check(60, 'payload:null clears the filters; a missing payload closes', async (s, t) => {
  const p = await s.subscribe(t, 'wantedCollections=app.bsky.feed.like')
  p.text('{"type":"options_update","payload":null}')
  await live(s, p, 'payload null', all)
  p.text('{"type":"options_update"}')
  await closes(s, p, 'no payload', 1000, 'failed to unmarshal subscriber options update: ')
  const q = await s.subscribe(t, 'wantedCollections=app.bsky.feed.like')
  q.text('{"TYPE":"x","type":"options_update","x":1,"Payload":{"wantedcollections":["a.b.c"],"WantedCollections":null,"wantedDids":null}}')
  await live(s, q, 'keys in any case, the last one counts, null is absent', all)
})

// Nothing may come while others get events.
async function silent(s, p, what) {
  await p.barrier()
  await s.stir([])
  await p.barrier()
  want(what, p.messages.length, 0)
}

check(61, 'requireHello: silent until the first valid update; an unknown type is none', async (s, t) => {
  const p = await s.subscribe(t, 'requireHello=true')
  await silent(s, p, 'before anything was said')
  p.text('{"type":"moon"}')
  await silent(s, p, 'after an unknown type')
  p.update({})
  await live(s, p, 'after the hello', all)
})

check(62, 'requireHello with a cursor: the replay has the filters of the hello', async (s, t) => {
  const lines = await s.sample()
  const [from, to] = [time(lines[0]), time(lines.at(-1))]
  const post = (l) => l.includes('"kind":"commit"') && l.includes('"collection":"app.bsky.feed.post"')
  const p = await s.subscribe(t, `requireHello=true&cursor=${from}&wantedCollections=app.bsky.feed.like`)
  await silent(s, p, 'before the hello')
  p.update({ wantedCollections: ['app.bsky.feed.post'] })
  if (s.ours) await s.fence([p])
  else await p.until(() => p.messages.length && time(p.messages.at(-1).text) >= to, 'the end of the sample', s.wait * 1000)
  wantLines('replayed', p.lines.filter((l) => time(l) <= to), lines.filter((l) => post(l) || !l.includes('"kind":"commit"')))
})

check(63, 'requireHello, live: nothing from before the hello (v1, a defect: flushed)', async (s, t) => {
  const before = s.newest()
  const p = await s.subscribe(t, 'requireHello=true&wantedCollections=app.bsky.feed.post')
  await silent(s, p, 'before the hello')
  const mark = s.newest()
  p.update({ wantedCollections: ['app.bsky.feed.like'] })
  await p.barrier()
  const end = await s.stir([p])
  const early = p.lines.filter((l) => time(l) <= mark)
  if (s.ours) {
    want('events from before the hello', early, [])
    wantLines('after the hello', p.lines, s.between(mark, end).filter((l) => !l.includes('"kind":"commit"') || l.includes('"collection":"app.bsky.feed.like"')))
    return
  }
  wantThat('events', early.every((l) => time(l) > before), 'none from before the connection', early[0])
  return early.length > 1 ? `as v1: ${early.length} events from before the hello` : 'sane: none'
})

check(64, 'requireHello=1 does not wait', async (s, t) => {
  const p = await s.subscribe(t, 'requireHello=1')
  if (s.ours) await s.stir([p])
  await p.until((x) => x.messages.length > 0, 'an event', s.patience)
})
