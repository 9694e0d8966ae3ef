--- Assertions, as busted users know them: assert.same, assert.is_true, assert.are_not.equal,
--- assert.has_error … A failed one raises a table that says what was expected and what came.
---
---   assert.is_not.same(a, b)      words between dots and underscores are the same
---   assert.is_not_same(a, b)      is, are, has, was … only read well; not and no turn it round
---   assert.message(m).same(a, b)  what is said before the assertion
---   assert(value, message)        as ever
local _, host = ...
local callable, pretty = host.callable, host.pretty

local error, getmetatable, pcall, rawget = error, getmetatable, pcall, rawget
local next, rawequal, select, tostring, type = next, rawequal, select, tostring, type
local abs, format = math.abs, string.format

-- Raises. Besides `message`, the fields are `expected` and `actual` where there are two `sides`, or
-- `actual` where there are `values` to show.
local function fail(fields, message)
  if message ~= nil then
    fields.note = type(message) == "string" and message or pretty.format(message)
  end
  fields.failure = true
  error(fields, 0)
end

-- What a userdata stands for; a table that shows it, or itself.
local function plain(v)
  if type(v) == "userdata" then
    local shown = host.plain(v)
    return type(shown) == "table" and shown or v
  end
  return v
end

local Matcher = {} -- the metatable of what match makes (lua/spy.lua)

-- Whether two values hold the same. `seen` is which tables are being compared with which, so that
-- tables inside themselves have an end.
local function same(a, b, seen)
  if getmetatable(a) == Matcher then
    return a(b)
  end
  a, b = plain(a), plain(b)
  if rawequal(a, b) or (a ~= a and b ~= b) then
    return true
  elseif type(a) ~= "table" or type(b) ~= "table" then
    return false
  end
  seen = seen or {}
  if seen[a] == b then
    return true
  end
  local outer = seen[a]
  seen[a] = b
  for k, v in next, a do
    local w = rawget(b, k)
    if w == nil or not same(v, w, seen) then
      seen[a] = outer
      return false
    end
  end
  seen[a] = outer
  for k in next, b do
    if rawget(a, k) == nil then
      return false
    end
  end
  return true
end

-- Runs fn; whether it failed, and with what. The position that Lua puts before a message is not
-- what a spec wants to compare.
local function failure_of(fn)
  if not callable(fn) then
    error("this assertion wants a function that is expected to fail", 3)
  end
  local ok, err = pcall(fn)
  if not ok and type(err) == "table" and rawget(err, "pending") then
    error(err, 0)
  end
  return not ok, err
end

local function without_place(err)
  if type(err) == "string" then
    return (err:gsub("^[^\n:]*:%d+: ", ""))
  elseif type(err) == "table" and rawget(err, "failure") then
    return rawget(err, "message")
  end
  return err
end

-- Each takes the arguments and returns whether it holds, then { message =, expected =, actual = }
-- for when it does not, and for when it does but should not; then the argument where a message may
-- be. `n` is how many arguments there are.
local checks = {}

local function both(what, expected, actual)
  return { message = what, expected = expected, actual = actual, sides = true }
end

function checks.same(_, expected, actual)
  return same(expected, actual), both("these are not the same", expected, actual),
    { message = "these are the same, but should not be", actual = actual, values = true }, 3
end

function checks.equal(_, expected, actual)
  local hint = "these are not equal"
  if type(expected) == "table" and same(expected, actual) then
    hint = "these tables hold the same, but are not one; assert.same compares what they hold"
  end
  return expected == actual, both(hint, expected, actual),
    { message = "these are equal, but should not be", actual = actual, values = true }, 3
end
checks.equals = checks.equal

function checks.near(_, expected, actual, tolerance)
  if type(expected) ~= "number" or type(actual) ~= "number" or type(tolerance) ~= "number" then
    error("near wants three numbers: expected, actual, tolerance", 3)
  end
  local what = format("%s is %%s within %s of %s", pretty.format(actual),
    pretty.format(tolerance), pretty.format(expected))
  return abs(expected - actual) <= tolerance, { message = what:format "not" },
    { message = what:format "" }, 4
end

local function single(name, test)
  checks[name] = function(_, value)
    return test(value), { message = "expected " .. name, actual = value, values = true },
      { message = "expected anything but " .. name, actual = value, values = true }, 2
  end
end

single("true", function(v) return v == true end)
single("false", function(v) return v == false end)
single("nil", function(v) return v == nil end)
single("truthy", function(v) return v and true or false end)
single("falsy", function(v) return not v end)
single("callable", callable)
for kind in ("boolean number string table function userdata thread"):gmatch "%a+" do
  single(kind, function(v) return type(v) == kind end)
end

-- The value that is in the table twice, and whether there is one.
local function twice(list, deep)
  for k, a in next, list do
    for _, b in next, list, k do
      if a == b or (deep and same(a, b)) then
        return true, a
      end
    end
  end
  return false
end

function checks.unique(_, list, deep)
  if type(list) ~= "table" then
    error("unique wants a table", 3)
  end
  local found, value = twice(list, deep == true)
  return not found, { message = "this is in the table more than once", actual = value,
    values = true },
    { message = "nothing is in the table more than once, but something should be", actual = list,
      values = true }, type(deep) == "string" and 2 or 3
end

