// moonjet test and moonjet repl as people and machines call them.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { Child, here, root, skip, test } from '../lib/harness.mjs'
import { Moonjet, binary, command } from '../lib/moonjet.mjs'

// A folder with these files.
function folder(t, files) {
  const dir = t.dir()
  for (const [name, text] of Object.entries(files)) {
    fs.mkdirSync(path.dirname(path.join(dir, name)), { recursive: true })
    fs.writeFileSync(path.join(dir, name), text)
  }
  return dir
}

const moon = `local words = { "moon" }
jet.from "app.bsky.feed.post":where(function(ev)
  return ev.text:find(words[1], 1, true)
end):to(jet.stream "moon")
`

// Posts as a Jetstream's lines.
const posts = Array.from({ length: 14 }, (_, i) => JSON.stringify({
  did: 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa', time_us: 1767225600000000 + i, kind: 'commit',
  commit: { rev: '3mbd3542k2322', operation: 'create', collection: 'app.bsky.feed.post', rkey: `post${i}`,
    record: { $type: 'app.bsky.feed.post', createdAt: '2026-01-01T00:00:00Z', text: `the ${i}` },
    cid: 'bafyreigj2ejqcbdkxlpz7g2uxgkjrf4zloxe52k3wj374vbggb5rsx3j44' },
})).join('\n')

