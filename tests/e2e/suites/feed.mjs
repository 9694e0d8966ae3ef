// Feed generators, as Bluesky meets them: asked by the official client, which checks every answer
// against the lexicon, with tokens that a real PDS signed.
import assert from 'node:assert/strict'
import net from 'node:net'
import path from 'node:path'
import { AtpAgent } from '@atproto/api'
import { didDocument, getFeedGenEndpoint } from '@atproto/common-web'
import { Secp256k1Keypair } from '@atproto/crypto'
import { createServiceJwt } from '@atproto/xrpc-server'
import { dns } from '../lib/dns.mjs'
import { eventually, here, test } from '../lib/harness.mjs'
import { Moonjet } from '../lib/moonjet.mjs'
import { account, network, post, xrpc } from '../lib/pds.mjs'

const LXM = 'app.bsky.feed.getFeedSkeleton'
const POST = 'app.bsky.feed.post'
const feedUri = (name) => `at://did:plc:aaaaaaaaaaaaaaaaaaaaaaaa/app.bsky.feed.generator/${name}`

// A port that nobody has now: the scripts must know theirs before they are served.
export async function freePort() {
  const s = net.createServer()
  await new Promise((r) => s.listen(0, '127.0.0.1', r))
  const { port } = s.address()
  await new Promise((r) => s.close(r))
  return port
}

async function start(t, scripts, config, data = path.join(t.dir(), 'data'), port = undefined, cursor = ['--cursor', '0']) {
  const world = await network()
  port ??= await freePort()
  const pairs = Object.entries({ hostname: `localhost:${port}`, ...config }).flatMap(([k, v]) => ['--config', `${k}=${v}`])
  const m = await Moonjet.start(t, ['run', ...scripts, '--source', world.ws, ...cursor, '--plc', world.plc,
    '--listen', `127.0.0.1:${port}`, '--metrics-listen', '127.0.0.1:0', '--data', data, ...pairs], { metrics: true })
  return { world, m, port, did: `did:web:localhost%3A${port}`, agent: new AtpAgent({ service: m.http }) }
}

// What the call failed with, as XRPC has it.
const failure = async (call) => {
  const e = await call.then(() => assert.fail('it should have failed'), (error) => error)
  return { status: e.status, error: e.error }
}

