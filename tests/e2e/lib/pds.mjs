// The real PDS, and what its users do: every write path by plain HTTP, and a bot by the official agent.
import path from 'node:path'
import { AtpAgent, RichText } from '@atproto/api'
import { Child, global, here } from './harness.mjs'

const ADMIN = 'Basic ' + Buffer.from('admin:admin-pass').toString('base64')

let started
// One PDS and one PLC for the whole run: { url, ws, plc }.
export function network() {
  started ??= (async () => {
    const c = new Child(global, process.execPath, [path.join(here, 'peers/net.mjs')])
    const line = await c.until(() => c.lines[0], 'PDS and PLC', 60_000)
    const { plc, pds } = JSON.parse(line)
    return { plc, url: pds, ws: pds.replace('http', 'ws') }
  })()
  return started
}

// A PDS of the test's own, with what peers/net.mjs can be told: { plc, url, ws, stop(), start() }. Stopped
// and started, it is where it was, with what it knew.
export async function server(t, { limits, access } = {}) {
  const { plc } = await network()
  const dir = t.dir()
  const s = { plc, dir }
  const args = ['--plc', plc, '--dir', dir, ...(limits ? ['--limits', limits] : []), ...(access ? ['--access', access] : [])]
  s.start = async () => {
    s.child = new Child(t, process.execPath, [path.join(here, 'peers/net.mjs'), ...args, ...(s.port ? ['--port', s.port] : [])])
    const { pds } = JSON.parse(await s.child.until(() => s.child.lines[0], 'PDS', 60_000))
    s.url = pds
    s.ws = pds.replace('http', 'ws')
    s.port = new URL(pds).port
  }
  s.stop = (signal = 'SIGTERM') => s.child.stop(signal, 20_000)
  await s.start()
  s.bypass = limits
  return s
}

// One XRPC call; throws with the server's words unless the status is `expect`.
export async function xrpc(net, nsid, { jwt, body, query, auth, raw, type, expect = 200 } = {}) {
  const url = new URL(`/xrpc/${nsid}`, net.url)
  for (const [k, v] of Object.entries(query ?? {})) url.searchParams.set(k, v)
  const headers = net.bypass ? { 'x-ratelimit-bypass': net.bypass } : {}
  if (jwt) headers.authorization = `Bearer ${jwt}`
  if (auth) headers.authorization = auth
  if (raw) headers['content-type'] = type
  else if (body) headers['content-type'] = 'application/json'
  const r = await fetch(url, { method: query ? 'GET' : 'POST', headers, body: raw ?? (body && JSON.stringify(body)) })
  const text = await r.text()
  if (r.status !== expect) throw new Error(`${nsid}: ${r.status} ${text.slice(0, 300)}`)
  return text ? JSON.parse(text) : null
}

const suffix = () => Math.random().toString(36).slice(2, 8)
export async function account(net, name) {
  const handle = `${name}${suffix()}.test`
  const a = await xrpc(net, 'com.atproto.server.createAccount',
    { body: { handle, email: `${handle}@example.test`, password: 'pass-word' } })
  const act = (nsid, body) => xrpc(net, nsid, { jwt: a.accessJwt, body: { repo: a.did, ...body } })
  return {
    did: a.did, handle, jwt: a.accessJwt,
    create: (collection, record, more = {}) =>
      act('com.atproto.repo.createRecord', { collection, validate: false, record: { $type: collection, ...record }, ...more }),
    put: (collection, rkey, record) =>
      act('com.atproto.repo.putRecord', { collection, rkey, validate: false, record: { $type: collection, ...record } }),
    delete: (collection, rkey) => act('com.atproto.repo.deleteRecord', { collection, rkey }),
    apply: (writes) => act('com.atproto.repo.applyWrites', { writes: writes.map((w) => ({ ...w, $type: `com.atproto.repo.applyWrites#${w.$type}` })) }),
  }
}

const now = () => new Date().toISOString()
const POST = 'app.bsky.feed.post'
const PROFILE = 'app.bsky.actor.profile'
const rkey = (r) => r.uri.split('/').pop()
export const post = (text, more = {}) => ({ text, createdAt: now(), langs: ['en'], ...more })

