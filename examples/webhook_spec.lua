describe("webhook", function()
  local me, url = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "https://example.com/hook"
  local secrets = { HOOK = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" }
  local t

  before_each(function()
    t = jet.test("webhook", { config = { did = me, url = url }, secrets = secrets })
  end)

  local function follow(subject)
    return t:event { collection = "app.bsky.graph.follow",
      record = { subject = subject, createdAt = "2026-01-01T00:00:00Z" } }
  end

  it("posts new followers in one batch", function()
    local first, second = follow(me), follow(me)
    follow "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"
    assert.equal(0, #t:webhooks())
    t:advance "2s"
    local posts = t:webhooks()
    assert.equal(1, #posts)
    assert.equal(url, posts[1].url)
    assert.equal("application/json", posts[1].type)
    assert.equal(2, #posts[1].data)
    assert.equal(first.did, posts[1].data[1].did)
    assert.equal(second.did, posts[1].data[2].did)
  end)

  it("needs to know whose followers", function()
    assert.has_error(function()
      jet.test("webhook", { config = { url = url }, secrets = secrets })
    end)
  end)

  it("does not post in the clear, but where it is told to", function()
    local function load(allow)
      return jet.test("webhook", {
        config = { did = me, url = "http://hook.lan/x", allow = allow }, secrets = secrets })
    end
    assert.has_error(function() load() end)
    assert.truthy(load "hook.lan")
  end)
end)
