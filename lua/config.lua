--- What a configuration file (moonjet.lua) may call. Runs once, before the file. `base` is the safe
--- part of the standard library; `groups` says which options there are: groups[group][key] =
--- { name = option, type = …, shape = what a value looks like }. Everything is handed to `host` at
--- once, with the line of the file it stands on.
local base, host, groups = ...

local error, pairs, select, type, tostring = error, pairs, select, type, tostring
local format, concat, sort = string.format, table.concat, table.sort

local DEPTH_MAX = 16

-- An error at the file's own line.
local function fail(text, ...)
  error(host.where() .. format(text, ...), 0)
end

local function suggest(word, from)
  local near = host.closest(tostring(word), from)
  return near and format("; did you mean '%s'?", near) or ""
end

local function known(word, from)
  local names = {}
  for name in pairs(from) do
    names[#names + 1] = name
  end
  sort(names)
  return format("%s (known: %s)", suggest(word, from), concat(names, ", "))
end

-- A list of texts, or one text for itself.
local function texts(what, value)
  if type(value) == "string" then
    return { value }
  end
  if type(value) ~= "table" then
    fail("%s wants a text or a list of texts, not %s", what, type(value))
  end
  local n = 0
  for key, item in pairs(value) do
    n = n + 1
    if type(key) ~= "number" or type(item) ~= "string" then
      fail("%s wants a list of texts", what)
    end
  end
  if n ~= #value then
    fail("%s wants a list without holes", what)
  end
  return value
end

local function whole(what, value)
  if value % 1 ~= 0 or value < -2 ^ 53 or value > 2 ^ 53 then
    fail("%s = %s: expected a whole number", what, tostring(value))
  end
  return format("%.0f", value)
end

-- The value as it would stand on the command line.
local function as_text(what, option, value)
  local kind = type(value)
  if option.type == "flag" then
    if kind ~= "boolean" then
      fail("%s wants true or false, not %s", what, kind)
    end
    return tostring(value)
  elseif option.type == "string" then
    if kind ~= "string" then
      fail("%s wants a text, not %s", what, kind)
    end
    return value
  elseif kind == "number" then
    if option.type == "time" and value ~= 0 then
      fail("%s wants a text with a unit: expected %s", what, option.shape)
    end
    return whole(what, value)
  elseif kind == "string" and option.type ~= "int" then
    return value
  end
  fail("%s wants %s, not %s", what, option.type == "int" and "a number" or option.shape, kind)
end

local function set_options(group, options)
  for key, value in pairs(options) do
    local option = groups[group][key]
    if not option then
      fail("%s has no '%s'%s", group, tostring(key), known(key, groups[group]))
    end
    local what = group .. "." .. key
    if option.type == "list" then
      for _, text in ipairs(texts(what, value)) do
        host.option(option.name, text)
      end
    else
      host.option(option.name, as_text(what, option, value))
    end
  end
end

local function want(what, value, kind)
  if type(value) ~= kind then
    fail("%s wants a %s, not %s", what, kind == "string" and "text" or kind, type(value))
  end
  return value
end

-- A value as Lua source that gives the same value again.
local function literal(what, value, depth)
  local kind = type(value)
  if kind == "string" then
    return host.quote(value)
  elseif kind == "boolean" then
    return tostring(value)
  elseif kind == "number" then
    if value ~= value or value == 1 / 0 or value == -1 / 0 then
      fail("%s holds a number that is none: %s", what, tostring(value))
    end
    return format("%.17g", value)
  elseif kind ~= "table" then
    fail("%s holds a %s; it may hold texts, numbers, booleans and tables of them", what, kind)
  elseif depth == DEPTH_MAX then
    fail("%s is nested too deeply", what)
  end
  local parts, keys = {}, {}
  for i = 1, #value do
    parts[i] = literal(what, value[i], depth + 1)
  end
  for key in pairs(value) do
    if type(key) == "string" then
      keys[#keys + 1] = key
    elseif not (type(key) == "number" and key % 1 == 0 and key >= 1 and key <= #value) then
      fail("%s has the key %s; keys are texts, or 1, 2, 3 …", what, tostring(key))
    end
  end
  sort(keys)
  for _, key in ipairs(keys) do
    local name = key:find "^[%a_][%w_]*$" and not host.reserved(key) and key
      or "[" .. host.quote(key) .. "]"
    parts[#parts + 1] = name .. " = " .. literal(what .. "." .. key, value[key], depth + 1)
  end
  return #parts == 0 and "{}" or "{ " .. concat(parts, ", ") .. " }"
end

local function one_of(...)
  local choices = { ... }
  return function(what, value)
    for _, choice in ipairs(choices) do
      if value == choice then
        return value
      end
    end
    fail("%s = %s: expected \"%s\"", what, type(value) == "string" and host.quote(value)
      or tostring(value), concat(choices, "\" or \""))
  end
end

local function size(what, value)
  return as_text(what, { type = "size", shape = "a size such as 64M" }, value)
end

local function time(what, value)
  return as_text(what, { type = "time", shape = "a time such as \"50ms\"" }, value)
end

local function list(what, value)
  return texts(what, value)
end

local script_keys = {
  config = function(what, value)
    return literal(what, want(what, value, "table"), 0)
  end,
  secrets = list,
  http_allow = list,
  memory = size,
  call = time,
  slow = time,
  declare = time,
  lane = one_of("own", "shared"),
  lag = one_of("skip", "wait"),
  on_error = one_of("pass", "drop"),
}

local set_keys = {
  file = function(what, value)
    return want(what, value, "string")
  end,
  members = list,
}

-- Of `word "name" { … }`, the name. A table beside it, as in word("name", { … }), would go unread.
local function want_name(word, name, ...)
  want(word, name, "string")
  if select("#", ...) > 0 then
    fail("%s takes one text; what is to be said of it stands behind: %s %s { … }", word, word,
      host.quote(name))
  end
end

-- `word "name" { … }`: calls begin(name) at once, and key by key what the table says.
local function named(word, keys, begin, give)
  return function(name, ...)
    want_name(word, name, ...)
    if name == "" then
      fail("%s \"\" names nothing", word)
    end
    begin(name)
    return function(options)
      want(format("%s \"%s\"", word, name), options, "table")
      for key, value in pairs(options) do
        if not keys[key] then
          fail("%s has no '%s'%s", word, tostring(key), known(key, keys))
        end
        local result = keys[key](word .. "." .. key, value)
        if type(result) == "table" then
          give(key, nil)
          for _, text in ipairs(result) do
            give(key, text)
          end
        else
          give(key, result)
        end
      end
    end
  end
end

local env = {}
for _, name in ipairs { "assert", "error", "ipairs", "next", "pairs", "pcall", "select", "tonumber",
  "tostring", "type", "unpack", "math", "string", "table" } do
  env[name] = base[name]
end

for group in pairs(groups) do
  if group ~= "source" then
    env[group] = function(options)
      set_options(group, want(group, options, "table"))
    end
  end
end

--- source "wss://…" { … }
function env.source(url, ...)
  want_name("source", url, ...)
  host.option("source", url)
  return function(options)
    set_options("source", want("source", options, "table"))
  end
end

--- script "scripts/*.lua" { … }
env.script = named("script", script_keys, host.script, host.script_key)

--- set "vips" { file = "vips.txt" }, set "vips" { members = { "did:…" } }
env.set = named("set", set_keys, host.set, host.set_key)

--- A variable of the environment, or the default; an error when there is neither.
function env.env(name, default)
  local value = host.getenv(want("env", name, "string"))
  if value == nil then
    value = default
  end
  if value == nil then
    fail("env \"%s\": the variable is not set, and no default is given", name)
  end
  return value
end

return setmetatable(env, {
  __index = function(_, name)
    fail("'%s' is not defined here%s", tostring(name), known(name, env))
  end,
  __newindex = function(_, name)
    fail("'%s' is assigned but was never declared; write: local %s", tostring(name), tostring(name))
  end,
  __metatable = false,
})
