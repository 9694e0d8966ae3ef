-- Agents against the spec's own PDS: sessions, limits, failures, and writes that happen once.

local PUT, GET = "com.atproto.repo.putRecord", "com.atproto.repo.getRecord"
local LOGIN, REFRESH = "com.atproto.server.createSession", "com.atproto.server.refreshSession"
local POST = "app.bsky.feed.post"

local t, pds

local function load(config, options)
  t = jet.test("agent", { config = config, secrets = { BOT = "right" } })
  options = options or {}
  options.password = options.password or "right"
  pds = t:pds(options)
  t:advance "0s"
end

local function mention(event)
  local feature = { ["$type"] = "app.bsky.richtext.facet#mention", did = pds.did }
  return t:post({ text = "hi", createdAt = "2026-01-01T00:00:00.000Z", facets = {
    { index = { byteStart = 0, byteEnd = 2 }, features = { feature } } } }, event)
end

-- Runs Lua in the script, with `me` and `jet`: what it returns, as a list.
local function run(source)
  local answer = t:ask("POST", "/run", "return function(me, jet, other)\n" .. source .. "\nend")
  if answer.status ~= 200 then
    error(answer.body, 2)
  end
  return jet.json.decode(answer.body)
end

local function who()
  return jet.json.decode(t:ask("GET", "/who").body)
end

local function texts()
  local list = {}
  for i, line in ipairs(t:logs()) do
    list[i] = line.text
  end
  return table.concat(list, "\n")
end

