-- Blocks and hooks by all their names, and what a block keeps to itself.

local log = {}

local function say(word)
  return function()
    log[#log + 1] = word
  end
end

local function said()
  local text = table.concat(log, " ")
  log = {}
  return text
end

describe("hooks", function()
  context("by their other names", function()
    strict_setup(say "strict")
    lazy_setup(say "lazy")
    setup(say "plain")
    test("one", say "one")
    spec("two", say "two")
    teardown(say "plain'")
    lazy_teardown(say "lazy'")
    strict_teardown(say "strict'")
  end)

  it("run in order", function()
    assert.equal("strict plain lazy one two lazy' plain' strict'", said())
  end)

  describe("of a block that holds tests in others only", function()
    lazy_setup(say "lazy")
    describe("inside", function()
      it("runs", say "runs")
    end)
  end)

  it("are then", function()
    assert.equal("lazy runs", said())
  end)
end)

describe("finally", function()
  after_each(say "after")

  it("may be said twice", function()
    finally(say "first")
    finally(say "second")
    log = {}
  end)

  it("runs the last one first", function()
    assert.equal("second first after", said())
  end)
end)

describe("insulate", function()
  local real_print = print

  it("is not there before", function()
    assert.is_nil(rawget(_G, "inner_global"))
  end)

  insulate("keeps globals and modules", function()
    local inner = require "module"
    rawset(_G, "inner_global", 1)
    rawset(_G, "print", say "print")

    it("to its tests", function()
      assert.equal(1, inner_global) -- luacheck: ignore
      assert.equal(inner, require "module")
      log = {}
      print "x"
      assert.equal("print", said())
      rawset(_G, "later_global", 1)
    end)

    it("all of them", function()
      assert.equal(1, rawget(_G, "later_global"))
      require("module").count = 5
    end)
  end)

  it("leaves nothing of them", function()
    assert.is_nil(rawget(_G, "inner_global"))
    assert.is_nil(rawget(_G, "later_global"))
    assert.equal(real_print, print)
    assert.equal(0, require("module").count)
  end)

  expose("shares them", function()
    rawset(_G, "shared_global", 1)
    it("with what follows", say "x")
  end)

  it("is not what expose does", function()
    assert.equal(1, rawget(_G, "shared_global"))
    rawset(_G, "shared_global", nil)
  end)
end)

describe("fail", function()
  it("fails", function()
    assert.has_error(function() fail "this way" end, "this way")
    assert.has_error(fail, "failed")
  end)
end)

describe("words of specs", function()
  it("are not a script's", function()
    assert.same({ { level = "info", text = "assert is a function" } }, jet.test("words"):logs())
  end)

  it("say what to use instead of those there are not", function()
    assert.error_matches(function() async() end, -- luacheck: ignore
      "t:advance")
    assert.error_matches(function() randomize() end, "the order in which they stand")
    assert.error_matches(function() busted.subscribe() end, -- luacheck: ignore
      "busted.subscribe is not here")
    assert.error_matches(function() assert:snapshot() end, "a block takes its spies with it")
    assert.error_matches(function() assert:register("assertion") end, "calls others")
  end)
end)
