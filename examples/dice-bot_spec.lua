describe("dice-bot", function()
  local POST, PROFILE = "app.bsky.feed.post", "app.bsky.actor.profile"
  local t, pds

  before_each(function()
    t = jet.test("dice-bot", { config = { handle = "bot.test" }, secrets = { BOT_PASSWORD = "x" } })
    pds = t:pds { password = "x" }
    t:advance "1s"
  end)

  local function mention(text, event)
    local ev = t:post({ text = text, facets = { {
      index = { byteStart = 0, byteEnd = 4 },
      features = { { ["$type"] = "app.bsky.richtext.facet#mention", did = pds.did } },
    } } }, event)
    t:advance "1s"
    return ev
  end

  it("answers below the question", function()
    local question = mention "@bot d20"
    local answers = pds:list(POST)
    assert.equal(1, #answers)
    assert.equal(question.cid, answers[1].value.reply.parent.cid)
    assert.matches("^You rolled %d+%.$", answers[1].value.text)
  end)

  it("answers once, also when it does not hear that it has", function()
    pds:fail { method = "com.atproto.repo.putRecord", lost = true }
    mention "@bot"
    t:advance "1m"
    assert.equal(1, #pds:list(POST))
  end)

  it("leaves its own posts, and those of others, alone", function()
    mention("@bot", { did = pds.did })
    t:post { text = "bot" }
    t:advance "1s"
    assert.same({}, pds:list(POST))
  end)

  it("answers an account six times a minute at most", function()
    for _ = 1, 10 do
      mention "@bot"
    end
    assert.equal(6, #pds:list(POST))
  end)

  it("takes no for an answer", function()
    mention "@bot !stop"
    mention "@bot d6"
    assert.same({}, pds:list(POST))
  end)

  it("says that it is a bot", function()
    assert.same({ { val = "bot" } }, pds:list(PROFILE)[1].value.labels.values)
  end)
end)
