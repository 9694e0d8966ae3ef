// Scripts between source and clients: an edit changes what it says and nothing else, values no
// script touched stay exact, and a failing script costs its own flow only.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import * as CBOR from '@atcute/cbor'
import * as clients from '../lib/clients.mjs'
import { assertRecordMatchesCid, key, mask } from '../lib/events.mjs'
import { cidOf, commitFrame } from '../lib/frames.mjs'
import { corpus } from '../lib/corpus.mjs'
import { gate } from '../lib/gate.mjs'
import { Moonjet, command } from '../lib/moonjet.mjs'
import { relay } from '../lib/relay.mjs'
import { account, network } from '../lib/pds.mjs'
import { eventually, here, root, test } from '../lib/harness.mjs'

const script = (name) => path.join(here, 'scripts', `${name}.lua`)
const stream = (m, name) => `${m.url}/stream/${name}/subscribe`

// A router over frames, one plain client per stream ("main" is /subscribe), then the frames.
async function route(t, frames, scripts, streams, more = {}) {
  const r = await relay(t, frames)
  const g = await gate(t, r.url)
  const m = await Moonjet.run(t, { scripts, source: g.url, ...more })
  const c = {}
  for (const s of streams) c[s] = await clients.plain(t, s === 'main' ? `${m.url}/subscribe` : stream(m, s))
  g.open()
  return { m, c, r }
}

const isPost = (l) => /"operation":"create","collection":"app\.bsky\.feed\.post"/.test(l)
const withoutCid = (l) => l.replace(/,"cid":"[^"]*"\}\}$/, '}}')

// The text of a top-level field of the record, as it stands in the line: from `"name":` to its end.
// Records are nested, so this walks the JSON instead of guessing.
function fieldOf(line, name) {
  let at = line.indexOf('"record":{') + '"record":{'.length
  for (;;) {
    const [, keyText] = /^"((?:[^"\\]|\\.)*)":/.exec(line.slice(at))
    const from = at + keyText.length + 3
    let to = from
    let depth = 0
    for (let inString = false; ; to++) {
      const ch = line[to]
      if (inString) {
        if (ch === '\\') to++
        else if (ch === '"') inString = false
      } else if (ch === '"') inString = true
      else if (ch === '{' || ch === '[') depth++
      else if (ch === '}' || ch === ']') {
        if (depth === 0) break
        depth--
      } else if (ch === ',' && depth === 0) break
    }
    if (keyText === name) return { at, from, to }
    if (line[to] === '}') return null
    at = to + 1
  }
}

// Upper case as Lua's C locale has it: ASCII only. Escapes such as \n are JSON's, not the text's.
const upperJson = (s) => s.replace(/\\u[0-9a-f]{4}|\\.|[a-z]/g, (x) => (x.length === 1 ? x.toUpperCase() : x))

// 2^53+1, which no JavaScript number can hold: written as 2^53-1 and patched, both being nine bytes.
function withBigInteger(record) {
  const bytes = Buffer.from(CBOR.encode(record))
  const at = bytes.indexOf(Buffer.from('1b001fffffffffffff', 'hex'))
  assert.ok(at > 0)
  Buffer.from('1b0020000000000001', 'hex').copy(bytes, at)
  return bytes
}

const values = {
  $type: 'org.example.values', empty_list: [], empty_map: {}, nothing: null, holes: [1, null, 2], nested: { a: [[], {}, null] },
  big: Number.MAX_SAFE_INTEGER, small: -1, zero: 0, yes: true, no: false, text: 'a\u0000b\u2028<&>"\\\u00e9\u{1F319}',
  bytes: { $bytes: 'AAEC' }, link: { $link: cidOf(Buffer.from('a0', 'hex')) }, list: ['x', { y: [] }],
}

