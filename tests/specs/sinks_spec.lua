describe("sinks", function()
  local t

  before_each(function()
    t = jet.test "sinks"
    t:http(function() return { status = 204 } end)
  end)

  it("get events, and lists behind a batch", function()
    t:post { text = "one" }
    assert.equal(1, #t:sunk "file") -- the second waits in its batch
    t:post { text = "two" }
    local got = t:sunk "file"
    assert.equal(3, #got)
    assert.equal("two", got[1].text)
    assert.equal("one", got[2].text)
    assert.equal("two", got[3].text)
  end)

  it("in Lua are tasks that may wait", function()
    local post = t:post { text = "hello" }
    assert.same({}, t:requests())
    t:advance "1s"
    local body = jet.json.decode(t:requests()[1].body)
    assert.equal("hello by " .. post.did, body.content)
  end)

  it("in Lua are asked again as long as they want", function()
    local tries = 0
    t:http(function()
      tries = tries + 1
      return { status = tries < 4 and 503 or 204 }
    end)
    t:post { text = "hello" }
    t:advance "1m"
    assert.equal(4, tries)
  end)

  it("in Lua do not get again what they have taken", function()
    local sent = {}
    t:http(function(request)
      sent[#sent + 1] = jet.json.decode(request.body).content:gsub(" by %S+", "")
      return { status = #sent == 2 and 503 or 204 }
    end)
    for i = 1, 12 do
      t:post { text = "n" .. i }
    end
    t:advance "1m"
    assert.equal(3, #sent)
    assert.equal("n11\n\nn12", sent[2])
    assert.equal("n11\n\nn12", sent[3])
  end)

  it("in Lua may refuse, which is an error", function()
    t:http(function() return { status = 404 } end)
    t:post { text = "hello" }
    t:advance "1m"
    assert.matches("discord: Discord answers 404", t:errors()[1])
  end)
end)
