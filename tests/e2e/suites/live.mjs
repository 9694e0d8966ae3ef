// A real PDS and PLC → Moonjet with a script → every client at once, while accounts are created and
// records written, updated and deleted. The judge is @atproto/sync on the same firehose.
import assert from 'node:assert/strict'
import path from 'node:path'
import * as clients from '../lib/clients.mjs'
import { assertRecordMatchesCid, assertRising, assertSameEvents, key, mask } from '../lib/events.mjs'
import { FENCE, bot, exercise, fences, network } from '../lib/pds.mjs'
import { here, test } from '../lib/harness.mjs'
import { Moonjet, sum } from '../lib/moonjet.mjs'
import { reference } from '../lib/reference.mjs'

const SCRIPT = path.join(here, 'scripts/live.lua')

export default async function suite() {
  await test('live: every client sees every write once, in order per DID, as @atproto/sync verifies it', async (t) => {
    const net = await network()
    const ref = reference(t, net.ws, net.plc)
    const m = await Moonjet.run(t, { scripts: [SCRIPT], source: net.ws })
    const main = await Promise.all([
      clients.plain(t, `${m.url}/subscribe`),
      clients.skyware(t, `${m.url}/subscribe`),
      clients.atcute(t, m.url),
      clients.python(t, `${m.url}/subscribe`),
      clients.chromium(t, `${m.url}/subscribe`),
      clients.tail(t, `${m.url}/subscribe`),
    ])
    const posts = await clients.skyware(t, `${m.url}/subscribe`, { wantedCollections: ['app.bsky.feed.post', FENCE] })
    const updated = await clients.skyware(t, `${m.url}/subscribe`)
    updated.updateOptions({ wantedCollections: ['app.bsky.actor.*', FENCE] })
    const shout = await clients.plain(t, `${m.url}/stream/shout/subscribe`)
    const all = [...main, posts, updated, shout]

    const f = await fences(net)
    const from = await f.start(all)
    await Promise.all([exercise(net), bot(net), exercise(net)])
    const to = await f.pass(all)
    await ref.until(() => ref.keys.some((k) => k.includes(`${FENCE}/${to} `)), 'the last fence')
    assert.deepEqual(ref.errors, [])

    const at = (name) => ref.keys.findIndex((k) => k.includes(` ${FENCE}/${name} `))
    const want = ref.keys.slice(at(from) + 1, at(to))
    assert.ok(want.length > 50, `only ${want.length} events`)

    const slice = (c, list) => f.between(list, c.events, from, to)
    for (const c of main) {
      const got = slice(c, c.events).map(key)
      if (c.name === '@atcute/jetstream') {
        // It takes identity events with a handle only, and reports the others.
        const events = slice(main[0], main[0].events)
        const bare = new Set(events.filter((e) => e.kind === 'identity' && !e.identity.handle).map(key))
        assertSameEvents(got, want.filter((k) => !bare.has(k)), c.name)
        c.invalid.forEach((why) => assert.match(why, /^identity\.handle: /))
        continue
      }
      assertSameEvents(got, want, c.name)
      assert.deepEqual(c.invalid, [], c.name)
    }

    // The bytes are the same for everybody who shows them, and say what the CIDs say.
    const lines = slice(main[0], main[0].raw)
    assertRising(lines, 'ws')
    lines.forEach(assertRecordMatchesCid)
    for (const c of main.filter((x) => x.raw.length)) assert.deepEqual(slice(c, c.raw), lines, `${c.name}: bytes`)
    for (const c of main.filter((x) => !x.raw.length && !x.invalid.length))
      assert.deepEqual(slice(c, c.events), lines.map((l) => JSON.parse(l)), `${c.name}: values`)

    const wanted = (pass) => slice(main[0], main[0].events).filter((e) => !e.commit || pass(e.commit.collection)).map(key)
    assertSameEvents(slice(posts, posts.events).map(key), wanted((c) => c === 'app.bsky.feed.post' || c === FENCE), 'filtered by the URL')
    assertSameEvents(slice(updated, updated.events).map(key), wanted((c) => c.startsWith('app.bsky.actor.') || c === FENCE), 'filtered by options_update')

    // The script's stream: its posts, changed only where it says.
    const multi = lines.filter((l) => /"operation":"create","collection":"app.bsky.feed.post"/.test(l) && /"text":"multi \d"/.test(l))
    assert.equal(multi.length, 4)
    const loud = multi.map((l) => l.replace(/"text":"multi (\d)"/, '"text":"MULTI $1"').replace(/,"cid":"[^"]*"(?=\}\}$)/, ''))
    assert.deepEqual(slice(shout, shout.raw).filter((l) => !l.includes(FENCE)).map(mask), loud.map(mask))

    assert.equal(sum(await m.metrics(), 'jetstream_subscribers_connected'), all.length)
    await m.finish()
    assert.equal((await main[0].closed).code, 1001)
    assert.equal((await main[3].closed).code, 1001, main[3].name)
    assert.equal((await main[4].closed).code, 1001, main[4].name)
  }, { seconds: 120 })
}
