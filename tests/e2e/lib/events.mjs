// Jetstream events as tests compare them.
import assert from 'node:assert/strict'
import * as DagCbor from '@ipld/dag-cbor'
import { CID } from 'multiformats/cid'
import { cidOf } from './frames.mjs'
import { timeUs } from './lines.mjs'

export { mask, timeUs } from './lines.mjs'

// What an event says, in the words both a Jetstream client and @atproto/sync can use.
export function key(e) {
  if (e.kind === 'identity') return `${e.did} identity ${e.identity.seq}`
  if (e.kind === 'account') return `${e.did} account ${e.account.seq} ${e.account.active} ${e.account.status ?? '-'}`
  const c = e.commit
  return `${e.did} ${c.operation} ${c.collection}/${c.rkey} ${c.cid ?? '-'} ${c.rev}`
}

const byDid = (keys) => {
  const m = {}
  for (const k of keys) (m[k.slice(0, k.indexOf(' '))] ??= []).push(k)
  return m
}

// Same events, each once, in the same order for every DID.
export function assertSameEvents(got, want, who) {
  const [a, b] = [new Set(got), new Set(want)]
  assert.deepEqual(want.filter((k) => !a.has(k)), [], `${who} misses events`)
  assert.deepEqual(got.filter((k) => !b.has(k)), [], `${who} has events nobody wrote`)
  assert.deepEqual(got.filter((k, i) => got.indexOf(k) !== i), [], `${who} has an event twice`)
  assert.deepEqual(byDid(got), byDid(want), `${who}: order within a DID`)
}

export function assertRising(lines, who) {
  for (let i = 1; i < lines.length; i++)
    assert.ok(timeUs(lines[i]) > timeUs(lines[i - 1]), `${who}: time_us does not rise at line ${i}:\n${lines[i - 1]}\n${lines[i]}`)
}

// The data model's JSON as @ipld/dag-cbor wants it: links and bytes as objects, integers exact.
function fromJson(v) {
  if (typeof v === 'bigint' || v === null || typeof v !== 'object') return v
  if (Array.isArray(v)) return v.map(fromJson)
  if (typeof v.$link === 'string') return CID.parse(v.$link)
  if (typeof v.$bytes === 'string') return new Uint8Array(Buffer.from(v.$bytes, 'base64'))
  return Object.fromEntries(Object.entries(v).map(([k, x]) => [k, fromJson(x)]))
}

// The record of a line, encoded again by @ipld/dag-cbor, must hash to the CID the line gives.
export function assertRecordMatchesCid(line) {
  const { commit } = JSON.parse(line, (_, v, { source }) => (typeof v === 'number' ? BigInt(source) : v))
  if (!commit?.record) return
  assert.equal(cidOf(DagCbor.encode(fromJson(commit.record))), commit.cid, `record and cid disagree: ${line}`)
}
