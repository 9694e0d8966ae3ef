-- Run it: moonjet test examples/redact_spec.lua

describe("redact.lua", function()
  local t

  before_each(function()
    t = jet.test "redact"
  end)

  it("drops blocks", function()
    t:event { collection = "app.bsky.graph.block", record = { subject = "did:web:example.com" } }
    assert.same({}, t:out "main")
  end)

  it("hides addresses in texts and alt texts", function()
    t:post {
      text = "mail a.b@example.com now",
      facets = { { index = { byteStart = 5, byteEnd = 20 }, features = jet.array {} } },
      embed = { images = { { alt = "x@y.org" }, { alt = "a cat" } } },
    }
    local record = t:out("main")[1].record
    assert.equal("mail [email] now", record.text)
    assert.is_nil(record.facets)
    assert.same({ { alt = "[email]" }, { alt = "a cat" } }, record.embed.images)
  end)

  it("drops the CID of what it edits, and only of that", function()
    t:post { text = "a@b.org" }
    t:post { text = "nothing to hide" }
    local out = t:out "main"
    assert.is_nil(out[1].cid)
    assert.is_string(out[2].cid)
  end)

  it("lets deletes and other events pass", function()
    t:event { collection = "app.bsky.feed.post", op = "delete", rkey = "3mbd3542k2322" }
    t:event { kind = "identity", handle = "alice.example.com" }
    t:event { kind = "account", active = false, status = "suspended" }
    local out = t:out "main"
    assert.same({ "commit", "identity", "account" }, { out[1].kind, out[2].kind, out[3].kind })
    assert.equal("alice.example.com", out[2].handle)
    assert.is_false(out[3].active)
  end)
end)
