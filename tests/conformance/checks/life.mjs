// 65-72: keepalive, slow readers, plain HTTP, metrics, restarts, and odd queries.
import path from 'node:path'
import { check, skip, want, wantLines, wantThat } from '../lib/runner.mjs'
import { PING, PONG, Probe } from '../lib/probe.mjs'
import { seconds, time } from '../lib/site.mjs'

check(65, 'a ping within 30 seconds; a ping of ours gets its pong', async (s, t, { p, ping }) => {
  p.send(PING, 'moon')
  await p.until(() => p.control.some((f) => f.op === PONG && f.payload.toString() === 'moon'), 'pong')
  want('payload of the ping', (await ping).payload.toString(), '')
}, {
  prepare: async (s, t) => {
    const p = await s.subscribe(t, '')
    const ping = p.until(() => p.control.find((f) => f.op === PING), 'ping', 33_000)
    ping.catch(() => {})
    return { p, ping }
  },
})

// Writing is what tells a stopped reader that its connection is gone.
async function untilGone(p, limit) {
  const end = performance.now() + limit * 1000
  while (!p.ended && performance.now() < end) {
    p.send(PONG, '')
    await seconds(0.2)
  }
  return p.ended
}

async function stallOurs(s, t) {
  const { site, source, moonjet } = await s.another(t, { args: ['--stall-seconds', '2'] })
  const { commit, post, ALICE } = s.world
  const witness = await site.subscribe(t, '')
  const stalled = await site.subscribe(t, '')
  stalled.socket.pause()
  const COUNT = 200
  const text = 'x'.repeat(50_000)
  for (let n = 0; n < COUNT; n++) await source.feed([commit(ALICE, post(`big${n}`, text))])
  await witness.until(() => witness.messages.length === COUNT, 'all events at the other subscriber', 30_000)
  want('still connected while it is merely slow', stalled.ended ?? null, null)
  const how = await untilGone(stalled, 2 * Probe.patience / 1000)
  wantThat('the stalled connection', how, 'ended', 'still there')
  await moonjet.metricAtLeast('moonjet_subscribers_ended_total{reason="stalled"}', 1)
  await source.feed([commit(ALICE, post('after'))])
  await witness.until(() => witness.messages.length === COUNT + 1, 'the event after', 10_000)
  want('the other one, in order', witness.lines.map((l) => JSON.parse(l).commit.rkey), [...Array.from({ length: COUNT }, (_, n) => `big${n}`), 'after'])
  return how
}

check(66, 'a reader that stops is disconnected in the end; others are unaffected', async (s, t, how) => {
  if (s.ours) return
  want('the control', s.control.ended ?? null, null)
  if (!how) skip('it was still connected after 90 s')
  return `ended: ${how}`
}, {
  seconds: 120,
  prepare: async (s, t) => {
    if (s.ours) return stallOurs(s, t)
    const p = await s.subscribe(t, 'cursor=0')
    p.socket.pause()
    return untilGone(p, 90)
  },
})

check(67, 'plain GET /subscribe: 400 Bad Request', async (s, t) => {
  const none = { Upgrade: null, Connection: null, 'Sec-WebSocket-Key': null, 'Sec-WebSocket-Version': null }
  const odd = [none, { Upgrade: 'h2c' }, { Connection: 'close' }, { 'Sec-WebSocket-Version': '8' }, { 'Sec-WebSocket-Key': 'short' }]
  for (const headers of odd) {
    const p = await s.request(t, '', { headers })
    want(`answer with ${JSON.stringify(headers)}`, `${p.status} ${p.body}`, '400 Bad Request\n')
    want('Sec-Websocket-Version', p.headers['sec-websocket-version'], '13')
  }
})

check(68, 'GET /: 200 Welcome to Jetstream', async (s, t) => {
  const plain = { Upgrade: null, Connection: null, 'Sec-WebSocket-Key': null, 'Sec-WebSocket-Version': null }
  const p = await s.request(t, '', { target: '/', headers: plain })
  want('answer', `${p.status} ${p.body}`, '200 Welcome to Jetstream')
  want('CORS', p.headers['access-control-allow-origin'], '*')
  const other = await s.request(t, '', { target: '/nothing', headers: plain })
  want('another path', `${other.status} ${other.body}`.trim(), '404 {"message":"Not Found"}')
})

