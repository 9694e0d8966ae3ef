describe("keyword", function()
  local t

  before_each(function()
    t = jet.test("keyword", { config = { words = "lua,zx spectrum", stream = "mine" } })
  end)

  it("finds whole words whatever their case", function()
    t:post { text = "LUA!" }
    t:post { text = "valuable evaluation" }
    t:post { text = "my ZX  Spectrum" }
    assert.equal(2, #t:out "mine")
  end)

  it("looks into tags and alt texts", function()
    t:post { text = "look", tags = { "Lua" } }
    t:post { text = "look", embed = { ["$type"] = "app.bsky.embed.images",
      images = { { alt = "a lua script", image = { ["$type"] = "blob" } } } } }
    assert.equal(2, #t:out "mine")
  end)

  it("drops honeymoons and Portuguese", function()
    t:post { text = "lua de mel" }
    t:post { text = "a lua", langs = { "pt-BR" } }
    assert.same({}, t:out "mine")
  end)
end)
