describe("labeler", function()
  local t

  before_each(function()
    t = jet.test("labeler", { config = { hostname = "labels.example.com" },
      secrets = { LABEL_KEY = ("42"):rep(32) } })
  end)

  local function labels(of)
    local list = {}
    for i, label in ipairs(jet.json.decode(t:ask("GET", "/labels?of=" .. of).body)) do
      list[i] = label.val
    end
    return list
  end

  local function address(event)
    return ("at://%s/%s/%s"):format(event.did, event.collection, event.rkey)
  end

  it("marks posts that shout", function()
    local loud = t:post { text = "WHY IS NOBODY LISTENING" }
    local calm = t:post { text = "NASA launched another probe" }
    assert.same({ "shouting" }, labels(address(loud)))
    assert.same({}, labels(address(calm)))
  end)

  it("marks who shouts all day, for a week", function()
    local did
    for i = 1, 20 do
      assert.same({}, labels(did or "did:plc:x"))
      did = t:post({ text = "LISTEN TO ME " .. i }).did
      t:advance "1s"
    end
    assert.same({ "always-shouting" }, labels(did))
    t:advance "8d"
    assert.same({}, labels(did))
  end)

  it("forgets posts that are gone", function()
    local loud = t:post { text = "WHY IS NOBODY LISTENING" }
    t:event { collection = "app.bsky.feed.post", op = "delete", did = loud.did, rkey = loud.rkey }
    assert.same({}, labels(address(loud)))
  end)
end)
