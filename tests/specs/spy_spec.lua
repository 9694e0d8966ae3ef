-- Spies, stubs, mocks and matchers, and that blocks take theirs with them.

-- The failure of an assertion, as its table.
local function failure(fn, ...)
  local ok, err = pcall(fn, ...)
  assert(not ok, "this assertion should have failed")
  return err
end

describe("spy", function()
  local t

  before_each(function()
    t = { double = function(n) return 2 * n, "twice" end }
  end)

  it("calls what it stands for", function()
    local s = spy.on(t, "double")
    assert.equal(s, t.double)
    assert.same({ 4, "twice" }, { t.double(2) })
    assert.is_true(spy.is_spy(s))
    assert.is_false(spy.is_spy(t))
    assert.is_callable(s)
  end)

  it("counts calls", function()
    local s = spy.on(t, "double")
    assert.spy(s).was_not.called()
    assert.spy(s).was.called(0)
    t.double(1)
    t.double(2)
    assert.spy(t.double).was.called()
    assert.spy(s).was_called(2)
    assert.spy(s).was_not.called(3)
    assert.spy(s).was.called_at_least(2)
    assert.spy(s).was.called.at_least(1)
    assert.spy(s).was_not.called_at_least(3)
    assert.spy(s).was.called_at_most(2)
    assert.spy(s).was_not.called_at_most(1)
    assert.spy(s).called_more_than(1)
    assert.spy(s).called_less_than(3)
    assert.equal("the spy on 'double' was called 2 times, not once\n  called with { 1 }\n"
      .. "  called with { 2 }", failure(assert.spy(s).was.called, 1).message)
    assert.equal("look", failure(assert.spy(s).was.called, 1, "look").note)
    assert.error_matches(function() assert.spy(s).called_at_least() end, "wants a number")
  end)

  it("knows what it was called with, and what came back", function()
    local s = spy.new(function(...) return ... end)
    s(1, nil, { a = { 2 } })
    s()
    assert.spy(s).was.called_with(1, nil, { a = { 2 } })
    assert.spy(s).was_called_with()
    assert.spy(s).was.called.with()
    assert.spy(s).was_not.called_with(1)
    assert.spy(s).was_not.called_with(1, nil)
    assert.spy(s).was_not_called_with(nil)
    assert.spy(s).was.returned_with(1, nil, { a = { 2 } })
    assert.spy(s).was_not.returned_with({})
    local f = failure(assert.spy(s).was.called_with, "x")
    assert.matches("the last of 2 calls", f.message)
    assert.same({ "x" }, f.expected)
    assert.same({}, f.actual)
    assert.matches("never called", failure(assert.spy(spy.new()).was.called_with).message)
  end)

  it("keeps arguments as they were", function()
    local s, inner = spy.new(), { 1 }
    local list = { inner, again = inner }
    list.self = list
    s(list)
    inner[1] = 2
    local vals, refs = s.calls[1].vals, s.calls[1].refs
    assert.equal(1, vals[1][1][1])
    assert.equal(vals[1][1], vals[1].again)
    assert.equal(vals[1], vals[1].self)
    assert.equal(list, refs[1])
    assert.equal(1, vals.n)
    assert.spy(s).was_not.called_with(list)
    assert.spy(s).was.called_with(match.is_ref(list))
    assert.spy(s).was_not.called_with(match.is_not_ref(list))
  end)

  it("knows a call that failed", function()
    local s = spy.new(function() error "no" end)
    assert.has_error(s, "no")
    assert.spy(s).was.called(1)
    assert.spy(s).was_not.returned_with()
    assert.matches("never returned", failure(assert.spy(s).was.returned_with).message)
  end)

  it("forgets and goes when told to", function()
    local before = t.double
    local s = spy.on(t, "double")
    t.double(1)
    assert.equal(s, s:clear())
    assert.spy(s).was_not.called()
    assert.equal(before, s:revert())
    assert.equal(before, t.double)
    t.double(1)
    assert.spy(s).was_not.called()
    assert.equal(before, s:revert())
    assert.equal(before, spy.new(before):revert())
  end)

  it("stands where a metatable had the function, and goes without a trace", function()
    local object = setmetatable({}, { __index = t })
    local s = spy.on(object, "double")
    object.double(1)
    assert.spy(s).was.called(1)
    s:revert()
    assert.is_nil(rawget(object, "double"))
    local kept = {}
    local proxy = setmetatable({}, { __index = kept, __newindex = kept })
    kept.double = t.double
    s = spy.on(proxy, "double")
    assert.equal(s, kept.double)
    s:revert()
    assert.equal(t.double, kept.double)
  end)

  it("is refused where there is no function", function()
    assert.error_matches(function() spy.on(t, "none") end, "'none' is nil, not a function")
    assert.error_matches(function() spy.on("text", "len") end, "wants a table and a key")
    assert.error_matches(function() spy.new(1) end, "wants a function")
    assert.error_matches(function() return spy.an end, "did you mean 'on'")
    assert.error_matches(function() assert.spy(t.double).was.called() end,
      "assert.spy wants a spy, not function")
    assert.error_matches(function() assert.stub(nil).was.called(1) end,
      "assert.stub wants a spy, not nil")
    assert.error_matches(function() assert.was.called() end, "called wants a spy, not nil")
  end)

  it("does where a function is wanted", function()
    local bed = jet.test "net"
    local weather = spy.new(function() return { status = 200, body = "clear" } end)
    bed:http(weather)
    bed:advance "1h"
    assert.spy(weather).was.called(1)
    assert.equal("GET", weather.calls[1].vals[1].method)
    local last = spy.new()
    finally(function() assert.spy(last).was.called(1) end)
    finally(last)
  end)
end)

