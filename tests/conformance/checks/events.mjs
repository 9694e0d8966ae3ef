// 1-29: what an event looks like, and which events there are.
import { check, skip, want, wantLines, wantThat } from '../lib/runner.mjs'
import { parse, print, recordText, walk } from '../lib/model.mjs'
import { mask } from '../../e2e/lib/lines.mjs'
import { time } from '../lib/site.mjs'
import { TEXT } from '../lib/probe.mjs'

const keysOf = (line, part) => Object.keys(part ? JSON.parse(line)[part] : JSON.parse(line)).join(',')
const IDENTITY = /"kind":"identity"/
const ACCOUNT = /"kind":"account"/
// No record is in it, so only identity and account events pass: a short way through a long history.
const NO_COMMITS = 'wantedCollections=org.example.nothing'

check(1, 'no parameters: live text frames', async (s, t) => {
  const mark = s.newest()
  const p = await s.subscribe(t, '')
  if (s.ours) await s.stir([p])
  else await p.until((x) => x.messages.length >= 3, 'three events', s.wait * 1000)
  wantThat('messages are text', p.messages.every((m) => m.op === TEXT), 'opcode 1', p.messages.map((m) => m.op))
  wantThat('live, not replayed', time(p.lines[0]) > mark, `time_us above ${mark}`, p.lines[0])
  want('no newline, no space around', p.lines.filter((l) => !/^\{.*\}$/.test(l)), [])
})

check(2, 'order of the top-level keys, three kinds', async (s) => {
  for (const kind of ['commit', 'identity', 'account']) {
    const lines = s.ours ? s.history.filter((l) => l.includes(`"kind":"${kind}"`))
      : await s.find((l) => l.includes(`"kind":"${kind}"`), kind, kind === 'commit' ? undefined : NO_COMMITS)
    wantThat(`a ${kind} event`, lines.length > 0, 'one', 'none')
    for (const l of lines) want(`keys of ${l.slice(0, 200)}`, keysOf(l), `did,time_us,kind,${kind}`)
  }
})

check(3, 'order of the keys of a commit, create and update', async (s) => {
  for (const op of ['create', 'update']) {
    const is = (l) => l.includes(`"operation":"${op}"`) && l.includes('"kind":"commit"')
    const lines = s.ours ? s.history.filter(is) : await s.find(is, op)
    wantThat(`a ${op}`, lines.length > 0, 'one', 'none')
    for (const l of lines) want(`keys of ${l.slice(0, 200)}`, keysOf(l, 'commit'), 'rev,operation,collection,rkey,record,cid')
  }
})

check(4, 'a delete has neither record nor cid', async (s) => {
  const is = (l) => l.includes('"operation":"delete"') && l.includes('"kind":"commit"')
  const lines = s.ours ? s.history.filter(is) : await s.find(is, 'delete')
  wantThat('a delete', lines.length > 0, 'one', 'none')
  for (const l of lines) want(`keys of ${l}`, keysOf(l, 'commit'), 'rev,operation,collection,rkey')
})

check(5, 'the corpus of production frames: byte-equal but for time_us', async (s, t) => {
  if (!s.ours) skip('needs the recorded frames as the source')
  const { frames, lines } = s.corpus()
  const { site } = await s.another(t, { frames })
  const p = await site.subscribe(t, 'cursor=0')
  await p.until((x) => x.messages.length >= lines.length, `${lines.length} events`, 30_000)
  wantLines('lines', p.lines.map(mask), lines.map(mask))
})

const identityKeys = (handle, expected) => async (s) => {
  const is = (l) => IDENTITY.test(l) && ('handle' in JSON.parse(l).identity) === handle
  const lines = s.ours ? s.history.filter(is) : await s.find(is, `identity event ${handle ? 'with' : 'without'} handle`, NO_COMMITS)
  wantThat('such an event', lines.length > 0, 'one', 'none')
  for (const l of lines) {
    want(`keys of ${l}`, keysOf(l, 'identity'), expected)
    const e = JSON.parse(l)
    want('both DIDs', e.identity.did, e.did)
  }
}
check(6, 'identity without handle: did, seq, time', identityKeys(false, 'did,seq,time'))
check(7, 'identity with handle: it comes second', identityKeys(true, 'did,handle,seq,time'))

check(8, 'an active account: no status', async (s) => {
  const is = (l) => ACCOUNT.test(l) && JSON.parse(l).account.active
  const lines = s.ours ? s.history.filter(is) : await s.find(is, 'active account event', NO_COMMITS)
  wantThat('such an event', lines.length > 0, 'one', 'none')
  for (const l of lines) want(`keys of ${l}`, keysOf(l, 'account'), 'active,did,seq,time')
})

check(9, 'active:false with a status: status before time', async (s) => {
  const is = (l) => ACCOUNT.test(l) && JSON.parse(l).account.status !== undefined
  const lines = s.ours ? s.history.filter(is) : await s.find(is, 'account event with a status', NO_COMMITS)
  for (const l of lines) want(`keys of ${l}`, keysOf(l, 'account'), 'active,did,seq,status,time')
  if (!s.ours) return
  want('statuses', lines.map((l) => JSON.parse(l).account.status), ['deleted', 'takendown'])
  want('active', lines.map((l) => JSON.parse(l).account.active), [false, false])
})

