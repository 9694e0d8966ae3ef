// A TCP gate before a source. Closed, it accepts and holds; open, it pipes to the target. So a test
// can attach every client first and let the first byte through afterwards, and can cut the
// connection after an exact number of bytes, in the middle of a frame if it likes.
import net from 'node:net'

export async function gate(t, target, { open = false, host = '127.0.0.1' } = {}) {
  const to = target ? new URL(target) : null
  const g = { opened: open, pairs: new Set(), connections: 0, cutAfter: Infinity, to }
  let release
  const released = new Promise((r) => {
    release = r
  })
  if (open) release()
  const server = net.createServer({ pauseOnConnect: true }, async (down) => {
    g.connections++
    down.on('error', () => {})
    g.pairs.add(down)
    down.on('close', () => g.pairs.delete(down))
    await released
    if (down.destroyed) return
    const up = net.connect(Number(g.to.port), g.to.hostname)
    let left = g.cutAfter
    g.cutAfter = Infinity // a cut is meant for one connection
    up.on('error', () => down.destroy())
    up.on('close', () => down.end())
    down.on('close', () => up.destroy())
    up.on('data', (d) => {
      if (d.length >= left) {
        down.end(d.subarray(0, left))
        up.destroy()
        return
      }
      left -= d.length
      if (!down.write(d)) {
        up.pause()
        down.once('drain', () => up.resume())
      }
    })
    down.pipe(up)
  })
  await new Promise((r) => server.listen(0, host, r))
  g.url = `ws://${host}:${server.address().port}${to && to.pathname !== '/' ? to.pathname : ''}`
  g.open = (late) => {
    if (late) g.to = new URL(late)
    g.opened = true
    release()
  }
  g.cut = () => g.pairs.forEach((s) => s.resetAndDestroy())
  g.close = () => new Promise((r) => {
    g.cut()
    server.close(r)
  })
  t.defer(() => g.close())
  return g
}
