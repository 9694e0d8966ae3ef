// The network around scripts: requests out, routes in, who is behind a DID, and the control socket.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import http from 'node:http'
import path from 'node:path'
import { corpus } from '../lib/corpus.mjs'
import { dns } from '../lib/dns.mjs'
import { gate } from '../lib/gate.mjs'
import { Moonjet } from '../lib/moonjet.mjs'
import { relay } from '../lib/relay.mjs'
import { account, network } from '../lib/pds.mjs'
import { Child, eventually, here, skip, test } from '../lib/harness.mjs'

const script = path.join(here, 'scripts', 'net.lua')

// A server that notes what it is asked: { url, requests }.
async function server(t, answer) {
  const requests = []
  const s = http.createServer(async (req, res) => {
    let body = ''
    for await (const chunk of req) body += chunk
    requests.push({ method: req.method, url: req.url, headers: req.headers, body })
    answer(req, res)
  })
  await new Promise((r) => s.listen(0, '127.0.0.1', r))
  t.defer(() => new Promise((r) => {
    s.closeAllConnections()
    s.close(r)
  }))
  return { url: `http://127.0.0.1:${s.address().port}`, port: s.address().port, requests }
}

async function start(t, frames, args, hook = 'http://127.0.0.1:1/') {
  const r = await relay(t, frames)
  const g = await gate(t, r.url)
  const dir = t.dir()
  const m = await Moonjet.run(t, { scripts: [script], source: g.url, data: path.join(dir, 'data'),
    args: ['--config', `hook=${hook}`, ...args] })
  return { m, g, socket: path.join(dir, 'data', 'control.sock') }
}

const ask = async (url, options) => {
  const r = await fetch(url, options)
  return { status: r.status, headers: r.headers, text: await r.text() }
}

// curl --unix-socket, as an operator types it.
async function curl(t, socket, target, args = []) {
  const c = new Child(t, 'curl', ['-s', '--max-time', '20', '-w', '\n%{http_code}', '--unix-socket', socket, ...args,
    `http://moonjet${target}`])
  c.proc.stdin.end()
  const { code } = await c.exit
  if (code === 127) skip('curl is not installed', 'MOONJET_REQUIRE_E2E')
  assert.equal(code, 0, `curl ${target}: exit ${code} ${c.err}`)
  const at = c.out.lastIndexOf('\n')
  return { status: Number(c.out.slice(at + 1)), text: c.out.slice(0, at) }
}

