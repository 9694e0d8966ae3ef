// 39-46: where a cursor starts, and that a replay becomes live without a seam.
import { check, skip, want, wantLines, wantThat } from '../lib/runner.mjs'
import { refuses } from './filters.mjs'
import { seconds, time } from '../lib/site.mjs'

const firstLine = async (s, p) => {
  await p.until((x) => x.messages.length > 0, 'an event', s.patience)
  return p.lines[0]
}

// A subscription that gets nothing from before it, and everything after it.
async function startsLive(s, t, query) {
  const mark = s.newest()
  const p = await s.subscribe(t, query)
  if (s.ours) {
    const end = await s.stir([p])
    wantLines(`live with ${query}`, p.lines, s.between(mark, end))
  } else {
    const first = await firstLine(s, p)
    wantThat(`first event with ${query}`, time(first) > mark, `time_us above ${mark}`, first)
  }
  p.destroy()
}

async function startsAt(s, t, cursor, line) {
  const p = await s.subscribe(t, `cursor=${cursor}`)
  want(`first event with cursor=${cursor}`, await firstLine(s, p), line)
  p.destroy()
}

check(39, 'cursor= is live', (s, t) => startsLive(s, t, 'cursor='))

check(40, 'cursor=abc: 400 and the exact body; so for 1.5, 1e6 and overflow', async (s, t) => {
  for (const c of ['abc', '1.5', '1e6', '9223372036854775808']) await refuses(s, t, `cursor=${c}`, `invalid cursor: ${c}`)
  await refuses(s, t, 'wantedCollections=bad&cursor=abc', 'invalid cursor: abc')
})

check(41, 'cursor = a seen time_us: that event first', async (s, t) => {
  const lines = await s.sample()
  for (const part of [0.25, 0.5, 0.9]) {
    const line = lines[Math.floor(lines.length * part)]
    await startsAt(s, t, time(line), line)
  }
})

check(42, 'a cursor in the future is live, in nanoseconds, too', async (s, t) => {
  const future = (Date.now() + 3_600_000) * 1000
  await startsLive(s, t, `cursor=${future}`)
  await startsLive(s, t, `cursor=${BigInt(s.newest()) * 1000n}`)
})

check(43, 'cursor=0, -1, or older than what is kept: the oldest kept first', async (s, t) => {
  const cursors = ['0', '-1', '5', '1000000000000000']
  if (s.ours) {
    for (const c of cursors) await startsAt(s, t, c, s.history[0])
    return
  }
  const live = time((await s.sample())[0])
  const first = []
  for (const c of cursors) {
    const p = await s.subscribe(t, `cursor=${c}`)
    first.push(time(await firstLine(s, p)))
    p.destroy()
  }
  wantThat('first events', first.every((x) => x <= live), `time_us up to ${live}`, first)
  wantThat('first events', Math.max(...first) - Math.min(...first) < 600e6, 'the same start for all, but for retention', first)
  return `${((live - first[0]) / 3.6e9).toFixed(1)} hours are kept`
})

// The first event at or after the time is asked for in seconds and milliseconds; there must be some
// before it, so the clock has to move on once.
check(44, 'a cursor in seconds or milliseconds resumes at that very time', async (s, t) => {
  for (const unit of [1_000_000, 1000]) {
    if (s.ours) {
      await s.fence([])
      const now = Math.floor(s.newest() / unit)
      while (Date.now() * 1000 < (now + 1) * unit) await seconds(0.001)
      await s.stir([])
    }
    const lines = s.ours ? s.control.lines : await s.sample()
    const units = lines.map((l) => Math.floor(time(l) / unit))
    const i = s.ours ? units.length - 1 : units.findIndex((u, k) => k > 0 && u > units[k - 1])
    if (i < 1) skip('no second boundary in the sample')
    await startsAt(s, t, units[i], lines[units.indexOf(units[i])])
  }
})

check(45, 'a cursor between the newest event and now is live (v1, a defect: everything is replayed)', async (s, t) => {
  if (s.ours) {
    await s.fence([])
    return startsLive(s, t, `cursor=${s.newest() + 1}`)
  }
  const mark = s.newest()
  const p = await s.subscribe(t, `cursor=${mark + 1}`)
  const first = time(await firstLine(s, p))
  return first > mark ? 'sane: live' : `as v1: replays from ${((mark - first) / 1e6).toFixed(0)} s before`
})

