-- jet.labeler: what is said, what is news, and what the world gets to see of it.

local K256 = ("11"):rep(32)
local PUBLIC = "did:key:zQ3shjyJXUaRJC2GC43mX8aPrUhoTdoiongXhZjsdTzPKYZUM"

describe("a labeler", function()
  local t

  local function start(config, key)
    t = jet.test("labeler", { config = config, secrets = { LABEL_KEY = key or K256 } })
  end

  before_each(function()
    start {}
  end)

  local function list(of, n)
    local answer = t:ask("GET", "/list?of=" .. of .. (n and "&n=" .. n or ""))
    assert.equal(200, answer.status, answer.body)
    return jet.json.decode(answer.body)
  end

  local function call(method, subject, val, more)
    return t:ask("POST", "/do", { method = method, subject = subject, val = val, more = more })
  end

  local function address(event)
    return ("at://%s/%s/%s"):format(event.did, event.collection, event.rkey)
  end

  local function count(result)
    return t:metric("moonjet_labels_total", ('result="%s"'):format(result))
  end

  it("labels posts and accounts", function()
    local post = t:post { text = "buy this" }
    assert.same({ { src = "did:web:labels.example.com", uri = address(post), val = "spam" } },
      list(address(post)))
    assert.same({ { src = "did:web:labels.example.com", uri = post.did, val = "rude",
      exp = "2026-01-08T00:00:00.000000Z" } }, list(post.did))
    assert.equal(2, #list "*")
    assert.equal(1, #list("*", 1))
    assert.same({}, list(address(post) .. "x"))
  end)

  it("says things once, and takes them back once", function()
    local before, repeated = count "published", count "repeated"
    local did = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
    for _ = 1, 3 do
      call("apply", did, "spam")
    end
    assert.equal(1, count "published" - before)
    for _ = 1, 3 do
      call("negate", did, "spam")
    end
    assert.equal(2, count "published" - before)
    assert.same({}, list(did))
    call("apply", did, "spam")
    assert.equal(3, count "published" - before)
    assert.equal(4, count "repeated" - repeated)
  end)

  it("takes back whatever version was labelled", function()
    local uri = "at://did:plc:aaaaaaaaaaaaaaaaaaaaaaaa/app.bsky.feed.post/3kaaaaaaaaaaa"
    local cid = "bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a"
    call("apply", uri, "spam", { cid = cid })
    call("apply", uri, "spam")
    assert.equal(2, #list(uri))
    call("negate", uri, "spam", { cid = cid })
    assert.equal(1, #list(uri))
    call("apply", uri, "spam", { cid = cid })
    call("negate", uri, "spam")
    assert.same({}, list(uri))
  end)

  it("renews what is half over, and forgets what has ended", function()
    local did, before = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", count "published"
    call("apply", did, "rude", { exp = "7d" })
    t:advance "3d"
    call("apply", did, "rude", { exp = "7d" })
    assert.equal(1, count "published" - before)
    t:advance "1d"
    call("apply", did, "rude", { exp = "7d" })
    assert.equal(2, count "published" - before)
    assert.equal("2026-01-12T00:00:00.000000Z", list(did)[1].exp)
    t:advance "8d"
    assert.same({}, list(did))
    call("apply", did, "rude", { exp = "2026-02-01T00:00:00Z" })
    call("apply", did, "rude", { exp = "2026-02-01T00:00:00Z" })
    assert.equal(3, count "published" - before)
  end)

  it("knows what it said when the script is reloaded", function()
    local before, did = count "published", "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
    call("apply", did, "spam")
    assert.is_true(t:reload())
    call("apply", did, "spam")
    assert.equal(1, #list(did))
    assert.equal(1, count "published" - before)
  end)

  it("tells the world its key", function()
    assert.equal(PUBLIC, t:ask("GET", "/key").body)
    local document = jet.json.decode(t:ask("GET", "/.well-known/did.json").body)
    assert.equal("did:web:labels.example.com", document.id)
    assert.same({ { id = "did:web:labels.example.com#atproto_label", type = "Multikey",
      controller = "did:web:labels.example.com",
      publicKeyMultibase = PUBLIC:match "z.*" } }, document.verificationMethod)
    assert.same({ { id = "#atproto_labeler", type = "AtprotoLabeler",
      serviceEndpoint = "https://labels.example.com" } }, document.service)
  end)

  it("leaves another DID's document alone", function()
    start { did = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa" }
    assert.equal(404, t:ask("GET", "/.well-known/did.json").status)
  end)

  it("reads multibase keys of both kinds", function()
    start({}, "z42tkBZ7pzUwoxSyz9VF5JeYivp1AKLoaCjm3stoUFThPkkh") -- P-256, 22…
    assert.equal("did:key:zDnaex62me84JZnkEzmeYRa8FCLNe7y1asoSwBMK26GBYpL7c",
      t:ask("GET", "/key").body)
    t:post { text = "buy" }
    assert.equal(2, #list "*")
  end)

  it("blames the script", function()
    start { policies = true }
    local did = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
    for _, case in ipairs {
      { { did, "spma" }, "'spma' is not among the policies; did you mean 'spam'?" },
      { { "nobody", "spam" }, "neither an at:// address nor a DID" },
      { { did, "spam", { cid = "x" } }, "'cid' is no CID" },
      { { did, "spam", { exp = "soon" } }, "'soon' is no duration" },
      { { did, "spam", { ttl = "7d" } }, "has no option 'ttl'" },
      { { did }, "wants a label as text" },
      { { "at://" .. did .. "/app.bsky.feed.post/" .. ("a"):rep(480), "spam" }, "too long" },
    } do
      call("apply", unpack(case[1]))
      local errors = t:errors()
      assert.equal(1, #errors)
      assert.matches("^labeler.lua:%d+ POST /do: ", errors[1])
      assert.is_true(errors[1]:find(case[2], 1, true) ~= nil, errors[1])
    end
  end)

  it("does not load without what it needs", function()
    local function fails(config, key, what)
      local ok, message = pcall(start, config, key)
      assert.is_false(ok)
      assert.is_true(message:find(what, 1, true) ~= nil, message)
    end
    fails({}, "secret", "'key' is no private key")
    fails({}, ("00"):rep(32), "'key' is no private key")
    fails({ did = "plc" }, K256, "'did' is no DID")
    fails({ seq = 0 }, K256, "'seq' is the number")
  end)
end)
