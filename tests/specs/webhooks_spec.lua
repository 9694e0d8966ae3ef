describe("jet.webhook", function()
  local t

  before_each(function()
    t = jet.test "webhooks"
  end)

  it("posts an event as Jetstream has it", function()
    local post = t:post { text = "plain" }
    local got = t:webhooks "plain"
    assert.equal(1, #got)
    assert.equal("https://hook.example/path?token=abc", got[1].url)
    assert.equal("plain", got[1].data.commit.record.text)
    assert.equal(post.did, got[1].data.did)
    assert.matches("^evt_%x+$", got[1].id)
    assert.equal(36, #got[1].id)
  end)

  it("posts batches by number and by age", function()
    for i = 1, 3 do
      t:post { text = "list " .. i }
    end
    local got = t:webhooks "list"
    assert.equal(1, #got)
    assert.equal("moonjet.batch", got[1].data.type)
    assert.equal(2, #got[1].data.data)
    assert.equal("list 1", got[1].data.data[1].event.commit.record.text)
    assert.matches("^evt_", got[1].data.data[2].id)
    t:advance "4s"
    assert.equal(0, #t:webhooks "list")
    t:advance "1s"
    got = t:webhooks "list"
    assert.equal(1, #got[1].data.data)
    assert.equal("list 3", got[1].data.data[1].event.commit.record.text)
  end)

  it("posts by bytes, and what is left at the end", function()
    for i = 1, 3 do
      t:post { text = "lists " .. i .. (" x"):rep(400) }
    end
    local got = t:webhooks "lists"
    assert.equal(1, #got)
    assert.equal(2, #got[1].data)
    t:stop()
    got = t:webhooks "lists"
    assert.equal(1, #got)
    assert.equal(1, #got[1].data)
  end)

  it("has the script write the body", function()
    t:post { text = "own" }
    t:post { text = "own table" }
    t:post { text = "own nothing" }
    local got = t:webhooks()
    assert.equal(2, #got)
    assert.equal("<own>", got[1].body)
    assert.equal("text/plain", got[1].type)
    assert.is_nil(got[1].data)
    assert.equal("own table", got[2].data.text)
  end)

  it("gives a second flow a node of its own", function()
    t:event { collection = "app.bsky.feed.like", record = { text = "liked" } }
    assert.equal(0, #t:webhooks "own")
    assert.equal(1, #t:webhooks "own#2")
  end)

  it("says what is wrong with what the function does", function()
    t:post { text = "own number" }
    t:post { text = "own wait" }
    assert.equal(0, #t:webhooks())
    local errors = t:errors()
    assert.equal(2, #errors)
    assert.matches("format returns a text, a table, or nil to send nothing, not number", errors[1])
    assert.matches("jet.sleep waits", errors[2])
  end)

  it("stops a function that goes on and on", function()
    t:post { text = "own loop" }
    assert.matches("stopped after 50 ms", t:errors()[1])
    t:post { text = "own" }
    assert.equal(1, #t:webhooks "own")
  end)
end)

describe("jet.webhook's options", function()
  local function load(options)
    return jet.test("webhook_options", { config = { options = options } })
  end

  local function refused(options, message)
    local ok, why = pcall(load, options)
    assert.is_false(ok)
    assert.matches(message, why)
  end

  it("are asked for by a name that is there", function()
    local t = jet.test("webhook_options",
      { config = { options = 'url = "https://x.example", name = "alarm"' } })
    assert.same({}, t:webhooks "alarm")
    local ok, why = pcall(t.webhooks, t, "alrm")
    assert.is_false(ok)
    assert.matches("the script has no webhook 'alrm'", why)
  end)

  -- A position belongs to a name: of two nodes of one name, one would get the events of both.
  it("do not share a name with another node", function()
    local config = { options = 'url = "https://x.example", name = "hook"', taken = "other" }
    jet.test("webhook_options", { config = config })
    config.taken = "hook"
    local ok, why = pcall(jet.test, "webhook_options", { config = config })
    assert.is_false(ok)
    assert.matches("already a node named 'hook' %(line 7%)", why)
  end)

  it("are checked when the script loads", function()
    load 'url = "https://x.example"'
    load 'url = "https://x.example", retry = { tries = 3, min = "1s", ["for"] = "1d" }'
    load 'url = "https://x.example", rate = "5/s"'
    refused("", "wants the address")
    refused('uri = "x"', "no option 'uri'; did you mean 'url'%?")
    refused('url = "x.example"', "an address such as https://")
    refused('url = "ftp://x.example"', "an address such as https://")
    refused('url = "http://x.example"', 'allow = { "x.example" }')
    refused('url = "https://me:pw@x.example"', "user name")
    refused('url = "https://x.example/a b"', "blank")
    refused('url = "https:///x"', "no host")
    refused('url = "https://x.example", order = "DID"', '"did", "total" or "none"')
    refused('url = "https://x.example", order = "total", concurrency = 2', "one after the other")
    refused('url = "https://x.example", retry = { max = "1s" }', "'max' is less than 'min'")
    refused('url = "https://x.example", retry = 3', "table of options: retry = { tries = … }")
    refused('url = "https://x.example", retry = { trys = 1 }', "did you mean 'tries'%?")
    refused('url = "https://x.example", batch = { max = 0 }', "whole number from 1")
    refused('url = "https://x.example", batch = { max = 2 }, format = "event"', "posts one event")
    refused('url = "https://x.example", rate = "fast"', "wants a rate")
    refused('url = "https://x.example", signature = "github"', "one 'secret'")
    refused('url = "https://x.example", headers = { a = "b\\nc" }', "line break")
    refused('url = "https://x.example", secret = 5', "a text, or a list of texts")
    refused('url = "https://x.example", allow = { 5 }', "wants texts")
  end)
end)
