// Checks by number: one line each, `ok N - title`, with what was expected and what came beneath a
// `not ok`. A check is a function of the site (whom we test) and of `t`, which lends connections and
// processes and takes them back; it may return a remark for its line, or give up with skip().
import { Context, Skip, skip } from '../../e2e/lib/harness.mjs'

export { skip }

class Mismatch extends Error {
  constructor(what, expected, got) {
    super(what)
    Object.assign(this, { expected, got })
  }
}

const show = (v) => (typeof v === 'string' ? v : JSON.stringify(v, (_, x) => (typeof x === 'bigint' ? String(x) : x)) ?? String(v))

// Long texts are shown from shortly before the place where they part.
function around(a, b) {
  let i = 0
  while (i < a.length && a[i] === b[i]) i++
  const from = a.length > 400 && i > 100 ? i - 100 : 0
  return (from ? '…' : '') + (a.length > from + 400 ? `${a.slice(from, from + 400)}…` : a.slice(from))
}

// Fails unless `got` equals `expected`, by value.
export function want(what, got, expected) {
  const [g, e] = [show(got), show(expected)]
  if (g !== e) throw new Mismatch(what, around(e, g), around(g, e))
}

export function wantThat(what, truth, expected, got) {
  if (!truth) throw new Mismatch(what, around(show(expected), ''), around(show(got), ''))
}

// Two lists of lines, each expected once and in that order.
export function wantLines(what, got, expected) {
  for (let i = 0; i < Math.max(got.length, expected.length); i++)
    if (got[i] !== expected[i]) want(`${what}: line ${i + 1} of ${expected.length} (${got.length} came)`, got[i] ?? '(no more)', expected[i] ?? '(no more)')
}

const checks = new Map()

// Defines check `n`. `prepare(s, t)` runs before all checks and what it returns is handed to `fn`,
// for what takes long by its nature; with `ours` the check needs a Moonjet that we started.
export function check(n, title, fn, { ours = false, seconds = 60, prepare } = {}) {
  if (checks.has(n)) throw new Error(`check ${n} twice`)
  checks.set(n, { n, title, fn, ours, seconds, prepare })
}

// "5 30-38" as a test of numbers.
export function selection(words) {
  if (!words.length) return () => true
  const ranges = words.map((w) => {
    const m = /^(\d+)(?:-(\d+))?$/.exec(w)
    if (!m) throw new Error(`not a check's number or range: ${w}`)
    return [Number(m[1]), Number(m[2] ?? m[1])]
  })
  return (n) => ranges.some(([a, b]) => n >= a && n <= b)
}

async function one(c, s, t, prepared) {
  let timer
  const limit = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no end after ${c.seconds} s`)), c.seconds * 1000)
  })
  try {
    const note = await Promise.race([(async () => c.fn(s, t, c.prepare ? await prepared : undefined))(), limit])
    for (const p of t.probes ?? []) want(`frames of ${p.what}`, p.problems, [])
    return { verdict: 'passed', note }
  } catch (e) {
    return e instanceof Skip ? { verdict: 'skipped', note: e.message } : { verdict: 'failed', error: e, notes: t.notes }
  } finally {
    clearTimeout(timer)
  }
}

// Runs what `wanted(n)` says; `report` gets each check's result. Resolves to the totals.
export async function run(s, wanted, report) {
  const results = { passed: 0, failed: 0, skipped: 0, by: new Map() }
  const chosen = [...checks.values()].filter((c) => wanted(c.n) && (s.ours || !c.ours)).sort((a, b) => a.n - b.n)
  const started = chosen.map((c) => {
    const t = new Context()
    const prepared = c.prepare?.(s, t)
    prepared?.catch(() => {})
    return { c, t, prepared }
  })
  for (const { c, t, prepared } of started) {
    const at = performance.now()
    const r = await one(c, s, t, prepared)
    await t.undo().catch((e) => {
      Object.assign(r, { verdict: 'failed', error: r.error ?? e })
    })
    results[r.verdict]++
    results.by.set(c.n, r)
    report?.(c, r, (performance.now() - at) / 1000)
  }
  return results
}

const indent = (text) => text.replace(/^/gm, '    ')

export function print(c, r, seconds, notes = true) {
  const tail = r.verdict === 'skipped' ? ` # SKIP ${r.note}` : r.note ? ` # ${r.note}` : ''
  console.log(`${r.verdict === 'failed' ? 'not ok' : 'ok'} ${c.n} - ${c.title}${seconds > 1 ? ` (${seconds.toFixed(1)} s)` : ''}${tail}`)
  if (r.verdict !== 'failed') return
  const e = r.error
  console.log(indent(e.message))
  if (e instanceof Mismatch) console.log(indent(`expected: ${e.expected}\ngot:      ${e.got}`))
  if (notes && !(e instanceof Mismatch)) for (const n of r.notes) console.log(indent(n()))
}