// Ours: the record of the named event is exactly `record` (with $type where it sorts). Foreign: every
// record that shows the feature is printed as the rules say.
function recordCheck(n, title, name, record, feature) {
  check(n, title, async (s) => {
    if (s.ours) {
      want(`record of ${name}`, recordText(s.line(name)), record(s.world))
      want('the second opinion', recordText(s.line(name)), print(parse(s.line(name)).commit.record))
      return
    }
    const shows = (l) => {
      const text = recordText(l)
      if (!text) return false
      if (!(feature instanceof RegExp)) {
        let found = false
        walk(parse(l).commit.record, (v, k) => (found ||= feature(v, k)))
        return found
      }
      return feature.test(text)
    }
    const lines = await s.find(shows, `record with ${title.split(/[:→]/)[0].trim()}`)
    for (const l of lines) want(`record of ${l.slice(0, 120)}`, recordText(l), print(parse(l).commit.record))
    return `${lines.length} records`
  })
}
const map = (v) => v !== null && typeof v === 'object' && !Array.isArray(v)
const $ = '"$type":"org.example.thing"'

recordCheck(10, 'keys of records: bytewise at every level', 'sorted',
  () => `{${$},"Z":4,"a":{"x":{"10":1,"9":2},"y":2,"z":1},"a-b":[{"c":2,"d":1}],"aa":3,"b":1,"é":5}`,
  (v) => map(v) && Object.keys(v).length > 2)
recordCheck(11, 'a blob: $type, ref, mimeType, size', 'blob',
  (w) => `{${$},"blob":{"$type":"blob","ref":{"$link":"${w.SOME_CID}"},"mimeType":"image/png","size":123}}`,
  (v) => map(v) && v.$type === 'blob')
recordCheck(12, 'a legacy blob: cid, mimeType', 'legacy',
  (w) => `{${$},"avatar":{"cid":"${w.SOME_CID}","mimeType":"image/jpeg"}}`,
  (v) => map(v) && Object.keys(v).sort().join() === 'cid,mimeType')
recordCheck(13, '& → \\u0026', 'ampersand', () => `{${$},"Z":2,"\\u0026k":3,"_":1,"text":"a\\u0026b"}`, /&|\\u0026/)
recordCheck(14, '< and > → \\u003c and \\u003e', 'angles', () => `{${$},"text":"\\u003cb\\u003ex\\u003c/b\\u003e"}`, /[<>]|\\u003[ce]/i)
recordCheck(15, 'U+2028 and U+2029 escaped; é, emoji, U+007F, U+0080 raw', 'separators',
  () => `{${$},"text":"a\\u2028b\\u2029c é 🌙 \x7f\x80"}`, /[\u2028\u2029]|\\u202[89]/)
recordCheck(16, 'U+0008 and U+000C → \\u0008 and \\u000c, others by the letter', 'controls',
  () => `{${$},"text":"\\u0008\\u000c\\u001b\\u0000\\t\\r\\n\\"\\\\/"}`, /\\u000[0-9a-f]|\\u001[0-9a-f]|\\b|\\f/i)

// Ours drops the operation on purpose (docs/protocol.md, "Records"); its siblings stay and the
// metric counts it.
const dropped = async (s, name) => {
  const lines = s.history.filter((l) => l.includes(`"rkey":"${name}`))
  want('operations of that commit', lines.map((l) => JSON.parse(l).commit.rkey), [`${name}-before`, `${name}-after`])
}
const countDrops = async (s) => {
  const m = await s.moonjet.metrics()
  return Object.entries(m).filter(([k]) => k.startsWith('moonjet_drops_total{reason=')).reduce((n, [, v]) => n + v, 0)
}

check(17, 'a byte that is no UTF-8: \\ufffd in v1; ours drops the operation and counts it', async (s) => {
  if (s.ours) {
    await dropped(s, 'utf8')
    const before = await countDrops(s)
    await s.feed([s.world.commit(s.world.BOB, s.world.thing('utf8-again', { text: s.world.BAD_TEXT }))])
    await s.fence([])
    want('drops counted', await countDrops(s) - before, 1)
    return
  }
  await s.find((l) => (recordText(l) ?? '').includes('\\ufffd'), 'record that shows what becomes of bad UTF-8')
  return 'as v1: printed as \\ufffd'
})

recordCheck(18, '9007199254740993 is exact', 'integers',
  () => `{${$},"a":9007199254740993,"b":-9007199254740993,"c":9223372036854775807,"d":-9223372036854775808,"e":0,"f":-1}`,
  (v) => typeof v === 'bigint' && (v > 2n ** 53n || v < -(2n ** 53n)))

check(19, 'an integer above 2^63-1: -1 in v1 (a defect); ours drops the operation', async (s) => {
  if (s.ours) return dropped(s, 'unsigned')
  skip('a printed number does not show what it was made of')
})

