describe("described-art", function()
  local t

  before_each(function()
    t = jet.test "described-art"
  end)

  local function images(...)
    local list = {}
    for i, alt in ipairs { ... } do
      list[i] = { alt = alt }
    end
    return { ["$type"] = "app.bsky.embed.images", images = list }
  end

  it("takes posts whose every picture is described", function()
    t:post { text = "moon", embed = images("a moon", "its dark side") }
    assert.equal(1, #t:out "described-art")
  end)

  it("leaves out what is not", function()
    t:post { text = "moon", embed = images("a moon", "") }
    t:post { text = "no picture at all" }
    assert.same({}, t:out "described-art")
  end)

  it("leaves out replies", function()
    local other = { uri = "at://did:plc:aaaaaaaaaaaaaaaaaaaaaaaa/app.bsky.feed.post/3k", cid = "x" }
    t:post { text = "moon", embed = images "a moon", reply = { root = other, parent = other } }
    assert.same({}, t:out "described-art")
  end)
end)
