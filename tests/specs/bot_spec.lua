-- The bot kit against the spec's own PDS: what becomes of events, posts, manners, messages.

local POST, LIKE, FOLLOW = "app.bsky.feed.post", "app.bsky.feed.like", "app.bsky.graph.follow"
local BOT, OTHER = "did:plc:botbotbotbotbotbotbotbot", "did:plc:otherotherotherotherothe"
local CID = "bafyreigj2ejqcbdkxlpz7g2uxgkjrf4zloxe52k3wj374vbggb5rsx3j44"

local t, pds, web

local function load(config, records)
  t = jet.test("bot", { config = config, secrets = { BOT = "right" } })
  web = {}
  pds = t:pds { password = "right", people = { ["alice.test"] = "did:plc:alice",
    ["bob.test"] = OTHER }, http = function(request)
      return web[request.url] or { status = 404 }
    end }
  if records then
    pds.records, pds.cid_count = records, 100
  end
  t:advance "0s"
end

local function texts(pattern)
  local list = {}
  for _, line in ipairs(t:logs()) do
    if line.text:find(pattern or "^on ") then
      list[#list + 1] = line.text
    end
  end
  return list
end

-- Runs Lua in the script's route: what it returns, as a list.
local function run(source)
  local answer = t:ask("POST", "/run", "return function(me, jet, _, twin)\n" .. source .. "\nend")
  if answer.status ~= 200 then
    error(answer.body, 2)
  end
  return jet.json.decode(answer.body)
end

-- In an each, about a post of OTHER's: what it returns, and the post.
local function run_on(record, source)
  record.tags = { "run" }
  record.source = "return function(me, jet, ev)\n" .. source .. "\nend"
  local ev = t:post(record, { did = OTHER })
  t:advance "1s"
  local found = texts "^%["
  return jet.json.decode(found[#found] or "[]"), ev
end

local function fault(source)
  assert.is_false((pcall(run, source)))
  return table.concat(t:errors(), "\n")
end

local function mentions(did)
  return { { index = { byteStart = 0, byteEnd = 4 },
    features = { { ["$type"] = "app.bsky.richtext.facet#mention", did = did } } } }
end

local function at(did, rkey)
  return { uri = "at://" .. did .. "/" .. POST .. "/" .. (rkey or "3mbd3542k2322"), cid = CID }
end

local function mention(text, event)
  event = event or {}
  event.did = event.did or OTHER
  local ev = t:post({ text = text or "@bot", facets = mentions(BOT),
    createdAt = "2026-01-01T00:00:00.000Z" }, event)
  t:advance "1s"
  return ev
end

local PNG = "\137PNG\r\n\26\n\0\0\0\rIHDR\0\0\2\128\0\0\1\224\8\2\0\0\0"
local QUOTED = "\"" .. PNG:gsub(".", function(c) return ("\\%03d"):format(c:byte()) end):gsub("\n",
  "\\010") .. "\""

describe("me:on", function()
  it("runs once for a post with several reasons", function()
    load { on = { "mention", "reply", "quote" } }
    local ev = t:post({ text = "x", facets = mentions(BOT),
      reply = { parent = at(BOT), root = at(BOT) },
      embed = { ["$type"] = "app.bsky.embed.record", record = at(BOT) } }, { did = OTHER })
    t:advance "1s"
    assert.same({ "on " .. ev.uri .. " mention,reply,reply_root,quote" }, texts())
  end)

  it("tells the reasons apart", function()
    load { on = { "mention", "reply", "reply_root", "quote", "like", "repost", "follow" } }
    local function why(record, event)
      event = event or {}
      event.did = OTHER
      if event.collection then
        event.record = record
        t:event(event)
      else
        t:post(record, event)
      end
      t:advance "1s"
      return (texts()[1] or ""):match "%S*$"
    end
    assert.equal("mention", why { text = "", facets = mentions(BOT) })
    assert.equal("", why { text = "", facets = mentions(OTHER) })
    assert.equal("reply", why { text = "", reply = { parent = at(BOT), root = at(OTHER) } })
    assert.equal("reply_root", why { text = "", reply = { parent = at(OTHER), root = at(BOT) } })
    assert.equal("quote", why { text = "", embed = { ["$type"] = "app.bsky.embed.recordWithMedia",
      record = { record = at(BOT) }, media = { ["$type"] = "app.bsky.embed.images" } } })
    assert.equal("", why { text = "", embed = { ["$type"] = "app.bsky.embed.record",
      record = at(OTHER) } })
    assert.equal("like", why({ subject = at(BOT) }, { collection = LIKE }))
    assert.equal("repost", why({ subject = at(BOT) }, { collection = "app.bsky.feed.repost" }))
    assert.equal("follow", why({ subject = BOT }, { collection = FOLLOW }))
    assert.equal("", why({ subject = OTHER }, { collection = FOLLOW }))
  end)

  it("leaves the bot's own events alone", function()
    load { on = { "mention", "like" } }
    mention("@bot", { did = BOT })
    t:event { collection = LIKE, did = BOT, record = { subject = at(BOT) } }
    t:advance "1s"
    assert.same({}, texts())
  end)

  it("remembers what a deleted like or follow was", function()
    load { on = { "like", "unlike", "unfollow" } }
    local like = t:event { collection = LIKE, did = OTHER, record = { subject = at(BOT) } }
    local follow = t:event { collection = FOLLOW, did = OTHER, record = { subject = BOT } }
    local foreign = t:event { collection = LIKE, did = OTHER, record = { subject = at(OTHER) } }
    t:advance "1s"
    assert.equal(1, #texts())
    for _, ev in ipairs { foreign, like, follow } do
      t:event { collection = ev.collection, rkey = ev.rkey, op = "delete", did = OTHER }
    end
    t:advance "1s"
    local got = texts()
    table.sort(got)
    assert.same({ "on " .. like.uri .. " unlike " .. at(BOT).uri,
      "on " .. follow.uri .. " unfollow " .. BOT }, got)
    t:event { collection = LIKE, rkey = like.rkey, op = "delete", did = OTHER }
    t:advance "1s"
    assert.same({}, texts())
  end)

  it("limits what an account may ask", function()
    load { on = "mention", options = { limit = "3/m" } }
    for _ = 1, 10 do
      mention()
    end
    assert.equal(3, #texts())
  end)

  it("says what is wrong", function()
    local function wrong(config)
      local ok, message = pcall(load, config)
      assert.is_false(ok)
      return type(message) == "table" and message.message or message
    end
    assert.matches("no reason 'mentoin'; did you mean 'mention'", wrong { on = "mentoin" })
    assert.matches("no option 'worker'; did you mean 'workers'",
      wrong { on = "mention", options = { worker = 1 } })
  end)
end)

describe("me:reply", function()
  it("replies in the thread", function()
    load()
    local _, ev = run_on({ text = "x" }, "return me:reply(ev, 'hi @alice.test')")
    local post = pds:list(POST)[1]
    assert.equal("hi @alice.test", post.value.text)
    assert.equal("did:plc:alice", post.value.facets[1].features[1].did)
    assert.same({ uri = ev.uri, cid = ev.cid }, post.value.reply.parent)
    assert.same({ uri = ev.uri, cid = ev.cid }, post.value.reply.root)
    local root = at(OTHER, "3mbd3542k23aa")
    run_on({ text = "x", reply = { root = root, parent = at(OTHER) } }, "return me:reply(ev, 'hi')")
    assert.same(root, pds:list(POST)[2].value.reply.root)
    run_on({ text = "x", reply = { root = { uri = "nonsense", cid = CID }, parent = at(OTHER) } },
      "return me:reply(ev, 'hi')")
    post = pds:list(POST)[3].value
    assert.same(post.reply.parent, post.reply.root)
  end)

  it("stays in the thread of a record that was read", function()
    load()
    local root, x = at(OTHER, "3mbd3542k23aa"), at(OTHER)
    for i, name in ipairs { "value", "record" } do
      run(("return me:reply({ uri = %q, cid = %q, %s = "
        .. "{ reply = { root = { uri = %q, cid = %q } } } }, 'hi')")
        :format(x.uri, x.cid, name, root.uri, root.cid))
      assert.same({ root = root, parent = x }, pds:list(POST)[i].value.reply)
    end
    for i, reply in ipairs { "1", "jet.null", "{ root = jet.null }", "{ root = { uri = 1 } }" } do
      run(("return me:reply({ uri = %q, cid = %q, value = { reply = %s } }, 'hi')"):format(x.uri,
        x.cid, reply))
      assert.same({ root = x, parent = x }, pds:list(POST)[2 + i].value.reply)
    end
  end)

  it("does not answer itself", function()
    load()
    local got = run("return me:reply(" .. ("{ uri = %q, cid = %q }"):format(at(BOT).uri, CID)
      .. ", 'hi')")
    assert.same({ jet.null, "a bot does not answer itself", "Own" }, got)
    assert.same({}, pds:list(POST))
  end)

  it("names the script's line when something is wrong", function()
    local function wrong(options)
      local good, message = pcall(load, { on = { "mention", "unlike" }, options = options })
      assert.is_false(good)
      return message
    end
    assert.matches("bot.lua:%d+: each has no option 'wokers'; did you mean 'workers'",
      wrong { wokers = 2 })
    assert.not_matches("moonjet/", wrong { wokers = 2 })
    assert.not_matches("moonjet/", wrong { limit = "often" })
    load()
    assert.matches("run:2.*: me:post cannot wait here",
      fault "local x = ('a'):gsub('a', function() me:post 'x' end) return x")
    assert.matches("run:2.*: me:get wants the parameters as a table, not string",
      fault "local x = me:get('a.b.c', 'x') return x")
    assert.matches("run:2.*: me:call wants the body as a table or as bytes, not number",
      fault "local x = me:call('a.b.c', 3) return x")
    assert.matches("run:2.*: me:dm wants an account: an event, a DID or a handle; not number",
      fault "local x = me:dm(3, 'x') return x")
    assert.matches("run:2.*: me:manners is declared", fault "local x = me:manners {} return x")
    assert.matches("run:2.*: jet.retry%(\"why\"%): only the function of an :each",
      fault "local x = jet.retry 'why' return x")
  end)

  it("refuses what no post can be", function()
    load()
    local ev = "{ uri = 'at://did:plc:x/app.bsky.feed.post/1', cid = 'x' }"
    assert.matches("run:2.*: me:reply: the text has 301 characters in 301 bytes, and a post 300",
      fault("local x = me:reply(" .. ev .. ", ('x'):rep(301)) return x"))
    assert.matches("me:reply wants an event, or a table with uri and cid; not string",
      fault "local x = me:reply('x', 'y') return x")
    assert.matches("me:post: image 1 has no alt text",
      fault "local x = me:post('x', { images = { { data = 'x' } } }) return x")
    assert.matches("no option 'lang'; did you mean 'langs'",
      fault "local x = me:post('x', { lang = 'en' }) return x")
    assert.matches("at most 4 images, not 5",
      fault "local i = { data = 'x', alt = '' } me:post('x', { images = { i, i, i, i, i } })")
    assert.matches("replies come from .*; not 'friends'",
      fault "return me:post('x', { replies = { 'friends' } })")
    assert.same({}, pds:list(POST))
  end)
end)

describe("me:post", function()
  it("takes languages, tags and labels", function()
    load()
    run "return me:post('hi', { langs = 'en', tags = { 'moon' }, labels = 'porn' })"
    local value = pds:list(POST)[1].value
    assert.same({ "en" }, value.langs)
    assert.same({ "moon" }, value.tags)
    assert.same({ ["$type"] = "com.atproto.label.defs#selfLabels", values = { { val = "porn" } } },
      value.labels)
    assert.is_nil(value.facets)
  end)

  it("uploads images with their size", function()
    load()
    web["https://example.com/a.png"] = { status = 301, headers = { location = "/b.png" } }
    web["https://example.com/b.png"] = { body = PNG }
    run(("return me:post('hi', { images = { { data = %s, alt = '' }, "
      .. "{ url = 'https://example.com/a.png', alt = 'a dot', "
      .. "aspect = { width = 1, height = 2 } } } })")
      :format(QUOTED))
    local embed = pds:list(POST)[1].value.embed
    assert.equal("app.bsky.embed.images", embed["$type"])
    assert.equal("image/png", embed.images[1].image.mimeType)
    assert.equal("", embed.images[1].alt)
    assert.same({ width = 640, height = 480 }, embed.images[1].aspectRatio)
    assert.equal("a dot", embed.images[2].alt)
    assert.same({ width = 1, height = 2 }, embed.images[2].aspectRatio)
  end)

  it("says which image is no use", function()
    load()
    local got = run "return me:post('hi', { images = { { data = 'text', alt = '' } } })"
    assert.equal("me:post: image 1 is no PNG, JPEG, GIF or WebP", got[2])
    got = run(("return me:post('hi', { images = { { data = %s .. ('x'):rep(2e6), alt = '' } } })")
      :format(QUOTED))
    assert.matches("image 1 has 20000%d%d bytes, and may have 2000000", got[2])
    got = run "return me:post('hi', { images = { { url = 'https://example.com/no', alt = '' } } })"
    assert.equal("me:post: image 1: https://example.com/no: status 404", got[2])
    assert.same({}, pds:list(POST))
  end)

  it("makes link cards of what pages say", function()
    load()
    web["https://example.com/page"] = { headers = { ["content-type"] = "text/html" },
      body = '<meta property="og:title" content="A &amp; B"><meta name=description content="c">'
        .. '<meta property="og:image" content="img/a.png">' }
    web["https://example.com/img/a.png"] = { body = PNG }
    web["https://example.com/plain"] = { headers = { ["content-type"] = "text/plain" }, body = "x" }
    run "return me:post('hi', { card = 'https://example.com/page' })"
    local external = pds:list(POST)[1].value.embed.external
    assert.equal("https://example.com/page", external.uri)
    assert.equal("A & B", external.title)
    assert.equal("c", external.description)
    assert.equal("image/png", external.thumb.mimeType)
    web["https://example.com/img/a.png"] = nil
    run "return me:post('hi', { card = 'https://example.com/page' })"
    assert.is_nil(pds:list(POST)[2].value.embed.external.thumb)
    local got = run "return me:post('hi', { card = 'https://example.com/plain' })"
    assert.matches("is no web page but text/plain", got[2])
    run "return me:post('hi', { card = { uri = 'https://example.com', title = 'T' } })"
    assert.same({ uri = "https://example.com", title = "T", description = "" },
      pds:list(POST)[3].value.embed.external)
  end)

  it("quotes, with media", function()
    load()
    local _, ev = run_on({ text = "x" }, "return me:quote(ev, 'look')")
    assert.same({ ["$type"] = "app.bsky.embed.record", record = { uri = ev.uri, cid = ev.cid } },
      pds:list(POST)[1].value.embed)
    _, ev = run_on({ text = "x" },
      ("return me:quote(ev, 'look', { images = { { data = %s, alt = '' } } })"):format(QUOTED))
    local embed = pds:list(POST)[2].value.embed
    assert.equal("app.bsky.embed.recordWithMedia", embed["$type"])
    assert.equal(ev.uri, embed.record.record.uri)
    assert.equal("app.bsky.embed.images", embed.media["$type"])
  end)

  it("says who may reply and quote", function()
    load()
    local post = run "return me:post('hi', { replies = { 'mentioned' }, quotes = false })"[1]
    local gate = pds:list("app.bsky.feed.threadgate")[1]
    assert.equal(post.rkey, gate.rkey)
    assert.equal(post.uri, gate.value.post)
    assert.same({ { ["$type"] = "app.bsky.feed.threadgate#mentionRule" } }, gate.value.allow)
    assert.equal(post.rkey, pds:list("app.bsky.feed.postgate")[1].rkey)
    run "return me:post('hi', { replies = 'nobody' })"
    assert.same({}, pds:list("app.bsky.feed.threadgate")[2].value.allow)
  end)

  it("leaves gates that have changed since", function()
    load()
    local source = "return me:post('hi', { key = 'a', replies = 'nobody', quotes = false })"
    run(source)
    local kept = {}
    for _, name in ipairs { "threadgate", "postgate" } do
      local gate = pds:list("app.bsky.feed." .. name)[1]
      kept[name] = ("return me:put('app.bsky.feed.%s', %q, { post = %q })"):format(name, gate.rkey,
        gate.value.post)
      kept[name] = run(kept[name])[1].cid
    end
    t:advance "1s"
    assert.is_true(run(source)[1].existed)
    for name, cid in pairs(kept) do
      assert.equal(cid, pds:list("app.bsky.feed." .. name)[1].cid)
    end
  end)

  it("says who may reply only where a thread begins", function()
    load()
    local below = "{ uri = 'at://did:plc:x/app.bsky.feed.post/1', cid = 'x' }"
    local only = "'replies' is for the post that begins a thread"
    assert.matches("run:2.*: me:reply: " .. only,
      fault("local x = me:reply(" .. below .. ", 'x', { replies = 'nobody' }) return x"))
    assert.matches("run:2.*: me:thread: part 1: " .. only,
      fault("local x = me:thread({ 'x' }, { replies = 'nobody', below = " .. below
        .. " }) return x"))
    assert.matches("run:2.*: me:thread: part 2: " .. only,
      fault "local x = me:thread { 'x', { text = 'y', replies = 'nobody' } } return x")
    assert.same({}, pds:list())
    run("return me:reply(" .. below .. ", 'x', { quotes = false })")
    assert.equal(1, #pds:list "app.bsky.feed.postgate")
    run "return me:thread { { text = 'x', replies = 'nobody' }, 'y' }"
    assert.equal(1, #pds:list "app.bsky.feed.threadgate")
  end)

  it("writes once what comes twice", function()
    load { on = "mention", answer = "hi" }
    pds:fail { method = "com.atproto.repo.putRecord", lost = true }
    local ev = mention()
    t:advance "2m"
    assert.equal(1, #pds:list(POST))
    mention(nil, { rkey = ev.rkey, rev = ev.rev })
    t:advance "2m"
    assert.equal(1, #pds:list(POST))
  end)
end)

describe("me:create", function()
  it("leaves a record that is there, when it has its key", function()
    load()
    local source = "return me:create('app.bsky.feed.generator', { displayName = 'A' }, "
      .. "{ rkey = 'retro' })"
    local cid = run(source)[1].cid
    t:advance "1s"
    assert.same({ cid, true }, { run(source)[1].cid, run(source)[1].existed })
    cid = run "return me:put('app.bsky.feed.generator', 'retro', { displayName = 'B' })"[1].cid
    assert.equal(cid, run(source)[1].cid)
    assert.equal(cid, pds:list "app.bsky.feed.generator"[1].cid)
  end)
end)

describe("me:thread", function()
  it("splits a text", function()
    load()
    run "return me:thread(('word '):rep(100), { counters = true, langs = 'en' })"
    local posts = pds:list(POST)
    assert.equal(2, #posts)
    assert.is_nil(posts[1].value.reply)
    assert.matches(" 1/2$", posts[1].value.text)
    assert.matches(" 2/2$", posts[2].value.text)
    assert.same({ "en" }, posts[2].value.langs)
    local first = { uri = posts[1].uri, cid = posts[1].cid }
    assert.same({ root = first, parent = first }, posts[2].value.reply)
  end)

  it("takes parts, and what is below", function()
    load()
    local _, ev = run_on({ text = "x" }, ("return me:thread({ 'one', { text = 'two', images = "
      .. "{ { data = %s, alt = 'x' } } }, jet.richtext('three') }, { below = ev })"):format(QUOTED))
    local posts = pds:list(POST)
    assert.equal(3, #posts)
    local root = { uri = ev.uri, cid = ev.cid }
    assert.same({ root = root, parent = root }, posts[1].value.reply)
    assert.same(root, posts[3].value.reply.root)
    assert.equal(posts[2].uri, posts[3].value.reply.parent.uri)
    assert.equal("x", posts[2].value.embed.images[1].alt)
    assert.matches("me:thread: part 2: the text has 400 characters",
      fault "return me:thread { 'a', ('b'):rep(400) }")
  end)
end)

describe("me:like", function()
  it("likes, follows, and takes it back", function()
    load()
    local _, ev = run_on({ text = "x" }, "return me:like(ev), me:repost(ev), me:follow(ev)")
    assert.same({ uri = ev.uri, cid = ev.cid }, pds:list(LIKE)[1].value.subject)
    assert.equal(1, #pds:list("app.bsky.feed.repost"))
    assert.equal(OTHER, pds:list(FOLLOW)[1].value.subject)
    run(("return me:unlike(%q), me:unfollow('bob.test'), me:unrepost(%q)"):format(ev.uri,
      pds:list("app.bsky.feed.repost")[1].uri))
    assert.same({}, pds:list())
    assert.same({ true }, run(("return me:unlike(%q)"):format(ev.uri)))
    assert.matches("there is no such account", run "return me:follow('nobody.test')"[2])
  end)

  it("takes back what it did under another handle", function()
    load { did = "bot.test" }
    run "return me:follow('bob.test')"
    pds.handle = "new.test"
    assert.same({ true }, run "return me:unfollow('bob.test')")
    assert.same({}, pds:list())
  end)

  it("says when it has not looked at everything", function()
    load()
    local pages = 0
    pds:serve("com.atproto.repo.listRecords", function()
      pages = pages + 1
      return { status = 200, body = { records = jet.array {}, cursor = tostring(pages) } }
    end)
    local got = run "return me:unfollow('bob.test')"
    assert.equal(jet.null, got[1])
    assert.matches("me:unfollow: .* not among the account's last 3000 .*; give its address", got[2])
    assert.equal(30, pages)
  end)
end)

describe("manners", function()
  local function profile(labels)
    t:http(function() end)
    pds = t:pds { password = "right", people = { ["bob.test"] = OTHER }, http = function(request)
      if request.url:find("actor.profile", 1, true) then
        return { body = { uri = "at://x", cid = CID, value = jet.object { labels = labels } } }
      end
      return { status = 404 }
    end }
  end

  it("take no for an answer", function()
    load { on = "mention", answer = "hi" }
    mention "@bot !stop"
    mention "@bot hello?"
    assert.same({}, pds:list(POST))
    assert.same({ "nil", "OptedOut" }, run(("local post, _, name = "
      .. "me:reply({ uri = %q, cid = 'x' }, 'x') return tostring(post), name")
      :format(at(OTHER).uri)))
    assert.same({ true }, run(("return me:opted_out(%q)"):format(OTHER)))
    mention("@bot", { did = "did:plc:someoneelse" })
    assert.equal(1, #pds:list(POST))
    assert.is_true(t:reload())
    mention "@bot hello?"
    assert.equal(1, #pds:list(POST))
    mention "@bot !START"
    assert.equal(1, #pds:list(POST))
    mention "@bot hello"
    assert.equal(2, #pds:list(POST))
    mention "@bot don't!stop"
    assert.equal(3, #pds:list(POST))
  end)

  it("say at debug what they leave alone", function()
    load { on = "mention", answer = "hi" }
    local said = { mention "@bot !stop", mention "@bot" }
    local lines = texts "is left alone"
    assert.same({ said[1].uri .. " is left alone: it says whether its account wants answers",
      said[2].uri .. " is left alone: " .. OTHER .. " does not want to hear from the bot" }, lines)
  end)

  it("hear a no that is too much for the limit", function()
    load { on = "mention", answer = "hi", options = { limit = "1/h" } }
    mention "@bot"
    mention "@bot !stop"
    assert.same({ true }, run(("return me:opted_out(%q)"):format(OTHER)))
    t:advance "2h"
    mention "@bot"
    assert.equal(1, #pds:list(POST))
  end)

  it("hear a no where the script has no flow of mentions and replies", function()
    for _, config in ipairs { { on = "quote" }, { manners = {} } } do
      load(config)
      t:post({ text = "!stop", reply = { parent = at(BOT), root = at(BOT) } }, { did = OTHER })
      t:advance "1s"
      assert.same({ "nil", "OptedOut" }, run(("local post, _, name = "
        .. "me:reply({ uri = %q, cid = 'x' }, 'x') return tostring(post), name")
        :format(at(OTHER).uri)))
    end
  end)

  it("go by what was said last, however late the function is", function()
    load { on = "mention", answer = "hi", options = { limit = "2/h" } }
    run "return me:login()"
    pds:fail { status = 429, headers = { ["Retry-After"] = "20" } }
    mention "@bot"
    mention "@bot !stop"
    mention "@bot !start"
    assert.same({}, pds:list(POST))
    t:advance "1m"
    assert.same({ false }, run(("return me:opted_out(%q)"):format(OTHER)))
    t:advance "2h"
    local before = #pds:list(POST)
    mention "@bot"
    assert.equal(before + 1, #pds:list(POST))
  end)

  it("answer another bot once in a while", function()
    load { on = "mention", answer = "hi" }
    profile { ["$type"] = "com.atproto.label.defs#selfLabels", values = { { val = "bot" } } }
    mention()
    mention()
    mention()
    assert.equal(1, #pds:list(POST))
    assert.equal(2, t:metric("moonjet_agent_skips_total", 'what="cooldown"'))
    t:advance "2h"
    mention()
    assert.equal(2, #pds:list(POST))
  end)

  it("answer people as often as they ask, within reason", function()
    load { on = "reply", answer = "hi" }
    profile()
    local function reply(rkey)
      t:post({ text = "x", reply = { parent = at(BOT, rkey), root = at(BOT) } }, { did = OTHER })
      t:advance "1s"
    end
    for _ = 1, 25 do
      reply "3mbd3542k2324"
    end
    assert.equal(20, #pds:list(POST))
    t:post({ text = "x", reply = { parent = at(BOT), root = at(BOT, "3mbd3542k2333") } },
      { did = OTHER })
    t:advance "1s"
    assert.equal(21, #pds:list(POST))
  end)

  it("do not wait for a stranger's PDS that asks for patience", function()
    load { on = "mention", answer = "hi" }
    t:http(function() end)
    pds = t:pds { password = "right", people = { ["bob.test"] = OTHER }, http = function()
      return { status = 429, headers = { ["Retry-After"] = "25" } }
    end }
    mention()
    mention()
    t:advance "1s"
    assert.equal(2, #pds:list(POST))
  end)

  it("end what goes on in one thread after the other", function()
    load { on = "quote", answer = "hi", manners = { per_day = 30 } }
    profile()
    local function quote(did)
      t:post({ text = "x", embed = { ["$type"] = "app.bsky.embed.record", record = at(BOT) } },
        { did = did })
      t:advance "1s"
    end
    for _ = 1, 40 do
      quote(OTHER)
    end
    assert.equal(30, #pds:list(POST))
    quote "did:plc:someoneelse"
    assert.equal(31, #pds:list(POST))
    t:advance "1d"
    quote(OTHER)
    assert.equal(32, #pds:list(POST))
  end)

  it("are what the script says", function()
    load { on = "mention", answer = "hi", manners = { stop = { "Genug" }, per_thread = 2 } }
    mention "@bot !stop"
    assert.equal(1, #pds:list(POST))
    mention "@bot genug"
    mention "@bot"
    assert.equal(1, #pds:list(POST))
  end)

  it("are those of the account, whatever it is called", function()
    load { identifier = "bot.test", on = "mention", answer = "hi", manners = { per_thread = 1 } }
    mention "@bot !stop"
    assert.same({ true }, run(("return twin:opted_out(%q)"):format(OTHER)))
    mention "@bot !start"
    assert.same({ false }, run(("return twin:opted_out(%q)"):format(OTHER)))
    local ev = mention("@bot", { did = "did:plc:alice" })
    assert.equal(1, #pds:list(POST))
    local again = "local post, _, name = %s:reply({ uri = %q, cid = 'x', root = { uri = %q, "
      .. "cid = 'x' } }, 'x') return tostring(post), name"
    for _, whose in ipairs { "me", "twin" } do
      assert.same({ "nil", "Cooldown" },
        run(again:format(whose, at("did:plc:alice").uri, ev.uri)))
    end
  end)

  it("remember what was before the account's DID was known", function()
    load { identifier = "bot.test" }
    local reply = "local post, _, name = me:reply({ uri = %q, cid = 'x', root = { uri = 'at://x', "
      .. "cid = 'x' } }, 'x') return me.did ~= nil, name"
    assert.same({ false }, run "return me.did ~= nil")
    for i = 1, 20 do
      assert.same({ true, jet.null }, run(reply:format(at(OTHER, "a" .. i).uri)))
    end
    assert.same({ true, "Cooldown" }, run(reply:format(at(OTHER, "b").uri)))
  end)

  it("label the bot, once", function()
    load { label = true }
    t:advance "1s"
    local found = pds:list("app.bsky.actor.profile")[1]
    assert.same({ { val = "bot" } }, found.value.labels.values)
    pds:calls()
    assert.is_true(t:reload())
    t:advance "1s"
    assert.same({}, pds:calls())
  end)

  it("keep what the profile says", function()
    load {}
    run [[ return me:put("app.bsky.actor.profile", "self", { displayName = "B",
      labels = { ["$type"] = "com.atproto.label.defs#selfLabels", values = { { val = "x" } } } }) ]]
    load({ label = true }, pds.records)
    t:advance "1s"
    local value = pds.records["app.bsky.actor.profile/self"].value
    assert.equal("B", value.displayName)
    assert.same({ { val = "x" }, { val = "bot" } }, value.labels.values)
  end)
end)

describe("me:on_dm", function()
  local log, sent, down

  local function message(text, did)
    local n = #log + 1
    log[n] = { ["$type"] = "chat.bsky.convo.defs#logCreateMessage", rev = tostring(n),
      convoId = "c1", message = { id = "m" .. n, rev = tostring(n), text = text,
        sender = { did = did or OTHER }, sentAt = "2026-01-01T00:00:00Z" } }
  end

  before_each(function()
    log, sent, down = {}, {}, nil
    load { dm = true }
    pds:serve("chat.bsky.convo.getLog", function(params, request)
      assert.equal("did:web:api.bsky.chat#bsky_chat", request.headers["atproto-proxy"])
      if down then
        return { status = 502, body = { error = "UpstreamFailure" } }
      end
      local page, from = {}, tonumber(params.cursor) or 0
      for i = from + 1, math.min(#log, from + 2) do
        page[#page + 1] = log[i]
      end
      return { body = { logs = jet.array(page), cursor = tostring(from + #page) } }
    end)
    pds:serve("chat.bsky.convo.getConvoForMembers", function(params)
      return { body = { convo = { id = "with-" .. params.members } } }
    end)
    pds:serve("chat.bsky.convo.sendMessage", function(body)
      sent[#sent + 1] = body.convoId .. ": " .. body.message.text
      return { body = { id = "x" } }
    end)
  end)

  it("hands each message on once", function()
    message "before"
    t:advance "1m"
    assert.same({}, sent)
    for i = 1, 5 do
      message("hi " .. i)
    end
    message("own", BOT)
    log[#log + 1] = { ["$type"] = "chat.bsky.convo.defs#logReadMessage", convoId = "c1" }
    t:advance "1m"
    assert.same({ "c1: re: hi 1", "c1: re: hi 2", "c1: re: hi 3", "c1: re: hi 4", "c1: re: hi 5" },
      sent)
    assert.is_true(t:reload())
    message "after"
    t:advance "1m"
    assert.equal("c1: re: after", sent[6])
    assert.equal(6, #sent)
  end)

  it("goes on behind a message that fails", function()
    t:advance "1m"
    message "fail"
    message "next"
    t:advance "1m"
    assert.same({ "c1: re: next" }, sent)
    assert.matches("as it was asked", texts("^on_dm")[1])
  end)

  it("takes no for an answer", function()
    t:advance "1m"
    message "!stop"
    message "hello"
    t:advance "1m"
    assert.same({}, sent)
  end)

  it("asks less often while the service fails", function()
    t:advance "1m"
    down = true
    pds:calls()
    t:advance "30m"
    local calls = 0
    for _, name in ipairs(pds:calls()) do
      calls = calls + (name == "chat.bsky.convo.getLog" and 1 or 0)
    end
    assert(calls < 12, calls)
    down = false
    message "hi"
    t:advance "15m"
    assert.same({ "c1: re: hi" }, sent)
  end)

  it("writes to an account", function()
    run("return me:dm('bob.test', 'hi @alice.test')")
    assert.same({ "with-" .. OTHER .. ": hi @alice.test" }, sent)
    assert.matches("the text has 1001 characters",
      fault "return me:dm('bob.test', ('x'):rep(1001))")
  end)
end)