const METRICS = [
  'jetstream_subscribers_connected', 'jetstream_events_delivered_total', 'jetstream_bytes_delivered_total',
  'jetstream_events_emitted_total', 'jetstream_bytes_emitted_total', 'consumer_events_processed_total',
  'consumer_ops_processed_total', 'consumer_last_seq', 'consumer_last_evt_processed_at', 'consumer_last_evt_created_at',
  'consumer_last_evt_created_evt_processed_gap', 'consumer_event_processing_duration_seconds_count',
  'consumer_events_sequenced_total', 'consumer_events_persisted_total', 'consumer_events_emitted_total',
]
check(69, 'the names of the metrics', async (s) => {
  const base = s.metrics ?? `http://${new URL(s.url).hostname}:6009`
  let text
  try {
    const r = await fetch(`${base}/metrics`, { signal: AbortSignal.timeout(5000) })
    want('status', r.status, 200)
    text = await r.text()
  } catch (e) {
    if (s.ours || s.metrics) throw e
    skip(`nothing answers at ${base}/metrics; name it with METRICS=http://HOST:PORT`)
  }
  want('metrics that are missing', METRICS.filter((m) => !new RegExp(`^${m}[ {]`, 'm').test(text)), [])
})

check(70, 'kill -9 and a restart: the cursor resumes, nothing that was seen is lost', async (s, t) => {
  if (!s.ours) skip('this server is not ours to kill')
  const EVENTS = 4000
  const data = path.join(t.dir(), 'data')
  const { commit, thing, did } = s.world
  const first = await s.another(t, { data })
  const seen = await first.site.subscribe(t, 'cursor=0')
  const feed = async (from, to) => {
    for (let n = from; n < to; n += 50) {
      await first.source.feed(Array.from({ length: 50 }, (_, k) => commit(did(`killed${'abcd'[k % 4]}`), thing(`n${n + k}`, { n: n + k }))))
      await seconds(0.002) // a turn for the others
    }
  }
  const flow = feed(0, EVENTS)
  await seen.until(() => seen.messages.length > EVENTS / 4, 'a quarter of the events', 30_000)
  await first.moonjet.stop('SIGKILL')
  await seen.end()
  await flow
  const before = seen.lines
  const second = await s.another(t, { source: first.source, data })
  const resumed = await second.site.subscribe(t, `cursor=${time(before.at(-1))}`)
  const whole = await second.site.subscribe(t, 'cursor=0')
  const n = (l) => JSON.parse(l).commit.record.n
  const all = (p) => p.messages.length && n(p.messages.at(-1).text) === EVENTS - 1
  await resumed.until(() => all(resumed), 'the last event by the cursor', 30_000)
  await whole.until(() => all(whole), 'the last event from the start', 30_000)
  want('the event at the cursor', resumed.lines[0], before.at(-1))
  wantLines('what had been seen', whole.lines.slice(0, before.length), before)
  // v1 may repeat events under new times; ours promises not to.
  want('numbers', whole.lines.map(n).findIndex((x, i) => x !== i), -1)
  wantLines('by the cursor', resumed.lines, whole.lines.slice(before.length - 1))
  return `killed after ${before.length} of ${EVENTS}`
})

check(71, 'did:web:a_b.example is filtered right in a replay (v1, a defect: mistaken)', async (s, t) => {
  if (s.ours) {
    for (const [query, names] of [
      [`wantedDids=${s.world.UNDERSCORE}`, ['underscore']],
      ['wantedDids=did:web:a', ['mistaken']],
      [`wantedDids=${s.world.UNDERSCORE}&wantedCollections=${s.world.POST}`, ['underscore']],
      [`wantedDids=${s.world.UNDERSCORE}&wantedCollections=${s.world.LIKE}`, []],
    ]) {
      const who = /wantedDids=([^&]*)/.exec(query)[1]
      const { got, all } = await s.collect(t, query, who)
      const its = all.filter((l) => JSON.parse(l).did === who)
      wantLines(query, got, its.filter((l) => !l.includes('"kind":"commit"') || names.some((n) => l.includes(`"rkey":"${n}"`))))
    }
    return
  }
  const lines = await s.find((l) => JSON.parse(l).did.includes('_'), 'DID with an underscore')
  const e = JSON.parse(lines[0])
  const p = await s.subscribe(t, `cursor=${e.time_us}&wantedDids=${e.did}`)
  try {
    await p.until((x) => x.messages.length, 'event', s.wait * 1000)
  } catch {
    return 'as v1: it does not come'
  }
  want('first event', p.lines[0], lines[0])
  return 'sane: it comes'
})

check(72, 'unknown and malformed parameters are ignored', async (s, t) => {
  const query = 'moon=1&%zz=1&wantedDids=%zz&wantedCollections=a;b&=&&x'
  const { got, all } = await s.collect(t, query)
  wantLines(query, got, all)
})
