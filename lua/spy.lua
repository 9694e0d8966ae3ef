--- Spies, stubs and mocks, as users of busted know them, and what assert and match say about them.
---
---   local s = spy.on(t, "key")         t.key does what it did, and is watched
---   stub(t, "key").returns(1)          t.key does nothing but that
---   assert.spy(s).was.called_with(match.is_string(), 1)
---
--- What stands in a table in a function's place is taken out again after the block of the spec it
--- was put there in: lua/test.lua does that.
local _, host = ...
local Matcher, callable, checks, pretty, same = host.Matcher, host.callable, host.checks,
  host.pretty, host.same

local error, getmetatable, next, rawequal = error, getmetatable, next, rawequal
local rawget, rawset, select, setmetatable = rawget, rawset, select, setmetatable
local tostring, type, unpack = tostring, type, unpack
local concat, insert, remove = table.concat, table.insert, table.remove
local format, max = string.format, math.max

-- # Calls

local methods = {}
local Spy = { __index = methods }

local function is_spy(v)
  return type(v) == "table" and getmetatable(v) == Spy
end

-- What later changes of the original do not reach. A spy stays itself.
local function copy(v, seen)
  if type(v) ~= "table" or is_spy(v) or getmetatable(v) == Matcher then
    return v
  elseif not seen[v] then
    local to = {}
    seen[v] = to
    for k, w in next, v do
      to[k] = copy(w, seen)
    end
    local meta = getmetatable(v)
    if not (type(meta) == "table" and rawget(meta, "__mode")) then
      host.like(to, v)
    end
  end
  return seen[v]
end

-- Arguments or results: vals as they were then, refs the very same. Both have their number as n,
-- since nil is one, too.
local function record(...)
  local refs, vals, seen = { n = select("#", ...), ... }, {}, {}
  vals.n = refs.n
  for i = 1, refs.n do
    vals[i] = copy(refs[i], seen)
  end
  return { vals = vals, refs = refs }
end