export default async function suite() {
  await test('net: every post is sent to a server, as JSON, with what it answers', async (t) => {
    const { frames, lines } = corpus()
    const posts = lines.filter((l) => /"operation":"create","collection":"app\.bsky\.feed\.post"/.test(l)).map((l) => JSON.parse(l))
    const hook = await server(t, (req, res) => res.writeHead(202).end('taken'))
    const { m, g } = await start(t, frames, ['--http-allow', '127.0.0.1'], `${hook.url}/in?token=secret`)
    g.open()
    await eventually(() => hook.requests.length === posts.length, 'all posts')
    assert.deepEqual(hook.requests.map((r) => JSON.parse(r.body).uri).sort(),
      posts.map((e) => `at://${e.did}/${e.commit.collection}/${e.commit.rkey}`).sort())
    for (const r of hook.requests) {
      assert.equal(r.method, 'POST')
      assert.equal(r.headers['content-type'], 'application/json')
      assert.match(r.headers['user-agent'], /^moonjet\//)
    }
    await eventually(async () => JSON.parse((await ask(`${m.http}/sent`)).text).length === posts.length, 'all answers')
    assert.deepEqual(new Set(JSON.parse((await ask(`${m.http}/sent`)).text)), new Set([202]))
    assert.doesNotMatch(m.err, /secret/)
    await m.metricAtLeast('moonjet_http_requests_total', posts.length)
    await m.finish()
  })

  await test('net: private addresses are refused, whatever they are called', async (t) => {
    const inside = await server(t, (req, res) => res.end('inside'))
    const { m } = await start(t, [], [])
    for (const host of ['127.0.0.1', 'localhost', '2130706433', '0x7f.1', '[::ffff:127.0.0.1]']) {
      const r = await ask(`${m.http}/get?url=${encodeURIComponent(`http://${host}:${inside.port}/x?token=secret`)}`)
      assert.equal(r.status, 502, `${host}: ${r.text}`)
      assert.match(r.text, /refused: (127\.0\.0\.1|::1) is a loopback address; --http-allow \S+ lets scripts reach it/, host)
      assert.doesNotMatch(r.text, /secret/)
    }
    assert.match((await ask(`${m.http}/get?url=http://10.0.0.5/`)).text, /10\.0\.0\.5 is a private address/)
    assert.match((await ask(`${m.http}/get?url=http://169.254.169.254/`)).text, /a link-local address/)
    assert.match((await ask(`${m.http}/get?url=file:///etc/passwd`)).text, /only http and https|not a URL/)
    assert.deepEqual(inside.requests, [])
    await m.finish()
  })

  await test('net: redirects, large answers and silence are what they are', async (t) => {
    const s = await server(t, (req, res) => {
      if (req.url === '/redirect') res.writeHead(302, { location: '/other' }).end('moved')
      else if (req.url === '/large') res.end(Buffer.alloc(2 << 20))
      else if (req.url !== '/silent') res.end('other')
    })
    const { m } = await start(t, [], ['--http-allow', `127.0.0.1:${s.port}`])
    const get = (p, more = '') => ask(`${m.http}/get?url=${s.url}${p}${more}`, { redirect: 'manual' })
    assert.deepEqual([(await get('/redirect')).status, (await get('/redirect')).text], [302, 'moved'])
    assert.match((await get('/large')).text, /larger than max_bytes, 1048576/)
    assert.match((await get('/silent', '&timeout=100ms')).text, /no answer within 100ms/)
    assert.equal((await get('/fine')).text, 'other')
    await m.finish()
  })

  await test('net: routes beside the streams', async (t) => {
    const { m } = await start(t, [], [])
    const r = await ask(`${m.http}/echo/a%20b?x=1&y=%C3%A9&x=2`, { method: 'POST', body: 'h\u00e9llo', headers: { 'X-Mixed': 'Case' } })
    assert.equal(r.status, 200)
    assert.equal(r.headers.get('content-type'), 'application/json')
    assert.equal(r.headers.get('access-control-allow-origin'), '*')
    assert.deepEqual(JSON.parse(r.text), { path: '/echo/a b', body: 'h\u00e9llo', peer: '127.0.0.1', mixed: 'Case', query: { x: '1', y: '\u00e9' } })
    assert.equal((await ask(`${m.http}/echo/x`)).status, 405)
    assert.equal((await ask(`${m.http}/echo/x`, { method: 'POST', body: 'x'.repeat((1 << 20) + 1) })).status, 413)
    const whole = await ask(`${m.http}/echo/x`, { method: 'POST', body: 'x'.repeat(1 << 20) })
    assert.equal(JSON.parse(whole.text).body.length, 1 << 20)
    assert.equal((await ask(`${m.http}/sent`, { method: 'HEAD' })).status, 200)
    assert.equal((await ask(`${m.http}/nowhere`)).status, 404)
    assert.equal((await ask(`${m.http}/`)).text, 'Welcome to Jetstream')
    const many = await Promise.all(Array.from({ length: 200 }, (_, i) => ask(`${m.http}/echo/${i}`, { method: 'POST', body: String(i) })))
    many.forEach((a, i) => assert.equal(JSON.parse(a.text).body, String(i)))
    await m.metricAtLeast('moonjet_route_requests_total', 200)
    await m.finish()
  })

  await test('net: who is behind a DID and a handle, by a real PLC and PDS', async (t) => {
    const net = await network()
    const a = await account(net, 'resolved')
    const b = await account(net, 'claimed')
    const name = await dns(t, (n) => (n === `_atproto.${a.handle}` ? [`did=${a.did}`] : n === `_atproto.${b.handle}` ? [`did=${a.did}`] : null))
    const { m } = await start(t, [], ['--plc', net.plc, '--dns', name.at])
    const who = async (x) => {
      const r = await ask(`${m.http}/who?who=${encodeURIComponent(x)}`)
      return r.status === 200 ? JSON.parse(r.text) : r.text
    }
    const alice = await who(a.did)
    assert.equal(alice.did, a.did)
    assert.equal(alice.handle, a.handle)
    assert.equal(new URL(alice.pds).port, new URL(net.url).port)
    assert.match(alice.key, /^did:key:z/)
    assert.deepEqual(await who(a.handle.toUpperCase()), alice)
    assert.equal((await who(b.did)).handle, null, 'a handle that leads to somebody else')
    assert.match(await who(b.handle), new RegExp(`leads to ${a.did}, which claims ${a.handle}`))
    assert.match(await who('did:plc:aaaaaaaaaaaaaaaaaaaaaaaa'), /there is no such DID/)
    const asked = name.asked.length
    assert.deepEqual(await who(a.did), alice)
    assert.equal(name.asked.length, asked, 'the second time from the cache')
    await m.finish()
  })

  await test('net: the control socket, by curl', async (t) => {
    const { m, socket } = await start(t, [], [])
    assert.equal(fs.statSync(socket).mode & 0o777, 0o600)
    const status = await curl(t, socket, '/ctl/status')
    assert.equal(status.status, 200)
    assert.equal(JSON.parse(status.text).subscribers.total, 0)
    assert.deepEqual(JSON.parse((await curl(t, socket, '/ctl/streams')).text).streams.map((s) => s.name), ['main'])
    assert.match((await curl(t, socket, '/ctl/metrics')).text, /^# HELP/m)
    const ws = new WebSocket(`${m.url}/subscribe?wantedCollections=app.bsky.feed.post`)
    await new Promise((r) => ws.addEventListener('open', r))
    const list = await eventually(async () => {
      const s = JSON.parse((await curl(t, socket, '/ctl/subscribers')).text)
      return s.total === 1 && s.subscribers[0].state === 'live' && s
    }, 'a live subscriber')
    assert.deepEqual(list.subscribers[0].filter, { collections: ['app.bsky.feed.post'] })
    assert.equal(list.subscribers[0].stream, 'main')
    ws.close()
    const unknown = await curl(t, socket, '/ctl/nonsense', ['-d', '{}'])
    assert.equal(unknown.status, 404, unknown.text)
    assert.ok(JSON.parse(unknown.text).error)
    await m.finish()
    assert.ok(!fs.existsSync(socket), 'the socket goes with the process')
  })

  await test('net: status while scripts compute, and an end while requests wait', async (t) => {
    const { m, socket } = await start(t, [], [])
    const busy = fetch(`${m.http}/busy`).catch(() => null)
    const sleepy = fetch(`${m.http}/sleepy`).catch(() => null)
    assert.equal(JSON.parse((await curl(t, socket, '/ctl/status')).text).subscribers.total, 0)
    await m.finish()
    await busy
    await sleepy
  })

  await test('net: a lane ends, by a reload and with the process, while its requests wait', async (t) => {
    const held = await server(t, () => {})
    const dir = t.dir()
    const put = (name, text) => fs.writeFileSync(path.join(dir, name), text)
    const lane = (mark) => `for i = 1, 20 do
  jet.spawn(function() jet.http.get("${held.url}/${mark}/" .. i) end)
end`
    put('lane.lua', lane('a'))
    put('moonjet.lua', `source "${(await relay(t, [])).url}"
listen { stream = "127.0.0.1:0", metrics = "" }
journal { data = "data" }
script "lane.lua" { lane = "own", http_allow = { "127.0.0.1" } }`)
    const m = await Moonjet.start(t, ['run', '--config', path.join(dir, 'moonjet.lua')])
    const asked = (mark) => eventually(() => held.requests.some((r) => r.url.startsWith(`/${mark}/`)), `a request of ${mark}`)
    await asked('a')
    put('lane.lua', lane('b'))
    const answer = await curl(t, path.join(dir, 'data', 'control.sock'), '/ctl/reload', ['-d', '{}'])
    assert.match(answer.text, /lane\.lua: reloaded in its lane/)
    await asked('b')
    await m.finish()
    assert.doesNotMatch(m.err, /time is up/)
  })
}
