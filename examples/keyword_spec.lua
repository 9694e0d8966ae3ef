-- Run it: moonjet test examples/keyword_spec.lua

describe("keyword.lua", function()
  local t

  before_each(function()
    t = jet.test("keyword", { config = { words = "lua, AMIGA", stream = "mine" } })
  end)

  -- Whether a post with these fields gets through.
  local function passes(record)
    t:post(record)
    return #t:out "mine" == 1
  end

  it("finds whole words only", function()
    assert.is_true(passes { text = "I write Lua." })
    assert.is_true(passes { text = "valuable but lua" })
    assert.is_false(passes { text = "valuable evaluation" })
    assert.is_false(passes { text = "lua_ and xlua" })
    assert.is_false(passes { text = "" })
  end)

  it("knows words in any case", function()
    assert.is_true(passes { text = "my first amiga" })
  end)

  it("takes hashtags for words", function()
    assert.is_true(passes { text = "no word", tags = { "Lua" } })
  end)

  it("looks into alt texts", function()
    assert.is_true(passes { text = "look", embed = { ["$type"] = "app.bsky.embed.images",
      images = { { alt = "a lua script" } } } })
  end)

  it("drops honeymoons and Portuguese", function()
    assert.is_false(passes { text = "lua de mel" })
    assert.is_false(passes { text = "a lua", langs = { "pt-BR" } })
  end)

  it("has words and a stream without configuration, too", function()
    t = jet.test "keyword"
    t:post { text = "moonjet" }
    assert.equal(1, #t:out "keyword")
  end)
end)
