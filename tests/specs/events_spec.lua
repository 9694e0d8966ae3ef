-- What jet.test makes of events, and what it gives back.

describe("events", function()
  local t

  before_each(function()
    t = jet.test "everything"
  end)

  it("have sensible defaults", function()
    local sent = t:post { text = "hello" }
    assert.same({
      kind = "commit", op = "create", did = "did:plc:testtesttesttesttesttest",
      collection = "app.bsky.feed.post", rkey = "3mbd3542k2322", rev = "3mbd3542k2322", seq = 1,
      time = "2026-01-01T00:00:00.000000Z", time_us = 1767225600000000,
      uri = "at://did:plc:testtesttesttesttesttest/app.bsky.feed.post/3mbd3542k2322",
      cid = "bafyreigj2ejqcbdkxlpz7g2uxgkjrf4zloxe52k3wj374vbggb5rsx3j44",
      record = { ["$type"] = "app.bsky.feed.post", text = "hello",
        createdAt = "2026-01-01T00:00:00.000000Z" },
    }, sent)
    assert.same({ sent }, t:out "all")
    assert.same({}, t:out "all")
  end)

  it("grow in seq, rev, rkey and time_us", function()
    local last = t:post {}
    for _ = 1, 20 do
      local sent = t:post {}
      for _, field in ipairs { "seq", "rev", "rkey", "time_us" } do
        assert.is_true(sent[field] > last[field], field)
      end
      last = sent
    end
  end)

  it("take fields as they are given", function()
    local given = { did = "did:web:example.com", collection = "org.example.thing", rkey = "self",
      rev = "3aaaaaaaaaa22", op = "update", seq = 77, time = "2020-02-02T02:02:02Z",
      record = { ["$type"] = "org.example.other", n = -5 } }
    local sent = t:event(given)
    for key, value in pairs(given) do
      assert.same(value, sent[key], key)
    end
  end)

  it("do not change the tables they are made of", function()
    local record, event = { text = "x" }, { did = "did:web:example.com" }
    t:post(record, event)
    assert.same({ text = "x" }, record)
    assert.same({ did = "did:web:example.com" }, event)
  end)

  it("may be sent again as they came", function()
    t:post { text = "once" }
    local sent = t:event(t:out("all")[1])
    assert.equal("once", sent.text)
  end)

  it("keep nulls, empty lists and maps, links and bytes", function()
    local record = { list = jet.array {}, map = jet.object {}, null = jet.null,
      link = { ["$link"] = "bafyreihlmhe7rypanmn7d5yntr4tkxf3y3npyv7rhvjeqv4fdz7ws2kxyu" },
      bytes = { ["$bytes"] = "AAEC" }, ["$type"] = "org.example.values" }
    t:event { collection = "org.example.values", record = record }
    assert.same(record, t:out("all")[1].record)
    assert.equal(jet.null, t:out("seen")[1].record.null)
  end)

  it("may be deletes, identities and accounts", function()
    t:event { collection = "app.bsky.feed.like", op = "delete", rkey = "3aaaaaaaaaa22" }
    t:event { kind = "identity", handle = "alice.example.com" }
    t:event { kind = "account", active = false, status = "takendown" }
    t:event { kind = "account" }
    local out = t:out "all"
    assert.is_nil(out[1].record)
    assert.is_nil(out[1].cid)
    assert.equal("alice.example.com", out[2].handle)
    assert.same({ false, "takendown" }, { out[3].active, out[3].status })
    assert.is_true(out[4].active)
    assert.is_nil(out[4].status)
  end)

  it("that no network would send are errors with a reason", function()
    local function refused(pattern, event)
      assert.error_matches(function() t:event(event) end, pattern)
    end
    refused("'colection'; did you mean 'collection'", { colection = "app.bsky.feed.post" })
    refused("needs a collection", {})
    refused("not an NSID", { collection = "post" })
    refused("not a DID", { collection = "org.example.x", did = "alice" })
    refused("not a record key", { collection = "org.example.x", rkey = "a/b" })
    refused("not a TID", { collection = "org.example.x", rev = "1" })
    refused("not create, update or delete", { collection = "org.example.x", op = "add" })
    refused("not commit, identity or account", { kind = "sync" })
    refused("not a handle", { kind = "identity", handle = "-" })
    refused("whole number", { collection = "org.example.x", seq = 1.5 })
    refused("has no record", { collection = "org.example.x", op = "delete", record = { a = 1 } })
    refused("no fractions", { collection = "org.example.x", record = { a = 1.5 } })
    refused("not valid UTF%-8", { collection = "org.example.x", record = { a = "\255" } })
    refused("neither a list nor a map", { collection = "org.example.x", record = { a = {} } })
    refused("data model", { collection = "org.example.x", record = { ["$type"] = 1 } })
    assert.same({}, t:out "all")
  end)

  it("complete blobs", function()
    local record = { ["$type"] = "org.example.x", images = { { image = { ["$type"] = "blob" } } } }
    t:event { collection = "org.example.x", record = record }
    local blob = t:out("all")[1].record.images[1].image
    assert.is_string(blob.ref["$link"])
    assert.is_number(blob.size)
    assert.same({ ["$type"] = "blob" }, record.images[1].image)
    record = { a = 1 }
    record.self = record
    assert.error_matches(function()
      t:event { collection = "org.example.x", record = record }
    end, "nested too deeply")
  end)

  it("are not in Jetstream's form", function()
    local sent = t:post {}
    assert.error_matches(function() return sent.commit end, "there is no ev.commit")
  end)

  it("have text and langs as in scripts", function()
    t:post { text = "Olá", langs = { "pt" } }
    t:event { kind = "identity" }
    local out = t:out "all"
    assert.equal("Olá", out[1].text)
    assert.same({ "pt" }, out[1].langs)
    assert.equal("", out[2].text)
    assert.same({}, out[2].langs)
  end)
end)

