// Webhooks: what Moonjet sends is taken by other people's checkers, what others send is taken by its
// receiver, and its tools say what is wrong.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import crypto from 'node:crypto'
import { once } from 'node:events'
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { Webhook as Standard } from 'standardwebhooks'
import { Webhook as Svix } from 'svix'
import { Child, eventually, here, root, skip, test } from '../lib/harness.mjs'
import { binary, command } from '../lib/moonjet.mjs'
import { receiver } from '../lib/receiver.mjs'

// Files with a shared secret and a pair; `text` has what is in them.
async function secrets(t) {
  const dir = t.dir()
  const file = (name) => path.join(dir, name)
  const text = {}
  text.shared = (await command(t, ['webhook', 'secret'])).out.trim()
  const pair = await command(t, ['webhook', 'secret', '--ed25519'])
  text.private = pair.out.trim()
  text.public = /whpk_\S+/.exec(pair.err)[0]
  for (const [name, value] of Object.entries(text)) fs.writeFileSync(file(name), `${value}\n`, { mode: 0o600 })
  return { file, text, dir }
}

async function listen(t, ...args) {
  const c = new Child(t, binary, ['webhook', 'listen', '--listen', '127.0.0.1:0', ...args])
  c.url = (await c.until(() => /listening on (http:\S+)/.exec(c.err), '"listening on" line'))[1]
  // The lines of --json, once there are n.
  c.json = async (n) => {
    await c.until(() => c.lines.length >= n && c.out.endsWith('\n'), `${n} lines`)
    return c.lines.map((l) => JSON.parse(l))
  }
  return c
}

// The code of docs/webhooks.md in one language, in order.
function snippets(language) {
  const text = fs.readFileSync(path.join(root, 'docs/webhooks.md'), 'utf8')
  return [...text.matchAll(/^```(\w+)\n(.*?)^```$/gms)].filter((m) => m[1] === language).map((m) => m[2])
}

// A port that nobody has at the moment.
async function freePort() {
  const server = net.createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  await once(server, 'close')
  return port
}

// Runs a receiver out of the documentation, and lets `moonjet webhook test --all` judge it.
async function judge(t, file, args, env, keyFile) {
  const port = await freePort()
  new Child(t, file, args, { env: { ...env, PORT: `${port}` }, cwd: here })
  const url = `http://127.0.0.1:${port}/`
  await eventually(async () => (await fetch(url, { method: 'POST', body: '{}' })).status === 401, 'a receiver', 60_000)
  const r = await command(t, ['webhook', 'test', url, '--secret-file', keyFile, '--all'])
  assert.equal(r.code, 0, r.out + r.err)
  assert.equal(r.out.match(/^right /gm).length, 7, r.out)
}

const now = () => Math.floor(Date.now() / 1000)
const post = (url, headers, body) => fetch(url, { method: 'POST', headers, body })