local function returned(self, ...)
  self.returnvals[#self.returnvals + 1] = record(...)
  return ...
end

function Spy.__call(self, ...)
  self.calls[#self.calls + 1] = record(...)
  return returned(self, self.callback(...))
end

function methods.clear(self)
  self.calls, self.returnvals = {}, {}
  return self
end

local function new_spy(fn)
  local self = setmetatable({ callback = fn }, Spy)
  pretty.names[self] = "<spy>"
  return self:clear()
end

-- # Places

-- Spies that stand in a table, oldest first: { spy, table, key, original, raw = what the table
-- itself had there, plain = the table itself has the spy now, over = taken out by hand }
local places = {}
local place_of = setmetatable({}, { __mode = "k" })

-- What a place had before, and not a spy that has been taken out from below this one since.
local function before(place)
  local raw = place.raw
  while is_spy(raw) and place_of[raw] and place_of[raw].over do
    raw = place_of[raw].raw
  end
  return raw
end

local function put(place)
  place.over = false
  place.raw = rawget(place.table, place.key)
  place.table[place.key] = place.spy
  place.plain = rawequal(rawget(place.table, place.key), place.spy)
  places[#places + 1] = place
end

local function take_out(place)
  if place.over then
    return
  end
  place.over = true
  if place.plain then
    rawset(place.table, place.key, before(place))
  else
    place.table[place.key] = place.original
  end
end

-- The function in a table that a spy is for; nil is one for a stub.
local function original(what, t, key, may_be_nil)
  if type(t) ~= "table" or key == nil then
    error(format("%s wants a table and a key", what), 3)
  end
  local fn = t[key]
  if not callable(fn) and not (may_be_nil and fn == nil) then
    error(format("%s: '%s' is %s, not a function", what, tostring(key), type(fn)), 3)
  end
  return fn
end

local function stand_in(spy, t, key, fn)
  spy.target_table, spy.target_key = t, key
  local place = { spy = spy, table = t, key = key, original = fn }
  place_of[spy] = place
  put(place)
  return spy
end

function methods.revert(self)
  local place = place_of[self]
  if not place then
    return self.callback
  end
  take_out(place)
  return place.original
end

-- # spy, stub, mock

-- A table of functions that can be called itself.
local function callable_module(name, fields, call)
  local names = {}
  for field in next, fields do
    names[#names + 1] = field
  end
  return setmetatable(fields, {
    __index = function(_, key)
      local near = host.closest(tostring(key), names)
      error(format("%s has no '%s'%s", name, tostring(key),
        near and format("; did you mean '%s'?", near) or ""), 2)
    end,
    __call = function(_, ...)
      return call(...)
    end,
  })
end

local function spy_new(fn)
  if fn ~= nil and not callable(fn) then
    error("spy.new wants a function", 2)
  end
  return new_spy(fn or function() end)
end

local function spy_on(t, key)
  local fn = original("spy.on", t, key)
  return stand_in(new_spy(fn), t, key, fn)
end

local function returner(...)
  local n, values = select("#", ...), { ... }
  return function()
    return unpack(values, 1, n)
  end
end

local function need_callable(what, fn)
  if not callable(fn) then
    error(format("%s wants a function", what), 3)
  end
  return fn
end

local function fits(expected, call)
  if expected.n ~= call.vals.n then
    return false
  end
  for i = 1, expected.n do
    local want = expected[i]
    local by_ref = getmetatable(want) == Matcher and want.by_ref
    if not same(want, (by_ref and call.refs or call.vals)[i]) then
      return false
    end
  end
  return true
end

-- What a stub says when it is asked what to do: two functions that return it.
local function ways(self, set)
  return {
    returns = function(...)
      set(returner(...))
      return self
    end,
    invokes = function(fn)
      set(need_callable("invokes", fn))
      return self
    end,
  }
end

local function stub_new(t, key, ...)
  local blank = t == nil and key == nil
  local fn = not blank and original("stub", t, key, true) or nil
  local act = select("#", ...) == 1 and callable((...)) and (...) or returner(...)
  local answers = {} -- of on_call_with
  local self = new_spy(function(...)
    local args = { n = select("#", ...), ... }
    for i = #answers, 1, -1 do
      if fits(answers[i].expected, { vals = args, refs = args }) then
        return answers[i].act(...)
      end
    end
    return act(...)
  end)
  self.by_default = ways(self, function(way) act = way end)
  self.returns, self.invokes = self.by_default.returns, self.by_default.invokes
  function self.on_call_with(...)
    local expected = record(...).vals
    return ways(self, function(way)
      answers[#answers + 1] = { expected = expected, act = way }
    end)
  end
  if blank then
    place_of[self] = { over = true }
    return self
  end
  return stand_in(self, t, key, fn)
end

local function walk(t, seen, visit)
  if seen[t] then
    return
  end
  seen[t] = true
  for key, v in next, t do
    if is_spy(v) or type(v) == "function" then
      visit(t, key, v)
    elseif type(v) == "table" then
      walk(v, seen, visit)
    end
  end
end

local function each_spy(what, t, method)
  if type(t) ~= "table" then
    error(format("%s wants a table", what), 3)
  end
  walk({ t }, {}, function(_, _, v)
    if is_spy(v) then
      v[method](v)
    end
  end)
  return t
end

local function mock_new(t, as_stub, ...)
  if type(t) == "function" then
    return as_stub and stub_new(nil, nil, ...) or spy_new(t)
  elseif type(t) ~= "table" then
    error("mock wants a table", 3)
  end
  local returns = { n = select("#", ...), ... }
  walk({ t }, {}, function(inner, key, v)
    if is_spy(v) then
      return
    elseif as_stub then
      stub_new(inner, key, unpack(returns, 1, returns.n))
    else
      spy_on(inner, key)
    end
  end)
  return t
end

-- # match

local function matcher(text, holds, by_ref)
  local self = setmetatable({ holds = holds, by_ref = by_ref }, Matcher)
  pretty.names[self] = text
  return self
end

function Matcher.__call(self, value)
  return self.holds(value)
end

-- The assertions about one value, and how many arguments they want besides.
local wants = { same = 1, equal = 1, equals = 1, ref = 1, matches = 1, match = 1, near = 2,
  callable = 0, truthy = 0, falsy = 0, ["true"] = 0, ["false"] = 0, ["nil"] = 0 }
for kind in ("boolean number string table function userdata thread"):gmatch "%a+" do
  wants[kind] = 0
end

local absent = {
  all_of = "compare what s.calls[1].vals holds",
}
absent.any_of, absent.none_of = absent.all_of, absent.all_of

local by_ref = { equal = true, equals = true, ref = true }

local node = host.words("match", wants, absent, function(no, name, _, ...)
  local first, second = ...
  local count = wants[name]
  if not count or select("#", ...) < count then
    error(name == "" and "match wants the name of a matcher: match.is_string()"
      or format("match.%s wants %d of its own before the value", name, count), 2)
  end
  local check = checks[name == "ref" and "equal" or name]
  local shown = {}
  for i = 1, count do
    shown[i] = pretty.format((select(i, ...)))
  end
  return matcher(format("match.%s%s(%s)", no and "not_" or "", name, concat(shown, ", ")),
    function(value)
      local holds
      if count == 0 then
        holds = check(1, value)
      else
        holds = not (name == "near" and type(value) ~= "number")
          and check(1 + count, first, value, second)
      end
      return holds ~= no
    end, by_ref[name])
end)

local anything = matcher("match._", function() return true end)
local match = rawset(node(false, "", {}), "_", anything)

-- # What assert says about spies

local function need_spy(name, s)
  if not is_spy(s) then
    error(format("%s wants a spy, not %s: assert.spy(s).was.called(…), where s is what spy.on, "
      .. "spy.new or stub returned", name, type(s)), 0)
  end
end

local function subject(s)
  return type(s.target_key) == "string" and format("the spy on '%s'", s.target_key) or "the spy"
end

local function times(n)
  return n == 1 and "once" or format("%s times", pretty.format(n))
end

local NIL = {} -- in a list, which would be shown as one with a hole
pretty.names[NIL] = "nil"

local function listed(args)
  local list = {}
  for i = 1, args.n do
    list[i] = args[i] == nil and NIL or args[i]
  end
  return list
end

-- The last few calls, a line each.
local function history(s)
  local lines = {}
  for i = max(1, #s.calls - 4), #s.calls do
    lines[#lines + 1] = "\n  called with " .. pretty.format(listed(s.calls[i].vals))
  end
  return concat(lines)
end

local function counted(name, words, holds)
  checks[name] = function(_, s, n)
    need_spy(name, s)
    if type(n) ~= "number" and not (name == "called" and n == nil) then
      error(format("%s wants a number", name), 0)
    end
    local count = #s.calls
    local was = subject(s) .. (count == 0 and " was never called" or " was called " .. times(count))
    local wanted = n == nil and "" or format(", not %s%s", words, times(n))
    return holds(count, n), { message = was .. wanted .. history(s) },
      { message = was .. ", but should not be" .. history(s) }, 3
  end
end

counted("called", "", function(count, n)
  if n == nil then
    return count > 0
  end
  return count == n
end)
counted("called_at_least", "at least ", function(count, n) return count >= n end)
counted("called_at_most", "at most ", function(count, n) return count <= n end)
counted("called_more_than", "more than ", function(count, n) return count > n end)
counted("called_less_than", "less than ", function(count, n) return count < n end)

-- Whether one of the calls, or of what they returned, is like this.
local function some(name, field, never, none, once)
  checks[name] = function(_, s, ...)
    need_spy(name, s)
    local expected, list = { n = select("#", ...), ... }, s[field]
    for i = 1, #list do
      if fits(expected, list[i]) then
        return true, nil, { message = subject(s) .. once, actual = listed(list[i].vals),
          values = true }, 1 / 0
      end
    end
    expected = listed(expected)
    if #list == 0 then
      return false, { message = subject(s) .. none .. "\nexpected  " .. pretty.format(expected) },
        nil, 1 / 0
    end
    return false, { message = subject(s) .. never
      .. (#list > 1 and format("; the last of %d calls was:", #list) or ""),
      expected = expected, actual = listed(list[#list].vals), sides = true }, nil, 1 / 0
  end
end

some("called_with", "calls", " was not called with this", " was never called",
  " was called with this, but should not be")
some("returned_with", "returnvals", " did not return this", " never returned",
  " returned this, but should not")

return {
  words = {
    spy = callable_module("spy", { new = spy_new, on = spy_on, is_spy = is_spy, _ = anything },
      spy_new),
    stub = callable_module("stub", { new = stub_new }, stub_new),
    mock = callable_module("mock", {
      new = mock_new,
      clear = function(t) return each_spy("mock.clear", t, "clear") end,
      revert = function(t) return each_spy("mock.revert", t, "revert") end,
    }, mock_new),
    match = match,
  },
  need = need_spy,
  -- How many were put into tables.
  count = function()
    return #places
  end,
  -- Takes all but the first n out, newest first; they are added to `list`, if given, oldest first.
  -- Ends early, with an error, where a table does not let one go.
  take_out = function(n, list)
    while #places > n do
      local place = remove(places)
      local over = place.over
      take_out(place)
      if list and not over then
        insert(list, 1, place)
      end
    end
  end,
  put = function(list)
    for i = 1, #list do
      put(list[i])
    end
  end,
}
