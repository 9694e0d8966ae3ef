// Agents against a real PDS with its rate limits on: sessions, expired tokens, 429s, a PDS that comes
// and goes, and a bot that answers each mention exactly once through kill -9 and all of that.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { dns } from '../lib/dns.mjs'
import { door } from '../lib/door.mjs'
import { eventually, here, root, test } from '../lib/harness.mjs'
import { Moonjet } from '../lib/moonjet.mjs'
import { account, server, xrpc } from '../lib/pds.mjs'
import { reference } from '../lib/reference.mjs'

const POST = 'app.bsky.feed.post'
const LOGIN = 'com.atproto.server.createSession'
const REFRESH = 'com.atproto.server.refreshSession'
const PUT = 'com.atproto.repo.putRecord'
const script = path.join(here, 'scripts', 'agent.lua')

// A bot's account on a PDS of the test's own, with an app password, and a door before the PDS.
async function setup(t, options) {
  const pds = await server(t, options)
  const bot = await account(pds, 'dice')
  const { password } = await xrpc(pds, 'com.atproto.server.createAppPassword', { jwt: bot.jwt, body: { name: 'bot' } })
  const front = await door(t, pds.url)
  return { pds, bot, password, door: front, data: path.join(t.dir(), 'data') }
}

const secret = (s) => ({ MOONJET_SECRET_BOT: s.password })
function run(t, s, { config = {}, args = [] } = {}) {
  const given = { identifier: s.bot.handle, service: s.door.url, did: s.bot.did, ...config }
  return Moonjet.run(t, { scripts: [script], source: s.pds.ws, data: s.data, env: secret(s),
    args: ['--http-allow', '127.0.0.1', '--http-allow', 'localhost', '--plc', s.pds.plc,
      ...Object.entries(given).filter(([, v]) => v).flatMap(([k, v]) => ['--config', `${k}=${v}`]), ...args] })
}

// Runs Lua in the script, with `me` and `jet`; resolves to what it returned, as a list.
async function lua(m, source) {
  const r = await fetch(`${m.http}/run`, { method: 'POST', body: `return function(me, jet)\n${source}\nend` })
  const text = await r.text()
  assert.equal(r.status, 200, text)
  return JSON.parse(text)
}

const mention = (bot, n) => {
  const text = `@${bot.handle} d6 number ${n}`
  return { $type: POST, text, createdAt: new Date().toISOString(), facets: [{
    index: { byteStart: 0, byteEnd: bot.handle.length + 1 }, features: [{ $type: 'app.bsky.richtext.facet#mention', did: bot.did }] }] }
}

// All records of the account's collection, as the PDS has them.
async function records(pds, did, collection = POST) {
  const all = []
  let cursor
  do {
    const page = await xrpc(pds, 'com.atproto.repo.listRecords', { query: { repo: did, collection, limit: 100, ...(cursor && { cursor }) } })
    all.push(...page.records)
    cursor = page.cursor
  } while (cursor)
  return all
}

// Every mention has exactly one answer, and nothing else was written.
function assertOnce(answers, mentions) {
  const to = answers.map((r) => r.value.reply.parent.uri)
  assert.deepEqual(to.filter((u, i) => to.indexOf(u) !== i), [], 'answered twice')
  assert.deepEqual(mentions.filter((u) => !to.includes(u)), [], 'not answered')
  assert.equal(answers.length, mentions.length)
}

const tokens = /eyJ[\w-]{10,}/

