// The program under test, as a user starts it: arguments in, ports read from what it prints.
import assert from 'node:assert/strict'
import path from 'node:path'
import { Child, eventually, root } from './harness.mjs'

export const binary = path.resolve(process.env.MOONJET_E2E_BINARY ?? path.join(root, 'build/release/moonjet'))

// The sum of a metric over its labels.
export const sum = (samples, name) =>
  Object.entries(samples).reduce((n, [k, v]) => (k === name || k.startsWith(`${name}{`) ? n + v : n), 0)

// A command that ends by itself.
export async function command(t, args, { input, env, cwd } = {}) {
  const c = new Child(t, binary, args, { env, cwd })
  if (input !== undefined) c.proc.stdin.end(input)
  else c.proc.stdin.end()
  const { code, signal } = await c.exit
  assert.equal(signal, null, `${c.what} died of ${signal}\n${c.err.slice(-2000)}`)
  noSanitizerReport(c)
  return { code, out: c.out, err: c.err, lines: c.lines }
}

function noSanitizerReport(c) {
  assert.doesNotMatch(c.err, /(ERROR|WARNING): \w+Sanitizer|runtime error:/, `${c.what}: sanitizer report\n${c.err.slice(-3000)}`)
}

// A command that serves: waits for the "listening on" line, and with `metrics` for that one too.
export class Moonjet extends Child {
  static async start(t, args, { metrics = false, env, cwd } = {}) {
    const m = new Moonjet(t, binary, args, { env, cwd })
    const listening = await m.until(() => /listening on (wss?:\/\/[^\s/,"]+)/.exec(m.err), '"listening on" line')
    m.url = listening[1]
    m.http = m.url.replace(/^ws/, 'http')
    if (metrics) {
      const at = await m.until(() => /metrics on (http:\/\/[^\s/,"]+)/.exec(m.err), '"metrics on" line')
      m.metricsUrl = at[1]
    }
    t.defer(() => noSanitizerReport(m))
    return m
  }

  // `moonjet run` with everything on free ports.
  static run(t, { scripts = [], source, data, args = [], env } = {}) {
    const sources = (Array.isArray(source) ? source : [source]).flatMap((s) => ['--source', s])
    return Moonjet.start(t, ['run', ...scripts, ...sources, '--listen', '127.0.0.1:0', '--metrics-listen',
      '127.0.0.1:0', '--data', data ?? path.join(t.dir(), 'data'), ...args], { metrics: true, env })
  }

  // All samples of /metrics as { 'name{labels}': value }.
  async metrics() {
    const r = await fetch(`${this.metricsUrl}/metrics`)
    assert.equal(r.status, 200)
    const samples = {}
    for (const line of (await r.text()).split('\n')) {
      const m = /^([a-zA-Z_:][\w:]*(?:\{.*\})?) (\S+)$/.exec(line)
      if (m) samples[m[1]] = Number(m[2])
    }
    return samples
  }

  // Waits until a metric, summed over its labels, has reached `least`.
  metricAtLeast(name, least) {
    return eventually(async () => sum(await this.metrics(), name) >= least, `${name} >= ${least} in /metrics`)
  }

  // SIGTERM must end it within ten seconds, with status 0 and without a sanitizer's complaint.
  async finish() {
    const { code, signal } = await this.stop('SIGTERM')
    noSanitizerReport(this)
    assert.deepEqual({ code, signal }, { code: 0, signal: null }, `exit of ${this.what}\n${this.err.slice(-1500)}`)
  }
}
