// The instruments: what proves something about Moonjet must itself have been seen to work.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { test } from '../../e2e/lib/harness.mjs'
import { Disk } from '../lib/disk.mjs'
import { random } from '../lib/random.mjs'
import { preload, program, watched } from '../lib/shims.mjs'

// Does the words in a fresh directory; returns what may be left of it, by mode.
function scribe(t, words, { env = {}, start = {} } = {}) {
  const dir = path.join(t.dir(), 'd')
  fs.mkdirSync(dir)
  for (const [name, text] of Object.entries(start)) fs.writeFileSync(path.join(dir, name), text)
  const w = watched(dir, `${dir}.log`)
  const disk = new Disk(w.dir, w.log)
  const r = spawnSync(program('scribe'), words, { cwd: dir, env: { ...process.env, ...w.env, ...env }, encoding: 'utf8' })
  const all = (sub = '') => Object.fromEntries(fs.readdirSync(path.join(dir, sub), { withFileTypes: true }).flatMap((e) => {
    const name = path.join(sub, e.name)
    return e.isDirectory() ? [[name, null], ...Object.entries(all(name))] : [[name, fs.readFileSync(path.join(dir, name), 'latin1')]]
  }))
  return { disk, all, said: r.stdout, signal: r.signal, status: r.status }
}

// What the words leave behind when the power goes, over many seeds: the set of the directories.
function remains(t, words, mode, options = {}) {
  const s = scribe(t, words, options)
  s.disk.settle()
  const out = new Set()
  for (let seed = 0; seed < (mode === 'exact' || mode === 'all' ? 1 : 300); seed++) {
    // The same log once more, on the directory as it was.
    for (const e of fs.readdirSync(s.disk.dir)) fs.rmSync(path.join(s.disk.dir, e), { recursive: true })
    for (const [name, text] of Object.entries(options.start ?? {})) fs.writeFileSync(path.join(s.disk.dir, name), text)
    const disk = new Disk(s.disk.dir, s.disk.log)
    disk.read()
    disk.lose(random(seed), mode)
    out.add(JSON.stringify(s.all()))
  }
  return out
}
const only = (set) => {
  assert.equal(set.size, 1, [...set].join('\n'))
  return JSON.parse([...set][0])
}