function checks.matches(_, pattern, text)
  if type(pattern) ~= "string" then
    error("matches wants a pattern, then a text", 3)
  end
  local found = type(text) == "string" and text:find(pattern) ~= nil
  return found, { message = "the pattern " .. pretty.quote(pattern) .. " is not in the text",
    actual = text, values = true },
    { message = "the pattern " .. pretty.quote(pattern) .. " is in the text, but should not be",
      actual = text, values = true }, 3
end
checks.match = checks.matches

function checks.error(n, fn, expected)
  local failed, err = failure_of(fn)
  local got = without_place(err)
  if not failed then
    return false, { message = "no error came" }, nil, 3
  elseif n < 2 or expected == nil then
    return true, nil, { message = "an error came", actual = got, values = true }, 3
  end
  local fits = same(expected, got) or same(expected, err)
    or (type(expected) == "string" and type(err) == "table" and tostring(err) == expected)
  return fits, both("another error came", expected, got),
    { message = "just this error came", actual = got, values = true }, 3
end
checks.errors = checks.error

function checks.error_matches(_, fn, pattern)
  if type(pattern) ~= "string" then
    error("error_matches wants a function, then a pattern", 3)
  end
  local failed, err = failure_of(fn)
  if not failed then
    return false, { message = "no error came" }, nil, 3
  end
  local text = type(err) == "string" and err or tostring(without_place(err))
  return text:find(pattern) ~= nil,
    { message = "the error does not match " .. pretty.quote(pattern), actual = text,
      values = true },
    { message = "the error matches " .. pretty.quote(pattern), actual = text, values = true }, 3
end
for _, name in next, { "matches_error", "match_error", "error_match" } do
  checks[name] = checks.error_matches
end

-- # Words

local filler = { is = true, are = true, has = true, have = true, was = true, does = true, be = true,
  to = true, a = true, an = true }
local negative = { ["not"] = true, no = true, isnt = true, arent = true, doesnt = true }

-- Takes words off the front of a key: whether an odd number of them says no, and what is left.
local function read_key(key, known)
  key = key:lower() -- assert.is.True, since `true` cannot stand behind a dot
  local no = false
  while true do
    local word, rest = key:match "^(%a+)_?(.*)$"
    if not word or known[key] then
      return no, key
    elseif negative[word] then
      no = not no
    elseif not filler[word] then
      return no, key
    end
    key = rest
    if key == "" then
      return no, key
    end
  end
end

local function unknown(what, key, name, known, absent)
  local names = {}
  for other in next, known do
    names[#names + 1] = other
  end
  local near = host.closest(name, names)
  error(format("%s has no '%s'%s", what, key, absent[name] and ": " .. absent[name]
    or near and format("; did you mean '%s'?", near) or ""), 3)
end

-- Words one behind the other, such as assert.is_not.same: each node stands for whether it is turned
-- round, the name so far, and what was said before. `known` has the names that there are, `absent`
-- what to use instead of some others; calling a node is call(no, name, said, …).
local function words(what, known, absent, call)
  local node
  function node(no, name, said)
    local cache = {}
    local self = setmetatable({}, {
      __index = function(_, key)
        if type(key) ~= "string" then
          error(format("%s wants the name of an assertion", what), 2)
        end
        if not cache[key] then
          local turned, rest = read_key(key, known)
          local full = name == "" and rest or rest == "" and name or name .. "_" .. rest
          if full ~= "" and not known[full] then
            unknown(what, key, full, known, absent)
          end
          cache[key] = node(turned ~= no, full, said)
        end
        return cache[key]
      end,
      __newindex = function()
        error("assertions cannot be added; write a function instead", 2)
      end,
      __call = function(_, ...)
        return call(no, name, said, ...)
      end,
      __metatable = false,
    })
    pretty.names[self] = name == "" and what or what .. "." .. name
    return self
  end
  return node
end

local absent = {
  snapshot = "a block takes its spies with it, and insulate its globals and modules",
  register = "an assertion of one's own is a function that calls others",
  add_formatter = "a value with __tostring is shown by that where it is an error",
  set_parameter = "nothing about how values are shown can be set",
  returned_arguments = "assert.equal(2, select(\"#\", f()))",
}

-- Not assertions, but what is said about the one behind them.
checks.spy, checks.stub, checks.message = "spy", "spy", "message"

local function judge(no, name, message, ...)
  local n = select("#", ...)
  local holds, failure, opposite, note = checks[name](n, ...)
  if holds == no then
    if n >= note then
      message = (select(note, ...))
    end
    fail(no and opposite or failure, message)
  end
  return ...
end

local function plainly(note, ok, ...)
  if ok then
    return ok, ...
  end
  local n, message = select("#", ...), ...
  if type(message) == "table" then
    error(message, 0)
  end
  fail({ message = n == 0 and "assertion failed!" or tostring(message) }, note)
end

local node
node = words("assert", checks, absent, function(no, name, said, ...)
  local check = checks[name]
  if type(check) == "string" then
    if check == "spy" then
      host.spies.need("assert." .. name, (...))
    end
    local more = { spy = said.spy, message = said.message }
    more[check] = (...)
    return node(no, "", more)
  elseif not check then
    return plainly(said.message, ...)
  elseif said.spy ~= nil then
    return judge(no, name, said.message, said.spy, ...)
  end
  return judge(no, name, said.message, ...)
end)

host.checks, host.same, host.words, host.Matcher = checks, same, words, Matcher
return node(false, "", {})
