--- The environment a script runs in: the safe part of the standard library, `jet`, and strict
--- globals. Runs once per VM, before any of the script's code.
---
--- What is left out and why: io, os.execute and the like reach the machine; ffi, debug, newproxy,
--- string.dump and bytecode reach the process; setfenv and getfenv reach each other's globals;
--- collectgarbage and xpcall reach past the limits (an error handler runs with hooks off, so an
--- endless loop in it could not be stopped).
local stock, host, jet = ...

local error, select, setmetatable = error, select, setmetatable
local tostring, type = tostring, type
local pcall = pcall
local format = string.format

local function pick(from, names)
  local to = {}
  for name in names:gmatch "%S+" do
    to[name] = from[name]
  end
  return to
end

local env = pick(stock, "assert error getmetatable next pcall rawequal rawget rawset select "
  .. "setmetatable tonumber tostring type unpack _VERSION")

env.math = stock.math
env.bit = stock.bit
env.table = stock.table
env.coroutine = pick(stock.coroutine, "create isyieldable running status yield")
env.os = pick(stock.os, "clock date difftime time")
env.debug = pick(stock.debug, "traceback")

-- Strings find their methods in this very table, so it is trimmed rather than copied.
local string = stock.string
string.dump = nil
string.gfind = nil
env.string = string

-- Patterns run in C with a limit on their steps: nothing could interrupt LuaJIT's own, and records
-- are written by strangers. A plain find needs none, and compiles.
local find = string.find
function string.find(s, pattern, init, plain)
  if plain then
    return find(s, pattern, init, true)
  end
  return host.find(s, pattern, init)
end
string.match = host.match
string.gmatch = host.gmatch
string.gsub = host.gsub

-- Each coroutine inside a coroutine takes some of the C stack, and LuaJIT does not look at its end.
local create, resume = stock.coroutine.create, stock.coroutine.resume
function env.coroutine.resume(co, ...)
  host.check_stack()
  return resume(co, ...)
end

local function unwrap(ok, ...)
  if ok then
    return ...
  end
  error((...), 0)
end

function env.coroutine.wrap(f)
  if type(f) ~= "function" then
    error("coroutine.wrap wants a function, not " .. type(f), 2)
  end
  local co = create(f)
  return function(...)
    host.check_stack()
    return unwrap(resume(co, ...))
  end
end

-- Parts of a record are userdata; walking them is as usual.
local pairs, ipairs = pairs, ipairs
function env.pairs(t)
  if type(t) == "userdata" then
    return host.pairs(t)
  end
  return pairs(t)
end

function env.ipairs(t)
  if type(t) == "userdata" then
    return host.ipairs(t)
  end
  return ipairs(t)
end

-- Source text only: LuaJIT trusts bytecode.
local load = load
function env.load(chunk, name, _, ...)
  if type(chunk) ~= "string" then
    error("load wants the source as a string", 2)
  end
  if select("#", ...) > 0 then
    return load(chunk, name, "t", (...))
  end
  return load(chunk, name, "t")
end

function env.loadstring(chunk, name)
  return load(tostring(chunk), name, "t")
end

local function finish(handler, ok, ...)
  if ok then
    return true, ...
  end
  return false, handler((...))
end

function env.xpcall(f, handler, ...)
  if type(handler) ~= "function" then
    error("xpcall wants a function as its second argument, not " .. type(handler), 2)
  end
  return finish(handler, pcall(f, ...))
end

function env.collectgarbage(what)
  if what ~= "count" then
    error("collectgarbage only knows \"count\" here; Moonjet runs the collector", 2)
  end
  return host.memory() / 1024
end

env.require = host.require

function env.print(...)
  local words = { ... }
  for i = 1, select("#", ...) do
    words[i] = tostring((select(i, ...)))
  end
  host.log("info", table.concat(words, "\t"))
end

-- A table whose keys are fixed: a misspelt one is an error that names the nearest.
local function sealed(name, fields)
  setmetatable(fields, {
    __index = function(_, key)
      local near = host.closest(tostring(key), fields)
      error(format("%s has no '%s'%s", name, tostring(key),
        near and format("; did you mean '%s'?", near) or ""), 2)
    end,
  })
  return setmetatable({}, {
    __index = fields,
    __newindex = function(_, key)
      error(format("%s.%s cannot be assigned", name, tostring(key)), 2)
    end,
    __metatable = false,
  })
end

local function logger(level)
  local log = host.log
  return function(text, ...)
    if select("#", ...) > 0 then
      local ok, result = pcall(format, text, ...)
      if not ok then
        error(format("jet.log.%s: %s", level, (tostring(result):gsub(" to '%?'", ""))), 2)
      end
      text = result
    end
    log(level, tostring(text))
  end
end

jet.log = sealed("jet.log", {
  debug = logger "debug",
  info = logger "info",
  warn = logger "warn",
  error = logger "error",
})

jet.config = setmetatable({}, {
  __index = jet.config,
  __newindex = function(_, key)
    error(format("jet.config.%s cannot be assigned: it is what --config said", tostring(key)), 2)
  end,
  __metatable = false,
})

local NO, ANY, PREFIX = host.no, host.any, host.prefix

local function match_value(what, value)
  local kind = type(value)
  if kind == "nil" or kind == "function" or kind == "thread" then
    error(format("%s wants a match or a value, not %s", what, kind), 3)
  end
  return value
end

--- What `x` does not match.
function jet.no(x)
  return setmetatable({ match_value("jet.no", x) }, NO)
end

--- What one of the list matches.
function jet.any(list)
  if type(list) ~= "table" then
    error("jet.any wants a list: jet.any { …, … }", 2)
  end
  local copy = {}
  for i = 1, #list do
    copy[i] = match_value("jet.any", list[i])
  end
  return setmetatable(copy, ANY)
end

--- Values that start with `s`.
function jet.prefix(s)
  if type(s) ~= "string" or s == "" then
    error("jet.prefix wants a text that is not empty", 2)
  end
  return setmetatable({ s }, PREFIX)
end

local ARRAY, OBJECT = host.array, host.object

--- Marks a table as a list, which an empty one cannot show by itself.
function jet.array(t)
  return setmetatable(t or {}, ARRAY)
end

--- Marks a table as a map.
function jet.object(t)
  return setmetatable(t or {}, OBJECT)
end

env.jet = sealed("jet", jet)
host.loaded.moonjet = env.jet
env._G = env

return setmetatable(env, {
  __index = function(_, name)
    if name == "io" or name == "ffi" or name == "jit" or name == "package" then
      error(format("'%s' is not available to scripts", name), 2)
    end
    error(format("global '%s' is not defined", tostring(name)), 2)
  end,
  __newindex = function(_, name)
    error(format("'%s' is assigned but was never declared; write: local %s", tostring(name),
      tostring(name)), 2)
  end,
  __metatable = false,
})
