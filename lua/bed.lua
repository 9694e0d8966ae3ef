--- jet.test: what a spec does with a script on its bed. C has the plain moves
--- (core/script/bind_test.c); here are their defaults, and words for what is misused.
local env, host = ...
local pretty = host.pretty

local error, next, pairs, pcall, rawget = error, next, pairs, pcall, rawget
local setmetatable, tonumber, tostring, type = setmetatable, tonumber, tostring, type
local char, concat, format = string.char, table.concat, string.format

local function need_function(what, fn)
  if not host.callable(fn) then
    error(format("%s wants a function", what), 3)
  end
end

local Test = host.Test
local send, take, streams = Test.send, Test.take, Test.streams
local answer, serve = Test.answer, Test.serve
local edit, has, members = Test.edit, Test.has, Test.members
for name in ("send take streams answer serve edit has members"):gmatch "%a+" do
  Test[name] = nil
end

-- ev.text and ev.langs of events as tables, which are no fields of theirs.
local event_meta = {}
function event_meta.__index(ev, key)
  local record = rawget(ev, "record")
  if key == "text" then
    return record and type(record.text) == "string" and record.text or ""
  elseif key == "langs" then
    return record and type(record.langs) == "table" and record.langs or {}
  elseif key == "commit" then
    error("a spec's events have the fields that scripts see, such as ev.record and ev.uri; there "
      .. "is no ev.commit", 2)
  end
end

local function readable(events)
  for i = 1, #events do
    setmetatable(events[i], event_meta)
  end
  return events
end

local function copy(t)
  local to = {}
  for k, v in next, t do
    to[k] = v
  end
  return host.like(to, t)
end

local event_keys = { "kind", "op", "did", "collection", "rkey", "rev", "cid", "uri", "seq", "time",
  "time_us", "record", "handle", "active", "status" }
local known = {}
for _, key in next, event_keys do
  known[key] = true
end

local function check_keys(what, t, keys, is_known)
  for key in next, t do
    if not is_known[key] then
      local near = type(key) == "string" and host.closest(key, keys)
      error(format("%s has no '%s'%s", what, tostring(key),
        near and format("; did you mean '%s'?", near) or ""), 3)
    end
  end
end

