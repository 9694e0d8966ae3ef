// 101 and up: what Moonjet has beyond v1. Not asked of other servers.
import { check, skip, want, wantLines, wantThat } from '../lib/runner.mjs'
import { eventually } from '../../e2e/lib/harness.mjs'
import { needsDictionary } from './compress.mjs'
import { refuses, selects } from './filters.mjs'
import { time } from '../lib/site.mjs'

const ours = { ours: true }
const CAUGHT_UP = /^\{"time_us":\d+,"kind":"info","info":\{"name":"caught_up"\}\}$/
const CURSOR = /^\{"time_us":\d+,"kind":"info","info":\{"name":"cursor"\}\}$/
const isInfo = (l) => l.includes('"kind":"info"')

check(101, 'kinds= selects, in the query and in an update', async (s, t) => {
  await selects(s, t, 'kinds=identity', (e) => e.kind === 'identity')
  await selects(s, t, 'kinds=account&kinds=identity', (e) => e.kind !== 'commit')
  await selects(s, t, `kinds=identity&kinds=commit&wantedCollections=${s.world.POST}`,
    (e) => e.kind === 'identity' || e.commit?.collection === s.world.POST)
  const p = await s.subscribe(t, '')
  p.update({ kinds: ['identity'] })
  await p.barrier()
  const mark = s.newest()
  const end = await s.stir([p])
  wantLines('after an update', p.lines.filter((l) => time(l) > mark), s.between(mark, end).filter((l) => l.includes('"kind":"identity"')))
}, ours)

check(102, 'operations= selects among commits', async (s, t) => {
  const only = (...ops) => (e) => !e.commit || ops.includes(e.commit.operation)
  await selects(s, t, 'operations=delete', only('delete'))
  await selects(s, t, 'operations=create&operations=update', only('create', 'update'))
  await selects(s, t, 'operations=delete&kinds=commit&kinds=identity', (e) => e.kind !== 'account' && only('delete')(e))
}, ours)

check(103, 'info=true: a frame says when the replay has caught up, and changes nothing else', async (s, t) => {
  const mark = s.newest()
  const p = await s.subscribe(t, 'cursor=0&info=true')
  await p.until(() => p.messages.some((m) => isInfo(m.text)), 'info frame')
  const end = await s.stir([p])
  const at = p.lines.findIndex(isInfo)
  wantThat('its shape', CAUGHT_UP.test(p.lines[at]), String(CAUGHT_UP), p.lines[at])
  wantThat('its place', at === 0 || time(p.lines[at]) >= time(p.lines[at - 1]), 'time_us not below the event before it', p.lines[at])
  wantThat('not before the replay', time(p.lines[at]) >= mark && p.lines.slice(0, at).some((l) => time(l) === mark), `after ${mark}`, p.lines[at])
  want('how many', p.lines.filter(isInfo).length, 1)
  wantLines('the events', p.lines.filter((l) => !isInfo(l) && time(l) <= end), s.between(0, end))
  want('its time is that of the newest event looked at', time(p.lines[at]), time(p.lines[at - 1]))
  const q = await s.subscribe(t, 'cursor=0')
  await s.fence([q])
  want('without info=true', q.lines.filter(isInfo), [])
  if (!s.dictionary) return
  const z = await s.subscribe(t, 'cursor=0&info=true&compress=true')
  await z.until(() => z.messages.some((m) => CAUGHT_UP.test(s.decode(m))), 'info frame, compressed')
}, ours)

check(104, 'heartbeat=1s: a cursor to resume from while nothing passes the filter', async (s, t) => {
  const p = await s.subscribe(t, 'heartbeat=1s&kinds=commit&wantedCollections=org.example.nothing')
  const end = await s.stir([])
  const beat = () => p.lines.find((l) => l.includes('"name":"cursor"') && time(l) >= end)
  await p.until(beat, 'heartbeat with a time at or after what has passed by', 15_000)
  wantThat('its shape', CURSOR.test(beat()), String(CURSOR), beat())
  want('nothing else', p.lines.filter((l) => !isInfo(l)), [])
  const cursor = time(beat())
  want('its time is that of the newest event looked at', cursor, end)
  const later = await s.stir([])
  const q = await s.subscribe(t, `cursor=${cursor}`)
  await s.fence([q])
  wantLines('resumed from it', q.lines.filter((l) => time(l) <= later), s.between(cursor - 1, later))
}, ours)

const taken = async (site, t, headers) => {
  const p = await site.request(t, '', { headers })
  return p.status === 101 ? p : p.status
}

check(105, '--max-per-ip: 429 for one connection more, until one leaves', async (s, t) => {
  const { site } = await s.another(t, { args: ['--max-per-ip', '3'] })
  const open = [await taken(site, t), await taken(site, t), await taken(site, t)]
  want('the first three', open.map((p) => p.status ?? p), [101, 101, 101])
  const fourth = await site.request(t)
  want('the fourth', fourth.status, 429)
  wantThat('Retry-After', Number(fourth.headers['retry-after']) > 0, 'seconds', fourth.headers['retry-after'])
  wantThat('its body', /127\.0\.0\.1/.test(fourth.body) && /\b3\b/.test(fourth.body), 'the address and the limit', fourth.body.toString())
  want('X-Forwarded-For of a stranger is no way around', await taken(site, t, { 'X-Forwarded-For': '203.0.113.9' }), 429)
  open[0].destroy()
  await eventually(async () => (await taken(site, t)).status === 101, 'place after one has left')
}, ours)

