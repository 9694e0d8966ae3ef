-- Rich text: what scripts see of it. Which facets there are is tests/unit/test_richtext.c.

describe("jet.richtext", function()
  local t

  before_each(function()
    t = jet.test "richtext"
    t:resolve(function(who)
      if who == "alice.test" then
        return { did = "did:plc:alice", handle = who }
      end
      return nil, "not found"
    end)
  end)

  -- What the script makes of the text, as its log line has it; `how` names one of its functions.
  local function make(how, text)
    t:post { text = text or "", langs = { how } }
    t:advance "1s"
    local lines = t:logs()
    return jet.json.decode(lines[#lines].text)
  end

  local function fault(how)
    t:post { text = "", langs = { how } }
    t:advance "1s"
    return table.concat(t:errors(), "\n")
  end

  it("finds mentions, links and tags", function()
    local text = "é 👨‍👩‍👧 @alice.test https://x.y #tag"
    local got = make("resolve", text)
    assert.equal(text, got.text)
    assert.equal(32, got.length)
    assert.same({
      { ["$type"] = "app.bsky.richtext.facet", index = { byteStart = 22, byteEnd = 33 },
        features = { { ["$type"] = "app.bsky.richtext.facet#mention", did = "did:plc:alice" } } },
      { ["$type"] = "app.bsky.richtext.facet", index = { byteStart = 34, byteEnd = 45 },
        features = { { ["$type"] = "app.bsky.richtext.facet#link", uri = "https://x.y" } } },
      { ["$type"] = "app.bsky.richtext.facet", index = { byteStart = 46, byteEnd = 50 },
        features = { { ["$type"] = "app.bsky.richtext.facet#tag", tag = "tag" } } },
    }, got.facets)
  end)

  it("leaves mentions of nobody as text", function()
    local got = make("resolve", "@bob.test and @alice.test")
    assert.equal(1, #got.facets)
    assert.equal(14, got.facets[1].index.byteStart)
  end)

  it("asks again for whom it could not find", function()
    t:resolve(function() return nil, "no answer from DNS" end)
    assert.is_nil(make("kept").facets)
    t:resolve(function(who) return { did = "did:plc:alice", handle = who } end)
    assert.equal("did:plc:alice", make("kept").facets[1].features[1].did)
  end)

  it("gives no facets where there are none", function()
    assert.is_nil(make("resolve", "nothing").facets)
  end)

  it("reads links as Markdown writes them", function()
    local got = make("markdown", "see [our page](https://example.com/a) and b.com [x](y)")
    assert.equal("see our page and b.com [x](y)", got.text)
    assert.equal("https://example.com/a", got.facets[1].features[1].uri)
    assert.same({ byteStart = 4, byteEnd = 12 }, got.facets[1].index)
    assert.equal("https://b.com", got.facets[2].features[1].uri)
    got = make("markdown", "[see b.com](https://a.com)")
    assert.equal(1, #got.facets)
    assert.same({ byteStart = 0, byteEnd = 9 }, got.facets[1].index)
  end)

  it("shows less of long addresses", function()
    local got = make("shorten", "https://example.com/a/path/that/is/long #x")
    assert.equal("example.com/a/path/that/… #x", got.text)
    assert.equal("https://example.com/a/path/that/is/long", got.facets[1].features[1].uri)
    assert.same({ byteStart = 0, byteEnd = 27 }, got.facets[1].index)
    assert.same({ byteStart = 28, byteEnd = 30 }, got.facets[2].index)
    assert.equal("example.com", make("shorten", "https://example.com/").text)
  end)

  it("is built piece by piece", function()
    local got = make "build"
    assert.equal("Hi @alice.test, look: our page, example.com/a #moon b.com", got.text)
    local uris = {}
    for _, facet in ipairs(got.facets) do
      local f = facet.features[1]
      uris[#uris + 1] = f.did or f.uri or f.tag
      assert.equal(facet.index.byteEnd > facet.index.byteStart, true)
    end
    assert.same({ "did:plc:alice", "https://example.com/page", "https://example.com/a", "moon",
      "https://b.com" }, uris)
    assert.equal("our page", got.text:sub(got.facets[2].index.byteStart + 1,
      got.facets[2].index.byteEnd))
  end)

  it("says what is wrong", function()
    assert.matches("richtext.lua:%d+.*: jet.richtext wants a text, not number", fault "number")
    assert.matches("no UTF%-8 at byte 3; to cut a text, use truncate", fault "cut")
    assert.matches("no option 'marcdown'; did you mean 'markdown'", fault "option")
    assert.matches("no 'lenght'; did you mean 'length'", fault "method")
    assert.matches("wants an address.*not 'x'", fault "address")
  end)
end)

describe("richtext:split", function()
  local t, text

  before_each(function()
    t = jet.test "richtext"
  end)

  local function split(how, given)
    text = given
    t:post { text = given, langs = { how } }
    t:advance "1s"
    local lines = t:logs()
    return jet.json.decode(lines[#lines].text).parts
  end

  -- Every part within the limit, and every facet whole.
  local function check(parts, max)
    for _, part in ipairs(parts) do
      assert(part.length <= max and part.length > 0, part.text)
      for _, facet in ipairs(part.facets or {}) do
        assert(facet.index.byteEnd <= #part.text)
        local shown = part.text:sub(facet.index.byteStart + 1, facet.index.byteEnd)
        local f = facet.features[1]
        if f.tag then
          assert.equal("#" .. f.tag, shown)
        elseif f.uri == "https://" .. shown or f.uri == shown then
          assert.is_true(true)
        else
          assert.matches("…$", shown)
        end
      end
    end
  end

  it("leaves what fits", function()
    local parts = split("split", "short")
    assert.equal(1, #parts)
    assert.equal("short", parts[1].text)
  end)

  it("cuts at words", function()
    local parts = split("split", ("word "):rep(100))
    check(parts, 300)
    assert.equal(2, #parts)
    assert.equal(("word "):rep(60):sub(1, -2), parts[1].text)
    assert.equal(("word "):rep(40):sub(1, -2), parts[2].text)
  end)

  it("never cuts a facet, nor a grapheme", function()
    local parts = split("split20", ("👨‍👩‍👧"):rep(45))
    check(parts, 20)
    assert.same({ 20, 20, 5 }, { parts[1].length, parts[2].length, parts[3].length })
    assert.equal(("👨‍👩‍👧"):rep(45), parts[1].text .. parts[2].text .. parts[3].text)
    parts = split("split", ("👨‍👩‍👧"):rep(200)) -- 18 bytes each, and a post has 3,000
    assert.equal(166, parts[1].length)
    for pad = 1, 40 do
      parts = split("split20", ("x "):rep(pad)
        .. "#seventeen-letters https://a.com/b #three four.com")
      check(parts, 20)
      local n = 0
      for _, part in ipairs(parts) do
        n = n + #(part.facets or {})
      end
      assert.equal(4, n, text)
    end
  end)

  it("shows less of an address that is longer than a part", function()
    local uri = "https://example.com/" .. ("a"):rep(400)
    local parts = split("split", "see " .. uri .. (" word"):rep(70))
    check(parts, 300)
    assert.equal(uri, parts[1].facets[1].features[1].uri)
    assert.matches("^see example.com/aaaaaaaaaaaa… word", parts[1].text)
  end)

  it("counts the parts", function()
    local parts = split("counters", ("word "):rep(100))
    check(parts, 300)
    assert.equal(2, #parts)
    assert.matches(" word 1/2$", parts[1].text)
    assert.matches(" word 2/2$", parts[2].text)
    parts = split("counters", ("word "):rep(700))
    check(parts, 300)
    assert.equal(12, #parts)
    assert.matches(" 12/12$", parts[12].text)
    assert.equal("short", split("counters", "short")[1].text)
  end)

  it("leaves room for what it adds, in bytes, too", function()
    local family = "👨‍👩‍👧‍👦" -- 25 bytes
    local parts = split("counters", family:rep(130))
    assert.equal(2, #parts)
    assert.equal(family:rep(119) .. " 1/2", parts[1].text)
    assert.equal(family:rep(119) .. "…", split("short", family:rep(130))[1].text)
    assert.equal(family:rep(120), split("short", family:rep(120))[1].text)
  end)

  it("cuts one text short", function()
    local parts = split("truncate", "one two three four five six #seven")
    assert.equal("one two three four…", parts[1].text)
    assert.is_nil(parts[1].facets)
    assert.equal("short", split("truncate", "short")[1].text)
  end)
end)
