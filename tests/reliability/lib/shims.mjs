// Compiles the C of shim/ once per run, and says how a program is started under it.
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { root, skip } from '../../e2e/lib/harness.mjs'

const from = path.join(root, 'tests/reliability/shim')
const to = path.join(root, 'build/reliability')
const flags = ['-std=c11', '-D_GNU_SOURCE', '-O1', '-g', '-Wall', '-Wextra', '-Wshadow', '-Werror']

function compile(name, out, more) {
  const [source, target] = [path.join(from, `${name}.c`), path.join(to, out)]
  fs.mkdirSync(to, { recursive: true })
  if (fs.existsSync(target) && fs.statSync(target).mtimeMs > fs.statSync(source).mtimeMs) return target
  try {
    execFileSync(process.env.CC ?? 'cc', [...flags, ...more, '-o', `${target}.new`, source, '-ldl', '-lpthread', '-lm'], { stdio: 'pipe' })
  } catch (e) {
    if (e.code === 'ENOENT') skip('no C compiler for the shims')
    throw new Error(`${name}.c: ${e.stderr}`)
  }
  fs.renameSync(`${target}.new`, target)
  return target
}

export const library = (name) => compile(name, `${name}.so`, ['-shared', '-fPIC'])
export const program = (name) => compile(name, name, [])

// The environment that puts shims in front. AddressSanitizer wants to be first and does well without.
export const preload = (...names) => ({
  LD_PRELOAD: names.map(library).join(':'),
  ASAN_OPTIONS: [process.env.ASAN_OPTIONS, 'verify_asan_link_order=0'].filter(Boolean).join(':'),
})

// A directory in memory where there is one: what a watched program syncs is known from the log, so
// there is no need to wait for a disk.
export function memoryDir(t) {
  const base = fs.existsSync('/dev/shm') ? '/dev/shm' : os.tmpdir()
  const d = fs.mkdtempSync(path.join(base, 'moonjet-reliability-'))
  t.defer(() => fs.rmSync(d, { recursive: true, force: true }))
  return d
}

// A watched directory: `env` for the program, the log, and the boot id it sees.
export function watched(dir, log) {
  const w = { dir: fs.realpathSync(dir), log, boot: `${log}.boot`, boots: 0 }
  w.reboot = () => fs.writeFileSync(w.boot, `00000000-0000-4000-8000-${String(++w.boots).padStart(12, '0')}\n`)
  w.reboot()
  w.env = { ...preload('powerloss'), POWERLOSS_DIR: w.dir, POWERLOSS_LOG: w.log, POWERLOSS_BOOT: w.boot }
  return w
}

// A clock that runs `rate` times as fast: `env` for the program, step(seconds) sets its wall clock.
export function clock(t, rate = 1) {
  const file = path.join(t.dir(), 'clock')
  const b = Buffer.alloc(16)
  b.writeDoubleLE(rate, 8)
  fs.writeFileSync(file, b)
  const fd = fs.openSync(file, 'r+')
  t.defer(() => fs.closeSync(fd))
  return {
    env: { ...preload('clock'), CLOCK_FILE: file },
    step(seconds) {
      b.writeBigInt64LE(b.readBigInt64LE(0) + BigInt(Math.round(seconds * 1e9)), 0)
      fs.writeSync(fd, b, 0, 8, 0)
    },
  }
}