describe("stub", function()
  local t

  before_each(function()
    t = { read = function() return "file" end, size = 1 }
  end)

  it("does nothing", function()
    local s = stub(t, "read")
    assert.equal(0, select("#", t.read "name"))
    assert.stub(s).was.called_with "name"
    assert.equal("file", s:revert()())
  end)

  it("returns what it is told", function()
    stub(t, "read", 1, nil, 3)
    assert.same({ 1, nil, 3 }, { t.read() })
    local s = stub(t, "read").returns(nil, "gone")
    assert.same({ nil, "gone" }, { t.read() })
    s.by_default.returns(5)
    assert.equal(5, t.read())
    assert.stub(s).was.returned_with(5)
  end)

  it("calls what it is told", function()
    stub(t, "read", function(a, b) return b, a end)
    assert.same({ 2, 1 }, { t.read(1, 2) })
    stub(t, "read").invokes(function(n) return n + 1 end)
    assert.equal(3, t.read(2))
    assert.error_matches(function() stub(t, "read").invokes(1) end, "invokes wants a function")
  end)

  it("answers some calls otherwise", function()
    local s = stub(t, "read").returns "any"
    local key = { "a" }
    s.on_call_with(key).returns "a"
    s.on_call_with(match.is_number(), match._).invokes(function(n, m) return n + m end)
    key[1] = "b"
    assert.equal("a", t.read { "a" })
    assert.equal("any", t.read(key))
    assert.equal(5, t.read(2, 3))
    assert.equal("any", t.read())
  end)

  it("stands where nothing was, but not in a value's place", function()
    local s = stub(t, "write")
    t.write()
    assert.stub(s).was.called(1)
    assert.is_nil(s:revert())
    assert.is_nil(t.write)
    assert.error_matches(function() stub(t, "size") end, "'size' is number, not a function")
    local blank = stub()
    blank()
    assert.stub(blank).was.called(1)
    assert.is_nil(blank:revert())
  end)
end)

describe("mock", function()
  local t

  before_each(function()
    t = { one = function() return 1 end, deep = { two = function() return 2 end }, n = 3 }
    t.deep.up = t
  end)

  it("spies on all functions of a table", function()
    assert.equal(t, mock(t))
    assert.equal(1, t.one())
    assert.equal(2, t.deep.two())
    assert.equal(3, t.n)
    assert.spy(t.one).was.called(1)
    assert.spy(t.deep.two).was.called(1)
    mock.clear(t)
    assert.spy(t.deep.two).was_not.called()
    mock.revert(t)
    assert.is_function(t.one)
    assert.is_function(t.deep.two)
  end)

  it("stubs them all", function()
    mock(t, true)
    assert.is_nil(t.one())
    assert.is_nil(t.deep.two())
    assert.spy(t.deep.two).was.called(1)
  end)

  it("stands in for a function", function()
    local s = mock(t.one)
    assert.equal(1, s())
    assert.spy(s).was.called(1)
    assert.is_nil(mock(t.one, true)())
    assert.error_matches(function() mock(1) end, "mock wants a table")
  end)
end)

