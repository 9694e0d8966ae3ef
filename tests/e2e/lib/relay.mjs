// A stub relay: serves frames on com.atproto.sync.subscribeRepos as a real one does, each consumer
// from its ?cursor= (a consumer without one gets everything), and logs what it was asked.
import { WebSocketServer } from 'ws'
import { parse } from './frames.mjs'

//
// With `inclusive` it repeats the frame of the cursor itself, which the specification allows.
export async function relay(t, frames, { port = 0, inclusive = false } = {}) {
  const r = { requests: [], frames: [], sockets: new Set() }
  const wss = new WebSocketServer({ port, host: '127.0.0.1', perMessageDeflate: false })
  await new Promise((ok) => wss.once('listening', ok))
  const entry = (frame) => {
    let seq // an unreadable frame has none and goes out at its place
    try {
      seq = parse(frame).seq
    } catch {}
    return { frame, seq }
  }
  r.push = (...more) => {
    const entries = more.map(entry)
    r.frames.push(...entries)
    for (const ws of r.sockets) entries.forEach((e) => ws.send(e.frame))
  }
  r.frames = frames.map(entry)
  wss.on('connection', (ws, req) => {
    const cursor = new URL(req.url, 'http://x').searchParams.get('cursor')
    r.requests.push({ url: req.url, cursor: cursor === null ? null : Number(cursor), agent: req.headers['user-agent'] })
    ws.on('error', () => {})
    ws.on('close', () => r.sockets.delete(ws))
    for (const { frame, seq } of r.frames)
      if (cursor === null || seq === undefined || seq > Number(cursor) - inclusive) ws.send(frame)
    r.sockets.add(ws)
  })
  r.port = wss.address().port
  r.url = `ws://127.0.0.1:${r.port}`
  r.close = () => new Promise((ok) => {
    wss.clients.forEach((c) => c.terminate())
    wss.close(ok)
  })
  t.defer(() => r.close())
  return r
}
