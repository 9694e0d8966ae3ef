// Rich text against the official package: the same facets, the same lengths, for many texts.
import assert from 'node:assert/strict'
import path from 'node:path'
import { RichText } from '@atproto/api'
import { isValidHandle } from '@atproto/syntax'
import { Moonjet } from '../lib/moonjet.mjs'
import { network } from '../lib/pds.mjs'
import { here, test } from '../lib/harness.mjs'

const texts = Number(process.env.MOONJET_E2E_TEXTS ?? 1500)

// A generator of numbers that are the same each time.
function random(seed) {
  let a = seed
  return (n) => {
    a = (a + 0x6d2b79f5) | 0
    let t = Math.imul(a ^ (a >>> 15), 1 | a)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) % n
  }
}

const pieces = ['word', 'é', 'e\u0301', '日本語', '한국어', 'नमस्ते', 'क्षत्रिय', 'క్షమించండి', 'বাংলা', 'ไทย', '👨‍👩‍👧', '👍🏽', '🇩🇪🇫🇷🇺', '#️⃣', '❤️', 'ß', '\u200b', '\u200d', '\ufe0f', '\u00ad',
  ' ', ' ', ' ', '  ', '\n', '\t', '\u00a0', '\u3000', '\u2028', '\ufeff', '.', ',', '!', '?', ';', ':', ')', '(', '((', '…', '"', '“', '”', '\'', '’', '-', '_', '/',
  '@alice.test', '@bob.bsky.social', '@a-b.example.com', '@nope', '@x.y', '@.test', '@al ice.test', '@ALICE.test', '@alice.test.', '@bob.co.uk',
  'https://x.y', 'http://example.com/a_(b)', 'https://example.com/?q=1&r=#f', 'https://a.b/ü', 'example.com', 'example.com/path', 'www.example.co.uk/x', 'bar.txt',
  'a.b.c.dev', 'foo.museum', 'x.com', '1.com', 'my-site.com', 'e.g', 'i.e.', 'node.js', 'ü.com', 'foo.com:8080/x',
  '#', '#tag', '#Tag1', '#1', '#12', '#1a', '#a.b', '#a,', '##b', '＃wide', '#日本', '#é', '#👍', '#a_b', '#-', '#...', '#x…', '#a’b', '#٣', '#(a)', '@', '$', '$AAPL', '$aapl', '$TOOLONG', '$A1', '$1', '($BTC)', 'a@b.com', 'x#y', 'user@example.com']

function text(pick) {
  let s = ''
  for (let n = 1 + pick(14); n > 0; n--) s += pieces[pick(pieces.length)] + (pick(3) ? ' ' : '')
  return s
}

// What the official package finds, in our words: without what overlaps something before it, which
// no app shows, and without what no PDS would take.
function expected(s) {
  const rich = new RichText({ text: s })
  rich.detectFacetsWithoutResolution()
  let covered = 0
  const marks = []
  for (const { index, features: [f] } of rich.facets ?? []) {
    const mark = { from: index.byteStart, to: index.byteEnd }
    if (f.$type.endsWith('#mention')) {
      if (!isValidHandle(f.did)) continue
      mark.handle = f.did.toLowerCase()
    } else if (f.$type.endsWith('#link')) mark.uri = f.uri
    else mark.tag = f.tag
    if (mark.from < covered) continue
    covered = mark.to
    marks.push(mark)
  }
  return { length: rich.graphemeLength, marks }
}

async function post(m, target, body) {
  const r = await fetch(m.http + target, { method: 'POST', body: JSON.stringify(body) })
  assert.equal(r.status, 200, await r.clone().text())
  return r.json()
}

const sorted = (marks) => marks.map((x) => JSON.stringify(x, Object.keys(x).sort())).join('\n')

export default async function suite() {
  let m
  const start = async (t) => m ??= await Moonjet.run(t, { scripts: [path.join(here, 'scripts/richtext.lua')], source: (await network()).ws })

  await test('richtext: facets and lengths are those of @atproto/api', async (t) => {
    await start(t)
    const pick = random(20261127)
    const all = ['é 👨‍👩‍👧 @alice.test https://x.y #tag', '', ...Array.from({ length: texts }, () => text(pick))]
    let facets = 0
    for (let at = 0; at < all.length; at += 200) {
      const some = all.slice(at, at + 200)
      const got = await post(m, '/marks', some)
      some.forEach((s, i) => {
        const want = expected(s)
        assert.equal(sorted(got[i].marks), sorted(want.marks), JSON.stringify(s))
        assert.equal(got[i].length, want.length, JSON.stringify(s))
        facets += want.marks.length
      })
    }
    assert.ok(facets > texts, `only ${facets} facets`)
    m = undefined
  })

  await test('richtext: parts of a text fit, and lose no word and no facet', async (t) => {
    await start(t)
    const pick = random(7)
    for (let round = 0; round < 20; round++) {
      const max = round % 2 ? 80 : 300
      let all = Array.from({ length: 10 }, () => Array.from({ length: 30 }, () => text(pick)).join(' '))
      let whole = await post(m, '/marks', all)
      // What is longer than a part is shown shortened: tests/specs/richtext_spec.lua.
      const short = whole.map(({ marks }) => marks.every((x) => x.to - x.from <= max))
      all = all.filter((_, i) => short[i])
      whole = whole.filter((_, i) => short[i])
      assert.ok(all.length > 5, `only ${all.length} texts`)
      const got = await post(m, `/split?max=${max}`, all)
      all.forEach((s, i) => {
        const parts = got[i]
        for (const p of parts) {
          const r = new RichText({ text: p.text })
          assert.ok(r.graphemeLength <= max && r.length <= 3000, p.text)
        }
        const squeeze = (x) => x.replace(/\s+/g, '')
        assert.equal(squeeze(parts.map((p) => p.text).join('')), squeeze(s))
        assert.equal(parts.flatMap((p) => p.marks).length, whole[i].marks.length, JSON.stringify(s))
        for (const p of parts) {
          const bytes = Buffer.from(p.text)
          for (const mark of p.marks) {
            const shown = bytes.subarray(mark.from, mark.to).toString()
            const about = mark.uri ?? mark.tag ?? mark.handle
            assert.ok(about.toLowerCase().endsWith(shown.replace(/^[#＃@$]/, '').toLowerCase()), `${shown} is not ${about}`)
          }
        }
      })
    }
    m = undefined
  })
}
