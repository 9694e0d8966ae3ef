describe("discord", function()
  local t

  before_each(function()
    t = jet.test("discord", { secrets = { DISCORD = "https://discord.example.com/hook" } })
  end)

  it("sends a message to the channel", function()
    t:http(function() return { status = 204 } end)
    local post = t:post { text = "I run moonjet now" }
    t:advance "2s"
    local requests = t:requests()
    assert.equal(1, #requests)
    local body = jet.json.decode(requests[1].body)
    assert.matches("^I run moonjet now\nhttps://bsky.app/profile/", body.content)
    assert.matches(post.rkey, body.content)
    assert.same({ parse = {} }, body.allowed_mentions)
  end)

  it("waits as long as Discord asks", function()
    local first = true
    t:http(function()
      if first then
        first = false
        return { status = 429, body = { retry_after = 20 } }
      end
      return { status = 204 }
    end)
    t:post { text = "moonjet" }
    t:advance "15s"
    assert.equal(1, #t:requests())
    t:advance "10s"
    assert.equal(1, #t:requests())
  end)

  it("says an account's thing once in ten minutes", function()
    t:http(function() return { status = 204 } end)
    t:post { text = "moonjet" }
    t:post { text = "moonjet again" }
    t:advance "2s"
    assert.is_nil(t:requests()[1].body:find("again", 1, true))
  end)
end)
