// moonjet why, and moonjet ctl why: what is said of a record is what became of it, for each kind of
// end a record can come to, while the router runs and after it has stopped.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import http from 'node:http'
import path from 'node:path'
import * as CBOR from '@atcute/cbor'
import { dns } from '../lib/dns.mjs'
import { cidOf, commitFrame, frame } from '../lib/frames.mjs'
import { eventually, test } from '../lib/harness.mjs'
import { Moonjet, command } from '../lib/moonjet.mjs'
import { receiver } from '../lib/receiver.mjs'
import { relay } from '../lib/relay.mjs'

const DID = 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa'
const OTHER = 'did:plc:bbbbbbbbbbbbbbbbbbbbbbbb'
const POST = 'app.bsky.feed.post'
const uri = (rkey, did = DID, collection = POST) => `at://${did}/${collection}/${rkey}`

let revs = 0
const rev = () => `3mptbypluu${'234567abcdefghijklmnopqrstuvwxyz'[revs >> 5 & 31]}${'234567abcdefghijklmnopqrstuvwxyz'[revs++ & 31]}a`
const commit = (seq, rkey, record, { did = DID, action = 'create', cid, collection = POST } = {}) =>
  commitFrame({
    seq, did, rev: rev(),
    ops: [{ action, path: `${collection}/${rkey}`, record: record && CBOR.encode({ $type: collection, ...record }), cid }],
  })

const SCRIPT = `
local blocked = jet.set("blocked", {})
jet.from { collection = "app.bsky.feed.post", lang = jet.no "pt" }
  :where(function(ev) return #ev.text > 5 end)
  :map(function(ev)
    if ev.text == "explode" then error("boom") end
    if ev.text == "change me" then ev:set("text", "changed") end
    return ev
  end)
  :to(jet.stream "long")
jet.from { text = "moon" }
  :where { has = "embed" }
  :to(jet.stream "moon")
jet.from { did = blocked }:to(jet.stream "blocked")
jet.from { tags = "once" }:dedupe { by = "text", within = "1h" }:to(jet.stream "once")
jet.main():where(function(ev) return ev.text ~= "secret" end)
`

async function start(t, script, { frames = [], args = [], data } = {}) {
  const dir = t.dir()
  const file = path.join(dir, 'moon.lua')
  fs.writeFileSync(file, script)
  data ??= path.join(dir, 'data')
  const source = await relay(t, frames)
  const m = await Moonjet.run(t, { source: source.url, data, scripts: [file], args })
  // The report on a record: { code, json, text }.
  const ask = async (what, code = 0) => {
    const json = await command(t, ['ctl', '--data', data, '--json', 'why', what])
    assert.equal(json.code, code, json.err + json.out)
    const text = await command(t, ['ctl', '--data', data, 'why', what])
    assert.equal(text.code, code, text.err + text.out)
    return { json: JSON.parse(json.out), text: text.out }
  }
  const ended = async (what, code = 0, ...scripts) => {
    const json = await command(t, ['why', '--data', data, '--json', what, ...scripts])
    assert.equal(json.code, code, json.err + json.out)
    const text = await command(t, ['why', '--data', data, what, ...scripts])
    assert.equal(text.code, code, text.err + text.out)
    return { json: JSON.parse(json.out), text: text.out }
  }
  return { m, source, data, file, dir, ask, ended }
}

// "node verdict" of each flow's nodes.
const verdicts = (step) => step.flows.map((f) => `${f.node} ${f.verdict}`)