check(106, '--trusted-proxy: X-Forwarded-For counts, the rightmost address that is no proxy', async (s, t) => {
  const { site } = await s.another(t, { args: ['--max-per-ip', '1', '--trusted-proxy', '127.0.0.0/8'] })
  const from = async (text) => {
    const r = await taken(site, t, { 'X-Forwarded-For': text })
    return r.status ?? r
  }
  want('one client', await from('203.0.113.1'), 101)
  want('another', await from('203.0.113.2'), 101)
  want('the first again', await from('203.0.113.1'), 429)
  want('with a forged entry before', await from('198.51.100.7, 203.0.113.1'), 429)
  want('behind two proxies', await from('203.0.113.3, 127.0.0.9'), 101)
  want('that one again', await from('203.0.113.3'), 429)
}, ours)

check(107, '/status on the metrics listener: JSON', async (s) => {
  const r = await fetch(`${s.metrics}/status`)
  want('status', r.status, 200)
  wantThat('type', /^application\/json/.test(r.headers.get('content-type')), 'application/json', r.headers.get('content-type'))
  const status = await r.json()
  const text = JSON.stringify(status)
  for (const [what, part] of [['the source', s.source.url], ['the stream', '"main"'], ['the journal', '"durable_seq"'], ['the version', '"version']])
    wantThat(`${what} is named`, text.includes(part), part, status)
  const other = await fetch(`${s.moonjet.http}/status`)
  want('not on the stream listener', other.status, 404)
}, ours)

check(108, 'what our own parameters refuse, and with which words', async (s, t) => {
  const O = 'invalid subscriber options: '
  await refuses(s, t, 'kinds=moon', `${O}unknown kind: moon; there are commit, identity and account`)
  await refuses(s, t, 'kinds=', `${O}unknown kind: ; there are commit, identity and account`)
  await refuses(s, t, 'operations=moon', `${O}unknown operation: moon; there are create, update and delete`)
  for (const v of ['', '1', '0s', '2h', 'moon', '1.5s', '-1s']) await refuses(s, t, `heartbeat=${v}`, `${O}invalid heartbeat: ${v}; it is 1s to 1h, such as 30s or 5m`)
  const p = await s.subscribe(t, '')
  p.update({ kinds: ['moon'] })
  const { code, reason } = await p.end()
  want('in an update', `${code} ${reason}`, '1000 failed to parse subscriber options: invalid subscriber options: unknown kind: moon')
}, ours)

check(109, 'zstd without a dictionary on the server: 400 and what to do', async (s, t) => {
  const { site } = await s.another(t, { dictionary: false })
  for (const [query, headers] of [['compress=true', {}], ['', { 'Socket-Encoding': 'zstd' }]]) {
    const p = await site.request(t, query, { headers })
    if (p.status === 101) skip('this machine has a dictionary installed')
    want('status', p.status, 400)
    wantThat('words', /^zstd is not available: .*moonjet dictionary install/.test(p.body), 'zstd is not available: …', p.body.toString())
  }
  await site.subscribe(t, 'compress=1')
}, ours)

check(110, 'with compression a size limit is one of the zstd frame', async (s, t) => {
  needsDictionary(s)
  const { p } = await s.collect(t, 'compress=true')
  const sizes = p.messages.map((m) => m.data.length).sort((a, b) => a - b)
  const limit = sizes[Math.floor(sizes.length * 0.9)] // above an identity event: the fence is one
  const { p: q, all } = await s.collect(t, `compress=true&maxMessageSizeBytes=${limit - 1}`)
  const small = new Set(p.messages.filter((m) => m.data.length < limit).map((m) => m.text))
  const got = q.lines.filter((l) => time(l) <= time(p.lines.at(-1)))
  wantLines(`below ${limit}`, got, all.filter((l) => small.has(l)))
  wantThat('the limit', q.messages.every((m) => m.data.length < limit), `below ${limit}`, q.messages.map((m) => m.data.length))
}, ours)

check(111, '--replay-rate delays catching up and loses nothing; who has caught up is not delayed', async (s, t) => {
  const { site, source } = await s.another(t, { args: ['--replay-rate', '500'] })
  const { commit, thing, ALICE } = s.world
  const events = (from, n) => Array.from({ length: n }, (_, k) => commit(ALICE, thing(`n${from + k}`, { n: from + k })))
  await source.feed(events(0, 1250))
  const control = await site.subscribe(t, 'cursor=0') // uses up the first second's worth, too
  await control.until(() => control.messages.length >= 1250, 'the replay', 30_000)
  const at = performance.now()
  const p = await site.subscribe(t, 'cursor=0')
  await p.until(() => p.messages.length >= 1250, 'the replay', 30_000)
  const took = performance.now() - at
  wantThat('time for 1,250 events at 500 per second, 500 at once', took > 1400, 'at least 1.4 s', `${took} ms`)
  const live = await site.subscribe(t, '')
  await source.feed(events(1250, 2000))
  const all = (x, n) => x.until(() => x.messages.length >= n, 'the live events', 30_000)
  await Promise.all([all(live, 2000), all(p, 3250)])
  wantLines('what came', p.lines.slice(1250), live.lines)
  return `${(took / 1000).toFixed(1)} s`
}, ours)
