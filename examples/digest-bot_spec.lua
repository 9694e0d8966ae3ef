describe("digest-bot", function()
  local POST = "app.bsky.feed.post"
  local t, pds

  before_each(function()
    t = jet.test("digest-bot", { config = { handle = "bot.test" },
      secrets = { BOT_PASSWORD = "x" } })
    pds = t:pds { password = "x" }
  end)

  -- n posts with the tag.
  local function posts(tag, n)
    for _ = 1, n do
      t:post { text = "", tags = { tag } }
    end
  end

  it("writes one thread a day", function()
    posts("Moon", 3)
    posts("jet", 2)
    t:advance "17h"
    assert.same({}, pds:list(POST))
    t:advance "2h"
    local thread = pds:list(POST)
    assert.equal(1, #thread)
    assert.equal("Hashtags of 2026-01-01\n\n1. #moon (3 posts)\n2. #jet (2 posts)",
      thread[1].value.text)
    assert.equal("moon", thread[1].value.facets[1].features[1].tag)
    posts("late", 1)
    t:advance "4h"
    assert.equal(1, #pds:list(POST))
    t:advance "20h"
    assert.equal(2, #pds:list(POST))
  end)

  it("splits what is too long, and each part is a reply", function()
    for i = 1, 20 do
      posts(("a-rather-long-hashtag-number-%d"):format(i), 21 - i)
    end
    t:advance "19h"
    local thread = pds:list(POST)
    assert.equal(4, #thread)
    assert.matches(" 1/4$", thread[1].value.text)
    assert.equal(thread[1].uri, thread[4].value.reply.root.uri)
    assert.equal(thread[3].uri, thread[4].value.reply.parent.uri)
  end)

  it("finishes a thread that it could not write to its end", function()
    posts("moon", 1)
    for i = 1, 20 do
      posts(("a-rather-long-hashtag-number-%d"):format(i), 21 - i)
    end
    t:advance "17h"
    pds:fail { method = "com.atproto.repo.putRecord", times = 3, status = 503 }
    t:advance "3h"
    assert.equal(4, #pds:list(POST))
  end)
end)