export default async function suite() {
  await test('why: each verdict a node can have, with file and line', async (t) => {
    const { m, source, ask } = await start(t, SCRIPT)
    source.push(
      await commit(1, 'long', { text: 'long enough', langs: ['en'] }),
      await commit(2, 'short', { text: 'short', langs: ['en'] }),
      await commit(3, 'pt', { text: 'muito longo', langs: ['pt'] }),
      await commit(4, 'boom', { text: 'explode', langs: ['en'] }),
      await commit(5, 'edited', { text: 'change me', langs: ['en'] }),
      await commit(6, 'secret', { text: 'secret', langs: ['en'] }),
      await commit(7, 'moon', { text: 'the moon' }),
      await commit(8, 'once1', { text: 'again', tags: ['once'] }),
      await commit(9, 'once2', { text: 'again', tags: ['once'] }),
    )
    await m.metricAtLeast('moonjet_events_total', 9)
    const one = async (rkey) => {
      const { json, text } = await ask(uri(rkey))
      assert.equal(json.arrived, true)
      assert.equal(json.uri, uri(rkey))
      assert.equal(json.steps.length, 1, text)
      return { step: json.steps[0], text }
    }
    let { step, text } = await one('long')
    assert.deepEqual(verdicts(step), ['from#1 passed', 'where#1 passed', 'map#1 passed', 'stream#1 passed', 'from#2 no match',
      'from#3 no match', 'from#4 no match'])
    assert.equal(step.operation, 'create')
    assert.equal(step.upstream_seq, 1)
    assert.equal(step.source, source.url)
    assert.equal(step.remembered, true)
    assert.deepEqual(step.entries[0].streams, ['main', 'long'])
    assert.ok(step.time_us > 1.7e15 && step.committed_us > 1.7e15)
    assert.deepEqual(step.flows.slice(4).map((f) => [f.script, f.line, f.why]), [
      ['moon.lua', 11, 'the text is "long enough", wanted the word "moon"'],
      ['moon.lua', 14, `did is "${DID}", wanted a member of set blocked, which is empty`],
      ['moon.lua', 15, 'it has no tags, wanted "once"']])
    assert.match(text, /^at:\/\/did:plc:a+\/app\.bsky\.feed\.post\/long\n\n\d{4}-\S+Z {2}create from ws:\/\/127\.0\.0\.1:\d+, seq 1, /)
    assert.match(text, /in the main stream, as seq \d+ of the journal\n {2}in stream long, as seq/)
    assert.match(text, / where#1 +moon\.lua:4 +passed\n/)
    assert.doesNotMatch(text, /\x1b/)

    ;({ step, text } = await one('short'))
    assert.deepEqual(verdicts(step).slice(0, 3), ['from#1 passed', 'where#1 dropped', 'from#2 no match'])
    ;({ step } = await one('pt'))
    assert.equal(step.flows[0].why, 'lang is "pt", wanted not "pt"')
    ;({ step, text } = await one('boom'))
    assert.deepEqual(step.flows.slice(0, 3).map((f) => [f.node, f.verdict, f.error]),
      [['from#1', 'passed', undefined], ['where#1', 'passed', undefined], ['map#1', 'error', 'moon.lua:6: boom']])
    assert.match(text, /map#1 +moon\.lua:5 +failed, so it left the flow: moon\.lua:6: boom\n/)

    // An edited version is an entry of its own, of the same operation.
    ;({ step, text } = await one('edited'))
    assert.deepEqual(verdicts(step).slice(0, 4), ['from#1 passed', 'where#1 passed', 'map#1 edited', 'stream#1 passed'])
    assert.deepEqual(step.entries.map((e) => e.streams), [['main'], ['long']])

    ;({ step, text } = await one('secret'))
    assert.equal(step.main, false)
    assert.deepEqual(step.entries.map((e) => e.streams), [['long']])
    assert.deepEqual([step.flows.at(-1).node, step.flows.at(-1).verdict], ['where#3', 'dropped'])
    assert.match(text, /not in the main stream\n/)

    ;({ step } = await one('moon'))
    const where = step.flows.find((f) => f.node === 'where#2')
    assert.deepEqual([where.verdict, where.why], ['dropped', 'it has no record.embed'])
    ;({ step } = await one('once1'))
    assert.deepEqual(verdicts(step).slice(-3), ['from#4 passed', 'dedupe#1 passed', 'stream#4 passed'])
    ;({ step } = await one('once2'))
    assert.deepEqual(verdicts(step).slice(-2), ['from#4 passed', 'dedupe#1 dropped'])

    // A link to the post says the same.
    assert.equal((await ask(`https://bsky.app/profile/${DID}/post/long`)).json.uri, uri('long'))
    await m.finish()
  })

  await test('why: create, update and delete are a timeline; account events by DID', async (t) => {
    const { m, source, ask } = await start(t, SCRIPT)
    source.push(
      await commit(1, 'a', { text: 'one' }),
      await commit(2, 'a', { text: 'two' }, { action: 'update' }),
      await commit(3, 'a', undefined, { action: 'delete' }),
      frame('#identity', { seq: 4, did: DID, handle: 'alice.test' }),
      frame('#account', { seq: 5, did: DID, active: false, status: 'deactivated' }))
    await m.metricAtLeast('moonjet_events_total', 5)
    const { json, text } = await ask(uri('a'))
    assert.deepEqual(json.steps.map((s) => [s.operation, s.upstream_seq]), [['create', 1], ['update', 2], ['delete', 3]])
    assert.match(text, / create from [^]* update from [^]* delete from /)
    const account = await ask(DID)
    assert.deepEqual(account.json.steps.map((s) => [s.kind, s.upstream_seq]), [['identity', 4], ['account', 5]])
    await m.finish()
  })

  await test('why: what is dropped before flows see it, and what never came', async (t) => {
    const { m, source, ask } = await start(t, SCRIPT)
    const wrong = CBOR.encode({ $type: POST, text: 'another' })
    source.push(
      await commit(1, 'fine', { text: 'fine' }),
      await commit(2, 'noblock', { text: 'x' }, { cid: cidOf(wrong) }),
      await commit(3, 'float', { text: 'x', n: 1.5 }),
      await commit(9, 'late', { text: 'fine' }))
    await m.metricAtLeast('moonjet_events_total', 3)
    let { json, text } = await ask(uri('noblock'))
    assert.equal(json.arrived, true)
    assert.equal(json.steps[0].dropped, 'block_missing')
    assert.deepEqual(json.steps[0].entries, [])
    assert.match(text, /dropped: .* \(block_missing\)\n/)
    ;({ json, text } = await ask(uri('float')))
    assert.equal(json.steps[0].dropped, 'cbor_float')
    assert.ok(json.steps[0].flows.every((f) => f.verdict === 'no match'), text)

    ;({ json, text } = await ask(uri('nosuch'), 1))
    assert.equal(json.arrived, false)
    assert.deepEqual(json.steps, [])
    assert.ok(json.account.events >= 2, JSON.stringify(json.account))
    assert.deepEqual(json.gaps.map((g) => [g.source, g.from_seq, g.to_seq]), [[source.url, 4, 9]])
    assert.ok(json.journal.from_us && json.decisions.from_us)
    assert.match(text, /never arrived, as far as is known\n/)
    assert.match(text, /of this account there are \d events, the newest of /)
    assert.match(text, /jumped from seq 4 to 9 at /)
    ;({ text } = await ask(DID, 1))
    assert.match(text, /no identity or account event of it arrived, as far as is known\n/)
    // Made long before anything that is kept.
    ;({ json, text } = await ask(uri('3jzfcijpj2z2a'), 1))
    assert.match(text, /its key says it was made at 2023-\S+: before what is kept, so it may have come and gone\n/)
    ;({ text } = await ask(uri('x', OTHER), 1))
    assert.match(text, /of this account there is nothing at all\n/)
    await m.finish()
  })

  await test('why: wrong questions are told from what never arrived', async (t) => {
    const { m, data } = await start(t, SCRIPT)
    for (const [what, says] of [['nonsense', /'nonsense' is not a DID/],       [`at://${DID}/nope/x`, /'nope' is not a collection/], [`at://${DID}/${POST}/a b`, /'a b' is not a record key/],
      [`at://${DID}/${POST}`, /is none of at:/], ['https://bsky.app/search', /is none of at:/]])
      for (const by of [['ctl', '--data', data, 'why'], ['why', '--data', data]]) {
        const r = await command(t, [...by, what])
        assert.equal(r.code, 2, r.err + r.out)
        assert.match(r.err, says)
      }
    const none = await command(t, ['why', uri('x')])
    assert.equal(none.code, 2)
    assert.match(none.err, /Give --data DIR/)
    await m.finish()
    const dead = await command(t, ['ctl', '--data', data, 'why', uri('x')])
    assert.equal(dead.code, 2)
    assert.match(dead.err, /is moonjet running/)
  })

  await test('why: a handle is looked up, in a link, too', async (t) => {
    const { m, source, data } = await start(t, SCRIPT)
    source.push(await commit(1, 'here', { text: 'long enough' }))
    await m.metricAtLeast('moonjet_events_total', 1)
    const plc = http.createServer((req, res) => res.end(JSON.stringify(
      { id: decodeURIComponent(req.url.slice(1)), alsoKnownAs: ['at://alice.test'] })))
    await new Promise((ok) => plc.listen(0, '127.0.0.1', ok))
    t.defer(() => new Promise((ok) => plc.close(ok)))
    const name = await dns(t, (n) => (n === '_atproto.alice.test' ? [`did=${DID}`] : null))
    const lookup = ['--plc', `http://127.0.0.1:${plc.address().port}`, '--dns', name.at, '--data', data, '--json']
    for (const by of [['ctl', ...lookup, 'why'], ['why', ...lookup]]) {
      for (const what of ['at://alice.test/app.bsky.feed.post/here', 'https://bsky.app/profile/alice.test/post/here?ref=x']) {
        const r = await command(t, [...by, what])
        assert.equal(r.code, 0, r.err)
        assert.equal(JSON.parse(r.out).uri, uri('here'))
      }
      const no = await command(t, [...by, 'at://nobody.test/app.bsky.feed.post/here'])
      assert.equal(no.code, 2, no.out)
      assert.match(no.err, /nobody\.test: .*; a DID in its place needs no look-up/)
    }
    await m.finish()
  })

  await test('why: what main has edited is told as such', async (t) => {
    const { m, source, ask } = await start(t, `
jet.main():map(function(ev) ev:set("text", "moonless") return ev end)
jet.from { text = "moon" }:to(jet.stream "moon")
jet.from { text = "sun" }:to(jet.stream "sun")`)
    source.push(await commit(1, 'a', { text: 'moon' }))
    await m.metricAtLeast('moonjet_events_total', 1)
    const { json } = await ask(uri('a'))
    assert.deepEqual(verdicts(json.steps[0]), ['from#1 passed', 'stream#1 passed', 'from#2 no match', 'map#1 edited'])
    assert.equal(json.steps[0].flows[2].why, 'the text is "moonless", wanted the word "sun", in the version that main made of it')
    await m.finish()
  })

  await test('why: after a stop the journal still says when it came, and scripts what they say to it', async (t) => {
    const { m, source, file, dir, ended } = await start(t, SCRIPT)
    source.push(
      await commit(1, 'long', { text: 'long enough', langs: ['en'] }),
      await commit(2, 'pt', { text: 'muito longo', langs: ['pt'] }))
    await m.metricAtLeast('moonjet_events_total', 2)
    // Beside the router that runs, too.
    assert.equal((await ended(uri('long'))).json.steps.length, 1)
    await m.finish()
    let { json, text } = await ended(uri('long'))
    assert.deepEqual([json.running, json.arrived, json.steps[0].remembered], [false, true, false])
    assert.deepEqual(json.steps[0].entries[0].streams, ['main', 'long'])
    assert.deepEqual(json.steps[0].flows, [])
    ;({ json, text } = await ended(uri('pt'), 0, file))
    assert.deepEqual(verdicts(json.steps[0]).slice(0, 2), ['from#1 no match', 'from#2 no match'])
    assert.equal(json.steps[0].flows[0].why, 'lang is "pt", wanted not "pt"')
    assert.match(text, /what flows decided then is not remembered any more; this is what they say now/)
    ;({ text } = await ended(uri('nosuch'), 1))
    assert.match(text, /never arrived/)
    const other = path.join(dir, 'other.lua')
    fs.writeFileSync(other, 'local jet = require "moonjet"\njet.from { text = assert(jet.config.word) }:to(jet.stream "x")\n')
    ;({ json } = await ended(uri('pt'), 0, '--config', 'word=nowhere', other))
    assert.deepEqual(verdicts(json.steps[0]), ['from#1 no match'])
    fs.writeFileSync(other, `local jet = require "moonjet"\njet.from { did = jet.set("ours", { "${DID}" }) }:tap(print)
jet.from { did = jet.set "others" }:tap(print)\n`)
    ;({ json } = await ended(uri('pt'), 0, other))
    assert.deepEqual(verdicts(json.steps[0]), ['from#1 matches', 'from#2 no match'])
    assert.match(json.steps[0].flows[1].why, /wanted a member of set others, which is empty/)
    const no = await command(t, ['why', '--data', path.join(dir, 'nosuch'), uri('x')])
    assert.equal(no.code, 2)
    assert.match(no.err, /nosuch/)
  })

  await test('why: an :each that took it, failed, and the dead letter it became', async (t) => {
    const { m, source, ask, ended } = await start(t, `
jet.from { text = jet.words { "good", "bad" } }:each(function(ev)
  if ev.text == "bad" then error("no thanks") end
end):as("bot")`)
    source.push(await commit(1, 'good', { text: 'good' }), await commit(2, 'bad', { text: 'bad' }), await commit(3, 'none', { text: 'none' }))
    await m.metricAtLeast('moonjet_events_total', 3)
    const delivery = async (rkey, state) => eventually(async () => {
      const { json, text } = await ask(uri(rkey))
      const d = json.steps[0].entries.flatMap((e) => e.deliveries)
      return d.length === 1 && d[0].state === state && { d: d[0], step: json.steps[0], text }
    }, `${rkey} is ${state}`)
    let { d, step, text } = await delivery('good', 'delivered')
    assert.equal(d.reader, 'moon.lua bot')
    assert.equal(d.kind, 'each')
    assert.deepEqual(d.attempts.map((a) => [a.attempt, a.result]), [[1, 'delivered']])
    assert.deepEqual(verdicts(step), ['from#1 passed', 'bot passed'])
    assert.match(text, /moon\.lua bot \(each\): delivered\n +\S+Z {2}attempt 1 delivered\n/)
    ;({ d, text } = await delivery('bad', 'dead'))
    assert.match(d.letter.reason, /no thanks/)
    assert.equal(d.attempts.at(-1).result, 'dead')
    assert.match(text, /moon\.lua bot \(each\): dead letter \d+ since \S+Z, after 1 attempt: .*no thanks/)
    ;({ json: { steps: [step] } } = await ask(uri('none')))
    assert.deepEqual(step.entries.flatMap((e) => e.deliveries), [])
    await m.finish()
    // Positions and dead letters outlive the process; attempts do not.
    ;({ json: { steps: [step] } } = await ended(uri('good')))
    assert.deepEqual(step.entries.flatMap((e) => e.deliveries).map((x) => [x.reader, x.state, x.attempts]), [['moon.lua bot', 'delivered', []]])
    ;({ json: { steps: [step] } } = await ended(uri('bad')))
    assert.deepEqual(step.entries.flatMap((e) => e.deliveries).map((x) => [x.state, /no thanks/.test(x.letter?.reason)]), [['dead', true]])
  })

  await test('why: a webhook that was tried again, and one that was given up', async (t) => {
    const r = await receiver(t)
    let failures = 0
    r.answer = (d) => (d.body.includes('refuse me') ? { status: 400, body: 'not like this' } : failures++ ? 200 : 503)
    const { m, source, ask } = await start(t, `
jet.from { text = jet.words { "hook", "refuse" } }
  :to(jet.webhook { url = "${r.url}", allow = { "127.0.0.1" }, retry = { tries = 3, min = "50ms", max = "100ms" } }):as("hook")`)
    source.push(await commit(1, 'hook', { text: 'hook' }), await commit(2, 'refuse', { text: 'refuse me' }, { did: OTHER }))
    const delivery = (what, state) => eventually(async () => {
      const { json, text } = await ask(what)
      const d = json.steps[0].entries.flatMap((e) => e.deliveries)
      return d.length === 1 && d[0].state === state && { d: d[0], text }
    }, `${what} is ${state}`)
    await m.metricAtLeast('moonjet_events_total', 2)
    let { d, text } = await delivery(uri('hook'), 'delivered')
    assert.equal(d.kind, 'webhook')
    assert.deepEqual(d.attempts.map((a) => [a.attempt, a.result, a.status]), [[1, 'failed', 503], [2, 'delivered', 200]])
    assert.match(text, /moon\.lua hook \(webhook\): delivered\n +\S+Z {2}attempt 1 failed, status 503.*\n +\S+Z {2}attempt 2 delivered, status 200\n/)
    ;({ d, text } = await delivery(uri('refuse', OTHER), 'dead'))
    assert.deepEqual([d.letter.status, d.letter.excerpt], [400, 'not like this'])
    assert.match(text, /dead letter \d+ since \S+Z, after 1 attempt, status 400.*\n +it answered: not like this\n/)
    await m.finish()
  })

  await test('why: a script in a lane, a replaced script, and --why 0', async (t) => {
    const dir = t.dir()
    const lane = path.join(dir, 'lane.lua')
    fs.writeFileSync(lane, 'jet.from { text = "moon" }:where(function(ev) return ev.text ~= "no moon" end):to(jet.stream "lane")\n')
    fs.writeFileSync(path.join(dir, 'moonjet.lua'), 'script "lane.lua" { lane = "own" }\nscript "one.lua" {}\n')
    const one = path.join(dir, 'one.lua')
    fs.writeFileSync(one, 'jet.from { text = "moon" }:to(jet.stream "one")\n')
    const source = await relay(t, [])
    const data = path.join(dir, 'data')
    let m = await Moonjet.run(t, { source: source.url, data, scripts: [path.join(dir, 'moonjet.lua')] })
    const ask = async (rkey) => JSON.parse((await command(t, ['ctl', '--data', data, '--json', 'why', uri(rkey)])).out)
    source.push(await commit(1, 'yes', { text: 'moon' }), await commit(2, 'no', { text: 'no moon' }))
    const told = (rkey, n) => eventually(async () => {
      const r = await ask(rkey)
      return r.steps[0]?.flows.filter((f) => f.script === 'lane.lua').length === n && r.steps[0]
    }, `what the lane says to ${rkey}`)
    assert.deepEqual(verdicts(await told('yes', 3)), ['from#1 passed', 'stream#1 passed', 'from#1 passed', 'where#1 passed', 'stream#1 passed'])
    let step = await told('no', 2)
    assert.deepEqual(step.flows.filter((f) => f.script === 'lane.lua').map((f) => `${f.node} ${f.verdict}`), ['from#1 passed', 'where#1 dropped'])

    // Another script in its place: what the old one said is still told, and named as it was.
    fs.writeFileSync(one, '\n\njet.from { text = "sun" }:as("sunny"):to(jet.stream "one")\n')
    assert.equal((await command(t, ['ctl', '--data', data, 'reload'])).code, 0)
    ;({ steps: [step] } = await ask('yes'))
    assert.deepEqual(step.flows.filter((f) => f.script === 'one.lua').map((f) => [f.node, f.line, f.verdict]),
      [['sunny', 3, 'no match'], ['from#1', 1, 'passed'], ['stream#1', 1, 'passed']])
    await m.finish()

    m = await Moonjet.run(t, { source: source.url, data, scripts: [path.join(dir, 'moonjet.lua')], args: ['--why', '0'] })
    const r = await ask('yes')
    assert.equal(r.arrived, true)
    assert.equal(r.decisions, undefined)
    assert.equal(r.steps[0].remembered, false)
    await m.finish()
  })
}
