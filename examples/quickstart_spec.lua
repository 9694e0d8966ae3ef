-- Run it: moonjet test examples/quickstart_spec.lua

describe("quickstart.lua", function()
  local t

  before_each(function()
    t = jet.test "quickstart"
  end)

  it("puts posts about the moon into a stream", function()
    t:post { text = "Que Lua linda" }
    t:post { text = "just the sun" }
    local out = t:out "moon"
    assert.equal(1, #out)
    assert.equal("🌙 Que Lua linda", out[1].record.text)
  end)

  it("looks at posts only", function()
    t:event { collection = "app.bsky.feed.like", record = { text = "moon" } }
    assert.same({}, t:out "moon")
  end)

  it("leaves the main stream alone", function()
    t:post { text = "moon" }
    local out = t:out "main"
    assert.equal(1, #out)
    assert.equal("moon", out[1].text)
    assert.is_string(out[1].cid)
  end)

  it("counts languages", function()
    t:post { text = "Olá", langs = { "pt", "en" } }
    t:post { text = "…" }
    assert.equal(1, t:metric("moonjet_script_languages", 'lang="pt"'))
    assert.equal(1, t:metric("moonjet_script_languages", 'lang="none"'))
    assert.equal(2, t:metric "moonjet_script_languages")
  end)
end)