check(20, 'float 1.0: printed as 1 in v1; ours drops the operation', async (s) => {
  if (s.ours) return dropped(s, 'integral')
  skip('a printed number does not show what it was made of')
})

check(21, 'float 1.5: the operation is absent, its siblings are there', async (s) => {
  if (s.ours) return dropped(s, 'fraction')
  const fraction = (l) => {
    let found = false
    walk(parse(l).commit?.record, (v) => (found ||= typeof v === 'number'))
    return found
  }
  const lines = await s.find(fraction, 'record with a fraction (v1 sends none)')
  want('records with a fraction', recordText(lines[0]), '(none)')
})

recordCheck(22, 'bytes → $bytes, base64 without padding', 'bytes',
  () => `{${$},"a":{"$bytes":"AAEC/w"},"b":{"$bytes":""},"c":{"$bytes":"+/8"}}`,
  (v) => {
    if (!map(v) || typeof v.$bytes !== 'string') return false
    wantThat('$bytes', /^[A-Za-z0-9+/]*$/.test(v.$bytes), 'standard base64 without padding', v.$bytes)
    return true
  })
recordCheck(23, 'a link outside of blobs → $link', 'link',
  (w) => `{${$},"all":[{"$link":"${w.SOME_CID}"}],"to":{"$link":"${w.SOME_CID}"}}`,
  (v, k) => map(v) && typeof v.$link === 'string' && k !== 'ref')
recordCheck(24, 'null, {} and [] are kept', 'empties',
  () => `{${$},"holes":[null,1,null],"list":[],"map":{},"nothing":null}`,
  (v) => v === null || (typeof v === 'object' && Object.keys(v).length === 0))
recordCheck(25, 'keys a, "a b", a!, ab: in the order of their escaped and quoted forms', 'keys',
  () => `{${$},"a b":2,"a!":3,"a":1,"ab":4}`,
  (v) => map(v) && Object.keys(v).some((k) => /[ !]/.test(k)))

check(26, 'a commit of three operations: three times, increasing', async (s) => {
  if (s.ours) {
    const lines = ['one', 'two', 'three'].map((n) => s.line(n))
    const at = s.history.indexOf(lines[0])
    wantLines('operations in order', s.history.slice(at, at + 3), lines)
    wantThat('time_us', time(lines[0]) < time(lines[1]) && time(lines[1]) < time(lines[2]), 'increasing', lines.map(time))
    want('one rev', new Set(lines.map((l) => JSON.parse(l).commit.rev)).size, 1)
    return
  }
  const commits = new Map()
  for (const l of await s.sample()) {
    const e = JSON.parse(l)
    const k = e.commit && `${e.did} ${e.commit.rev}`
    if (k) commits.set(k, [...(commits.get(k) ?? []), e.time_us])
  }
  const many = [...commits.values()].filter((c) => c.length >= 3)
  if (!many.length) skip(`no commit of three operations in ${s.wait} s`)
  for (const c of many) wantThat('time_us', c.every((x, i) => !i || x > c[i - 1]), 'increasing', c)
  return `${many.length} commits`
})

check(27, "the order of a DID's events is the relay's", async (s) => {
  if (s.ours) {
    const seen = s.history.map((l) => JSON.parse(l))
    for (const who of [s.world.ALICE, s.world.BOB, s.world.CAROL])
      want(`events of ${who}`, seen.filter((e) => e.did === who).map(said), s.expected.filter((e) => e.did === who).map((e) => e.said))
    return
  }
  // The relay is not ours to ask, but revs and seqs of a DID only grow on their way there.
  const last = new Map()
  for (const l of await s.sample()) {
    const e = JSON.parse(l)
    const [k, v] = e.commit ? [`${e.did} rev`, e.commit.rev] : [`${e.did} seq`, (e.identity ?? e.account).seq]
    wantThat(`order of ${k}`, !(last.get(k) > v), `not below ${last.get(k)}`, l.slice(0, 300))
    last.set(k, v)
  }
  return `revs and seqs of ${last.size} DIDs`
})
const said = (e) => (e.commit ? `${e.commit.operation} ${e.commit.collection}/${e.commit.rkey}` : e.kind)

check(28, 'time_us is unique and strictly increases, live', async (s, t) => {
  let lines
  if (s.ours) {
    const p = await s.subscribe(t, 'cursor=0')
    await s.stir([p])
    lines = p.lines
  } else {
    await s.sample()
    lines = s.control.lines
  }
  const times = lines.map(time)
  for (let i = 1; i < times.length; i++) wantThat(`event ${i + 1} of ${times.length}`, times[i] > times[i - 1], `above ${times[i - 1]}`, times[i])
  return `${times.length} events`
})

check(29, '#sync, #info, unknown and deprecated types, tooBig: nothing', async (s) => {
  if (s.ours) {
    want('all events', s.history.map((l) => JSON.parse(l)).map((e) => `${e.did} ${said(e)}`), s.expected.map((e) => `${e.did} ${e.said}`))
    return
  }
  const kinds = new Set((await s.sample()).map((l) => JSON.parse(l).kind))
  want('kinds', [...kinds].filter((k) => !['commit', 'identity', 'account'].includes(k)), [])
})