export default async function suite() {
  await test('agent: logs in by handle and app password, found through DNS and PLC, and keeps the session', async (t) => {
    const s = await setup(t)
    const name = await dns(t, (n) => (n === `_atproto.${s.bot.handle}` ? [`did=${s.bot.did}`] : null))
    const config = { service: null, did: null }
    const m = await run(t, s, { config, args: ['--dns', name.at] })
    await eventually(async () => (await (await fetch(`${m.http}/who`)).json()).account === 1, 'the DID behind the handle')
    const [done] = await lua(m, `return me:create("${POST}", { text = "hello" })`)
    const written = await records(s.pds, s.bot.did)
    assert.deepEqual(written.map((r) => [r.uri, r.cid]), [[done.uri, done.cid]])
    assert.match(written[0].uri, /\/[2-7a-j][2-7a-z]{12}$/)
    await m.finish()
    assert.doesNotMatch(m.err, tokens)
    assert.ok(!m.err.includes(s.password))
    const files = fs.readdirSync(path.join(s.data, 'state'))
    for (const f of files) assert.equal(fs.statSync(path.join(s.data, 'state', f)).mode & 0o77, 0, f)

    // With the password gone, only the session that was kept can do this.
    await xrpc(s.pds, 'com.atproto.server.revokeAppPassword', { jwt: s.bot.jwt, body: { name: 'bot' } })
    const again = await run(t, s, { config, args: ['--dns', name.at] })
    const [listed] = await lua(again, `local n = 0 for r in me:list("${POST}") do n = n + 1 end return n`)
    assert.equal(listed, 1)
    await again.finish()
  })

  await test('agent: refreshes tokens before they are over, and says clearly when nothing works any more', async (t) => {
    const s = await setup(t, { access: '3s' })
    const m = await run(t, s)
    const until = async (n) => {
      for (let i = 0; s.door.count(REFRESH) < n; i++) {
        const [done, message] = await lua(m, `return me:put("app.example.note", "n", { n = ${i} }, { validate = false })`)
        assert.ok(done, message)
      }
    }
    await until(3)
    assert.equal(s.door.count(LOGIN), 1)
    const owner = await xrpc(s.pds, LOGIN, { body: { identifier: s.bot.handle, password: 'pass-word' } })
    await xrpc(s.pds, 'com.atproto.server.revokeAppPassword', { jwt: owner.accessJwt, body: { name: 'bot' } })
    const why = await eventually(async () => {
      const [done, message] = await lua(m, 'return me:put("app.example.note", "n", { n = 0 }, { validate = false })')
      return !done && message
    }, 'the end of the session')
    assert.match(why, /createSession: 401 AuthenticationRequired: .*; is the app password right\?/)
    for (let i = 0; i < 5; i++) await lua(m, 'return me:put("app.example.note", "n", { n = 0 })')
    assert.equal(s.door.count(LOGIN), 2, 'nobody insists')
    await m.finish()
    assert.doesNotMatch(m.err, tokens)
  })

  await test('agent: one refresh for all who find that the token is over', async (t) => {
    const s = await setup(t)
    const m = await run(t, s)
    await lua(m, 'return me:login()')
    let refreshed = false
    s.door.seen = (call) => {
      refreshed ||= call.nsid === REFRESH
    }
    s.door.turn = (call) => (call.nsid === PUT && !refreshed ? { status: 400, body: { error: 'ExpiredToken', message: 'Token has expired' } } : null)
    const [ok] = await lua(m, `
      local done, ok = jet.queue(), 0
      for i = 1, 50 do
        jet.spawn(function() done:put((me:put("app.example.note", "n" .. i, { n = i })) ~= nil) end)
      end
      for _ = 1, 50 do
        ok = ok + (done:get() and 1 or 0)
      end
      return ok`)
    assert.equal(ok, 50)
    assert.equal(s.door.count(REFRESH), 1)
    assert.equal(s.door.count(LOGIN), 1)
    assert.equal((await records(s.pds, s.bot.did, 'app.example.note')).length, 50)
    await m.finish()
  })

  await test('agent: what the rate limits say is kept, and waited for', async (t) => {
    const s = await setup(t, { limits: 'bypass' })
    const m = await run(t, s)
    let headers
    s.door.seen = (call, status, body, h) => {
      if (call.nsid === PUT) headers = h
    }
    await lua(m, 'return me:put("app.example.note", "n", { n = 0 }, { validate = false })')
    assert.match(headers['ratelimit-policy'], /^\d+;w=\d+$/)
    assert.ok(headers['ratelimit-remaining'] < headers['ratelimit-limit'])
    let turned = 0
    s.door.turn = (call) => {
      if (call.nsid !== PUT || turned >= 2) return null
      turned++
      return { status: 429, headers: { 'ratelimit-limit': '5000', 'ratelimit-remaining': '0', 'ratelimit-policy': '5000;w=3600',
        'ratelimit-reset': String(Math.ceil(Date.now() / 1000) + 1) }, body: { error: 'RateLimitExceeded', message: 'Rate Limit Exceeded' } }
    }
    const [done, message] = await lua(m, 'return me:put("app.example.note", "n", { n = 1 })')
    assert.ok(done, message)
    assert.equal(turned, 2)
    await m.metricAtLeast('moonjet_agent_requests_total', 3)
    await m.finish()
  })

  await test('agent: a write whose answer is lost, or whose PDS restarts, is there once', async (t) => {
    const s = await setup(t)
    const alice = await account(s.pds, 'alice')
    const m = await run(t, s)
    await lua(m, 'return me:login()')
    let lost = 0
    s.door.turn = (call) => (call.nsid === PUT && lost++ < 3 ? 'lose' : null)
    const one = await alice.create(POST, mention(s.bot, 1))
    await eventually(async () => (await records(s.pds, s.bot.did)).length > 0 && lost > 3, 'the answer')
    await s.pds.stop('SIGKILL')
    s.door.turn = () => null
    await s.pds.start()
    const two = await alice.create(POST, mention(s.bot, 2))
    await eventually(async () => (await records(s.pds, s.bot.did)).length === 2, 'the second answer')
    assertOnce(await records(s.pds, s.bot.did), [one.uri, two.uri])
    await m.finish()
  }, { seconds: 120 })

  // The whole proof, 1,000 mentions and 20 kills, takes minutes: MOONJET_PROOF=full.
  const full = process.env.MOONJET_PROOF === 'full'
  const [mentions, kills] = full ? [1000, 20] : [60, 3]
  await test(`agent: the dice bot answers ${mentions} mentions exactly once each, through ${kills} kill -9, a PDS that restarts, expired tokens, lost answers and 429s`, async (t) => {
    const s = await setup(t, { limits: 'bypass', access: full ? '20s' : '3s' })
    // Who looks for the PDS finds the door.
    const own = (text) => text.replaceAll(`http://localhost:${s.pds.port}`, s.door.url)
    s.door.rewrite = own
    const directory = await door(t, s.pds.plc)
    directory.rewrite = own
    const start = () => Moonjet.run(t, { scripts: [path.join(root, 'examples', 'dice-bot.lua')], source: s.pds.ws, data: s.data,
      env: { MOONJET_SECRET_BOT_PASSWORD: s.password }, args: ['--http-allow', '127.0.0.1', '--plc', directory.url,
        '--config', `did=${s.bot.did}`, '--config', 'limit=1000/s'] })
    const people = []
    for (let i = 0; i < 5; i++) people.push(await account(s.pds, `p${i}`))
    const uris = []
    const ask = async (who, n) => {
      const writes = Array.from({ length: n }, (_, i) => ({ $type: 'create', collection: POST, value: mention(s.bot, uris.length + i) }))
      const { results } = await who.apply(writes)
      uris.push(...results.map((r) => r.uri))
    }

    // Troubles, by the number of writes that the door has seen.
    const seen = { puts: 0, answered: 0, limited: 0, lost: 0, expired: 0 }
    const refuse = (status, error, headers) => ({ status, headers, body: { error, message: error } })
    s.door.turn = (call) => {
      if (call.nsid !== PUT) return null
      seen.puts++
      if (seen.puts % 17 === 0) {
        seen.limited++
        return refuse(429, 'RateLimitExceeded', { 'ratelimit-limit': '5000', 'ratelimit-remaining': '0',
          'ratelimit-policy': '5000;w=3600', 'ratelimit-reset': String(Math.ceil(Date.now() / 1000) + 1) })
      }
      if (seen.puts % 23 === 0) {
        seen.expired++
        return refuse(400, 'ExpiredToken')
      }
      if (seen.puts % 13 === 0) {
        seen.lost++
        return 'lose'
      }
      return null
    }
    let next = null // what happens when so many answers are there
    s.door.seen = (call, status) => {
      if (call.nsid !== PUT || status !== 200) return
      seen.answered++
      if (next && seen.answered >= next.at) next.go()
    }
    const answered = (at) => new Promise((go) => {
      if (seen.answered >= at) go()
      else next = { at, go }
    })

    const ask_all = async () => { // in turns: by its manners a bot answers nobody more than 250 times a day
      for (let turn = 0; uris.length < mentions; turn++)
        await ask(people[turn % people.length], Math.min(10 + uris.length % 7, mentions - uris.length))
    }
    let m = await start()
    let errors = ''
    const asking = ask_all()
    asking.catch(() => {}) // told below
    for (let i = 1; i <= kills; i++) {
      await answered(Math.floor(i * mentions / (kills + 2)))
      next = null
      await m.stop('SIGKILL')
      errors += m.err
      if (i === Math.ceil(kills / 2)) {
        await asking
        await s.pds.stop('SIGKILL')
        m = await start()
        await s.pds.start()
      } else {
        m = await start()
      }
    }
    await asking
    if (full) {
      // The real thing: what is left of 3,000 requests in 5 minutes from this address goes at once.
      let left = true
      while (left) {
        const rs = await Promise.all(Array.from({ length: 100 }, () => fetch(`${s.pds.url}/xrpc/com.atproto.server.describeServer`)))
        await Promise.all(rs.map((r) => r.arrayBuffer()))
        left = rs.every((r) => r.status !== 429)
      }
    }
    await eventually(async () => (await records(s.pds, s.bot.did)).length >= mentions, 'all answers', full ? 1_200_000 : 120_000)
    errors += m.err
        await m.finish()
    assertOnce(await records(s.pds, s.bot.did), uris)

    // What the network has seen of the bot: as many creates, and nothing else.
    const r = reference(t, s.pds.ws, s.pds.plc)
    const last = await account(s.pds, 'last')
    const end = await last.create(POST, { text: 'the end', createdAt: new Date().toISOString() })
    await r.until(() => r.keys.some((k) => k.includes(end.cid)), 'end of the firehose', 120_000)
    await r.stop()
    const commits = r.keys.filter((k) => k.startsWith(`${s.bot.did} `) && k.includes(` ${POST}/`)).map((k) => k.split(' ')[1])
    assert.deepEqual([commits.length, new Set(commits)], [mentions, new Set(['create'])])
    assert.deepEqual(r.errors, [])

    for (const [what, n] of Object.entries(seen)) assert.ok(n > 0, `${what}: ${JSON.stringify(seen)}`)
    assert.ok(s.door.count(LOGIN) <= 5, `${s.door.count(LOGIN)} logins`)
    assert.ok(s.door.count(REFRESH) > 0)
    assert.doesNotMatch(errors, tokens)
    assert.doesNotMatch(errors, / error script/)
    console.log(`# ${mentions} mentions, ${kills} kills: ${seen.puts} writes sent, ${seen.limited} of them 429, ${seen.expired} expired, ${seen.lost} answers lost; ${s.door.count(LOGIN)} logins, ${s.door.count(REFRESH)} refreshes`)
  }, { seconds: full ? 2400 : 300 })
}
