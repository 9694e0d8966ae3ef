--- A session at the prompt: what one types is compiled against the session's own variables, then
--- the script's locals, then what scripts see anyway. C gives the means (core/script/repl.c).
local env, host = ...
local pretty = host.pretty

local error, load, next, pcall, select = error, load, next, pcall, select
local setmetatable, tostring, type = setmetatable, tostring, type
local concat, sort = table.concat, table.sort

local locals = host.locals()
local variables, commands = {}, {}
local declared = {} -- names that were assigned, perhaps nil

local session = setmetatable({}, {
  __index = function(_, name)
    local value = variables[name]
    if value ~= nil or declared[name] then
      return value
    elseif locals[name] then
      return host.get_local(locals[name])
    elseif commands[name] then
      return commands[name]
    elseif name == "ev" and host.has_events then
      return host.event
    end
    return env[name]
  end,
  __newindex = function(_, name, value)
    if locals[name] then
      host.set_local(locals[name], value)
    else
      variables[name], declared[name] = value, true
    end
  end,
})

function variables.print(...)
  local words = { ... }
  for i = 1, select("#", ...) do
    local word = select(i, ...)
    words[i] = type(word) == "string" and word or tostring(word)
  end
  host.write(concat(words, "\t") .. "\n")
end

local function one_line(ev)
  local what
  if ev.kind == "commit" then
    what = ev.op .. " " .. ev.uri
  elseif ev.kind == "identity" then
    what = "identity " .. ev.did .. " " .. (ev.handle or "")
  else
    what = "account " .. ev.did .. " " .. (ev.status or (ev.active and "active" or "inactive"))
  end
  local text = ev.text
  if text ~= "" then
    if #text > 60 then
      text = text:sub(1, 60):gsub("[\128-\255]+$", "") .. "…"
    end
    what = what .. " " .. pretty.quote(text)
  end
  return what
end

local function show_event()
  local at, count = host.position()
  host.write(("event %d of %d: %s\n"):format(at, count, one_line(host.event)))
end

if host.has_events then
  -- Goes on by n events (back, when negative); what ev is then.
  function commands.next(n)
    host.move(n or 1)
    show_event()
  end

  -- Goes on to the next event that matches, or for which the function says yes.
  function commands.find(test)
    if host.find(test) then
      show_event()
    else
      host.write "nothing further on\n"
    end
  end

  -- Runs the function on all events, or on those that match, and shows some of what it says yes
  -- to.
  function commands.try(match, fn)
    if fn == nil and type(match) == "function" then
      match, fn = nil, match
    end
    local shown = 0
    local seen, passed, errors, first = host.try(match, fn, function()
      shown = shown + 1
      host.write("  " .. one_line(host.event) .. "\n")
      return shown < 10
    end)
    if passed > shown then
      host.write(("  … and %d more\n"):format(passed - shown))
    end
    host.write(("%d of %d events\n"):format(passed, seen))
    if errors > 0 then
      host.write(("%d errors, the first: %s\n"):format(errors, tostring(first)))
    end
  end

  -- Runs the event in hand through the script's flows and shows where it arrives.
  function commands.send()
    host.send()
  end
end

function commands.help()
  host.write [[
expression              prints its value; _ is the last one
name = value            lasts for the session; the script's locals can be read and changed
]]
  if host.has_events then
    host.write [[
ev                      the event in hand
next(n)                 goes on by one event, or n; next(-1) goes back
find(match or function) goes on to the next event like that
try(match, function)    counts the events that match and for which the function says yes
send()                  runs ev through the script's flows
]]
  end
end

-- "local x = 1" would be gone behind the line it stands in.
local function lasting(code)
  code = code:gsub("^%s*local%s+function%s+", "function ")
  return (code:gsub("^%s*local%s+([%a_][%w_, ]-%s*=)", "%1"))
end

local AT_END = "near '?<eof>'?$"

local function compile(code)
  code = code:gsub("^%s*=", "return ")
  local chunk, first = load("return " .. code, "=repl", "t", session)
  if chunk then
    return chunk
  end
  local err
  chunk, err = load(lasting(code), "=repl", "t", session)
  if not chunk and (err:find(AT_END) or first:find(AT_END)) then
    return nil, "more"
  end
  return chunk, err
end

-- What one typed has failed; where our own lines come first, they are of no use to anybody.
local function failed(err)
  if type(err) ~= "string" then
    err = pretty.format(err)
  end
  error((err:gsub("^moonjet:%d+: ", "")), 0)
end

local function show(ok, ...)
  if not ok then
    failed((...))
  end
  local n = select("#", ...)
  for i = 1, n do
    local value = select(i, ...)
    host.write(pretty.format(value) .. "\n")
  end
  if n > 0 then
    variables._ = (...)
  end
end

local M = {}

--- Runs the code; "more" when it goes on in another line.
function M.run(code)
  if not code:find "%S" then
    return nil
  end
  local chunk, err = compile(code)
  if not chunk then
    if err == "more" then
      return "more"
    end
    failed(err)
  end
  show(pcall(chunk))
  return nil
end

--- Ways to complete the names at the end of the text, as a list.
function M.complete(text)
  local path, last = text:match "([%a_][%w_%.:]*[%.:])([%a_]?[%w_]*)$"
  local found = {}
  if not path then
    path, last = "", text:match "([%a_]?[%w_]*)$"
    for _, from in next, { variables, locals, commands, host.keys(env) } do
      for name in next, from do
        found[name] = true
      end
    end
    if host.has_events then
      found.ev = true
    end
  else
    local object = session
    for name in path:gmatch "[%w_]+" do
      local ok, value = pcall(function()
        return object[name]
      end)
      if not ok then
        return {}
      end
      object = value
    end
    found = host.keys(object)
  end
  local list = {}
  for name in next, found do
    if type(name) == "string" and name:sub(1, #last) == last and name:find "^[%a_][%w_]*$" then
      list[#list + 1] = path .. name
    end
  end
  sort(list)
  return list
end


return M