export default async function suite() {
  await test('specs: those of the examples and of the surface pass', async (t) => {
    const r = await command(t, ['test', path.join(root, 'examples'), path.join(root, 'tests/specs')])
    assert.equal(r.code, 0, r.out)
    assert.match(r.out, /\n\d\d+ passed, 0 failed, 0 skipped\n$/)
  })

  await test('specs: found in folders, told in lines or in TAP, counted in the exit status', async (t) => {
    const dir = folder(t, {
      'moon.lua': moon,
      'moon_spec.lua': `it("a", function() local t = jet.test "moon" t:post { text = "moon" } assert.equal(1, #t:out "moon") end)\nit "b"`,
      'deep/er_spec.lua': 'describe("deep", function() it("fails", function()\n assert.same({ 1 }, { 2 }) end) end)',
      '.hidden/x_spec.lua': 'error "never run"',
      'node_modules/x_spec.lua': 'error "never run"',
      'other.lua': 'error "never run"',
    })
    let r = await command(t, ['test', dir])
    assert.equal(r.code, 1)
    assert.match(r.out, /✓ a\n○ b\n/)
    assert.match(r.out, /deep\n {2}✗ fails\n {6}\S+er_spec\.lua:2: these are not the same\n {6}expected {2}\{ 1 \}\n {6}actual {4}\{ 2 \}\n/)
    assert.match(r.out, /\n1 passed, 1 failed, 1 skipped\n$/)
    assert.doesNotMatch(r.out, /\x1b/, 'no colours in a pipe')
    r = await command(t, ['test', '--tap', dir])
    assert.equal(r.code, 1)
    assert.match(r.out, /^TAP version 13\nnot ok 1 - deep fails\n(# .*\n)+ok 2 - a\nok 3 - b # SKIP \n1\.\.3\n# 1 passed, 1 failed, 1 skipped\n$/)
    r = await command(t, ['test', '--filter', '^a$', dir])
    assert.equal(r.code, 0)
    assert.match(r.out, /1 passed, 0 failed, 0 skipped\n$/)
    r = await command(t, ['test', '--filter', 'nosuch', dir])
    assert.equal(r.code, 1)
    assert.match(r.err, /no test's name matches 'nosuch'/)
    r = await command(t, ['test', '--list', dir])
    assert.deepEqual([r.code, r.out], [0, 'deep fails\na\nb\n'])
    for (const [args, want] of [[['nosuch'], /nosuch: No such file/], [[folder(t, { 'x.lua': '' })], /no file in it or below is named \*_spec\.lua/]]) {
      r = await command(t, ['test', ...args])
      assert.equal(r.code, 1, args)
      assert.match(r.err, want)
    }
  })

  await test('specs: a spec without an end is stopped, the next one runs', async (t) => {
    const dir = folder(t, { 'x_spec.lua': 'it("a", function()\n while true do end end)\nit("b", function() end)' })
    const r = await command(t, ['test', '--limit', '100ms', dir])
    assert.equal(r.code, 1)
    assert.match(r.out, /x_spec\.lua:2: stopped/)
    assert.match(r.out, /1 passed, 1 failed/)
  })

  await test('repl: a session in a file', async (t) => {
    const dir = folder(t, { 'moon.lua': moon, 'x.jsonl': posts })
    const args = ['repl', path.join(dir, 'moon.lua'), '--events', path.join(dir, 'x.jsonl')]
    let r = await command(t, args, { input: 'words\nwords[1] = "e"\nfind("app.bsky.feed.post:create")\nsend()\ntry(function(ev)\n  return ev.kind == "commit"\nend)\n' })
    assert.equal(r.code, 0, r.err)
    assert.match(r.out, /^\{ "moon" \}\nevent 2 of 14: create at:\/\/\S+post1 "the 1"\n→ main\n→ moon\n( {2}.*\n){10} {2}… and 4 more\n14 of 14 events\n$/)
    r = await command(t, args, { input: 'nosuch\n1 + 1\n' })
    assert.deepEqual([r.code, r.out], [1, '2\n'])
    assert.match(r.err, /global 'nosuch' is not defined/)
    r = await command(t, args, { input: 'function f()\n' })
    assert.equal(r.code, 1)
    assert.match(r.err, /ends in the middle/)
    r = await command(t, ['repl', path.join(dir, 'nosuch.lua')])
    assert.equal(r.code, 1)
    assert.match(r.err, /nosuch\.lua/)
  })

  await test('repl: at a terminal, with Tab and Ctrl-C', async (t) => {
    if (spawnSync('python3', ['-c', 'import pty']).status !== 0) skip('no python3 here', 'MOONJET_REQUIRE_E2E')
    const dir = folder(t, { 'moon.lua': moon })
    const edited = /^libedit +\d/m.test((await command(t, ['version'])).out)
    const steps = [
      ['> ', '1 + 1\r'],
      ['\n2\r\n> ', edited ? 'wor\t\r' : 'words\r'],
      ['{ "moon" }\r\n> ', 'for i = 1, 2 do\r'],
      ['>> ', 'print(i) end\r'],
      ['1\r\n2\r\n> ', 'while true do end\r'],
      ['while true do end\r\n', '\x03', 'busy'],
      ['stopped\r\n> ', 'not done'],
      ['not done', '\x03'],
      ['> ', '7 * 6\r'],
      ['42\r\n> ', '\x04'],
    ]
    const c = new Child(t, 'python3', [path.join(here, 'lib/terminal.py'), binary, 'repl', path.join(dir, 'moon.lua')],
      { env: { TERM: 'xterm', XDG_STATE_HOME: dir } })
    c.proc.stdin.end(steps.map((s) => JSON.stringify(s)).join('\n'))
    const { code } = await c.exit
    assert.equal(code, 0, c.out)
    if (edited) assert.match(fs.readFileSync(path.join(dir, 'moonjet/history'), 'utf8'), /7\\040\*\\0406/)
  })

  await test('repl: inside a running moonjet', async (t) => {
    const dir = folder(t, { 'moon.lua': moon })
    const data = path.join(dir, 'data')
    const m = await Moonjet.run(t, { scripts: [path.join(dir, 'moon.lua')], source: 'ws://127.0.0.1:1', data })
    let r = await command(t, ['repl', '--live', '--data', data], { input: 'words\nwords[1] = "sun"\nfor i = 1, 2 do\nprint(i)\nend\n' })
    assert.deepEqual([r.code, r.out], [0, '{ "moon" }\n1\n2\n'], r.err)
    r = await command(t, ['ctl', 'repl', 'moon', '--data', data], { input: 'words\n' })
    assert.deepEqual([r.code, r.out], [0, '{ "sun" }\n'], r.err)
    r = await command(t, ['ctl', 'repl', '--data', data], { input: 'while true do end\nnosuch\n1\n' })
    assert.deepEqual([r.code, r.out], [1, '1\n'])
    assert.match(r.err, /stopped after \d+ ms\n.*nosuch/s)
    r = await command(t, ['ctl', 'repl', 'other', '--data', data], { input: '1\n' })
    assert.equal(r.code, 1)
    assert.match(r.err, /no script named other is running/)
    await m.finish()
    r = await command(t, ['repl', '--live', '--data', data], { input: '1\n' })
    assert.equal(r.code, 1)
  })
}
