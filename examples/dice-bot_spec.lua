describe("dice-bot", function()
  local bot = "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"
  local t, written

  -- A PDS with one account, as far as the bot can tell.
  local function pds(request)
    if request.url:find("createSession", 1, true) then
      return { status = 200, body = { accessJwt = "token" } }
    end
    written[#written + 1] = jet.json.decode(request.body)
    return { status = 200, body = { uri = "at://x", cid = "y" } }
  end

  before_each(function()
    written = {}
    t = jet.test("dice-bot", { config = { did = bot }, secrets = { BOT_PASSWORD = "secret" } })
    t:http(pds)
    t:resolve(function(who) return { did = who, pds = "https://pds.example.com" } end)
  end)

  local function mention(text, event)
    return t:post({ text = text, facets = { {
      index = { byteStart = 0, byteEnd = 4 },
      features = { { ["$type"] = "app.bsky.richtext.facet#mention", did = bot } },
    } } }, event)
  end

  it("answers below the question", function()
    local question = mention "@bot d20"
    t:advance "1s"
    assert.equal(1, #written)
    assert.equal(bot, written[1].repo)
    assert.equal(question.rkey, written[1].rkey)
    assert.equal(question.cid, written[1].record.reply.parent.cid)
    assert.matches("^You rolled %d+%.$", written[1].record.text)
  end)

  it("says who it is", function()
    mention "@bot"
    t:advance "1s"
    local requests = t:requests()
    assert.equal("https://pds.example.com/xrpc/com.atproto.server.createSession", requests[1].url)
    assert.equal("Bearer token", requests[2].headers.Authorization)
  end)

  it("logs in again when its token is over", function()
    local refused = false
    t:http(function(request)
      if request.url:find("putRecord", 1, true) and not refused then
        refused = true
        return { status = 401 }
      end
      return pds(request)
    end)
    mention "@bot"
    t:advance "1s"
    assert.equal(1, #written)
    assert.equal(4, #t:requests())
  end)

  it("leaves its own posts, and those of others, alone", function()
    mention("@bot", { did = bot })
    t:post { text = "bot" }
    t:advance "1s"
    assert.same({}, written)
  end)

  it("answers an account six times a minute at most", function()
    for _ = 1, 10 do
      mention "@bot"
    end
    t:advance "1s"
    assert.equal(6, #written)
  end)
end)
