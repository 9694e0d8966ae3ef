-- What happens to a script as a whole.

local function texts(t)
  local list = {}
  for i, line in ipairs(t:logs()) do
    list[i] = line.text
  end
  return list
end

describe("a script", function()
  local t

  before_each(function()
    t = jet.test("life", { secrets = { TOKEN = "abc" } })
    t:advance "0s" -- what it spawns
  end)

  it("is reloaded with its state, without its locals", function()
    t:post {}
    t:post {}
    assert.same({ "1 events, loaded 1 times, token 3 letters",
      "2 events, loaded 1 times, token 3 letters" }, texts(t))
    assert.is_true(t:reload())
    assert.same({ "over" }, texts(t))
    t:post {}
    assert.same({ "1 events, loaded 2 times, token 3 letters" }, texts(t))
  end)

  it("is ended", function()
    t:stop()
    assert.same({ "over" }, texts(t))
  end)

  it("has only the secrets it is given", function()
    assert.error_matches(function() jet.test "life" end, "TOKEN")
    assert.error_matches(function() jet.test("life", { secrets = { TOKEN = 1 } }) end, "texts")
  end)

  it("answers in JSON, which a spec reads", function()
    local answer = t:ask("GET", "/token")
    assert.equal("application/json", answer.headers["content-type"])
    assert.same({ token = "abc", list = {}, when = 1767225600 }, jet.json.decode(answer.body))
  end)
end)
