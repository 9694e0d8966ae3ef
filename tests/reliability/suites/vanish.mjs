// Peers that vanish: a second network, joined to ours by a wire that is then cut. Nobody says goodbye,
// nothing is reset; the packets are just not answered any more. Those that were sent something are
// cut off when they have acknowledged nothing for a minute, those that were not by TCP keepalive.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { Child, eventually, skip, test } from '../../e2e/lib/harness.mjs'
import { Moonjet } from '../../e2e/lib/moonjet.mjs'
import { relay } from '../lib/relay.mjs'
import { program } from '../lib/shims.mjs'
import { sourceOf } from '../lib/source.mjs'
import { Subscriber } from '../lib/subscriber.mjs'
import { sockets } from '../lib/watch.mjs'

export default async function suite({ seed, peers }) {
  if (!peers) return // takes minutes: in the whole proof only
  await test('vanish: half-open connections are found and cost nothing', async (t) => {
    if (process.env.RELIABILITY_NS !== '1') skip('no network namespace of its own (see run.sh)')
    const source = sourceOf(seed)
    const r = await relay(t, source)
    const m = await Moonjet.start(t, ['run', '--source', r.url, '--listen', '0.0.0.0:0', '--metrics-listen', '127.0.0.1:0',
      '--data', `${t.dir()}/data`], { metrics: true })
    const port = new URL(m.url).port
    const healthy = new Subscriber(t, source, 'healthy')
    await healthy.attach(`ws://127.0.0.1:${port}`)
    await healthy.reached(r.release(10_000))
    const before = sockets(m.proc.pid)

    const other = new Child(t, 'unshare', ['-n', 'sh', '-c', 'echo $$; read line; ip link set far up; ip addr add 10.77.0.2/24 dev far; echo up; exec sh'])
    const pid = await other.until(() => other.lines[0], 'a second network')
    const ip = (...args) => execFileSync('ip', args)
    ip('link', 'add', 'near', 'type', 'veth', 'peer', 'name', 'far', 'netns', pid)
    t.defer(() => ip('link', 'del', 'near'))
    ip('addr', 'add', '10.77.0.1/24', 'dev', 'near')
    ip('link', 'set', 'near', 'up')
    other.proc.stdin.write('\n')
    await other.until(() => other.out.includes('up'), 'the wire')
    for (const where of ['/subscribe', '/subscribe?requireHello=true'])
      other.proc.stdin.write(`sleep 10000 | ${program('deaf')} 10.77.0.1 ${port} ${peers} 1000000 ${where} &\n`)
    await other.until(() => other.out.split('ready').length === 3, 'peers over the wire')
    const subscribers = async () => (await m.metrics()).moonjet_subscribers
    assert.equal(await subscribers(), 1 + 2 * peers)
    other.proc.stdin.write('ip link set far down; echo cut\n')
    await other.until(() => other.out.includes('cut'), 'the cut')

    r.pace(500)
    await eventually(async () => (await subscribers()) <= 1 + peers, 'those that owed an answer to be cut off', 120_000)
    const all = await m.metrics()
    assert.equal(all['moonjet_subscribers_ended_total{reason="stalled"}'], peers)
    await eventually(async () => (await subscribers()) === 1, 'the silent ones to be found by keepalive', 240_000)
    await healthy.reached(r.hold())
    assert.equal(healthy.connections, 1)
    await eventually(() => sockets(m.proc.pid) === before, `${before} sockets as before`)
    await m.finish()
  }, { seconds: 500 })
}
