// The second opinion: @atproto/sync reads the same firehose, resolves every account's key and
// verifies every signature and MST proof, and says which events there are.
import { Firehose } from '@atproto/sync'
import { IdResolver, MemoryCache } from '@atproto/identity'

// Reads from `cursor` (0 = as far back as the server keeps) until stopped.
export function reference(t, service, plcUrl, { cursor = 0 } = {}) {
  const r = { keys: [], events: [], errors: [] }
  const waiting = new Set()
  const idResolver = new IdResolver({ plcUrl, timeout: 30_000, fetch: globalThis.fetch, didCache: new MemoryCache() })
  const say = (e) => {
    if (e.event === 'sync') return null
    if (e.event === 'identity') return `${e.did} identity ${e.seq}`
    if (e.event === 'account') return `${e.did} account ${e.seq} ${e.active} ${e.status ?? '-'}`
    return `${e.did} ${e.event} ${e.collection}/${e.rkey} ${e.cid?.toString() ?? '-'} ${e.rev}`
  }
  let over = false
  const firehose = new Firehose({
    service, idResolver, unauthenticatedHandles: true, getCursor: () => cursor,
    handleEvent: (e) => {
      const k = say(e)
      r.events.push(e)
      if (k) r.keys.push(k)
      waiting.forEach((w) => w())
    },
    onError: (e) => {
      if (!over) r.errors.push(`${e.message}: ${e.cause?.message ?? ''} ${e.event ? JSON.stringify({ seq: e.event.seq, repo: e.event.repo }) : ''}`)
      waiting.forEach((w) => w())
    },
  })
  r.until = (probe, what, ms = 60_000) => new Promise((resolve, reject) => {
    const look = () => {
      const v = probe()
      if (!v) return
      clearTimeout(timer)
      waiting.delete(look)
      resolve(v)
    }
    const timer = setTimeout(() => {
      waiting.delete(look)
      reject(new Error(`@atproto/sync: no ${what} within ${ms} ms (${r.keys.length} events, errors: ${r.errors.slice(0, 3)})`))
    }, ms)
    waiting.add(look)
    look()
  })
  r.stop = async () => {
    if (over) return
    over = true
    await firehose.destroy()
  }
  t.defer(() => r.stop())
  firehose.start()
  return r
}
