// A did:plc directory and a PDS (SQLite in a directory), both on 127.0.0.1.
// Prints one JSON line { plc, pds } when both listen; SIGTERM stops both.
//
//   --plc URL       a directory that is there already
//   --dir DIR       where the PDS keeps its state, so that it can be started again; else a temporary one
//   --port PORT     of the PDS; else a free one
//   --limits KEY    rate limits as in production; requests with the header x-ratelimit-bypass: KEY are not counted
//   --access SPAN   how long access tokens of app passwords last ("3s"), instead of two hours
import fs from 'node:fs/promises'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { createHash } from 'node:crypto'
import { SignJWT } from 'jose'
import { startPlc } from './plc.mjs'

// The PDS takes a port but no host and would listen on every interface.
const listen = net.Server.prototype.listen
net.Server.prototype.listen = function (...a) {
  if (typeof a[0] !== 'number') return listen.apply(this, a)
  return listen.call(this, { port: a[0], host: '127.0.0.1' }, ...a.slice(1).filter((x) => typeof x === 'function'))
}
process.env.LOG_ENABLED = 'false'
const { values: options } = parseArgs({ options: Object.fromEntries(
  ['plc', 'dir', 'port', 'limits', 'access'].map((name) => [name, { type: 'string' }])) })

// The PDS has no setting for that.
if (options.access) {
  const set = SignJWT.prototype.setExpirationTime
  SignJWT.prototype.setExpirationTime = function (span) {
    if (span !== '120mins') return set.call(this, span)
    return set.call(this, this._payload.scope.startsWith('com.atproto.appPass') ? options.access : span)
  }
}
const { PDS, envToCfg, envToSecrets } = await import('@atproto/pds')

const freePort = () => new Promise((resolve, reject) => {
  const s = net.createServer()
  s.once('error', reject)
  s.listen(0, '127.0.0.1', () => {
    const { port } = s.address()
    s.close(() => resolve(port))
  })
})

const plc = options.plc ? { url: options.plc, close: async () => {} } : await startPlc()
const dir = options.dir ?? await fs.mkdtemp(path.join(os.tmpdir(), 'moonjet-e2e-pds-'))
const port = options.port ? Number(options.port) : await freePort()
const env = {
  devMode: true, port, dataDirectory: dir, blobstoreDiskLocation: path.join(dir, 'blobs'),
  adminPassword: 'admin-pass', jwtSecret: 'jwt-secret', dpopSecret: '11'.repeat(32),
  plcRotationKeyK256PrivateKeyHex: createHash('sha256').update(dir).digest('hex'), // the same when it comes again
  serviceHandleDomains: ['.test'], inviteRequired: false, disableSsrfProtection: true,
  didPlcUrl: plc.url, rateLimitsEnabled: !!options.limits, rateLimitBypassKey: options.limits, crawlers: [],
}
const pds = await PDS.create(envToCfg(env), envToSecrets(env))
await pds.start()
console.log(JSON.stringify({ plc: plc.url, pds: `http://127.0.0.1:${port}` }))

let stopping = false
const stop = async () => {
  if (stopping) return
  stopping = true
  await pds.destroy().catch(() => {})
  await plc.close()
  if (!options.dir) await fs.rm(dir, { recursive: true, force: true })
  process.exit(0)
}
process.on('SIGTERM', stop)
process.on('SIGINT', stop)
// The runner holds this pipe: however it ends, the servers and their directory go with it.
process.stdin.on('end', stop).resume()
