// A sequential test runner: one line per test, TAP-like, and what each test started is gone when
// it ends. A test is a function of `t`, which lends temporary directories and child processes;
// whatever it deferred is undone in reverse order, on success and on failure.
import { spawn } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'

export const root = path.resolve(import.meta.dirname, '../../..')
export const here = path.resolve(import.meta.dirname, '..')

export class Skip extends Error {}
// Ends the running test as skipped; when the environment variable `required` is 1, as failed.
export function skip(why, required) {
  throw process.env[required] === '1' ? new Error(`${required}=1, but: ${why}`) : new Skip(why)
}

export const results = { passed: 0, failed: 0, skipped: 0 }
const forever = [] // undone when the whole run ends

export class Context {
  #undo = []
  notes = [] // functions returning text to print when the test fails
  defer(fn) {
    this.#undo.push(fn)
  }
  dir() {
    const d = fs.mkdtempSync(path.join(os.tmpdir(), 'moonjet-e2e-'))
    this.defer(() => fs.rmSync(d, { recursive: true, force: true }))
    return d
  }
  async undo() {
    for (const fn of this.#undo.reverse()) await fn()
    this.#undo = []
  }
}
export const global = new Context()

const only = process.env.MOONJET_E2E_TEST && new RegExp(process.env.MOONJET_E2E_TEST)
export async function test(name, fn, { seconds = 60 } = {}) {
  if (only && !only.test(name)) return true
  const t = new Context()
  const started = performance.now()
  let verdict = 'ok'
  let why = ''
  let timer
  try {
    const limit = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`no end after ${seconds} s`)), seconds * 1000)
    })
    await Promise.race([fn(t), limit])
    results.passed++
  } catch (e) {
    if (e instanceof Skip) {
      why = ` # SKIP ${e.message}`
      results.skipped++
    } else {
      verdict = 'not ok'
      why = told(e)
      results.failed++
    }
  } finally {
    clearTimeout(timer)
  }
  const n = results.passed + results.failed + results.skipped
  const s = ((performance.now() - started) / 1000).toFixed(1)
  console.log(`${verdict} ${n} - ${name} (${s} s)${verdict === 'ok' ? why : ''}`)
  if (verdict === 'not ok') {
    console.log(indent(why))
    for (const note of t.notes) console.log(indent(note()))
  }
  try {
    await t.undo()
  } catch (e) {
    console.log(indent(`while cleaning up: ${e.stack}`))
    results.failed++
  }
  return verdict === 'ok'
}

// The message, and those frames of the stack that are ours.
const told = (e) => String(e.stack ?? e).split('\n').filter((l) => !/^ {4}at /.test(l) || /tests\/\w+\/(suites|lib)\//.test(l)).join('\n')
const indent = (s) => s.replace(/^/gm, '    ')

const children = new Set()
process.on('exit', () => children.forEach((c) => c.kill('SIGKILL')))

// A child process with its output collected. `owner` (a test's `t`, or `global`) kills it at its end.
export class Child {
  out = ''
  err = ''
  #watchers = new Set()

  constructor(owner, file, args, { env = {}, cwd } = {}) {
    this.what = [path.basename(file), ...args].join(' ')
    const clean = Object.fromEntries(
      Object.entries(process.env).filter(([k]) => !/^(MOONJET|JETSTREAM)_/.test(k)))
    this.proc = spawn(file, args, { env: { ...clean, ...env }, cwd, stdio: 'pipe' })
    children.add(this.proc)
    this.proc.stdin.on('error', () => {}) // a child may end without reading its input
    for (const [stream, to] of [[this.proc.stdout, 'out'], [this.proc.stderr, 'err']]) {
      stream.setEncoding('utf8')
      stream.on('data', (s) => {
        this[to] += s
        this.#watchers.forEach((w) => w())
      })
    }
    this.exit = new Promise((resolve) => {
      this.proc.on('error', (e) => {
        this.err += e.message
        resolve({ code: 127, signal: null })
      })
      this.proc.on('close', (code, signal) => {
        children.delete(this.proc)
        this.ended = { code, signal }
        resolve(this.ended)
        this.#watchers.forEach((w) => w())
      })
    })
    owner.defer(() => this.stop('SIGKILL'))
    owner.notes.push(() => `${this.what}\n${indent(this.err.split('\n').slice(-25).join('\n'))}`)
  }

  get lines() {
    return this.out.split('\n').filter(Boolean)
  }

  // Resolves to what `probe()` returns once it is truthy, looked at after each output; fails when
  // the child ends first.
  until(probe, what, ms = 20_000) {
    return new Promise((resolve, reject) => {
      const done = (f, v) => {
        clearTimeout(timer)
        this.#watchers.delete(look)
        f(v)
      }
      const look = () => {
        const v = probe()
        if (v) return done(resolve, v)
        if (this.ended) done(reject, new Error(`${this.what}: ended (${JSON.stringify(this.ended)}) before ${what}\n${this.err.slice(-800)}`))
      }
      const timer = setTimeout(() => done(reject, new Error(`${this.what}: no ${what} within ${ms} ms`)), ms)
      this.#watchers.add(look)
      look()
    })
  }

  async stop(signal = 'SIGTERM', ms = 10_000) {
    if (!this.ended) this.proc.kill(signal)
    let timer
    const late = new Promise((resolve) => {
      timer = setTimeout(resolve, ms)
    })
    const r = await Promise.race([this.exit, late])
    clearTimeout(timer)
    if (!r) throw new Error(`${this.what}: still there ${ms} ms after ${signal}`)
    return r
  }
}

// Polls a condition that no output announces (an HTTP answer, say).
export async function eventually(probe, what, ms = 20_000) {
  const end = performance.now() + ms
  let last
  for (;;) {
    try {
      const v = await probe()
      if (v) return v
    } catch (e) {
      last = e
    }
    if (performance.now() > end) throw new Error(`no ${what} within ${ms} ms${last ? `: ${last.message}` : ''}`)
    await new Promise((r) => setTimeout(r, 50))
  }
}