export default async function suite() {
  await test('webhook secret: new ones have the form that others take', async (t) => {
    const { text, file } = await secrets(t)
    assert.match(text.shared, /^whsec_/)
    assert.equal(Buffer.from(text.shared.slice(6), 'base64').length, 32)
    new Standard(text.shared)
    new Svix(text.shared)
    assert.equal(Buffer.from(text.private.slice(5), 'base64').subarray(32).toString('base64'), text.public.slice(5))
    assert.equal((await command(t, ['webhook', 'secret', '--public-of', file('private')])).out.trim(), text.public)
    const none = await command(t, ['webhook', 'secret', '--public-of', file('shared')])
    assert.equal(none.code, 1)
    assert.match(none.err, /no public half/)
  })

  await test('webhook test: standardwebhooks, svix and Node take what it sends', async (t) => {
    const { text, file } = await secrets(t)
    const r = await receiver(t, { secret: text.shared, publicKey: text.public, github: text.shared })
    const one = await command(t, ['webhook', 'test', r.url, '--secret-file', file('shared'), '--secret-file', file('private'), '--github'])
    assert.equal(one.code, 0, one.out + one.err)
    assert.match(one.out, /^answer: 200 after /m)
    const [d] = r.accepted()
    assert.match(d.id, /^evt_[0-9a-f]{32}$/)
    assert.equal(d.headers['idempotency-key'], d.id)
    assert.match(d.headers['webhook-signature'], /^v1,\S+ v1a,\S+$/)
    assert.equal(JSON.parse(d.body).kind, 'commit')
    // One that knows the old secret only, and one that knows the new one only.
    for (const keys of [{ secret: text.shared }, { publicKey: text.public }]) {
      r.keys = keys
      const c = await command(t, ['webhook', 'test', r.url, '--secret-file', file('shared'), '--secret-file', file('private')])
      assert.equal(c.code, 0, c.out)
    }
    // No secret is in what it says.
    for (const secret of [text.shared, text.private]) assert.ok(!one.out.includes(secret.slice(6, 30)), one.out)
  })

  await test('webhook test --all: a receiver that checks is right, one that does not is wrong', async (t) => {
    const { text, file } = await secrets(t)
    const r = await receiver(t, { secret: text.shared })
    const args = ['webhook', 'test', r.url, '--secret-file', file('shared'), '--all', '--json']
    const good = await command(t, args)
    assert.equal(good.code, 0, good.out)
    assert.deepEqual(JSON.parse(good.out).deliveries.map((d) => d.status), [200, 200, 401, 401, 401, 401, 401])
    r.keys = {}
    const careless = await command(t, args)
    assert.equal(careless.code, 1)
    assert.deepEqual(JSON.parse(careless.out).deliveries.map((d) => d.right), [true, true, false, false, false, false, false])
    r.answer = () => ({ status: 200, body: '<p>thanks '.repeat(50_000) })
    const wordy = await command(t, args.slice(0, 5))
    assert.equal(wordy.code, 0, wordy.out)
    assert.match(wordy.out, /answer: 200 .*delivered/)
    r.answer = () => ({ status: 302, headers: { location: r.url } })
    const moved = await command(t, args.slice(0, 5))
    assert.equal(moved.code, 1)
    assert.match(moved.out, /answer: 302 .*redirects are not followed/)
    await r.down()
    const nobody = await command(t, args.slice(0, 5))
    assert.equal(nobody.code, 1)
    assert.match(nobody.out, /no answer: .*127\.0\.0\.1/)
  })

  await test('webhook listen: takes what standardwebhooks and svix sign, and says why not', async (t) => {
    const { text, file } = await secrets(t)
    const other = `whsec_${crypto.randomBytes(24).toString('base64')}`
    const l = await listen(t, '--secret-file', file('shared'), '--secret-file', file('public'), '--json')
    const body = '{"did":"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa","kind":"identity"}'
    const headers = (Signer, secret, at = now(), id = 'msg_1') => ({
      'webhook-id': id, 'webhook-timestamp': `${at}`, 'webhook-signature': new Signer(secret).sign(id, new Date(at * 1000), body) })
    const cases = [
      [headers(Standard, text.shared), body, 200, /signed with secret 1/],
      [headers(Svix, text.shared), body, 200, /signed with secret 1/],
      [headers(Standard, other), body, 401, /no signature fits/],
      [headers(Standard, text.shared), `${body} `, 401, /no signature fits/],
      [headers(Standard, text.shared, now() - 301), body, 401, /30\d seconds old/],
      [headers(Standard, text.shared, now() + 310), body, 401, /3\d\d seconds in the future/],
      [{}, body, 401, /webhook-id is missing/],
      [{ ...headers(Standard, text.shared), 'webhook-signature': 'v2,x' }, body, 401, /no v1 or v1a signature/],
    ]
    const signed = `msg_2.${now()}.${body}`
    const key = crypto.createPrivateKey({ format: 'der', type: 'pkcs8', key: Buffer.concat([
      Buffer.from('302e020100300506032b657004220420', 'hex'), Buffer.from(text.private.slice(5), 'base64').subarray(0, 32)]) })
    cases.push([{ 'webhook-id': 'msg_2', 'webhook-timestamp': signed.split('.')[1],
      'webhook-signature': `v1a,${crypto.sign(null, Buffer.from(signed), key).toString('base64')}` }, body, 200, /signed with secret 2/])
    for (const [h, b, status] of cases) {
      const answer = await post(l.url, h, b)
      assert.equal(answer.status, status, JSON.stringify(h))
    }
    const lines = await l.json(cases.length)
    cases.forEach(([, , status, says], i) => {
      assert.equal(lines[i].status, status)
      assert.match(lines[i].how ?? lines[i].why, says)
    })
    assert.deepEqual(lines[0].body, JSON.parse(body))
    assert.deepEqual([lines[0].before, lines[1].before], [0, 1])
    const { code } = await l.stop('SIGINT')
    assert.equal(code, 1)
    assert.match(l.err, /9 deliveries, 6 refused/)
  })

  await test('webhook listen: answers as it is told, forwards, and bounds what comes', async (t) => {
    const { file, text } = await secrets(t)
    const behind = await receiver(t, { secret: text.shared })
    behind.answer = () => ({ status: 202, body: 'from behind' })
    const l = await listen(t, '--secret-file', file('shared'), '--forward', behind.url, '--count', '2')
    const through = await command(t, ['webhook', 'test', l.url, '--secret-file', file('shared')])
    assert.match(through.out, /answer: 202 .*\n {2}from behind/)
    await behind.down()
    const broken = await command(t, ['webhook', 'test', l.url, '--secret-file', file('shared')])
    assert.match(broken.out, /answer: 502 /)
    assert.equal((await l.exit).code, 0)
    assert.match(l.out, /not forwarded: http:\/\/127\.0\.0\.1/)

    const slow = await listen(t, '--status', '204', '--fail-rate', '50%', '--delay', '1ms')
    const statuses = []
    for (let i = 0; i < 6; i++) statuses.push((await post(slow.url, {}, '{}')).status)
    assert.deepEqual(statuses, [204, 500, 204, 500, 204, 500])
    assert.equal((await fetch(slow.url)).status, 405)
    assert.equal((await post(slow.url, {}, Buffer.alloc((16 << 20) + 1))).status, 413)
    assert.equal((await slow.stop('SIGTERM')).code, 0)
  })

  await test('webhook: says what is wrong', async (t) => {
    const { dir, file } = await secrets(t)
    const fails = async (code, pattern, ...args) => {
      const r = await command(t, ['webhook', ...args])
      assert.equal(r.code, code, r.err + r.out)
      assert.match(r.err, pattern)
    }
    await fails(2, /did you mean 'listen'/, 'listn')
    await fails(2, /Usage: moonjet webhook VERB/)
    await fails(2, /--secret: the webhook's secret is plain text; .*moonjet webhook secret/, 'listen', '--secret', 'password')
    await fails(1, /none: No such file/, 'test', 'http://127.0.0.1:1/', '--secret-file', path.join(dir, 'none'))
    await fails(2, /a whpk_ key only checks/, 'test', 'http://127.0.0.1:1/', '--secret-file', file('public'))
    await fails(2, /give the receiver's secret/, 'test', 'http://127.0.0.1:1/')
    await fails(2, /is not a URL/, 'test', 'ws://x', '--secret-file', file('shared'))
    await fails(2, /--fail-rate 2: expected 0 to 1/, 'listen', '--fail-rate', '2')
    await fails(2, /--status is a number/, 'listen', '--status', '99')
    await fails(1, /in use/, 'listen', '--listen', new URL((await listen(t)).url).host)
  })

  await test('docs/webhooks.md: the receivers for Node are right', async (t) => {
    const { text, file, dir } = await secrets(t)
    const [shared, pair] = snippets('js')
    for (const [name, code, env, key] of [
      ['shared.mjs', shared, { HOOK_SECRET: text.shared }, file('shared')],
      ['pair.mjs', pair, { HOOK_PUBLIC_KEY: text.public }, file('private')],
    ]) {
      fs.writeFileSync(path.join(dir, name), code)
      fs.symlinkSync(path.join(here, 'node_modules'), path.join(dir, 'node_modules'))
      await judge(t, process.execPath, [path.join(dir, name)], env, key)
      fs.rmSync(path.join(dir, 'node_modules'))
    }
  })

  await test('docs/webhooks.md: the receiver for Python is right', async (t) => {
    const { text, file, dir } = await secrets(t)
    const [code] = snippets('python')
    fs.writeFileSync(path.join(dir, 'receiver.py'), code)
    await judge(t, '/usr/bin/python3', [path.join(dir, 'receiver.py')], { HOOK_SECRET: text.shared }, file('shared'))
  })

  await test('docs/webhooks.md: the receiver for Go is right', async (t) => {
    if (spawnSync('go', ['version']).status !== 0) skip('no go', 'MOONJET_REQUIRE_GO')
    const { text, file, dir } = await secrets(t)
    const [code] = snippets('go')
    fs.writeFileSync(path.join(dir, 'receiver.go'), code)
    const built = spawnSync('go', ['build', '-o', path.join(dir, 'receiver'), path.join(dir, 'receiver.go')], {
      env: { ...process.env, GO111MODULE: 'off' }, encoding: 'utf8' })
    assert.equal(built.status, 0, built.stderr)
    await judge(t, path.join(dir, 'receiver'), [], { HOOK_SECRET: text.shared }, file('shared'))
  }, { seconds: 180 })

  await test('docs/webhooks.md: the shell can check, too', async (t) => {
    const { text, file, dir } = await secrets(t)
    const r = await receiver(t)
    await command(t, ['webhook', 'test', r.url, '--secret-file', file('shared'), '--secret-file', file('private')])
    const { headers, body } = r.deliveries[0]
    const code = snippets('sh').find((c) => c.includes('openssl'))
    const check = (bytes) => {
      fs.writeFileSync(path.join(dir, 'body'), bytes)
      return spawnSync('sh', ['-c', code], { cwd: dir, encoding: 'utf8', env: { ...process.env, HOOK_SECRET: text.shared,
        webhook_id: headers['webhook-id'], webhook_timestamp: headers['webhook-timestamp'],
        webhook_signature: headers['webhook-signature'] } }).stdout.trim()
    }
    assert.equal(check(body), 'good')
    assert.equal(check(`${body} `), 'bad')
  })
}
