-- jet.feed: pages, cursors, feeds that depend on who asks, documents.

local base = "at://did:plc:aaaaaaaaaaaaaaaaaaaaaaaa/app.bsky.feed.generator/"
local path = "/xrpc/app.bsky.feed.getFeedSkeleton"

-- Made with @atproto/crypto for the time at which the clock of a spec stands, by an account with a
-- K-256 key (secret 11…) and one with a P-256 key (secret 22…).
local viewer = "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"
local K256 = "did:key:zQ3shjyJXUaRJC2GC43mX8aPrUhoTdoiongXhZjsdTzPKYZUM"
local P256 = "did:key:zDnaex62me84JZnkEzmeYRa8FCLNe7y1asoSwBMK26GBYpL7c"
local BY_K256 = "eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NksifQ.eyJpYXQiOjE3NjcyMjU2MDAsImlzcyI6ImRpZDpwb"
  .. "GM6YmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiIiwiYXVkIjoiZGlkOndlYjpmZWVkcy5leGFtcGxlLmNvb"
  .. "SIsImV4cCI6MTc2NzIyNTY2MCwibHhtIjoiYXBwLmJza3kuZmVlZC5nZXRGZWVkU2tlbGV0b24iLCJqd"
  .. "GkiOiJ4In0.oeft8sH9BUl6QZd-Kdr3Hpav77rbvDrwnNbiV0cMzzVYl9AHtaHc_U9s-_1pPVwF4LrUW"
  .. "sBNOSJgvWJ3FpM7Hg"
local BY_P256 = "eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiJ9.eyJpYXQiOjE3NjcyMjU2MDAsImlzcyI6ImRpZDpwbGM"
  .. "6YmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiIiwiYXVkIjoiZGlkOndlYjpmZWVkcy5leGFtcGxlLmNvbSN"
  .. "ic2t5X2ZnIiwiZXhwIjoxNzY3MjI1NjYwLCJseG0iOiJhcHAuYnNreS5mZWVkLmdldEZlZWRTa2VsZXR"
  .. "vbiIsImp0aSI6IngifQ.PgwAwxLNOsCC_lu3Ly27vze4HnilaOHAsafug3uZNmMxtyFnkqLAdoqDromF"
  .. "Roa-7GF_FvOtn2kTSjs4heoTPQ"

