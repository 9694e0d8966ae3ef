// What a process holds, as the kernel tells it.
import fs from 'node:fs'

const status = (pid, key) => Number(new RegExp(`^${key}:\\s+(\\d+)`, 'm').exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))[1])

// Memory of its own in KiB: pages of mapped files are the kernel's to take back.
export const memory = (pid) => status(pid, 'RssAnon')
// Sockets it has open: other files come and go with the journal's segments.
export const sockets = (pid) => fs.readdirSync(`/proc/${pid}/fd`).filter((fd) => {
  try {
    return fs.readlinkSync(`/proc/${pid}/fd/${fd}`).startsWith('socket:')
  } catch {
    return false // closed meanwhile
  }
}).length

// Bytes the kernel holds for each connection of a local port, sent or not.
export function unsent(port) {
  const hex = port.toString(16).toUpperCase().padStart(4, '0')
  return fs.readFileSync('/proc/net/tcp', 'utf8').split('\n').slice(1)
    .map((l) => l.trim().split(/\s+/))
    .filter((f) => f[1]?.endsWith(`:${hex}`) && f[3] === '01')
    .map((f) => parseInt(f[4].split(':')[0], 16))
}

// Delays in ms: the middle, the slowest hundredth, the slowest.
export function quantiles(values) {
  const v = Float64Array.from(values).sort()
  const at = (q) => (v.length ? v[Math.min(v.length - 1, Math.floor(q * v.length))].toFixed(1) : '-')
  return `p50 ${at(0.5)} p99 ${at(0.99)} max ${at(1)} ms`
}
