// The bot kit against a real PDS: what is stored is what the official package reads, every reason is
// told apart, bots do not talk to each other for ever, and messages go through the PDS's proxy.
import assert from 'node:assert/strict'
import http from 'node:http'
import path from 'node:path'
import { AppBskyActorProfile, AppBskyFeedPost, AppBskyFeedThreadgate, RichText, jsonToLex } from '@atproto/api'
import { dns } from '../lib/dns.mjs'
import { eventually, here, test } from '../lib/harness.mjs'
import { Moonjet } from '../lib/moonjet.mjs'
import { account, network, post, xrpc } from '../lib/pds.mjs'

const POST = 'app.bsky.feed.post'
const LIKE = 'app.bsky.feed.like'
const FOLLOW = 'app.bsky.graph.follow'
const script = path.join(here, 'scripts', 'bot.lua')
const png = Buffer.from('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==', 'base64')

// An account with an app password, which may read messages.
async function bot(net, name) {
  const a = await account(net, name)
  a.password = (await xrpc(net, 'com.atproto.server.createAppPassword', { jwt: a.jwt, body: { name: 'bot', privileged: true } })).password
  return a
}

async function run(t, net, a, config = {}, args = [], data) {
  const given = { did: a.did, service: net.url, ...config }
  const m = await Moonjet.run(t, { scripts: [script], source: net.ws, data, env: { MOONJET_SECRET_BOT: a.password },
    args: ['--http-allow', '127.0.0.1', '--http-allow', 'localhost', '--plc', net.plc,
      ...Object.entries(given).flatMap(([k, v]) => ['--config', `${k}=${v}`]), ...args] })
  await m.until(() => /connected, (live|cursor)/.test(m.err), 'the firehose')
  m.lua = async (source) => {
    const r = await fetch(`${m.http}/run`, { method: 'POST', body: `return function(me, jet)\n${source}\nend` })
    const text = await r.text()
    assert.equal(r.status, 200, `${text}\n${m.err.slice(-500)}`)
    const [done, message] = JSON.parse(text)
    assert.ok(done, message)
    return done
  }
  m.happened = () => [...m.err.matchAll(/HAPPENED (\S+) (\S+) (\S+)/g)].map(([, why, uri, subject]) => ({ why, uri, subject }))
  return m
}

const record = async (net, uri) => {
  const [, , repo, collection, rkey] = uri.split('/')
  return xrpc(net, 'com.atproto.repo.getRecord', { query: { repo, collection, rkey } })
}

async function records(net, did, collection = POST) {
  return (await xrpc(net, 'com.atproto.repo.listRecords', { query: { repo: did, collection, limit: 100 } })).records
}

// The record, as the official package takes it.
function valid(lexicon, value) {
  const v = lexicon.validateRecord(jsonToLex(value))
  assert.ok(v.success, JSON.stringify(v.error?.message))
  return v.value
}

// What each facet shows, and what it is about.
const shown = (value) => [...new RichText({ text: value.text, facets: value.facets }).segments()].filter((s) => s.facet)
  .map((s) => [s.text, s.mention?.did ?? s.link?.uri ?? s.tag?.tag])

const mention = (bot, text = 'hi') => post(`@${bot.handle} ${text}`, { facets: [{
  index: { byteStart: 0, byteEnd: bot.handle.length + 1 }, features: [{ $type: 'app.bsky.richtext.facet#mention', did: bot.did }] }] })
const ref = (r) => ({ uri: r.uri, cid: r.cid })

// A chat service as far as bots can tell: { did, say(text, sender), sent }.
async function chat(t) {
  const c = { log: [], sent: [], tokens: new Set() }
  const server = http.createServer(async (req, res) => {
    const url = new URL(req.url, 'http://x')
    let body = ''
    for await (const chunk of req) body += chunk
    const answer = (value) => {
      res.writeHead(200, { 'content-type': 'application/json' })
      res.end(JSON.stringify(value))
    }
    const nsid = url.pathname.replace('/xrpc/', '')
    if (url.pathname === '/.well-known/did.json')
      return answer({ id: c.did, service: [{ id: '#bsky_chat', type: 'BskyChatService', serviceEndpoint: `http://localhost:${server.address().port}` }] })
    const claims = JSON.parse(Buffer.from((req.headers.authorization ?? '').split('.')[1] ?? '', 'base64url').toString() || '{}')
    c.tokens.add(`${claims.iss} ${claims.lxm}`)
    if (nsid === 'chat.bsky.convo.getLog') {
      const from = Number(url.searchParams.get('cursor') ?? 0)
      const logs = c.log.slice(from, from + 2)
      return answer({ logs, cursor: String(from + logs.length) })
    }
    if (nsid === 'chat.bsky.convo.getConvoForMembers')
      return answer({ convo: { id: 'convo2', rev: '1', members: [], muted: false, unreadCount: 0 } })
    if (nsid === 'chat.bsky.convo.sendMessage') {
      const { convoId, message } = JSON.parse(body)
      c.sent.push({ convoId, ...message })
      return answer({ id: 'x', rev: 'x', text: message.text, sender: { did: claims.iss }, sentAt: new Date().toISOString() })
    }
    res.writeHead(404).end()
  })
  await new Promise((r) => server.listen(0, 'localhost', r))
  t.defer(() => new Promise((r) => {
    server.closeAllConnections()
    server.close(r)
  }))
  c.did = `did:web:localhost%3A${server.address().port}`
  c.say = (text, did) => {
    const n = c.log.length + 1
    c.log.push({ $type: 'chat.bsky.convo.defs#logCreateMessage', rev: String(n), convoId: 'convo1',
      message: { $type: 'chat.bsky.convo.defs#messageView', id: `m${n}`, rev: String(n), text, sender: { did }, sentAt: new Date().toISOString() } })
  }
  return c
}