local function base64url(text)
  local bits = text:gsub(".", function(c)
    local n, out = c:byte(), ""
    for i = 7, 0, -1 do
      out = out .. math.floor(n / 2 ^ i) % 2
    end
    return out
  end)
  local digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
  return ((bits .. ("0"):rep(-#bits % 6)):gsub("......", function(six)
    local n = tonumber(six, 2) + 1
    return digits:sub(n, n)
  end))
end

local function address(event)
  return ("at://%s/%s/%s"):format(event.did, event.collection, event.rkey)
end

local function ask(t, feed, more, headers)
  local answer = t:ask("GET", path .. "?feed=" .. base .. feed .. (more or ""), nil, headers)
  return jet.json.decode(answer.body), answer.status
end

local function posts(t, feed, more)
  local list = {}
  for i, item in ipairs((ask(t, feed, more)).feed) do
    list[i] = item.post
  end
  return list
end

describe("a feed", function()
  local t

  before_each(function()
    t = jet.test "feed"
  end)

  local function post(n)
    local list = {}
    for i = 1, n do
      t:advance "1m"
      list[i] = address(t:post { text = tostring(i) })
    end
    return list
  end

  it("keeps the newest", function()
    local p = post(7)
    assert.same({ p[7], p[6], p[5], p[4], p[3] }, posts(t, "ring"))
    assert.equal("5 false", t:ask("GET", "/count").body)
  end)

  it("goes on where a page ended, whatever came meanwhile", function()
    local p = post(4)
    local first = ask(t, "ring", "&limit=2")
    assert.equal(p[3], first.feed[2].post)
    local new = post(1)
    local cursor = "&limit=2&cursor=" .. first.cursor
    assert.same({ p[2], p[1] }, posts(t, "ring", cursor))
    -- What moved up is on the first page; nothing comes twice.
    t:event { collection = "app.bsky.feed.like", record = { subject = { uri = p[2], cid = "x" } } }
    assert.same({ p[1] }, posts(t, "ring", cursor))
    assert.same({ p[2], new[1] }, posts(t, "ring", "&limit=2"))
    -- Nor does a page need its last post.
    t:event { collection = "app.bsky.feed.post", op = "delete", did = p[3]:match "did:[^/]+",
      rkey = p[3]:match "[^/]+$" }
    assert.same({ p[1] }, posts(t, "ring", cursor))
  end)

  it("tells posts of one time apart", function()
    local list = {}
    for i = 1, 5 do
      list[i] = address(t:post({ text = "x" }, { time_us = 1767225600000000 }))
    end
    table.sort(list)
    local seen, cursor = {}, ""
    for _ = 1, 5 do
      local page = ask(t, "ring", "&limit=1" .. cursor)
      seen[#seen + 1] = page.feed[1].post
      cursor = "&cursor=" .. page.cursor
    end
    table.sort(seen)
    assert.same(list, seen)
    assert.same({}, posts(t, "ring", "&limit=1" .. cursor))
  end)

  it("says why a post is there", function()
    local pinned, again = t:post { text = "pinned" }, t:post { text = "again" }
    assert.same({
      { post = address(again), reason = { ["$type"] = "app.bsky.feed.defs#skeletonReasonRepost",
        repost = "at://did:plc:x/app.bsky.feed.repost/1" } },
      { post = address(pinned), reason = { ["$type"] = "app.bsky.feed.defs#skeletonReasonPin" },
        feedContext = "top" },
    }, (ask(t, "other")).feed)
  end)

  it("is one of several, and knows no others", function()
    post(1)
    assert.same({}, posts(t, "other"))
    local answer, status = ask(t, "unknown")
    assert.equal(400, status)
    assert.equal("UnknownFeed", answer.error)
    assert.equal("InvalidRequest", jet.json.decode(t:ask("GET", path).body).error)
  end)

  it("refuses cursors that are none", function()
    for _, cursor in ipairs { "1", "x/at://y", "1/", "99999999999999999999/at://y" } do
      local answer, status = ask(t, "ring", "&cursor=" .. cursor)
      assert.equal(400, status)
      assert.equal("InvalidRequest", answer.error)
    end
  end)

  it("stays when the script is reloaded", function()
    local p = post(2)
    local first = ask(t, "ring", "&limit=1")
    assert.is_true(t:reload())
    assert.same({ p[1] }, posts(t, "ring", "&cursor=" .. first.cursor))
    assert.same({ p[2], p[1] }, posts(t, "ring"))
  end)

  it("describes itself", function()
    local answer = t:ask("GET", "/xrpc/app.bsky.feed.describeFeedGenerator")
    assert.equal(200, answer.status)
    assert.same({ did = "did:web:feeds.example.com", feeds = { { uri = base .. "ring" },
      { uri = base .. "other" }, { uri = base .. "mine" } } }, jet.json.decode(answer.body))
    answer = jet.json.decode(t:ask("GET", "/.well-known/did.json").body)
    assert.equal("did:web:feeds.example.com", answer.id)
    assert.same({ { id = "#bsky_fg", type = "BskyFeedGenerator",
      serviceEndpoint = "https://feeds.example.com" } }, answer.service)
  end)

  it("blames the script's line", function()
    for how, what in pairs { add = "wants a post", bump = "'soon' is no duration" } do
      t:ask("GET", "/wrong?how=" .. how)
      local errors = t:errors()
      assert.equal(1, #errors)
      assert.matches("feed.lua:%d+ GET /wrong: .*" .. what, errors[1])
    end
  end)
end)

describe("a feed that knows who asks", function()
  local t, asked, key

  local function start(auth)
    t = jet.test("feed", { config = { auth = auth } })
    asked, key = 0, K256
    t:resolve(function(who)
      asked = asked + 1
      assert.equal(viewer, who)
      return key and { did = who, key = key } or nil, "nobody"
    end)
  end

  local function mine(token, more)
    return ask(t, "mine", more, token and { Authorization = "Bearer " .. token })
  end

  it("asks its function", function()
    start()
    local answer = mine(BY_K256)
    assert.same({ { post = "at://did:plc:x/app.bsky.feed.post/" .. viewer } }, answer.feed)
    assert.equal("7", answer.cursor)
    assert.equal(1, asked)
    key = P256
    answer = mine(BY_P256)
    assert.same({ { post = "at://did:plc:x/app.bsky.feed.post/" .. viewer } }, answer.feed)
  end)

  it("takes strangers, unless it is told not to", function()
    start()
    assert.same({ { post = "at://did:plc:x/app.bsky.feed.post/nobody" } }, mine().feed)
    start "required"
    local answer, status = mine()
    assert.equal(401, status)
    assert.equal("AuthMissing", answer.error)
    assert.equal(200, select(2, mine(BY_K256)))
    start "none"
    assert.same({ { post = "at://did:plc:x/app.bsky.feed.post/nobody" } }, mine(BY_K256).feed)
  end)

  local function refused(name, token)
    local answer, status = mine(token)
    assert.equal(401, status)
    assert.equal(name, answer.error)
  end

  it("looks at the key twice, and then refuses", function()
    start()
    key = P256
    refused("BadJwtSignature", BY_K256)
    assert.equal(2, asked)
    key = nil
    refused("BadJwtIss", BY_K256)
  end)

  it("refuses what is too old, too new, or no token", function()
    start()
    refused("BadJwt", "x")
    refused("BadJwt", BY_K256 .. "A")
    refused("AuthMissing", "two words")
    refused("BadJwtSignature", (BY_K256:gsub("%.o([^.]+)$", ".p%1")))
    t:advance "2m"
    refused("JwtExpired", BY_K256)
  end)

  -- The token with other claims, and what is no signature of them any more.
  local function other(claims)
    local text = "{\"iat\":1767225600,\"exp\":1767225660,\"iss\":\"" .. viewer .. "\","
      .. claims .. "}"
    local head, signature = BY_K256:match "^([^.]+%.)[^.]+(%..+)$"
    return head .. base64url(text) .. signature
  end

  it("takes whoever has a token for another service as a stranger", function()
    local lxm = "\"lxm\":\"app.bsky.feed.getFeedSkeleton\""
    local audience = other("\"aud\":\"did:web:api.bsky.app\"," .. lxm)
    local method = other "\"aud\":\"did:web:feeds.example.com\",\"lxm\":\"app.bsky.feed.getFeed\""
    start()
    for _, token in ipairs { audience, method } do
      assert.same({ { post = "at://did:plc:x/app.bsky.feed.post/nobody" } }, mine(token).feed)
    end
    assert.equal(0, asked)
    refused("BadJwtSignature", other("\"aud\":\"did:web:feeds.example.com\"," .. lxm))
    start "required"
    refused("BadJwtAudience", audience)
    refused("BadJwtLexiconMethod", method)
  end)

  it("says so when its function returns nonsense", function()
    start()
    local _, status = mine(nil, "&cursor=boom")
    assert.equal(500, status)
    assert.matches("'posts' returns a list of posts", t:errors()[1])
  end)
end)