// Every write path a PDS has, three accounts, one of them deleted at the end.
export async function exercise(net) {
  const alice = await account(net, 'alice')
  const bob = await account(net, 'bob')
  const carol = await account(net, 'carol')
  const first = await alice.create(POST, post('hello from a bot \u{1F916} <b>&amp;</b>\u2028\t"quoted" \\'))
  await bob.create('app.bsky.feed.like', { subject: { uri: first.uri, cid: first.cid }, createdAt: now() })
  await bob.create('app.bsky.graph.follow', { subject: alice.did, createdAt: now() })
  await alice.put(PROFILE, 'self', { displayName: 'Alice' })
  await alice.put(PROFILE, 'self', { displayName: 'Alice 2' })
  await alice.put(PROFILE, 'self', { displayName: 'Alice 2' }) // no change: no commit
  const png = Buffer.from('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==', 'base64')
  const { blob } = await xrpc(net, 'com.atproto.repo.uploadBlob', { jwt: alice.jwt, raw: png, type: 'image/png' })
  const picture = await alice.create(POST, post('pic', { embed: { $type: 'app.bsky.embed.images', images: [{ image: blob, alt: 'a dot' }] } }))
  await alice.create('org.example.thing', {
    n: 1, nested: { bytes: { $bytes: 'AAEC' }, link: { $link: first.cid }, arr: [1, null, true, 'x'], none: [], empty: {} },
  })
  await alice.delete(POST, rkey(picture))
  await alice.delete(POST, 'nosuchrecord') // nothing there: no commit
  await alice.apply([
    { $type: 'create', collection: POST, value: { $type: POST, ...post('multi 1') } },
    { $type: 'create', collection: POST, value: { $type: POST, ...post('multi 2') } },
    { $type: 'update', collection: PROFILE, rkey: 'self', value: { $type: PROFILE, displayName: 'Alice 3' } },
    { $type: 'delete', collection: POST, rkey: rkey(first) },
  ])
  await xrpc(net, 'com.atproto.identity.updateHandle', { jwt: alice.jwt, body: { handle: `alice2${suffix()}.test` } })
  await xrpc(net, 'com.atproto.server.deactivateAccount', { jwt: bob.jwt, body: {} })
  await xrpc(net, 'com.atproto.server.activateAccount', { jwt: bob.jwt })
  for (const applied of [true, false])
    await xrpc(net, 'com.atproto.admin.updateSubjectStatus', {
      auth: ADMIN, body: { subject: { $type: 'com.atproto.admin.defs#repoRef', did: bob.did }, takedown: { applied } } })
  await xrpc(net, 'com.atproto.admin.deleteAccount', { auth: ADMIN, body: { did: carol.did } })
}

// The official agent as a bot: app password, rich text, reply, like, profile.
export async function bot(net) {
  const id = `bot${suffix()}.test`
  const owner = new AtpAgent({ service: net.url })
  await owner.createAccount({ handle: id, email: `${id}@example.test`, password: 'pass-word' })
  const app = await owner.com.atproto.server.createAppPassword({ name: 'bot' })
  const agent = new AtpAgent({ service: net.url })
  await agent.login({ identifier: id, password: app.data.password })
  const rich = new RichText({ text: `hello @${id} see https://example.test #tag` })
  await rich.detectFacets(agent)
  const p = await agent.post({ text: rich.text, facets: rich.facets, langs: ['en'] })
  const reply = await agent.post({ text: 're', reply: { root: p, parent: p } })
  await agent.deletePost(reply.uri)
  await agent.like(p.uri, p.cid)
  await agent.upsertProfile((x) => ({ ...x, displayName: 'Bot' }))
}

// Fences: records whose arrival at a client says that everything before them has arrived too.
export const FENCE = 'org.example.fence'
export async function fences(net) {
  const a = await account(net, 'fence')
  let n = 0
  const one = async () => {
    n++
    await a.put(FENCE, `f${n}`, { n })
    return `f${n}`
  }
  const at = (events, name) => events.findIndex((e) => (e.commit?.collection === FENCE && e.commit.rkey === name))
  return {
    one,
    // Writes fences until every client has seen one, then one more: the place where comparing starts.
    async start(clients, ms = 30_000) {
      const end = performance.now() + ms
      while (!clients.every((c) => c.events.some((e) => e.commit?.collection === FENCE))) {
        if (performance.now() > end || clients.some((c) => c.child?.ended))
          throw new Error(`no fence seen by ${clients.filter((c) => !c.events.length).map((c) => c.name)}`)
        await one()
        await new Promise((r) => setTimeout(r, 50))
      }
      return this.pass(clients)
    },
    async pass(clients) {
      const name = await one()
      await Promise.all(clients.map((c) => c.until(() => at(c.events, name) >= 0, `fence ${name}`)))
      return name
    },
    // The part of a list between two fences, by the list's own events.
    between: (list, events, from, to) => list.slice(at(events, from) + 1, at(events, to)),
  }
}
