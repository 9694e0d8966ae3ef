-- State and named sets: fresh in every test, and by the clock of the spec.

describe("state", function()
  local t

  before_each(function()
    t = jet.test "state"
  end)

  local function texts()
    local list = {}
    for i, line in ipairs(t:logs()) do
      list[i] = line.text
    end
    return list
  end

  it("is counted", function()
    t:post { tags = { "lua" } }
    t:post { tags = { "lua", "c" } }
    t:event { collection = "app.bsky.feed.like" }
    assert.same({ "1", "2", "lua 2 lua" }, texts())
    assert.equal(2, t:metric "moonjet_script_depth")
  end)

  it("is fresh in every test", function()
    t:post {}
    assert.same({ "1" }, texts())
    assert.equal(1, t:metric "moonjet_script_depth")
  end)

  it("ends by the clock of the spec", function()
    t:post {}
    t:advance "59m"
    t:post {}
    t:advance "61m"
    t:post {}
    assert.same({ "1", "2", "1" }, texts())
  end)
end)

describe("named sets", function()
  local t

  before_each(function()
    t = jet.test "state"
  end)

  local function arrives(did)
    t:post({}, { did = did })
    return #t:out "vips" == 1
  end

  it("are edited by the spec as by moonjet ctl", function()
    local vips = t:set "vips"
    assert.is_true(arrives "did:web:first.example.com")
    assert.is_false(arrives "did:web:a.example.com")
    assert.is_true(vips:add "did:web:a.example.com")
    assert.is_false(vips:add "did:web:a.example.com")
    assert.is_true(arrives "did:web:a.example.com")
    assert.is_true(vips:remove "did:web:a.example.com")
    assert.is_false(arrives "did:web:a.example.com")
    vips:clear()
    assert.is_false(arrives "did:web:first.example.com")
    assert.equal(0, vips:count())
  end)

  it("show what the script has put there", function()
    t:event { collection = "app.bsky.graph.follow", record = { subject = "did:web:b.example.com" } }
    local vips = t:set "vips"
    assert.is_true(vips:has "did:web:b.example.com")
    assert.equal(2, vips:count())
    local all = {}
    for did in vips:pairs() do
      all[did] = true
    end
    assert.same({ ["did:web:b.example.com"] = true, ["did:web:first.example.com"] = true }, all)
    assert.is_true(arrives "did:web:b.example.com")
  end)

  it("are fresh in every test", function()
    assert.equal(1, t:set("vips"):count())
    assert.equal(0, t:set("others"):count())
    assert.error_matches(function() t:set "no name" end, "cannot name a set")
  end)
end)