-- A copy of a value of a record in which { ["$type"] = "blob" } has all that a blob needs. What is
-- nested too deeply is left for the encoder to complain about.
local BLOB = { ref = { ["$link"] = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy" },
  mimeType = "image/jpeg", size = 1000 }

local function complete(value, depth)
  if type(value) ~= "table" or depth > 64 then
    return value
  end
  local to = copy(value)
  for k, v in next, value do
    to[k] = complete(v, depth + 1)
  end
  if to["$type"] == "blob" then
    for k, v in next, BLOB do
      if to[k] == nil then
        to[k] = v
      end
    end
  end
  return to
end

function Test:event(event)
  if type(event) ~= "table" then
    error("t:event wants a table: { collection = …, record = { … } }", 2)
  end
  check_keys("an event", event, event_keys, known)
  event = copy(event)
  local is_commit = event.kind == nil or event.kind == "commit"
  if is_commit and event.op ~= "delete" then
    local record = event.record == nil and {} or event.record
    if type(record) == "table" then
      record = complete(record, 0)
      if record["$type"] == nil then
        record["$type"] = event.collection
      end
    end
    event.record = record
  end
  return setmetatable(send(self, event), event_meta)
end

function Test:post(record, event)
  if type(record) ~= "table" then
    error("t:post wants the fields of a post: { text = \"…\" }", 2)
  end
  check_keys("an event", event or {}, event_keys, known)
  local full = copy(event or {})
  full.collection = full.collection or "app.bsky.feed.post"
  if full.op ~= "delete" then
    full.record = copy(record)
    full.record.text = full.record.text or ""
    full.record.createdAt = full.record.createdAt or self:now()
  elseif next(record) ~= nil then
    error("a delete has no record: t:post({}, { op = \"delete\", rkey = … })", 2)
  end
  return self:event(full)
end

function Test:out(stream)
  if type(stream) ~= "string" then
    error("t:out wants the name of a stream", 2)
  end
  local events = take(self, stream)
  if not events then
    error(format("the script feeds no stream '%s'; there are: %s", stream,
      concat(streams(self), ", ")), 2)
  end
  return readable(events)
end

-- Headers as lines.
local function header_lines(what, headers)
  local lines = {}
  for name, value in pairs(headers or {}) do
    value = tostring(value)
    if type(name) ~= "string" or not name:find "^[%w!#$&'*+.^_`|~-]+$" or value:find "[%z\r\n]" then
      error(format("%s: '%s' cannot be a header", what, tostring(name)), 0)
    end
    lines[#lines + 1] = name:lower() .. ": " .. value .. "\r\n"
  end
  return concat(lines)
end

local response_keys = { "status", "body", "headers" }
local known_response = { status = true, body = true, headers = true }

function Test:http(fn)
  if fn ~= nil then
    need_function("t:http", fn)
  end
  answer(self, "http", fn and function(request)
    local response, message = fn(request)
    if response == nil then
      return nil, tostring(message or "no answer")
    elseif type(response) ~= "table" then
      error("the function of t:http returns a response: { status = 200, body = … }", 0)
    end
    check_keys("a response", response, response_keys, known_response)
    local body = response.body or ""
    if type(body) == "table" then
      body = env.jet.json.encode(body)
    end
    return response.status or 200, tostring(body), header_lines("t:http", response.headers)
  end)
end

function Test:resolve(fn)
  if fn ~= nil then
    need_function("t:resolve", fn)
  end
  answer(self, "resolve", fn and function(who)
    local identity, message = fn(who)
    if identity == nil then
      return nil, tostring(message or "not found")
    elseif type(identity) ~= "table" or type(identity.did) ~= "string" then
      error("the function of t:resolve returns an identity: { did = …, handle = …, pds = … }", 0)
    end
    return identity.did, identity.handle, identity.pds, identity.key, identity.labeler,
      identity.label_key
  end)
end

function Test:pds(options)
  return host.pds(self, options)
end

-- A named set of the script's, with the methods that jet.set has.
local Set = {}
Set.__index = Set

function Set:add(member)
  return edit(self.test, self.name, "add", member)
end

function Set:remove(member)
  return edit(self.test, self.name, "remove", member)
end

function Set:clear()
  edit(self.test, self.name, "clear")
end

function Set:has(member)
  return has(self.test, self.name, member)
end

function Set:count()
  return #members(self.test, self.name)
end

function Set:pairs()
  local all, i = members(self.test, self.name), 0
  return function()
    i = i + 1
    return all[i]
  end
end

function Test:set(name)
  if type(name) ~= "string" then
    error("t:set wants the name of a set", 2)
  end
  has(self, name, "") -- makes it, or says why not
  return setmetatable({ test = self, name = name }, Set)
end

-- As the server decodes a path, in which a plus is itself; nil for a bad escape.
local function decoded(path)
  local plain = path:gsub("%%%x%x", "")
  if plain:find("%", 1, true) then
    return nil
  end
  return (path:gsub("%%(%x%x)", function(hex) return char(tonumber(hex, 16)) end))
end

function Test:ask(method, path, body, headers)
  if type(method) ~= "string" or type(path) ~= "string" then
    error("t:ask wants a method and a path: t:ask(\"GET\", \"/path\")", 2)
  end
  if type(body) == "table" then
    body = env.jet.json.encode(body)
  end
  local route, query = path:match "^([^?]*)%??(.*)$"
  route = decoded(route)
  if not route then
    return { status = 400, body = "{\"message\":\"Bad Request\"}", headers = {} }
  end
  local got = serve(self, method, route, query, body or "", header_lines("t:ask", headers))
  local lower = {}
  for name, value in pairs(got.headers) do
    lower[name:lower()] = value
  end
  got.headers = lower
  return got
end

local sunk = Test.sunk
function Test:sunk(plugin)
  if type(plugin) ~= "string" then
    error("t:sunk wants the name of a plug-in", 2)
  end
  return readable(sunk(self, plugin))
end

local webhooks = Test.webhooks
function Test:webhooks(node)
  local posts = webhooks(self, node)
  if not posts then
    error(format("the script has no webhook '%s'; its name is that of jet.webhook { name = … }, or "
      .. "what `moonjet check` shows", tostring(node)), 2)
  end
  for _, post in ipairs(posts) do
    if post.type == "application/json" then
      post.data = env.jet.json.decode(post.body)
    end
  end
  return posts
end

local printed = Test.printed
function Test:printed()
  return readable(printed(self))
end

-- Plain data only: it crosses into the script's VM as source.
local function config_source(config)
  if type(config) ~= "table" then
    error("config of jet.test is a table", 3)
  end
  local function check(value, key)
    local kind = type(value)
    if kind == "table" then
      for k, v in next, value do
        check(v, tostring(k))
      end
    elseif kind ~= "string" and kind ~= "number" and kind ~= "boolean" then
      error(format("config: a %s ('%s') cannot be a script's configuration", kind, key), 0)
    end
  end
  local ok, err = pcall(check, config, "config")
  if not ok then
    error(err, 3)
  end
  return pretty.format(config)
end

local function secret_list(secrets)
  local list = {}
  for name, value in pairs(secrets) do
    if type(name) ~= "string" or type(value) ~= "string" then
      error("secrets of jet.test is a table of texts: { NAME = \"value\" }", 3)
    end
    list[#list + 1] = name .. "=" .. value
  end
  return list
end

local test_options = { "config", "secrets" }

local function jet_test(script, opts)
  if type(script) ~= "string" then
    error("jet.test wants the name of a script", 2)
  end
  opts = opts or {}
  check_keys("jet.test", opts, test_options, { config = true, secrets = true })
  return host.bed(script, config_source(opts.config or {}), secret_list(opts.secrets or {}))
end

return jet_test
