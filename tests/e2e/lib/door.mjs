// A door before a PDS (or a PLC directory): an HTTP proxy that notes which methods are called, and can
// turn callers away, or swallow the answer to what was carried out.
import http from 'node:http'

// `door.turn(call)` may return { status, headers, body }, or 'lose' (the PDS carries it out, and the
// connection ends), or nothing; call = { nsid, method, headers, body }. Answers the PDS gave are
// told to `door.seen(call, status, body, headers)`. `door.rewrite` changes the texts of JSON answers.
export async function door(t, target) {
  const d = { calls: [], turn: () => null, seen: () => {}, rewrite: null, target: new URL(target) }
  const agent = new http.Agent({ keepAlive: true })
  const server = http.createServer(async (req, res) => {
    const chunks = []
    for await (const c of req) chunks.push(c)
    const body = Buffer.concat(chunks)
    const call = { nsid: new URL(req.url, 'http://x').pathname.replace('/xrpc/', ''), method: req.method, headers: req.headers, body }
    d.calls.push(call)
    const turned = d.turn(call)
    if (turned && turned !== 'lose') {
      res.writeHead(turned.status, { 'content-type': 'application/json', ...turned.headers })
      res.end(JSON.stringify(turned.body ?? {}))
      return
    }
    const up = http.request({ agent, host: d.target.hostname, port: d.target.port, path: req.url, method: req.method,
      headers: { ...req.headers, host: d.target.host } }, async (answer) => {
      const parts = []
      try {
        for await (const c of answer) parts.push(c)
      } catch {
        return res.destroy()
      }
      let whole = Buffer.concat(parts)
      const headers = { ...answer.headers }
      if (d.rewrite && /json/.test(headers['content-type'])) {
        whole = Buffer.from(d.rewrite(whole.toString()))
        delete headers['transfer-encoding']
        headers['content-length'] = whole.length
      }
      d.seen(call, answer.statusCode, whole, answer.headers)
      if (turned === 'lose') return res.destroy()
      res.writeHead(answer.statusCode, headers)
      res.end(whole)
    })
    up.on('error', () => res.destroy())
    up.end(body)
  })
  await new Promise((r) => server.listen(0, '127.0.0.1', r))
  d.url = `http://127.0.0.1:${server.address().port}`
  d.count = (nsid) => d.calls.filter((c) => c.nsid === nsid).length
  t.defer(() => new Promise((r) => {
    agent.destroy()
    server.closeAllConnections()
    server.close(r)
  }))
  return d
}