describe("what a script sends", function()
  local t

  before_each(function()
    t = jet.test "everything"
  end)

  it("arrives in its streams and in print", function()
    t:post { text = "a" }
    t:event { collection = "app.bsky.feed.like" }
    assert.equal(2, #t:out "seen")
    assert.equal(2, #t:out "main")
    -- The post twice: as it came, and edited.
    local printed = t:printed()
    assert.equal(3, #printed)
    assert.is_nil(printed[1].record.seen)
    assert.equal("2026-01-01T00:00:00.000000Z", printed[2].record.seen)
    assert.is_nil(printed[2].cid)
    assert.equal("app.bsky.feed.like", printed[3].collection)
    assert.same({}, t:printed())
  end)

  it("is told apart by stream, and a stream that is not there is an error", function()
    assert.error_matches(function() t:out "sen" end, "no stream 'sen'; there are: main, all, seen")
  end)

  it("may be logs and errors", function()
    t:event { collection = "org.example.logs", rkey = "r1" }
    assert.same({ { level = "warn", text = "saw r1" }, { level = "info", text = "and printed" } },
      t:logs())
    assert.same({}, t:logs())
    t:event { collection = "org.example.fails", rkey = "r2" }
    local errors = t:errors()
    assert.equal(1, #errors)
    assert.matches("^everything%.lua:20 tap#1: on purpose; at://.*/r2$", errors[1])
    assert.same({}, t:errors())
  end)

  it("may be metrics, which begin at 0 in every test", function()
    for _ = 1, 2 do
      t = jet.test "everything"
      t:post {}
      t:post {}
      t:event { kind = "identity" }
      assert.equal(2, t:metric("moonjet_script_events", 'kind="commit",op="create"'))
      assert.equal(2, t:metric("moonjet_script_events", 'op="create"'))
      assert.equal(3, t:metric "moonjet_script_events")
      assert.equal(0, t:metric "moonjet_script_nothing")
      assert.equal(0, t:metric("moonjet_script_events", 'op="creat"'))
      assert.equal(3, t:metric("moonjet_node_events_in_total", 'node="tap#1"'))
    end
  end)

  it("shares its clock with the spec", function()
    t:advance "1h30m"
    assert.equal("2026-01-01T01:30:00.000000Z", jet.now())
    assert.equal(jet.now(), t:now())
    t:post {}
    assert.equal("1767231000 01:30", t:out("seen")[1].record.clock)
    assert.equal(1767225600 + 5400, jet.time())
  end)

  it("is not mixed up between two scripts", function()
    local other = jet.test "everything"
    t:post { text = "one" }
    other:post { text = "two" }
    assert.equal("one", t:out("all")[1].text)
    assert.equal("two", other:out("all")[1].text)
  end)
end)

describe("jet.test", function()
  it("configures the script", function()
    local config = { list = { 1, "two" }, nested = { deep = { true } }, n = -7, yes = false,
      text = 'quo"te\n\\\1é' }
    local t = jet.test("config", { config = config })
    t:post {}
    assert.same(config, t:out("out")[1].record.config)
  end)

  it("says why a script does not load", function()
    assert.error_matches(function() jet.test "broken" end, "^broken%.lua:1: .*colection")
    assert.error_matches(function() jet.test "nosuch" end, "no script 'nosuch.lua' beside the spec")
    assert.error_matches(function() jet.test("config", { confg = {} }) end, "did you mean 'config'")
    assert.error_matches(function() jet.test("config", { config = { f = print } }) end,
      "a function %('f'%)")
  end)

  it("takes the file's name with and without .lua", function()
    jet.test "everything.lua"
    jet.test "./everything"
  end)

  local kept
  it("ends with the test", function()
    kept = jet.test "everything"
  end)
  it("is an error afterwards", function()
    assert.error_matches(function() kept:post {} end, "this script's test has ended")
  end)
end)

describe("a script for several tests", function()
  local t
  setup(function()
    t = jet.test "everything"
  end)
  it("takes an event", function()
    t:post { text = "first" }
  end)
  it("still has it in the next", function()
    assert.equal("first", t:out("all")[1].text)
  end)
end)