// What a subscriber has seen, without keeping it: whether numbers went up one by one, and their times.
class Follower {
  numbers = []
  times = []
  wrong = null
  constructor(p, of) {
    const take = (m) => {
      const n = of(m.text)
      if (n === null) return
      const last = this.numbers.at(-1)
      if (last !== undefined && n !== last + 1) this.wrong ??= `${n} after ${last}`
      this.numbers.push(n)
      this.times.push(time(m.text))
    }
    p.messages.splice(0).forEach(take)
    p.sink = take
  }
}

check(46, 'replay to live under load: no gap, no duplicate, no disorder (v1, a defect: up to a second lost)', async (s, t) => {
  if (!s.ours) return seam(s, t)
  const EVENTS = 15_000
  const SUBSCRIBERS = 40
  const { site, source } = await s.another(t)
  const { commit, thing, did } = s.world
  const number = (line) => Number(/"n":(\d+)/.exec(line)?.[1] ?? NaN)
  const control = await site.subscribe(t, 'cursor=0')
  const all = new Follower(control, number)
  const others = []
  const joining = []
  const join = async (k) => {
    const seen = all.times.length
    const at = seen && [seen - 1, 0, seen >> 1, Math.floor(seen * 0.9), Math.floor(seen * 0.99)][k % 5]
    const p = await site.subscribe(t, k % 8 === 7 ? '' : `cursor=${k % 5 === 1 ? 0 : all.times[at]}`)
    others.push({ p, f: new Follower(p, number), from: k % 8 === 7 ? null : all.numbers[at] })
  }
  for (let n = 0; n < EVENTS;) {
    const some = []
    for (let k = 0; k < 125 && n < EVENTS; k++, n++) some.push(commit(did(`load${'abcdefgh'[n % 8]}`), thing(`load${n}`, { n })))
    await source.feed(some)
    await seconds(0.005) // so that the others get a turn: about 15,000 events/s
    if (n > 500 && joining.length < SUBSCRIBERS && all.times.length) joining.push(join(joining.length))
  }
  await Promise.all(joining)
  const last = (f) => f.wrong || f.numbers.at(-1) === EVENTS - 1
  await control.until(() => last(all), 'the last event', 60_000)
  want('the control', { wrong: all.wrong, first: all.numbers[0], count: all.numbers.length }, { wrong: null, first: 0, count: EVENTS })
  for (const [k, { p, f, from }] of others.entries()) {
    const who = `subscriber ${k} from ${from ?? 'live'}`
    await p.until(() => last(f), `the last event of ${who}`, 60_000)
    want(who, f.wrong, null)
    if (from !== null) want(`${who}: first`, f.numbers[0], from)
    want(`${who}: times`, f.times.findIndex((x, i) => x !== all.times[f.numbers[0] + i]), -1)
  }
  const caught = others.filter(({ from }) => from !== null).length
  return `${others.length} joined while ${EVENTS} events flowed, ${caught} with a cursor`
})

async function seam(s, t) {
  await s.sample()
  const joined = []
  for (let k = 0; k < 6; k++) {
    const cursor = time(s.control.lines[Math.floor(s.control.messages.length * (1 - k * 0.12)) - 1])
    joined.push({ cursor, p: await s.subscribe(t, `cursor=${cursor}`) })
  }
  const end = await s.stir(joined.map((j) => j.p))
  let missing = 0
  let twice = 0
  let disorder = 0
  for (const { cursor, p } of joined) {
    const got = p.lines.filter((l) => time(l) <= end)
    const expected = s.between(cursor - 1, end)
    wantThat('events to compare', expected.length > 0 && got.length > 0, 'some', `${expected.length} and ${got.length}`)
    const seen = new Set(got)
    const lost = expected.filter((l) => !seen.has(l))
    missing += lost.length
    twice += got.length - seen.size
    disorder += got.filter((l, i) => i && time(l) <= time(got[i - 1])).length
    if (lost.length) wantThat('what is lost at the seam', time(lost.at(-1)) - time(lost[0]) < 2e6, 'less than two seconds', `${lost.length} events`)
  }
  return missing || twice || disorder ? `as v1: ${missing} missing, ${twice} twice, ${disorder} out of order` : 'sane: nothing lost'
}
