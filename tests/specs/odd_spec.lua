-- Specs that use a script's test from odd places.

describe("a script's test", function()
  local t

  before_each(function()
    t = jet.test "everything"
  end)

  it("works within a coroutine", function()
    local co = coroutine.wrap(function()
      for i = 1, 3 do
        t:post { text = tostring(i) }
        coroutine.yield(#t:out "all")
      end
    end)
    assert.same({ 1, 1, 1 }, { co(), co(), co() })
  end)

  it("works within gsub, sort and pcall", function()
    local n = ("abc"):gsub(".", function(c)
      t:post { text = c }
      return tostring(#t:out "all")
    end)
    assert.equal("111", n)
    local list = { 3, 1, 2 }
    table.sort(list, function(a, b)
      t:post {}
      return a < b
    end)
    assert.same({ 1, 2, 3 }, list)
    assert.is_true(#t:out "all" >= 2)
    assert.is_false(pcall(t.post, t, nil))
    assert.is_false(pcall(t.post))
    assert.is_false(pcall(t.out, {}, "all"))
  end)

  it("may be made and dropped in any number", function()
    for _ = 1, 20 do
      local other = jet.test "everything"
      other:post {}
      other = nil -- luacheck: ignore
    end
    t:post {}
    assert.equal(1, #t:out "all")
  end)

  it("takes large records, and refuses too large ones", function()
    t:post { text = ("x"):rep(900000) }
    assert.equal(900000, #t:out("all")[1].text)
    assert.error_matches(function() t:post { text = ("x"):rep(1100000) } end,
      "no network would carry this record")
  end)
end)