describe("an agent's session", function()
  it("begins with the first call", function()
    load()
    assert.same({}, pds:calls())
    mention()
    t:advance "1s"
    assert.same({ LOGIN, PUT }, pds:calls())
    mention()
    t:advance "1s"
    assert.same({ PUT }, pds:calls())
    assert.equal(2, #pds:list(POST))
  end)

  it("is kept over a reload", function()
    load()
    run "return me:login()"
    assert.same({ LOGIN }, pds:calls())
    assert.is_true(t:reload())
    run "return me:get('com.atproto.repo.listRecords', { repo = me.did, collection = 'a.b.c' })"
    assert.same({ "com.atproto.repo.listRecords" }, pds:calls())
    assert.equal(pds.did, who().did)
  end)

  it("is refreshed before it is over", function()
    load(nil, { lifetime = 600 })
    run "return me:login()"
    t:advance "7m"
    run "return me:get('com.atproto.repo.listRecords', { repo = me.did, collection = 'a.b.c' })"
    assert.same({ LOGIN, "com.atproto.repo.listRecords" }, pds:calls())
    t:advance "2m"
    run "return me:get('com.atproto.repo.listRecords', { repo = me.did, collection = 'a.b.c' })"
    assert.same({ REFRESH, "com.atproto.repo.listRecords" }, pds:calls())
  end)

  it("is refreshed when the PDS says that the token is over, once for all who wait", function()
    load()
    run "return me:login()"
    pds:calls()
    pds:expire()
    run [[
      local done = jet.queue()
      for i = 1, 20 do
        jet.spawn(function()
          done:put((me:create("app.example.note", { n = i })))
        end)
      end
      for _ = 1, 20 do
        done:get()
      end
    ]]
    local count = {}
    for _, name in ipairs(pds:calls()) do
      count[name] = (count[name] or 0) + 1
    end
    assert.same({ [REFRESH] = 1, [PUT] = 40 }, count)
    assert.equal(20, #pds:list "app.example.note")
  end)

  it("begins anew when the refresh token is dead", function()
    load()
    run "return me:login()"
    pds:calls()
    pds:expire(true)
    assert.equal(pds.did, run("return (me:put('app.example.note', 'a', {})) and me.did")[1])
    assert.same({ PUT, REFRESH, LOGIN, PUT }, pds:calls())
  end)

  it("is no use when the password is wrong, and nobody insists", function()
    load(nil, { password = "other" })
    local got = run "return me:login()"
    assert.equal(jet.null, got[1])
    assert.matches("401 AuthenticationRequired.*is the app password right%?", got[2])
    assert.same({ LOGIN }, pds:calls())
    for _ = 1, 3 do
      assert.matches("AuthenticationRequired", run("return me:login()")[2])
    end
    assert.same({}, pds:calls())
    assert.matches("bot.test cannot log in", texts())
  end)

  it("is not asked for in the clear, unless the script says so", function()
    load(nil, { service = "http://pds.example.com" })
    assert.matches("at http://pds.example.com, and on the way there all can read the password",
      run("return me:login()")[2])
    assert.same({}, pds:calls())
    load({ service = "http://pds.example.com" }, { service = "http://pds.example.com" })
    assert.equal(pds.did, run("return me:login()")[1])
    for _, place in ipairs { "http://localhost:2583", "http://127.0.0.1:2583", "http://[::1]" } do
      load(nil, { service = place })
      assert.equal(pds.did, run("return me:login()")[1])
    end
  end)

  it("costs three logins in five minutes and ten a day at most", function()
    load()
    for _ = 1, 3 do
      run "return me:put('app.example.note', 'a', {})"
      pds:expire(true)
    end
    pds:calls()
    local got = run "return me:put('app.example.note', 'a', {})"
    assert.matches("bot.test has logged in 3 times in 5 minutes; the next time in 300 s", got[2])
    assert.same({ PUT, REFRESH }, pds:calls())
    assert.is_true(t:reload())
    assert.matches("3 times in 5 minutes", run("return me:login()")[2])
    for _ = 4, 10 do
      t:advance "10m"
      assert.equal(pds.did, run("return me:login()")[1])
      pds:expire(true)
      run "return me:put('app.example.note', 'a', {})"
    end
    t:advance "10m"
    assert.matches("10 times in a day", run("return me:login()")[2])
    t:advance "1d"
    assert.equal(pds.did, run("return me:login()")[1])
  end)

  it("of another account is refused", function()
    load({ identifier = "bot.test", did = "did:plc:somebodyelse" })
    t:resolve(function(did) return { did = did, pds = pds.service } end)
    pds.handle = "did:plc:somebodyelse"
    assert.matches("says that bot.test is did:plc:botbotb[otb]+, not did:plc:somebodyelse; if",
      run("return me:login()")[2])
  end)

  it("goes to the account that it knows, whoever has its handle now", function()
    local asked = {}
    load(nil, { http = function(request)
      asked[#asked + 1] = request.url
      return { status = 500 }
    end })
    run "return me:login()"
    t:resolve(function(whom)
      if whom == pds.did then
        return { did = pds.did, pds = pds.service }
      end
      return { did = "did:plc:stranger", handle = whom, pds = "https://stranger.test" }
    end)
    for _ = 1, 2 do
      pds:expire(true)
      assert.equal(pds.did, run("return (me:put('app.example.note', 'a', {})) and me.did")[1])
      assert.is_true(t:reload())
    end
    assert.same({}, asked)
    assert.equal(pds.did, who().did)
  end)

  it("goes on when the account has another handle", function()
    load()
    run "return me:login()"
    pds.handle = "new.test"
    pds:expire(true)
    assert.equal(pds.did, run("return (me:put('app.example.note', 'a', {})) and me.did")[1])
    assert.equal("new.test", who().handle)
  end)

  it("is refused when it is no longer of the account that was known", function()
    load({ service = "https://pds.test" })
    run "return me:login()"
    pds:expire(true)
    pds:serve(LOGIN, function()
      return { body = { did = "did:plc:stranger", accessJwt = "a.b.c", refreshJwt = "d.e.f" } }
    end)
    local got = run "return me:put('app.example.note', 'a', {})"
    assert.equal("https://pds.test says that bot.test is did:plc:stranger, not " .. pds.did
      .. "; if it is another account now, give jet.agent its DID: did = \"did:plc:…\"", got[2])
    assert.equal(pds.did, who().did)
  end)

  it("says which account is meant where the password is wrong", function()
    load()
    run "return me:login()"
    pds:expire(true)
    pds.password = "other"
    assert.matches("bot.test is " .. pds.did .. "; if it is another account now, give .* DID: did",
      run("return me:put('app.example.note', 'a', {})")[2])
  end)

  it("shows no token and no password", function()
    load()
    run "return me:login()"
    run [[
      jet.log.info("me: %s", tostring(me))
      for k, v in pairs(me) do jet.log.info("%s %s", k, v) end
    ]]
    assert.equal("me: agent bot.test", texts())
  end)
end)

describe("an agent's DID", function()
  it("is known from a DID", function()
    load({ identifier = "did:plc:botbotbotbotbotbotbotbot" })
    local text = "agent " .. pds.did
    assert.same({ did = pds.did, handle = jet.null, account = 1, text = text }, who())
    assert.same({}, pds:calls())
  end)

  it("is the only one in matches, also when it was another one before", function()
    load { did = "did:plc:botbotbotbotbotbotbotbot" }
    run "me.account:add 'did:plc:before'"
    assert.equal(2, who().account)
    assert.is_true(t:reload())
    t:advance "0s"
    assert.equal(1, who().account)
    assert.is_true(run("return me.account:has(me.did)")[1])
  end)

  it("is looked up for matches, without a login", function()
    load()
    assert.equal(pds.did, who().did)
    assert.equal(1, who().account)
    assert.same({}, pds:calls())
  end)

  it("is looked up until it is found", function()
    t = jet.test("agent", { secrets = { BOT = "right" } })
    t:resolve(function() return nil, "nobody there" end)
    t:advance "10s"
    assert.equal(jet.null, who().did)
    assert.matches("who bot.test is, is not known yet: nobody there", texts())
    pds = t:pds()
    t:advance "1m"
    assert.equal(pds.did, who().did)
  end)
end)

describe("a write", function()
  it("happens once when its answer is lost", function()
    load()
    run "return me:login()"
    pds:fail { method = PUT, lost = true }
    mention()
    t:advance "10s"
    assert.equal(1, #pds:list(POST))
    assert.same({ LOGIN, PUT, PUT }, pds:calls())
  end)

  it("happens once for an event that comes again", function()
    load()
    local ev = mention()
    t:advance "1s"
    local first = pds:list(POST)[1]
    mention { did = ev.did, rkey = ev.rkey, rev = ev.rev }
    t:advance "1s"
    assert.same({ first }, pds:list(POST))
    local calls = pds:calls()
    assert.equal(GET, calls[#calls])
  end)

  it("has the key of its event and its number", function()
    load()
    t:event { collection = "app.example.twice", rkey = "a", rev = "3mbd354rxos22",
      did = "did:plc:alice" }
    t:advance "1s"
    local like, repost = pds:list()[1], pds:list()[2]
    assert.equal("app.bsky.feed.like", like.collection)
    assert.equal("app.bsky.feed.repost", repost.collection)
    assert.not_equal(like.rkey, repost.rkey)
    assert.equal("3mbd3", like.rkey:sub(1, 5))
    assert.matches("^[2-7a-j][2-7a-z]+$", like.rkey)
    assert.equal(13, #like.rkey)
  end)

  it("behind a batch has the key of the event that is given", function()
    load()
    local function event(n)
      t:event { collection = "app.example.batched", rkey = "r" .. n, rev = "3mbd354rxos2" .. n,
        did = "did:plc:alice" }
    end
    event(2)
    event(3)
    event(4)
    t:advance "2s"
    assert.equal(3, #pds:list "app.bsky.feed.like")
    event(4)
    event(3)
    t:advance "2s"
    assert.equal(3, #pds:list "app.bsky.feed.like")
  end)

  it("takes the next key when something else has its own", function()
    load()
    local ev = mention()
    t:advance "1s"
    local first = pds:list(POST)[1]
    pds:list(POST)[1].value.reply.parent.uri = "at://did:plc:x/app.bsky.feed.post/other"
    mention { did = ev.did, rkey = ev.rkey, rev = ev.rev }
    t:advance "1s"
    local all = pds:list(POST)
    assert.equal(2, #all)
    assert.equal(ev.uri, all[2].value.reply.parent.uri)
    mention { did = ev.did, rkey = ev.rkey, rev = ev.rev }
    t:advance "1s"
    assert.equal(2, #pds:list(POST))
    assert.equal(first.rkey, all[1].rkey)
  end)

  it("with a name happens once, whenever it is asked for", function()
    load()
    local once = [[
      return me:create("app.bsky.feed.post", { text = "day " .. jet.now() }, { key = "monday" })
    ]]
    local first = run(once)[1]
    t:advance "1h"
    local again = run(once)[1]
    assert.equal(first.uri, again.uri)
    assert.is_true(again.existed)
    assert.equal(1, #pds:list(POST))
    assert.not_equal(first.uri, run(once:gsub("monday", "tuesday"))[1].uri)
  end)

  it("without an event or a name happens each time", function()
    load()
    for _ = 1, 3 do
      run "return me:create('app.bsky.feed.post', { text = 'x' })"
    end
    assert.equal(3, #pds:list(POST))
  end)

  it("is refused with the PDS's words", function()
    load()
    local body = { error = "InvalidRequest", message = "no\nsuch thing" }
    pds:fail { method = PUT, status = 400, body = body }
    assert.same({ jet.null, PUT .. ": 400 InvalidRequest: no such thing", "InvalidRequest", 400 },
      run "return me:create('app.bsky.feed.post', { text = 'x' })")
  end)

  it("can be put, applied, listed and deleted", function()
    load()
    local uri = "at://" .. pds.did .. "/app.example.note/a"
    assert.equal(uri, run("return me:put('app.example.note', 'a', { n = 1 })")[1].uri)
    assert.equal("InvalidSwap",
      run("return me:put('app.example.note', 'a', { n = 2 }, { swap = false })")[3])
    local written = run([[return me:apply {
      { op = "create", collection = "app.example.note", record = { n = 3 } },
      { op = "update", collection = "app.example.note", rkey = "a", record = { n = 4 } },
    }]])[1]
    assert.equal(2, #written)
    assert.equal(uri, written[2].uri)
    assert.same({ 3, 4 }, run([[
      local all = {}
      for record in me:list("app.example.note", { page = 1 }) do
        all[#all + 1] = record.value.n
      end
      return all
    ]])[1])
    assert.equal(4, run("return me:get_record('" .. uri .. "')")[1].value.n)
    assert.is_true(run("return me:delete('" .. uri .. "')")[1])
    assert.is_true(run("return me:delete('" .. uri .. "')")[1])
    assert.equal(1, #pds:list "app.example.note")
    assert.equal("InvalidRequest", run("return me:delete('at://did:plc:x/app.example.note/a')")[3])
  end)

  it("takes blobs as they come", function()
    load()
    local blob = run("return me:upload('bytes', 'image/png')")[1]
    assert.equal("image/png", blob.mimeType)
    assert.equal(5, blob.size)
  end)
end)

describe("what fails", function()
  it("is tried again in an each", function()
    load()
    run "return me:login()"
    pds:fail { times = 4, status = 503 }
    mention()
    t:advance "30s"
    assert.equal(1, #pds:list(POST))
  end)

  it("is no success when something in between answers in place of the PDS", function()
    load()
    run "return me:login()"
    pds:fail { method = PUT, status = 200, times = 3, headers = { ["Content-Type"] = "text/html" },
      body = "<h1>Back soon</h1>" }
    mention()
    t:advance "30s"
    assert.equal(1, #pds:list(POST))
    assert.equal("", texts())
    pds:fail { method = PUT, status = 200, times = 3, body = "<h1>Back soon</h1>" }
    local got = run "return me:put('app.example.note', 'a', {}, { retry = false })"
    assert.equal(jet.null, got[1])
    assert.matches("putRecord: the answer is no JSON", got[2])
  end)

  it("is survived when the service's headers are nonsense", function()
    load()
    run "return me:login()"
    local many = ("9"):rep(400)
    for i, headers in ipairs {
      { ["RateLimit-Limit"] = many, ["RateLimit-Remaining"] = many, ["RateLimit-Reset"] = many,
        ["RateLimit-Policy"] = many .. ";w=" .. many },
      { ["RateLimit-Limit"] = "5", ["RateLimit-Remaining"] = many, ["RateLimit-Reset"] = "-1",
        ["RateLimit-Policy"] = ";w=0" },
      { ["RateLimit-Limit"] = "0x10", ["RateLimit-Remaining"] = "nan", ["Retry-After"] = many },
    } do
      pds:serve(PUT, function()
        return { body = { uri = "at://x/y/z", cid = "c" }, headers = headers }
      end)
      assert.equal("at://x/y/z", run(("return me:put('app.example.note', 'a%d', {})"):format(i))[1]
        .uri)
    end
  end)

  it("loses no event to an outage, however long it is", function()
    load()
    pds:fail { times = 1e9, unanswered = "nobody there" }
    for _ = 1, 3 do
      mention()
    end
    t:advance "10h"
    assert.same({}, pds:list(POST))
    pds:ok()
    t:advance "5m"
    assert.equal(3, #pds:list(POST))
  end)

  it("loses no event to a PDS that falls silent", function()
    load()
    mention()
    t:advance "1s"
    for _, failure in ipairs { { unanswered = "timed out" }, { status = 502 } } do
      failure.times = 1e9
      local before = #pds:list(POST)
      pds:fail(failure)
      mention()
      t:advance "10h"
      pds:ok()
      t:advance "5m"
      assert.equal(before + 1, #pds:list(POST))
    end
  end)

  it("gives an event up that takes all its time for itself", function()
    load()
    t:event { collection = "app.example.sleepy" }
    t:advance "2h"
    assert.same({}, pds:list())
    assert.equal(8, t:metric "moonjet_script_slept")
  end)

  it("gives an event up that the PDS cannot digest", function()
    load()
    mention()
    t:advance "1s"
    pds:fail { method = PUT, times = 1e9, status = 500 }
    mention { did = "did:plc:poison" }
    t:advance "2h"
    pds:calls()
    t:advance "2h"
    assert.same({}, pds:calls())
  end)

  it("is nil and a message elsewhere", function()
    load()
    run "return me:login()"
    pds:fail { unanswered = "no answer within 10s" }
    assert.same({ jet.null, PUT .. ": no answer within 10s", jet.null, jet.null },
      run "return me:put('app.example.note', 'a', {})")
    pds:fail { status = 502, body = jet.object {} }
    assert.same({ jet.null, PUT .. ": 502", jet.null, 502 },
      run "return me:put('app.example.note', 'a', {})")
  end)

  it("waits for as long as a 429 says", function()
    load()
    run "return me:login()"
    pds:fail { status = 429, headers = { ["Retry-After"] = "20" } }
    mention()
    t:advance "19s"
    assert.equal(0, #pds:list(POST))
    t:advance "2s"
    assert.equal(1, #pds:list(POST))
  end)

  it("waits for the reset of a limit that is used up, the less important for longer", function()
    load()
    run "return me:login()"
    local now = math.floor(jet.time())
    pds:serve(PUT, function()
      return { body = { uri = "at://x/y/z", cid = "c" }, headers = { ["RateLimit-Limit"] = "100",
        ["RateLimit-Remaining"] = "20", ["RateLimit-Reset"] = now + 20,
        ["RateLimit-Policy"] = "100;w=300" } }
    end)
    run "return me:put('app.example.note', 'a', {})"
    pds:calls()
    run "jet.spawn(function() me:put('app.example.note', 'a', {}, { priority = 'low' }) end)"
    t:advance "1s"
    assert.same({}, pds:calls())
    run "return me:put('app.example.note', 'a', {})"
    assert.same({ PUT }, pds:calls())
    t:advance "25s"
    assert.same({ PUT }, pds:calls())
  end)

  it("keeps no other account on the same service from writing", function()
    load({ service = "https://pds.test", other = "did:plc:other" })
    run "return me:login()"
    local reset = math.floor(jet.time()) + 3000
    local left = { [pds.did] = 1, ["did:plc:other"] = 1000 }
    pds.tokens.other = { kind = "access", exp = 2 ^ 53 }
    pds:serve(LOGIN, function()
      return { body = { did = "did:plc:other", accessJwt = "other", refreshJwt = "refresh" } }
    end)
    pds:serve(PUT, function(body)
      left[body.repo] = left[body.repo] - 1
      return { body = { uri = "at://x/y/z", cid = "c" }, headers = { ["RateLimit-Limit"] = "5000",
        ["RateLimit-Remaining"] = left[body.repo], ["RateLimit-Reset"] = reset,
        ["RateLimit-Policy"] = "5000;w=3600" } }
    end)
    run "return me:put('app.example.note', 'a', {})"
    assert.matches("putRecord: the rate limit is used up for another %d+ s",
      run("return me:put('app.example.note', 'a', {})")[2])
    assert.equal("at://x/y/z", run("return other:put('app.example.note', 'a', {})")[1].uri)
  end)
end)

describe("misuse", function()
  local function fails(source, pattern)
    source = "return function(me, jet)\n" .. source .. "\nend"
    assert.matches(pattern, t:ask("POST", "/run", source).body)
  end

  it("is an error that says what to write", function()
    load()
    fails("me:create('post', {})", "run.*me:create wants the name of a collection, such as")
    fails("me:create('app.bsky.feed.post', 'text')", "wants the record as a table, not string")
    fails("me:create('app.bsky.feed.post', {}, { pritority = 'low' })", "did you mean 'priority'")
    fails("me:create('app.bsky.feed.post', {}, { priority = 'urgent' })", "\"normal\" or \"low\"")
    fails("me.create('app.bsky.feed.post', {})", "call it with a colon")
    fails("me:craete()", "an agent has no 'craete'; did you mean 'create'")
    fails("me.did = 'x'", "cannot be assigned")
    fails("jet.agent { identifier = 'a.b', password = 'x' }", "call it at the top level")
    fails("jet.xrpc 'not a host'", "jet.xrpc wants a host")
    fails("me:get('x')", "wants the name of a method")
    fails("me:get('a.b.c', { x = {{}} })", "the parameter 'x' is a text")
  end)
end)