export default async function suite() {
  await test('scripts: :map changes only what it says, byte for byte', async (t) => {
    const { frames, lines } = corpus()
    const posts = lines.filter(isPost)
    assert.ok(posts.length > 3)
    const { m, c } = await route(t, frames, [script('upper')], ['main', 'upper', 'nolangs', 'same'])
    await c.main.count(lines.length)
    for (const s of ['upper', 'nolangs', 'same']) await c[s].count(posts.length)
    assert.deepEqual(c.main.raw.map(mask), lines.map(mask), 'main is untouched')
    const edited = (edit) => posts.map((l) => {
      const e = edit(l)
      return mask(e === l ? l : withoutCid(e))
    })
    assert.deepEqual(c.upper.raw.map(mask), posts.map((l) => {
      const f = fieldOf(l, 'text')
      return mask(withoutCid(l.slice(0, f.from) + upperJson(l.slice(f.from, f.to)) + l.slice(f.to)))
    }), 'upper')
    assert.deepEqual(c.nolangs.raw.map(mask), edited((l) => {
      const f = fieldOf(l, 'langs')
      if (!f) return l
      return l[f.to] === ',' ? l.slice(0, f.at) + l.slice(f.to + 1) : l.slice(0, f.at - 1) + l.slice(f.to)
    }), 'nolangs')
    assert.deepEqual(c.same.raw.map(mask), posts.filter((l) => !/"text":""/.test(l)).map(mask), 'an unchanged draft is the event')
    await m.finish()
  })

  await test('scripts: [], {}, null, [1,null,2] and 2^53+1 survive', async (t) => {
    const record = withBigInteger(values)
    const frame = await commitFrame({
      seq: 1, did: 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa', rev: '3mptbypluud2a',
      ops: [{ action: 'create', path: 'org.example.values/one', record }],
    })
    const { m, c } = await route(t, [frame], [script('touch')], ['main', 'read', 'changed'])
    for (const s of ['main', 'read', 'changed']) await c[s].count(1)
    const [line] = c.main.raw
    for (const exact of ['"empty_list":[]', '"empty_map":{}', '"nothing":null', '"holes":[1,null,2]', '"nested":{"a":[[],{},null]}',
      '"big":9007199254740993', '"small":-1', '"zero":0', '"yes":true', '"no":false', '"bytes":{"$bytes":"AAEC"}', '"list":["x",{"y":[]}]',
      `"link":{"$link":"${values.link.$link}"}`, '"text":"a\\u0000b\\u2028\\u003c\\u0026\\u003e\\"\\\\\u00e9\u{1F319}"', `"cid":"${cidOf(record)}"`])
      assert.ok(line.includes(exact), `${exact} is not in ${line}`)
    assert.equal(mask(c.read.raw[0]), mask(line), 'a script that read it all')
    const noted = withoutCid(line.replace('"nothing":null', '"note":"changed","nothing":null'))
    assert.equal(mask(c.changed.raw[0]), mask(noted), 'a script that added a field')
    await m.finish()
  })

  await test('scripts: the same values written through a real PDS', async (t) => {
    const net = await network()
    const g = await gate(t, net.ws, { open: true })
    const m = await Moonjet.run(t, { scripts: [script('touch')], source: g.url })
    const main = await clients.plain(t, `${m.url}/subscribe?wantedCollections=org.example.values`)
    const read = await clients.plain(t, stream(m, 'read'))
    const changed = await clients.plain(t, stream(m, 'changed'))
    const a = await account(net, 'values')
    await main.until((c) => c.events.some((e) => e.kind === 'identity' && e.did === a.did), 'the new account')
    const { $type, text, ...record } = values
    const { cid } = await a.create('org.example.values', record, { rkey: 'one' })
    const mine = (c) => c.raw.find((l) => l.includes('org.example.values/one') || l.includes('"rkey":"one"'))
    for (const c of [main, read, changed]) await c.until(mine, 'the record')
    const line = mine(main)
    assertRecordMatchesCid(line)
    assert.equal(JSON.parse(line).commit.cid, cid)
    assert.deepEqual(JSON.parse(line).commit.record, { $type, ...record })
    assert.equal(mask(mine(read)), mask(line))
    assert.equal(mask(mine(changed)), mask(withoutCid(line.replace('"nothing":null', '"note":"changed","nothing":null'))))
    await m.finish()
  })

  await test('scripts: an error costs that event in that flow only, is logged with script and line, and counted', async (t) => {
    const { frames, lines } = corpus()
    const commits = lines.filter((l) => l.includes('"kind":"commit"'))
    const { m, c } = await route(t, frames, [script('broken'), script('errors'), script('every')], ['main', 'healthy', 'every', 'broken', 'errors'])
    await c.main.count(lines.length)
    await c.every.count(lines.length)
    await c.healthy.count(commits.length)
    assert.deepEqual(c.main.raw.map(mask), lines.map(mask))
    assert.deepEqual(c.every.raw.map(mask), lines.map(mask))
    assert.deepEqual(c.healthy.raw.map(mask), commits.map(mask))
    assert.match(m.err, /broken\.lua:3\b/)
    assert.match(m.err, /errors\.lua:3\b.*on purpose/)
    assert.match(m.err, /at:\/\/did:/, 'the event is named')
    const metrics = await m.metrics()
    for (const [name, node] of [['broken', 'where#1'], ['errors', 'map#1']]) {
      const [series] = Object.keys(metrics).filter((k) => k.startsWith('moonjet_node_errors_total{') && k.includes(`${name}.lua`) && k.includes(node))
      assert.equal(metrics[series], commits.length, series)
    }
    await m.finish()
    for (const s of ['broken', 'errors']) {
      await c[s].closed
      assert.deepEqual(c[s].raw, [], s)
    }
  })

  await test('scripts: operators in C keep, count and choose as they say', async (t) => {
    const { frames, lines } = corpus()
    const commits = lines.map((l) => JSON.parse(l)).filter((e) => e.kind === 'commit')
    const { m, c } = await route(t, frames, [script('operators')], ['main', 'kept', 'authors', 'few', 'half', 'half-again', 'redacted'])
    await c.main.count(lines.length)
    assert.deepEqual(c.main.raw.map(mask), lines.map(mask), 'main is as it came')
    const id = (e) => `${e.did}/${e.commit.collection}/${e.commit.rkey}/${e.commit.rev}`
    const first = (n, keyOf) => {
      const seen = new Map()
      return commits.filter((e) => {
        seen.set(keyOf(e), (seen.get(keyOf(e)) ?? 0) + 1)
        return seen.get(keyOf(e)) <= n
      }).map(id)
    }
    for (const [name, change] of [['kept', (text) => text], ['redacted', (text) => (typeof text === 'string' ? '[gone]' : text)]]) {
      await c[name].count(commits.length)
      assert.deepEqual(c[name].events.map((e) => [id(e), e.commit.record]), commits.map((e) => {
        const record = e.commit.record
        if (!record) return [id(e), undefined]
        return [id(e), { $type: record.$type, ...('text' in record && { text: change(record.text) }) }]
      }), name)
    }
    const authors = first(1, (e) => e.did)
    const few = first(2, (e) => e.commit.collection)
    assert.ok(authors.length < commits.length && few.length < commits.length, 'the corpus has something to drop')
    await c.authors.count(authors.length)
    await c.few.count(few.length)
    await m.finish()
    for (const name of ['authors', 'few', 'half', 'half-again']) await c[name].closed
    assert.deepEqual(c.authors.events.map(id), authors)
    assert.deepEqual(c.few.events.map(id), few)
    const half = c.half.events
    assert.ok(half.length > 0 && half.length < commits.length)
    assert.deepEqual(c['half-again'].events.map(id), half.map(id))
    const chosen = new Set(half.map((e) => e.did))
    assert.deepEqual(half.map(id), commits.filter((e) => chosen.has(e.did)).map(id), 'all of an account, or nothing')
  })

  await test('scripts: an endless loop is stopped and everything else goes on', async (t) => {
    const { frames, lines } = corpus()
    const commits = lines.filter((l) => l.includes('"kind":"commit"'))
    const { m, c } = await route(t, frames, [script('endless'), script('every')], ['main', 'every', 'endless'])
    await c.main.count(lines.length)
    await c.every.count(lines.length)
    assert.deepEqual(c.main.raw.map(mask), lines.map(mask))
    assert.deepEqual(c.every.raw.map(mask), lines.map(mask))
    assert.match(m.err, /endless\.lua:\d+/)
    await m.finish()
    await c.endless.closed
    assert.deepEqual(c.endless.raw.slice(0, 2).map(mask), commits.slice(0, 2).map(mask))
    assert.ok(!c.endless.raw.map(mask).includes(mask(commits[2])), 'the third event left the flow')
  })

  await test('scripts: tasks work on every event while one of them never ends', async (t) => {
    const { frames, lines } = corpus()
    const { m, c } = await route(t, frames, [script('tasks')], ['main'])
    await c.main.count(lines.length)
    assert.deepEqual(c.main.raw.map(mask), lines.map(mask))
    const done = (what) => `moonjet_script_done{script="tasks.lua",what="${what}"}`
    for (const [what, least] of [['each', lines.length], ['list', lines.length], ['tick', 3]])
      await eventually(async () => (await m.metrics())[done(what)] >= least, `${least} of ${done(what)}`)
    const metrics = await m.metrics()
    assert.equal(metrics[done('each')], lines.length)
    assert.equal(metrics[done('list')], lines.length)
    await eventually(async () => (await m.metrics())['moonjet_reader_waiting_events{reader="tasks.lua each#1"}'] === 0, 'nothing waiting')
    assert.doesNotMatch(m.err, /tasks\.lua:\d+/, 'no script error')
    await m.finish()
    assert.match(m.err, /the script has said goodbye/)
  })

  await test('scripts: moonjet check prints the graph of every example, and each runs', async (t) => {
    const { frames, lines } = corpus()
    const examples = fs.readdirSync(path.join(root, 'examples')).filter((f) => /(?<!_spec)\.lua$/.test(f))
    assert.ok(examples.length >= 12, `examples: ${examples}`)
    // What their first lines ask for: somebody, somewhere, a file and secrets.
    const dir = t.dir()
    const did = 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa'
    const args = [`did=${did}`, 'url=http://127.0.0.1:1/hook', `feed=at://${did}/app.bsky.feed.generator/retro`,
      'handle=news.test', 'hostname=labels.test', 'allow=127.0.0.1',
      `path=${path.join(dir, 'likes.jsonl')}`].flatMap((c) => ['--config', c])
    const env = { MOONJET_SECRET_BOT_PASSWORD: 'x', MOONJET_SECRET_LABEL_KEY: '42'.repeat(32),
      MOONJET_SECRET_HOOK: `whsec_${'QkJC'.repeat(8)}`, MOONJET_SECRET_DISCORD: 'http://127.0.0.1:1/hook' }
    for (const name of examples) {
      const file = path.join(root, 'examples', name)
      const check = await command(t, ['check', file, ...args], { env })
      assert.equal(check.code, 0, `${name}: ${check.err}`)
      const streams = [...check.out.matchAll(/\/stream\/([^/]+)\/subscribe/g)].map((x) => x[1])
      const leavesMain = /main is left as it is/.test(check.out)
      const ends = streams.length || !leavesMain || /each#|\((each|tap|webhook)\)|tap#|webhook#|plug-in/.test(check.out)
      assert.ok(ends, `no way out in the graph of ${name}:\n${check.out}`)
      const { m, c } = await route(t, frames, [file], ['main', ...streams], { args, env })
      if (leavesMain) await c.main.count(lines.length)
      else await m.metricAtLeast('moonjet_frames_total', frames.length)
      assert.doesNotMatch(m.err, new RegExp(`${name}:\\d+`), 'no script error')
      await m.finish()
    }
  }, { seconds: 240 })

  await test('scripts: a script that cannot be loaded is refused with its place', async (t) => {
    const dir = t.dir()
    for (const [text, want] of [
      ['jet.from { colection = "x" }', /bad\.lua:1.*colection/],
      ['local x = = 1', /bad\.lua:1/],
      ['\nnosuch()', /bad\.lua:2/],
      ['while true do end', /bad\.lua/],
    ]) {
      const file = path.join(dir, 'bad.lua')
      fs.writeFileSync(file, text)
      const check = await command(t, ['check', file])
      assert.equal(check.code, 1, `check of ${text}`)
      assert.match(check.err, want)
      const run = await command(t, ['run', file, '--source', 'ws://127.0.0.1:1', '--listen', '127.0.0.1:0',
        '--metrics-listen', '127.0.0.1:0', '--data', path.join(dir, 'data')])
      assert.equal(run.code, 1, `run of ${text}`)
      assert.match(run.err, want)
    }
  })
}
