describe("webhook", function()
  local me, url = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "https://example.com/hook"
  local t

  before_each(function()
    t = jet.test("webhook", { config = { did = me, url = url } })
  end)

  local function follow(subject)
    return t:event { collection = "app.bsky.graph.follow",
      record = { subject = subject, createdAt = "2026-01-01T00:00:00Z" } }
  end

  it("posts new followers in one batch", function()
    t:http(function() return { status = 204 } end)
    local first, second = follow(me), follow(me)
    follow "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"
    t:advance "2s"
    local requests = t:requests()
    assert.equal(1, #requests)
    assert.equal(url, requests[1].url)
    local list = jet.json.decode(requests[1].body)
    assert.equal(2, #list)
    assert.equal(first.did, list[1].did)
    assert.equal(second.did, list[2].did)
  end)

  it("tries again until it is taken", function()
    local answers = { 503, 429, 200 }
    t:http(function() return { status = table.remove(answers, 1) } end)
    follow(me)
    t:advance "10s"
    assert.equal(3, #t:requests())
    t:advance "1h"
    assert.equal(0, #t:requests())
  end)

  it("does not insist when it is refused", function()
    t:http(function() return { status = 410 } end)
    follow(me)
    t:advance "1h"
    assert.equal(1, #t:requests())
    assert.matches("refuses: 410", t:errors()[1])
  end)

  it("needs to know whose followers", function()
    assert.has_error(function() jet.test("webhook", { config = { url = url } }) end)
  end)
end)
