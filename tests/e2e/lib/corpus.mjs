// The recorded corpus beside the project: relay frames, the lines a production Jetstream sent for
// them, and the DID documents of their accounts.
import fs from 'node:fs'
import http from 'node:http'
import path from 'node:path'
import { root, skip } from './harness.mjs'
import { readCapture } from './frames.mjs'
import { key } from './events.mjs'

const dir = path.join(root, '../shared/data/corpus')

export function corpus() {
  if (!fs.existsSync(dir)) skip('no corpus beside the project', 'MOONJET_REQUIRE_SHARED')
  const lines = fs.readFileSync(path.join(dir, 'expected_v1.jsonl'), 'utf8').split('\n').filter(Boolean)
  const docs = JSON.parse(fs.readFileSync(path.join(dir, 'did_docs.json'), 'utf8'))
  return {
    frames: readCapture(path.join(dir, 'frames.bin.zst')),
    lines,
    keys: lines.map((l) => key(JSON.parse(l))),
    // Serves the DID documents; resolves to the URL.
    plc: async (t) => {
      const s = http.createServer((q, r) => {
        const d = docs[decodeURIComponent(q.url.slice(1))]
        r.writeHead(d ? 200 : 404, { 'content-type': 'application/json' })
        r.end(JSON.stringify(d ?? { message: 'not registered' }))
      })
      await new Promise((r) => s.listen(0, '127.0.0.1', r))
      t.defer(() => new Promise((r) => {
        s.closeAllConnections()
        s.close(r)
      }))
      return `http://127.0.0.1:${s.address().port}`
    },
  }
}