describe("match", function()
  it("knows kinds of values", function()
    assert.is_true(match.is_string() "a")
    assert.is_false(match.is_string()(1))
    assert.is_true(match.is_not.string()(1))
    assert.is_true(match.Not.Nil()(false))
    assert.is_true(match.is_nil()(nil))
    assert.is_true(match.is.True()(true))
    assert.is_true(match.is_truthy()(0))
    assert.is_true(match.is_falsy()(nil))
    assert.is_true(match.is_callable()(print))
    assert.is_true(match._(nil))
  end)

  it("compares", function()
    assert.is_true(match.same { 1 } { 1 })
    assert.is_false(match.equal { 1 } { 1 })
    assert.is_true(match.is_same(nil)(nil))
    assert.is_false(match.is_same "a" (nil))
    assert.is_true(match.matches "^%d+$" "12")
    assert.is_false(match.has_match "x" (12))
    assert.is_true(match.near(1, 0.5)(1.2))
    assert.is_false(match.near(1, 0.5) "x")
    assert.is_true(match.is_not.near(1, 0.5)(2))
    assert.error_matches(function() match.same() end, "wants 1 of its own")
    assert.error_matches(function() match() end, "name of a matcher")
    assert.error_matches(function() match.is_strng() end, "did you mean 'string'")
    assert.error_matches(function() match.any_of() end, "s.calls%[1%].vals")
  end)

  it("stands for arguments and for what tables hold", function()
    local s = spy.new()
    s("a", { id = 12 })
    assert.spy(s).was.called_with(match._, { id = match.is_number() })
    assert.spy(s).was_not.called_with(match._)
    assert.spy(s).was_not.called_with(match.is_number(), match._)
    assert.same({ uri = match.matches "^at://", n = 1 }, { uri = "at://x", n = 1 })
    assert.is_not.same({ uri = match.is_string() }, {})
  end)

  it("may be required as luassert's", function()
    assert.equal(match, require "luassert.match")
    assert.equal(spy, require "luassert.spy")
    assert.equal(stub, require "luassert.stub")
    assert.equal(mock, require "luassert.mock")
    assert.equal(assert, require "luassert")
    require "busted.runner" ()
  end)
end)

describe("what stands in a table", function()
  local original = function() return "original" end
  local t = { inner = original, here = original, once = original, each = original,
    test = original, last = original, twice = original }

  local function all_original()
    for key, fn in pairs(t) do
      assert.equal(original, fn, key)
    end
  end

  it("does not come before its block", all_original)

  describe("during its block", function()
    spy.on(t, "here")
    setup(function() stub(t, "once") end)
    before_each(function()
      assert.equal(original, t.each)
      stub(t, "each")
    end)

    for i = 1, 2 do
      it("is there " .. i, function()
        assert.equal("original", t.here())
        assert.spy(t.here).was.called(i)
        assert.is_nil(t.once())
        assert.stub(t.once).was.called(i)
        t.each()
        assert.stub(t.each).was.called(1)
        assert.equal(original, t.test)
        stub(t, "test")
      end)
    end

    describe("and in those inside", function()
      stub(t, "inner")
      it("is there", function()
        assert.is_nil(t.inner())
        assert.spy(t.here).was.called(2)
      end)
    end)

    it("is there after those inside", function()
      assert.equal(original, t.inner)
      assert.spy(t.here).was.called(2)
    end)

    after_each(function()
      assert.spy(t.each).was.called_at_most(1)
      stub(t, "last")
    end)
    teardown(function()
      assert.equal(original, t.last)
      stub(t, "last")
    end)
  end)

  it("is gone after it", all_original)

  it("may be all that there is", function()
    mock(_G, true)
    assert.is_nil(tostring(1))
  end)

  it("is gone even then", function()
    assert.equal("1", tostring(1))
    assert.is_function(table.remove)
  end)

  it("may be taken out in any order", function()
    local first = spy.on(t, "twice")
    spy.on(t, "twice")
    first:revert()
    mock(t)
  end)

  it("leaves nothing then, either", all_original)
end)