export default async function suite() {
  await test('feed: the official client reads a feed page by page', async (t) => {
    const { m, world, did, agent } = await start(t, [path.join(here, 'scripts', 'feeds.lua')],
      { all: feedUri('all'), mine: feedUri('mine') })
    const alice = await account(world, 'alice')
    const uris = []
    for (let i = 0; i < 7; i++) uris.push((await alice.create(POST, post(i === 3 ? 'pin me' : `post ${i}`))).uri)
    const gone = await alice.create(POST, post('gone'))
    await alice.delete(POST, gone.uri.split('/').pop())
    const last = (await alice.create(POST, post('last'))).uri
    const skeleton = async (params) => (await agent.app.bsky.feed.getFeedSkeleton({ feed: feedUri('all'), ...params })).data
    await eventually(async () => (await skeleton({ limit: 1 })).feed[0]?.post === last, 'the last post')

    const seen = []
    let cursor
    do {
      const page = await skeleton({ limit: 3, cursor })
      assert.ok(page.feed.length <= 3)
      seen.push(...page.feed)
      cursor = page.cursor
    } while (cursor)
    const mine = seen.filter((item) => item.post.includes(alice.did))
    assert.deepEqual(mine.map((item) => item.post), [last, ...uris.toReversed()])
    assert.equal(new Set(seen.map((item) => item.post)).size, seen.length)
    const pinned = seen.find((item) => item.post === uris[3])
    assert.equal(pinned.reason.$type, 'app.bsky.feed.defs#skeletonReasonPin')

    const described = (await agent.app.bsky.feed.describeFeedGenerator()).data
    assert.deepEqual(described, { did, feeds: [{ uri: feedUri('all') }, { uri: feedUri('mine') }] })
    const document = didDocument.parse(await (await fetch(`${m.http}/.well-known/did.json`)).json())
    assert.equal(document.id, did)
    assert.equal(getFeedGenEndpoint(document), m.http.replace('127.0.0.1', 'localhost'))

    assert.deepEqual(await failure(skeleton({ feed: feedUri('other') })), { status: 400, error: 'UnknownFeed' })
    assert.deepEqual(await failure(skeleton({ cursor: 'nonsense' })), { status: 400, error: 'InvalidRequest' })
    await m.finish()
  }, { seconds: 120 })

  await test('feed: tokens of a real PDS say who asks; others are refused', async (t) => {
    const names = await dns(t, () => null)
    const { m, world, did, agent } = await start(t, [path.join(here, 'scripts', 'feeds.lua')],
      { all: feedUri('all'), mine: feedUri('mine') }, undefined, undefined, ['--cursor', '0', '--dns', names.at])
    const [alice, bob] = [await account(world, 'alice'), await account(world, 'bob')]
    const hers = (await alice.create(POST, post('hers'))).uri
    const his = (await bob.create(POST, post('his'))).uri
    const token = async (who, params) => (await xrpc(world, 'com.atproto.server.getServiceAuth',
      { jwt: who.jwt, query: { aud: did, lxm: LXM, ...params } })).token
    const ask = (jwt) => agent.app.bsky.feed.getFeedSkeleton({ feed: feedUri('mine') },
      jwt ? { headers: { authorization: `Bearer ${jwt}` } } : {})
    await eventually(async () => (await agent.app.bsky.feed.getFeedSkeleton({ feed: feedUri('all') })).data.feed
      .some((item) => item.post === his), 'both posts')
    assert.deepEqual((await ask(await token(alice))).data.feed, [{ post: hers }])
    assert.deepEqual((await ask(await token(bob))).data.feed, [{ post: his }])

    assert.deepEqual(await failure(ask()), { status: 401, error: 'AuthMissing' })
    assert.deepEqual(await failure(ask('x.y.z')), { status: 401, error: 'BadJwt' })
    assert.deepEqual(await failure(ask(await token(alice, { aud: 'did:web:feeds.example.com' }))),
      { status: 401, error: 'BadJwtAudience' })
    assert.deepEqual(await failure(ask(await token(alice, { lxm: 'app.bsky.feed.getFeed' }))),
      { status: 401, error: 'BadJwtLexiconMethod' })
    const stranger = await Secp256k1Keypair.create()
    const forged = (params) => createServiceJwt({ iss: alice.did, aud: did, lxm: LXM, keypair: stranger, ...params })
    assert.deepEqual(await failure(ask(await forged())), { status: 401, error: 'BadJwtSignature' })
    assert.deepEqual(await failure(ask(await forged({ iat: 1, exp: 2 }))), { status: 401, error: 'JwtExpired' })
    assert.deepEqual(await failure(ask(await forged({ iss: 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa' }))),
      { status: 401, error: 'BadJwtIss' })
    assert.deepEqual(names.asked, [], 'a key needs no handle')
    await m.finish()
  })

  await test('feed: what is kept outlives kill -9, and scripts share a host', async (t) => {
    const data = path.join(t.dir(), 'data')
    const config = { all: feedUri('all'), mine: feedUri('mine'), feed: feedUri('retro') }
    const scripts = [path.join(here, 'scripts', 'feeds.lua'), path.join(here, '../../examples/feed.lua')]
    const first = await start(t, scripts, config, data)
    const alice = await account(first.world, 'alice')
    const uri = (await alice.create(POST, post('my Amiga boots'))).uri
    const read = async ({ agent }, name) => (await agent.app.bsky.feed.getFeedSkeleton({ feed: feedUri(name) })).data.feed.map((i) => i.post)
    await eventually(async () => (await read(first, 'retro')).includes(uri), 'the post')
    const { feeds } = (await first.agent.app.bsky.feed.describeFeedGenerator()).data
    assert.deepEqual(feeds.map((f) => f.uri), [feedUri('all'), feedUri('mine'), feedUri('retro')])
    await first.m.metricAtLeast('moonjet_state_commits_total', 1)
    await eventually(async () => (await first.m.metrics()).moonjet_state_unwritten_bytes === 0, 'all on disk')
    const before = await read(first, 'all')
    await first.m.stop('SIGKILL')
    const second = await start(t, scripts, config, data, first.port, []) // goes on where it was
    assert.deepEqual((await read(second, 'all')).filter((u) => before.includes(u)), before)
    assert.ok((await read(second, 'retro')).includes(uri))
    await second.m.finish()
  })
}
