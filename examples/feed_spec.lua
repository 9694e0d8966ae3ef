describe("feed", function()
  local uri = "at://did:plc:aaaaaaaaaaaaaaaaaaaaaaaa/app.bsky.feed.generator/retro"
  local path = "/xrpc/app.bsky.feed.getFeedSkeleton?feed=" .. uri
  local t

  before_each(function()
    t = jet.test("feed", { config = { feed = uri } })
  end)

  local function skeleton(more)
    local answer = t:ask("GET", path .. (more or ""))
    assert.equal(200, answer.status)
    return jet.json.decode(answer.body)
  end

  local function address(event)
    return ("at://%s/%s/%s"):format(event.did, event.collection, event.rkey)
  end

  it("lists posts, newest first", function()
    local old = t:post { text = "My Amiga boots." }
    t:advance "1m"
    local new = t:post { text = "z80, still the best" }
    t:post { text = "nothing to see" }
    assert.same({ { post = address(new) }, { post = address(old) } }, skeleton().feed)
  end)

  it("moves liked posts up, and drops deleted ones", function()
    local old = t:post { text = "amiga" }
    t:advance "1m"
    local new = t:post { text = "amiga" }
    t:event { collection = "app.bsky.feed.like", record = {
      subject = { uri = address(old), cid = old.cid }, createdAt = old.time } }
    assert.equal(address(old), skeleton().feed[1].post)
    t:event { collection = "app.bsky.feed.post", op = "delete", did = new.did,
      rkey = new.rkey }
    assert.same({ { post = address(old) } }, skeleton().feed)
  end)

  it("goes page by page", function()
    for i = 1, 5 do
      t:post { text = "atari " .. i }
    end
    local first = skeleton "&limit=3"
    assert.equal(3, #first.feed)
    local second = skeleton("&limit=3&cursor=" .. first.cursor)
    assert.equal(2, #second.feed)
    assert.is_nil(second.cursor)
  end)

  it("refuses nonsense", function()
    t:post { text = "atari" }
    for _, nonsense in ipairs { "&limit=1.5", "&limit=0", "&limit=101", "&cursor=-1" } do
      local answer = t:ask("GET", path .. nonsense)
      assert.equal(400, answer.status)
      assert.equal("InvalidRequest", jet.json.decode(answer.body).error)
    end
  end)

  it("is one feed only", function()
    local answer = t:ask("GET", "/xrpc/app.bsky.feed.getFeedSkeleton?feed=other")
    assert.equal(400, answer.status)
    assert.equal("UnknownFeed", jet.json.decode(answer.body).error)
  end)
end)