export default async function suite() {
  await test('bot: what it writes is what the official package reads', async (t) => {
    const net = await network()
    const a = await bot(net, 'kit')
    const alice = await account(net, 'alice')
    const nobody = 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa' // the directory knows no such account
    const name = await dns(t, (n) => (n === `_atproto.${alice.handle}` ? [`did=${alice.did}`] : n === '_atproto.nobody.test' ? [`did=${nobody}`] : null))
    const m = await run(t, net, a, { label: 1, did: a.handle }, ['--dns', name.at])
    const text = `é 👨‍👩‍👧 @${alice.handle} https://x.y #tag`
    const done = await m.lua(`return me:post("${text} @nobody.test", { langs = { "en", "pt-BR" } })`)
    const { value } = await record(net, done.uri)
    valid(AppBskyFeedPost, value)
    assert.deepEqual(shown(value), [[`@${alice.handle}`, alice.did], ['https://x.y', 'https://x.y'], ['#tag', 'tag']])
    assert.deepEqual(value.langs, ['en', 'pt-BR'])

    // Replies: to a root, and to a reply.
    const root = await alice.create(POST, post('root'))
    const below = await alice.create(POST, post('below', { reply: { root: ref(root), parent: ref(root) } }))
    const one = await m.lua(`return me:reply({ uri = "${root.uri}", cid = "${root.cid}" }, "one")`)
    assert.deepEqual(valid(AppBskyFeedPost, (await record(net, one.uri)).value).reply, { root: ref(root), parent: ref(root) })
    const two = await m.lua(`return me:reply({ uri = "${below.uri}", cid = "${below.cid}", root = { uri = "${root.uri}", cid = "${root.cid}" } }, "two")`)
    assert.deepEqual((await record(net, two.uri)).value.reply, { root: ref(root), parent: ref(below) })
    const three = await m.lua(`return me:reply(assert(me:get_record("${below.uri}")), "three")`)
    assert.deepEqual((await record(net, three.uri)).value.reply, { root: ref(root), parent: ref(below) })

    // Images, a quote with them, and who may reply.
    const bytes = `("${[...png].map((b) => `\\${String(b).padStart(3, '0')}`).join('')}")`
    const pic = await m.lua(`return me:quote({ uri = "${root.uri}", cid = "${root.cid}" }, "look", { replies = { "mentioned" }, quotes = false, labels = "graphic-media",
      images = { { data = ${bytes}, alt = "a dot" }, { data = ${bytes}, alt = "" } } })`)
    const stored = valid(AppBskyFeedPost, (await record(net, pic.uri)).value)
    assert.deepEqual(stored.embed.record.record, ref(root))
    assert.deepEqual(stored.embed.media.images.map((i) => [i.alt, i.aspectRatio]), [['a dot', { width: 1, height: 1 }], ['', { width: 1, height: 1 }]])
    const blob = stored.embed.media.images[0].image
    const got = await fetch(`${net.url}/xrpc/com.atproto.sync.getBlob?did=${a.did}&cid=${blob.ref}`)
    assert.deepEqual(Buffer.from(await got.arrayBuffer()), png)
    const [gate] = await records(net, a.did, 'app.bsky.feed.threadgate')
    assert.equal(valid(AppBskyFeedThreadgate, gate.value).post, pic.uri)
    assert.equal(gate.uri.split('/').pop(), pic.uri.split('/').pop())
    assert.equal((await records(net, a.did, 'app.bsky.feed.postgate')).length, 1)

    // A gate that its owner has changed stays when the post comes again.
    const gated = `return me:post("gated", { key = "gated", replies = "nobody", quotes = false })`
    const first = await m.lua(gated)
    const gateUri = first.uri.replace(POST, 'app.bsky.feed.threadgate')
    await m.lua(`return me:put("app.bsky.feed.threadgate", "${gateUri.split('/').pop()}",
      { post = "${first.uri}", allow = jet.array {}, hiddenReplies = { "${two.uri}" } })`)
    assert.equal((await m.lua(gated)).uri, first.uri)
    assert.deepEqual(valid(AppBskyFeedThreadgate, (await record(net, gateUri)).value).hiddenReplies, [two.uri])

    // A follow is taken back under another handle, too.
    await m.lua(`return me:follow("${alice.did}")`)
    await xrpc(net, 'com.atproto.identity.updateHandle', { jwt: a.jwt, body: { handle: `renamed${a.handle}` } })
    assert.equal(await m.lua(`return me:unfollow("${alice.did}")`), true)
    assert.deepEqual(await records(net, a.did, 'app.bsky.graph.follow'), [])

    // A thread: cut at words, one below the other, and every facet whole.
    const parts = await m.lua(`local text = jet.richtext()
      for i = 1, 40 do text:add("Some words and "):tag("number" .. i):add(" and https://example.com/" .. i .. " too. ") end
      return me:thread(text, { counters = true })`)
    assert.ok(parts.length > 5)
    const thread = await Promise.all(parts.map((p) => record(net, p.uri)))
    thread.forEach((p, i) => {
      const v = valid(AppBskyFeedPost, p.value)
      assert.ok(new RichText(v).graphemeLength <= 300)
      assert.ok(v.text.endsWith(` ${i + 1}/${parts.length}`), v.text)
      assert.deepEqual(v.reply ?? null, i ? { root: ref(thread[0]), parent: ref(thread[i - 1]) } : null)
    })
    assert.deepEqual(thread.flatMap((p) => shown(p.value)).map(([, about]) => about),
      Array.from({ length: 40 }, (_, i) => [`number${i + 1}`, `https://example.com/${i + 1}`]).flat())

    // The self-label.
    const profile = await eventually(async () => (await records(net, a.did, 'app.bsky.actor.profile'))[0], 'the profile')
    assert.deepEqual(valid(AppBskyActorProfile, profile.value).labels.values, [{ val: 'bot' }])
    await m.finish()
  })

  await test('bot: a link card is what the page says', async (t) => {
    const net = await network()
    const a = await bot(net, 'card')
    const page = http.createServer((req, res) => {
      if (req.url === '/old') return res.writeHead(302, { location: '/page' }).end()
      if (req.url === '/pic.png') return res.writeHead(200, { 'content-type': 'image/png' }).end(png)
      res.writeHead(200, { 'content-type': 'text/html; charset=utf-8' })
      res.end('<html><head><title>x</title><meta property="og:title" content="Moon &amp; Jet"><meta property="og:description" content="é"><meta property="og:image" content="/pic.png"></head>')
    })
    await new Promise((r) => page.listen(0, '127.0.0.1', r))
    t.defer(() => new Promise((r) => {
      page.closeAllConnections()
      page.close(r)
    }))
    const m = await run(t, net, a)
    const uri = `http://127.0.0.1:${page.address().port}/old`
    const done = await m.lua(`return me:post("look", { card = "${uri}" })`)
    const { external } = valid(AppBskyFeedPost, (await record(net, done.uri)).value).embed
    assert.deepEqual([external.uri, external.title, external.description], [uri, 'Moon & Jet', 'é'])
    assert.equal(external.thumb.mimeType, 'image/png')
    await m.finish()
  })

  await test('bot: one run for an event, with each of its reasons; deletes are told, too', async (t) => {
    const net = await network()
    const a = await bot(net, 'why')
    const bob = await account(net, 'bob')
    const m = await run(t, net, a)
    const own = await m.lua('return me:post("hello")')
    const all = await bob.create(POST, { ...mention(a), reply: { root: ref(own), parent: ref(own) },
      embed: { $type: 'app.bsky.embed.record', record: ref(own) } })
    const like = await bob.create(LIKE, { subject: ref(own), createdAt: new Date().toISOString() })
    const follow = await bob.create(FOLLOW, { subject: a.did, createdAt: new Date().toISOString() })
    await bob.create('app.bsky.feed.repost', { subject: ref(own), createdAt: new Date().toISOString() })
    await m.until(() => m.happened().length >= 4, 'four events')
    await bob.delete(LIKE, like.uri.split('/').pop())
    await bob.delete(FOLLOW, follow.uri.split('/').pop())
    const seen = await m.until(() => m.happened().length >= 6 && m.happened(), 'six events')
    const why = (uri) => seen.filter((h) => h.uri === uri).map((h) => `${h.why} ${h.subject}`)
    assert.deepEqual(why(all.uri), ['mention,reply,reply_root,quote -'])
    assert.deepEqual(why(like.uri).sort(), ['like -', `unlike ${own.uri}`])
    assert.deepEqual(why(follow.uri).sort(), ['follow -', `unfollow ${a.did}`])
    assert.equal(seen.length, 6)
    await m.finish()
  })

  for (const label of [true, false])
    await test(`bot: two bots that answer each other come to an end${label ? '' : ', also when neither says that it is one'}`, async (t) => {
      const net = await network()
      const [a, b, human] = [await bot(net, 'hal'), await bot(net, 'eliza'), await account(net, 'human')]
      const config = { answer: 'Tell me more.', ...(label ? { label: 1 } : { per_thread: 3 }) }
      const bots = [await run(t, net, a, config), await run(t, net, b, config)]
      if (label) for (const m of bots) await m.until(() => /says in its profile/.test(m.err), 'the label')
      // The first word comes from b's owner. A person's question, asked afterwards, is answered after
      // everything that came before it.
      const first = await b.create(POST, mention(a))
      const settled = async () => {
        for (const who of [a, b]) {
          const q = await human.create(POST, mention(who))
          await eventually(async () => (await records(net, who.did)).some((r) => r.value.reply?.parent.uri === q.uri), 'an answer to a person')
        }
      }
      const talk = async () => [...await records(net, a.did), ...await records(net, b.did)].filter((r) => r.value.reply?.root.uri === first.uri).length
      const most = label ? 2 : 6
      await eventually(async () => (await talk()) >= most, `${most} answers`)
      await settled()
      await settled()
      assert.equal(await talk(), most)
      for (const m of bots) await m.finish()
    })

  await test('bot: direct messages, through the proxy of the PDS', async (t) => {
    const net = await network()
    const a = await bot(net, 'dm')
    const bob = await account(net, 'bob')
    const c = await chat(t)
    c.say('long ago', bob.did)
    const m = await run(t, net, a, { chat: `${c.did}#bsky_chat` })
    await m.until(async () => c.tokens.size > 0, 'a look at the log')
    await eventually(() => c.tokens.has(`${a.did} chat.bsky.convo.getLog`), 'a look at the log')
    await m.lua(`return me:dm("${bob.did}", "see https://example.com")`)
    assert.equal(c.sent[0].convoId, 'convo2')
    assert.deepEqual(shown(c.sent[0]), [['https://example.com', 'https://example.com']])
    for (let i = 1; i <= 5; i++) c.say(`hi ${i}`, i === 3 ? a.did : bob.did)
    await eventually(() => c.sent.length >= 5, 'answers')
    c.say('bye', bob.did)
    await eventually(() => c.sent.length >= 6, 'the last answer')
    assert.deepEqual(c.sent.slice(1).map((s) => `${s.convoId} ${s.text}`), ['hi 1', 'hi 2', 'hi 4', 'hi 5', 'bye'].map((s) => `convo1 you said: ${s}`))
    assert.ok(c.tokens.has(`${a.did} chat.bsky.convo.sendMessage`))
    await m.finish()
  })

  await test('bot: what an account has said, and which messages were read, outlives the name by which the script calls the bot', async (t) => {
    const net = await network()
    const a = await bot(net, 'name')
    const alice = await account(net, 'alice')
    const c = await chat(t)
    const data = path.join(t.dir(), 'data')
    const name = await dns(t, (n) => (n === `_atproto.${a.handle}` ? [`did=${a.did}`] : null))
    const start = (identifier) => run(t, net, a, { did: identifier, chat: `${c.did}#bsky_chat` }, ['--dns', name.at], data)
    const by_handle = await start(a.handle)
    await eventually(async () => (await by_handle.lua('return tostring(me.account:count())')) === '1', 'the DID behind the handle')
    await eventually(() => c.tokens.size > 0, 'a look at the log')
    await alice.create(POST, mention(a, '!stop'))
    await by_handle.until(() => /does not want to hear/.test(by_handle.err), '!stop')
    c.say('one', 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa')
    await eventually(() => c.sent.length === 1, 'the answer')
    await by_handle.finish()
    c.say('two', 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa')
    const by_did = await start(a.did)
    assert.ok(await by_did.lua(`return me:opted_out("${alice.did}")`))
    await eventually(() => c.sent.length === 2, 'the answer to what was said in between')
    await by_did.finish()
  })
}
