// A did:plc directory in memory: operations are judged by @did-plc/lib's own rules, documents have
// today's plc.directory shape (Multikey, absolute verification-method ids).
import http from 'node:http'
import * as lib from '@did-plc/lib'
import * as server from '@did-plc/server'

const Database = server.Database ?? server.default.Database

const document = (did, d) => ({
  '@context': ['https://www.w3.org/ns/did/v1', 'https://w3id.org/security/multikey/v1'],
  id: did,
  alsoKnownAs: d.alsoKnownAs,
  verificationMethod: Object.entries(d.verificationMethods).map(([id, key]) => ({
    id: `${did}#${id}`, type: 'Multikey', controller: did, publicKeyMultibase: key.replace(/^did:key:/, ''),
  })),
  service: Object.entries(d.services).map(([id, s]) => ({ id: `#${id}`, type: s.type, serviceEndpoint: s.endpoint })),
})

export async function startPlc() {
  const db = Database.mock()
  const answer = async (req) => {
    const [, did, sub, last] = decodeURIComponent(new URL(req.url, 'http://x').pathname).split('/')
    if (did === '_health') return [200, { version: 'peer' }]
    if (!/^did:plc:[a-z2-7]{24}$/.test(did)) return [404, { message: 'not found' }]
    if (req.method === 'POST') {
      let body = ''
      for await (const chunk of req) body += chunk
      await db.validateAndAddOp(did, JSON.parse(body))
      return [200, 'OK']
    }
    const log = await db.opsForDid(did)
    if (!log.length) return [404, { message: `DID not registered: ${did}` }]
    if (sub === 'log') return [200, last === 'last' ? await db.lastOpForDid(did) : log]
    const data = await lib.validateOperationLog(did, log)
    if (data === null) return [410, { message: `DID not available: ${did}` }]
    return [200, sub === 'data' ? data : document(did, data)]
  }
  const s = http.createServer(async (req, res) => {
    let [status, body] = [400, '']
    try {
      ;[status, body] = await answer(req)
    } catch (e) {
      ;[status, body] = [e.status ?? 400, { message: e.message }]
    }
    res.writeHead(status, { 'content-type': typeof body === 'string' ? 'text/plain' : 'application/json' })
    res.end(typeof body === 'string' ? body : JSON.stringify(body))
  })
  await new Promise((r) => s.listen(0, '127.0.0.1', r))
  return {
    url: `http://127.0.0.1:${s.address().port}`,
    close: () => new Promise((r) => {
      s.closeAllConnections()
      s.close(r)
    }),
  }
}