export default async function suite() {
  await test('shim: what was not synced is gone, what was synced is there', async (t) => {
    // A synced file whose directory was not synced has no name; one whose directory was, has one.
    assert.deepEqual(only(remains(t, ['open:1:a', 'write:1:hello', 'sync:1'], 'exact')), {})
    assert.deepEqual(only(remains(t, ['open:1:a', 'write:1:hello', 'sync:1', 'dir:2:.', 'sync:2'], 'exact')), { a: 'hello' })
    assert.deepEqual(only(remains(t, ['open:1:a', 'write:1:hello', 'dir:2:.', 'sync:2'], 'exact')), { a: '' })
    assert.deepEqual(only(remains(t, ['open:1:a', 'write:1:hello', 'data:1', 'write:1:more', 'dir:2:.', 'sync:2'], 'exact')), { a: 'hello' })
    assert.deepEqual(only(remains(t, ['open:1:a', 'write:1:hello'], 'all')), { a: 'hello' })
    assert.deepEqual(only(remains(t, ['make:d', 'open:1:d/a', 'write:1:x', 'sync:1', 'dir:2:d', 'sync:2'], 'exact')), {})
    assert.deepEqual(only(remains(t, ['make:d', 'open:1:d/a', 'write:1:x', 'sync:1', 'dir:2:d', 'sync:2', 'dir:3:.', 'sync:3'], 'exact')),
      { d: null, 'd/a': 'x' })
  })

  await test('shim: every way to write is followed', async (t) => {
    const start = { a: 'AAAAAAAAAA' }
    const after = (...words) => only(remains(t, ['open:1:a', ...words, 'sync:1'], 'exact', { start })).a
    assert.equal(after('write:1:xy'), 'xyAAAAAAAA')
    assert.equal(after('at:1:8:1234'), 'AAAAAAAA1234')
    assert.equal(after('at:1:12:z'), 'AAAAAAAAAA\0\0z')
    assert.equal(after('vector:1:xx:yyy'), 'xxyyyAAAAA')
    assert.equal(after('append:a:BB'), 'AAAAAAAAAABB')
    assert.equal(after('size:1:3'), 'AAA')
    assert.equal(after('size:1:12'), 'AAAAAAAAAA\0\0')
    assert.equal(after('grow:1:12'), 'AAAAAAAAAA\0\0')
    assert.equal(after('size:1:2', 'at:1:4:z'), 'AA\0\0z')
  })

  await test('shim: renames and unlinks are undone until the directory is synced, or not', async (t) => {
    const start = { a: 'new', b: 'old' }
    assert.deepEqual(only(remains(t, ['rename:a:b'], 'exact', { start })), { a: 'new', b: 'old' })
    assert.deepEqual(only(remains(t, ['rename:a:b', 'dir:1:.', 'sync:1'], 'exact', { start })), { b: 'new' })
    assert.deepEqual(only(remains(t, ['unlink:a'], 'exact', { start })), start)
    const torn = remains(t, ['rename:a:b', 'unlink:b'], 'torn', { start })
    for (const want of [{ a: 'new', b: 'old' }, { b: 'new' }, {}, { a: 'new' }]) assert.ok(torn.has(JSON.stringify(want)), JSON.stringify(want))
    assert.equal(torn.size, 4, 'a rename is done or not, never half')
  })

  await test('shim: unsynced writes are torn at sectors, in any order', async (t) => {
    const dots = '.'.repeat(200), words = ['open:1:a', ...[0, 200, 400, 600, 800].map((at) => `at:1:${at}:${dots}`)]
    const torn = remains(t, words, 'torn', { start: { a: '' } })
    const files = [...torn].map((x) => JSON.parse(x).a)
    assert.ok(files.includes('') && files.includes('.'.repeat(1000)), 'none and all')
    assert.ok(files.some((f) => /^\.+\0+\.+/.test(f)), 'a later one without an earlier one')
    assert.ok(files.some((f) => f.slice(400, 512) === '.'.repeat(112) && f.length >= 600 && f.slice(512, 600) === '\0'.repeat(88)), 'half of one')
    for (const f of files) assert.ok(f.length <= 1000 && /^[.\0]*$/.test(f))
    const prefix = [...remains(t, words, 'prefix', { start: { a: '' } })].map((x) => JSON.parse(x).a)
    for (const f of prefix) assert.match(f, /^\.*$/)
    assert.ok(new Set(prefix.map((f) => f.length)).size > 20)
  })

  await test('shim: durable() is the place before which all is on the disk', async (t) => {
    const at = (...words) => {
      const { disk } = scribe(t, words, { start: { a: 'A' } })
      disk.settle()
      return [disk.durable(), disk.position]
    }
    let [p, end] = at('open:1:a', 'write:1:x')
    assert.ok(p < end)
    ;[p, end] = at('open:1:a', 'write:1:x', 'sync:1')
    assert.equal(p, end)
    ;[p, end] = at('open:1:b', 'write:1:x', 'sync:1')
    assert.ok(p < end, 'without its name it is not')
    ;[p, end] = at('open:1:a', 'write:1:x', 'unlink:a')
    assert.equal(p, end, 'what is thrown away needs no sync')
  })

  await test('shim: what it cannot follow is noticed', async (t) => {
    const refused = (why, ...words) => assert.throws(() => scribe(t, words, { start: { a: 'A' } }).disk.settle(), why)
    refused(/changed unseen/, 'stream:a:hello')
    refused(/made unseen/, 'stream:b:hello')
    refused(/blind/, 'open:1:a', 'map:1')
  })

  await test('shim: a kill keeps everything, and calls fail when told to', async (t) => {
    const killed = scribe(t, ['open:1:a', 'write:1:hello', 'die'])
    assert.equal(killed.signal, 'SIGKILL')
    killed.disk.settle()
    assert.deepEqual(killed.all(), { a: 'hello' })
    const full = scribe(t, ['open:1:a', 'write:1:hello', 'write:1:world', 'write:1:again'], { env: { POWERLOSS_FAIL: 'write:28:7' } })
    full.disk.settle()
    assert.deepEqual(full.all(), { a: 'hellowo' }, 'short at the border, then nothing')
    assert.match(full.said, /^write:1:world 0\nwrite:1:again 28\n$/)
    const broken = scribe(t, ['open:1:a', 'open:2:b', 'sync:1', 'sync:2', 'sync:1'], { env: { POWERLOSS_FAIL: 'sync:5:0:b' } })
    assert.match(broken.said, /^sync:2 5\n$/)
    assert.equal(spawnSync(program('scribe'), ['nonsense'], { env: { ...process.env, ...preload('powerloss') } }).status, 2)
  })
}
