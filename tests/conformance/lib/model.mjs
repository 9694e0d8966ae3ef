// How v1 prints a record, written from its rules: a second opinion on lines whose source is unknown.

// Exact integers; everything else as JSON.parse has it.
export const parse = (line) => JSON.parse(line, (_, v, { source }) => (typeof v === 'number' && /^-?\d+$/.test(source) ? BigInt(source) : v))

// The text of a line's record, as it stands there.
export function recordText(line) {
  const at = line.indexOf(',"record":')
  const end = line.lastIndexOf(',"cid":"')
  return at < 0 || end < at ? null : line.slice(at + 10, end)
}

const SHORT = { '"': '\\"', '\\': '\\\\', '\n': '\\n', '\r': '\\r', '\t': '\\t' }
const quoted = (s) => `"${s.replace(/[\u0000-\u001f"\\<>&\u2028\u2029]/g, (c) => SHORT[c] ?? `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`)}"`

const BLOB = ['$type', 'ref', 'mimeType', 'size']
const isBlob = (v, keys) => v.$type === 'blob' && keys.length === 4 && BLOB.every((k) => k in v)
const isLegacy = (v, keys) => keys.length === 2 && typeof v.cid === 'string' && typeof v.mimeType === 'string'

export function print(v) {
  if (typeof v === 'string') return quoted(v)
  if (v === null || typeof v !== 'object') return String(v)
  if (Array.isArray(v)) return `[${v.map(print).join(',')}]`
  const keys = Object.keys(v)
  let pairs
  if (isBlob(v, keys)) pairs = BLOB.map((k) => [quoted(k), v[k]])
  else if (isLegacy(v, keys)) pairs = ['cid', 'mimeType'].map((k) => [quoted(k), v[k]])
  else pairs = keys.map((k) => [quoted(k), v[k]]).sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
  return `{${pairs.map(([k, x]) => `${k}:${print(x)}`).join(',')}}`
}

// All values in a record, depth first: fn(value, key).
export function walk(v, fn, key) {
  fn(v, key)
  if (v && typeof v === 'object') for (const [k, x] of Object.entries(v)) walk(x, fn, k)
}
