// A DNS server on 127.0.0.1 that answers TXT questions: `texts(name)` returns a list, or null for
// "no such name".
import dgram from 'node:dgram'

export async function dns(t, texts) {
  const s = dgram.createSocket('udp4')
  const asked = []
  s.on('message', (q, from) => {
    const labels = []
    let at = 12
    while (q[at]) {
      labels.push(q.toString('latin1', at + 1, at + 1 + q[at]))
      at += q[at] + 1
    }
    const name = labels.join('.')
    const found = texts(name)
    asked.push(name)
    const head = Buffer.from(q.subarray(0, at + 5))
    head[2] = 0x84
    head[3] = found ? 0x80 : 0x83
    head.fill(0, 6, 12)
    head[7] = found?.length ?? 0
    const records = (found ?? []).map((text) => Buffer.concat([
      Buffer.from([0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 60, 0, text.length + 1, text.length]), Buffer.from(text)]))
    s.send(Buffer.concat([head, ...records]), from.port, from.address)
  })
  await new Promise((r) => s.bind(0, '127.0.0.1', r))
  t.defer(() => new Promise((r) => s.close(r)))
  return { at: `127.0.0.1:${s.address().port}`, asked }
}
