-- Events that become tasks.

describe("work on events", function()
  local t

  before_each(function()
    t = jet.test "work"
  end)

  local function texts()
    local list = {}
    for i, line in ipairs(t:logs()) do
      list[i] = line.text
    end
    return list
  end

  it("lets workers work side by side", function()
    for _, name in ipairs { "a", "b", "c" } do
      t:post({ text = name }, { did = "did:web:" .. name .. ".example.com" })
    end
    assert.same({}, texts())
    t:advance "10s"
    local first = texts()
    assert.equal(2, #first)
    assert.matches("^worked on a at 2026%-01%-01T00:00:10%.", first[1])
    t:advance "10s"
    assert.matches("^worked on c at 2026%-01%-01T00:00:20%.", texts()[1])
  end)

  it("logs texts to their end", function()
    t:post { text = "a\0b" }
    t:advance "10s"
    assert.matches("^worked on a b at 2026", texts()[1])
  end)

  it("keeps what comes from one account in order", function()
    t:post { text = "a" }
    t:post { text = "b" }
    t:advance "15s"
    assert.equal(1, #texts())
    t:advance "5s"
    assert.matches("^worked on b at 2026%-01%-01T00:00:20%.", texts()[1])
  end)

  it("ends batches", function()
    local like = { collection = "app.bsky.feed.like" }
    t:event(like)
    t:advance "4s"
    assert.same({}, texts())
    t:advance "1s"
    assert.matches("^1 likes at 2026%-01%-01T00:00:05", texts()[1])
    t:event(like)
    t:event(like)
    t:event(like)
    assert.matches("^3 likes at 2026%-01%-01T00:00:05", texts()[1])
  end)

  it("lets queues hand over at once, and time out", function()
    t:event { collection = "app.bsky.graph.follow", rkey = "one" }
    assert.same({ "follow one" }, texts())
    t:advance "1h"
    local all = texts()
    assert.equal("follow nil", all[#all])
  end)

  it("comes again when it asks to, under the same id", function()
    t:event { collection = "app.bsky.graph.block", rkey = "one" }
    local id = texts()[1]:match "^block one, try 1, (evt_%x+)$"
    t:event { collection = "app.bsky.graph.block", rkey = "two" }
    t:advance "29s"
    assert.same({}, texts()) -- and what is behind it waits
    t:advance "31s"
    local after = texts()
    assert.equal("block one, try 2, " .. id, after[1])
    assert.equal("block one, try 3, " .. id, after[2])
    assert.matches("^block two, try 4, evt_", after[3])
    assert.not_equal("block two, try 4, " .. id, after[3])
  end)
end)
