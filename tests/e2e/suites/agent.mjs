// Agents against a real PDS with its rate limits on: sessions, expired tokens, 429s, a PDS that comes
// and goes, and a bot that answers each mention exactly once through kill -9 and all of that.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { dns } from '../lib/dns.mjs'
import { door } from '../lib/door.mjs'
import { eventually, here, test } from '../lib/harness.mjs'
import { Moonjet } from '../lib/moonjet.mjs'
import { account, server, xrpc } from '../lib/pds.mjs'

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
}
