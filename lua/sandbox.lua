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

-- A sort whose function sorts, and so on: each takes some of the C stack, and an error that leaves
-- thousands of them takes seconds in which nothing can be interrupted.
local sort, deep = stock.table.sort, host.deep
function env.table.sort(t, less)
  deep()
  return sort(t, less)
end
env.coroutine = pick(stock.coroutine, "create isyieldable running status")
env.os = pick(stock.os, "clock difftime")

-- "Now" is what jet.time says, which in a test is the test's.
local date, time = stock.os.date, stock.os.time
function env.os.date(pattern, when)
  return date(pattern, when or jet.time())
end

function env.os.time(parts)
  return parts == nil and stock.math.floor(jet.time()) or time(parts)
end
env.debug = pick(stock.debug, "traceback")

-- Strings find their methods in this very table, so it is trimmed rather than copied.
local string = stock.string
string.dump = nil
string.gfind = nil
env.string = string

-- The same for texts of tables, whose __tostring may format, and so on.
local format_any = format
function string.format(text, ...)
  local a, b, c = ...
  if type(a) == "table" or type(b) == "table" or type(c) == "table" or select("#", ...) > 3 then
    deep()
  end
  return format_any(text, ...)
end

-- Patterns run in C with a limit on their steps: nothing could interrupt LuaJIT's own, and records
-- are written by strangers. A plain find of a short text needs none, and compiles; LuaJIT's takes
-- the product of both lengths.
local find = string.find
function string.find(s, pattern, init, plain)
  if plain and not (type(pattern) == "string" and #pattern > 64) then
    return find(s, pattern, init, true)
  end
  return host.find(s, pattern, init, plain)
end
string.match = host.match
string.gmatch = host.gmatch
string.gsub = host.gsub

-- Each coroutine inside a coroutine takes some of the C stack, and LuaJIT does not look at its end.
-- In a task, what waits in an inner coroutine yields through all those around it, up to the
-- scheduler, and so does what has used up its slice.
local create, resume, yield = stock.coroutine.create, stock.coroutine.resume, stock.coroutine.yield
local enter, left = host.enter, host.left
local again

local function pass(co, entered, ...)
  if left(co, entered) then
    return again(co, yield())
  end
  return ...
end

function again(co, ...)
  return pass(co, enter(), resume(co, ...))
end

function env.coroutine.resume(co, ...)
  if type(co) ~= "thread" then
    error("coroutine.resume wants a coroutine, not " .. type(co), 2)
  end
  return again(co, ...)
end
env.coroutine.running = host.running

local may_yield = host.may_yield
function env.coroutine.yield(...)
  may_yield()
  return yield(...)
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
    return unwrap(again(co, ...))
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
  local log, format_text = host.log, string.format
  return function(text, ...)
    if select("#", ...) > 0 then
      local ok, result = pcall(format_text, text, ...)
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

jet.json = sealed("jet.json", jet.json)

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
local metatable_of = stock.debug.getmetatable

-- What is marked already stays as it is: the mark cannot be changed.
local function mark(t, as)
  if t ~= nil and metatable_of(t) == as then
    return t
  end
  return setmetatable(t or {}, as)
end

--- Marks a table as a list, which an empty one cannot show by itself.
function jet.array(t)
  return mark(t, ARRAY)
end

--- Marks a table as a map.
function jet.object(t)
  return mark(t, OBJECT)
end

-- Tables are sent as JSON. What cannot be is the error of whoever gave the table: at that level.
local to_json = jet.json.encode

local function encode(value, level)
  local ok, text = pcall(to_json, value)
  if not ok then
    error(text, level)
  end
  return text
end

local fetch = host.fetch

local function fetch_body(what, method, url, body, options)
  if type(body) == "table" then
    return fetch(what, method, url, encode(body, 3), options, true)
  end
  return fetch(what, method, url, body, options)
end

jet.http = sealed("jet.http", {
  get = function(url, options)
    return fetch("jet.http.get", "GET", url, nil, options)
  end,
  post = function(url, body, options)
    return fetch_body("jet.http.post", "POST", url, body, options)
  end,
  request = function(request)
    if type(request) ~= "table" then
      error("jet.http.request wants a table: jet.http.request { url = … }", 2)
    end
    local method = request.method
    if method == nil then
      method = "GET"
    end
    return fetch_body("jet.http.request", method, request.url, request.body, request)
  end,
})

local find_pattern = host.find

-- What a route's function returns, as status, body and header lines.
local function answer_lines(headers, default_type)
  local lines, typed = {}, false
  for name, value in pairs(headers or {}) do
    if type(name) ~= "string" or not find_pattern(name, "^[%w!#$&'*+.^_`|~-]+$") then
      error(format("jet.serve: '%s' cannot name a header", tostring(name)), 0)
    end
    local lower = name:lower()
    if lower == "content-length" or lower == "connection" or lower == "transfer-encoding" then
      error(format("jet.serve: the header '%s' is set by Moonjet", name), 0)
    end
    if type(value) ~= "string" and type(value) ~= "number" then
      error(format("jet.serve: the header '%s' wants a text or a number, not %s", name,
        type(value)), 0)
    end
    value = tostring(value)
    if find_pattern(value, "[%z\1-\31\127]") then
      error(format("jet.serve: the header '%s' has a control character in it", name), 0)
    end
    typed = typed or lower == "content-type"
    lines[#lines + 1] = name .. ": " .. value .. "\r\n"
  end
  if not typed then
    lines[#lines + 1] = "Content-Type: " .. default_type .. "\r\n"
  end
  return table.concat(lines)
end

local function answer(status, body, headers)
  if status == nil and body == nil then
    status = 204
  elseif type(status) ~= "number" then
    if body ~= nil or headers ~= nil then
      error("jet.serve: the function returns a body, or a status, a body and headers", 0)
    end
    status, body = 200, status
  end
  if status < 200 or status > 599 or status % 1 ~= 0 then
    error(format("jet.serve: the status is 200 to 599, not %s", tostring(status)), 0)
  end
  if headers ~= nil and type(headers) ~= "table" then
    error("jet.serve: headers are a table: { [\"X-Name\"] = \"value\" }", 0)
  end
  local kind = type(body)
  if kind == "table" then
    return status, encode(body, 0), answer_lines(headers, "application/json")
  elseif kind == "string" or kind == "nil" then
    return status, body or "", answer_lines(headers, "text/plain; charset=utf-8")
  end
  error(format("jet.serve: the function returns a text or a table, not %s", kind), 0)
end

local serve = host.serve

--- Answers requests on the listener of the stream.
function jet.serve(route, fn)
  if type(fn) ~= "function" then
    error("jet.serve wants a route and a function: jet.serve(\"GET /path\", function(…) … end)", 2)
  end
  return serve(route, function(request)
    return answer(fn(request))
  end)
end

-- The same for requests whose parameter `key` has that value.
function host.serve_for(route, key, value, fn)
  return serve(route, function(request)
    return answer(fn(request))
  end, key, value)
end

-- Plug-ins. One in Lua returns a table with the anatomy of one in C (plugins/README.md); what it
-- delivers is a task behind a batch, so that it may wait.

local SIZES = { [""] = 1, K = 2 ^ 10, M = 2 ^ 20, G = 2 ^ 30, T = 2 ^ 40 }

-- Whether the value is of the option's type (and as what), and what was expected.
local function option_value(option, value)
  local kind = type(value)
  if option.type == "text" then
    return kind == "string", value, "a text"
  elseif option.type == "flag" then
    return kind == "boolean", value, "true or false"
  elseif option.type == "integer" then
    return kind == "number" and value % 1 == 0, value, "a whole number"
  elseif option.type == "size" then
    local number, unit = host.match(tostring(value), "^(%d+)([KMGT]?)$")
    return number ~= nil, number and number * SIZES[unit], "a size such as 64M"
  elseif option.type == "duration" then
    return kind == "string" and host.find(value, "^[%d.]+%a[%w.]*$") ~= nil, value,
      "a duration such as \"90s\""
  end
  return false, nil, "a type that exists"
end

-- What init() gets of the options given, or nil and what is wrong.
local function plugin_cfg(plugin, given)
  local cfg, names = {}, {}
  for _, option in ipairs(plugin.options or {}) do
    names[option.name] = true
    local value = given[option.name]
    if value == nil then
      value = option.default
    end
    if value == nil then
      return nil, format("%s needs '%s': %s", plugin.name, option.name, option.help or "")
    end
    local good, taken, expected = option_value(option, value)
    if not good then
      return nil, format("%s: %s = '%s': expected %s", plugin.name, option.name, tostring(value),
        expected)
    end
    cfg[option.name] = taken
  end
  for name in pairs(given) do
    if not names[name] then
      local near = host.closest(tostring(name), names)
      return nil, format("%s has no option '%s'%s", plugin.name, tostring(name),
        near and format("; did you mean '%s'?", near) or "")
    end
  end
  return cfg
end

-- The task's function: hands the list on until all of it is taken. What was taken does not come
-- again with the rest.
local function deliverer(plugin, state)
  return function(events)
    while #events > 0 do
      local taken, message = plugin.deliver(state, events)
      if taken == false then
        host.never(format("%s: %s", plugin.name, tostring(message)))
      elseif taken == nil or taken < 1 then
        jet.retry(format("%s: %s", plugin.name, tostring(message)))
      end
      host.taken(taken)
      local rest = {}
      for i = taken + 1, #events do
        rest[#rest + 1] = events[i]
      end
      events = rest
    end
  end
end

local function lua_sink(plugin, given)
  if type(plugin) ~= "table" or plugin.abi ~= 1 or type(plugin.deliver) ~= "function" then
    return nil, "it is not a plug-in: its file returns a table with abi = 1 and deliver"
  end
  local cfg, wrong = plugin_cfg(plugin, given)
  if not cfg then
    return nil, wrong
  end
  local state = cfg
  if plugin.init then
    state, wrong = plugin.init({ log = jet.log }, cfg)
    if state == nil then
      return nil, format("%s: %s", plugin.name, tostring(wrong))
    end
  end
  if plugin.deinit then
    jet.on_stop(function() plugin.deinit(state) end)
  end
  return setmetatable({
    attach = function(flow, batched)
      if not batched then
        flow = flow:batch { max = 100, every = "1s" }
      end
      return flow:each(deliverer(plugin, state), {
        queue = 10000,
        order = "total",
        timeout = "1h",
        retry = { tries = 0, max = "1m", errors = false },
      })
    end,
  }, host.sink_class)
end

function jet.sink(name, options)
  if type(name) ~= "string" then
    error("jet.sink wants the name of a plug-in", 2)
  end
  if options ~= nil and type(options) ~= "table" then
    error("jet.sink wants its options as a table", 2)
  end
  local plugin = host.plugin(name)
  local sink, message
  if plugin ~= nil then
    sink, message = lua_sink(plugin, options or {})
  else
    sink, message = host.sink(name, options or {})
  end
  if not sink then
    error(message, 2)
  end
  host.made_sink(sink, name)
  return sink
end

-- What is written in Lua (lua/moonjet) is loaded when a script first asks for it. Each file gets
-- host and jet, and returns a table.
local libraries = {}

function host.library(name)
  local library = libraries[name]
  if library == nil then
    library = host.load_library(name)(host, jet)
    libraries[name] = library
  end
  return library
end

function jet.agent(options)
  return host.library "agent".agent(options)
end

function jet.xrpc(service)
  return host.library "agent".xrpc(service)
end

function jet.richtext(text, options)
  return host.library "richtext".new(text, options)
end

host.sealed = sealed

-- Their errors are the script's: at its line, not at one of ours.
function host.complain(text, ...)
  error(host.where() .. (select("#", ...) > 0 and format(text, ...) or text), 0)
end

local function tried(ok, ...)
  if ok then
    return ...
  end
  host.complain((...))
end

-- Calls a function in C: what it raises is at the script's line, too.
function host.try(fn, ...)
  return tried(pcall(fn, ...))
end

function jet.feed(...)
  return host.library "feed".feed(...)
end

function jet.labeler(...)
  return host.library "labeler".labeler(...)
end

env.jet = sealed("jet", jet)
host.loaded.moonjet = env.jet
env._G = env

return setmetatable(env, {
  __index = function(_, name)
    if name == "io" or name == "ffi" or name == "jit" or name == "package" then
      error(format("'%s' is not available to scripts", name), 2)
    elseif name == "describe" or name == "it" then
      error(format("'%s' belongs into a spec, which `moonjet test` runs", name), 2)
    end
    error(format("global '%s' is not defined", tostring(name)), 2)
  end,
  __newindex = function(_, name)
    error(format("'%s' is assigned but was never declared; write: local %s", tostring(name),
      tostring(name)), 2)
  end,
  __metatable = false,
})
