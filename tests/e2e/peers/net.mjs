// A did:plc directory and a PDS (SQLite in a temporary directory), both on 127.0.0.1.
// Prints one JSON line { plc, pds } when both listen; SIGTERM stops both.
import fs from 'node:fs/promises'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { randomBytes } from 'node:crypto'
import { startPlc } from './plc.mjs'

// The PDS takes a port but no host and would listen on every interface.
const listen = net.Server.prototype.listen
net.Server.prototype.listen = function (...a) {
  if (typeof a[0] !== 'number') return listen.apply(this, a)
  return listen.call(this, { port: a[0], host: '127.0.0.1' }, ...a.slice(1).filter((x) => typeof x === 'function'))
}
process.env.LOG_ENABLED = 'false'
const { PDS, envToCfg, envToSecrets } = await import('@atproto/pds')

const freePort = () => new Promise((resolve, reject) => {
  const s = net.createServer()
  s.once('error', reject)
  s.listen(0, '127.0.0.1', () => {
    const { port } = s.address()
    s.close(() => resolve(port))
  })
})

const plc = await startPlc()
const dir = await fs.mkdtemp(path.join(os.tmpdir(), 'moonjet-e2e-pds-'))
const port = await freePort()
const env = {
  devMode: true, port, dataDirectory: dir, blobstoreDiskLocation: path.join(dir, 'blobs'),
  adminPassword: 'admin-pass', jwtSecret: 'jwt-secret', dpopSecret: '11'.repeat(32),
  plcRotationKeyK256PrivateKeyHex: randomBytes(32).toString('hex'),
  serviceHandleDomains: ['.test'], inviteRequired: false, disableSsrfProtection: true,
  didPlcUrl: plc.url, rateLimitsEnabled: false, crawlers: [],
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
  await fs.rm(dir, { recursive: true, force: true })
  process.exit(0)
}
process.on('SIGTERM', stop)
process.on('SIGINT', stop)
// The runner holds this pipe: however it ends, the servers and their directory go with it.
process.stdin.on('end', stop).resume()
