--- Calls of XRPC methods, for agents and for jet.xrpc: how a request is written, what an answer
--- means, how many are allowed, and what happens when nobody answers.
---
--- A client is a table:
---   service     "https://host", where requests go
---   authorize   a function that returns the token and its number, or nil, a message and for how
---               many seconds trying again is no use; nil: nobody is logged in
---   renew       a function that gets the number of a token which was refused, and returns as
---               authorize
---   budget      a function (points, priority) that takes them, or returns how many seconds there
---               are too few; nil: none is kept
---   settle      a function (cost, limit, remaining, reset) that hears what the service counts
---   priority    of calls that say none
---   own         what is known of the limits of its writes: made here
---
--- In an each, what might succeed later is tried again for as long as the task has time, and then
--- given back with jet.retry, so that the event comes again. Elsewhere it is nil and a message.
local host, jet = ...

local error, ipairs, pairs = error, ipairs, pairs
local tonumber, tostring, type = tonumber, tostring, type
local format, floor, max, min = string.format, math.floor, math.max, math.min
local concat, sort = table.concat, table.sort
local random = math.random

local M = {}

-- # Requests

local TIMEOUT = 10       -- seconds for one request
local MAX_BYTES = 5 * 2 ^ 20
local PAUSE, PAUSE_MAX = 0.5, 15 -- seconds between attempts; the first one, and the longest
local PATIENCE = 30      -- seconds to wait for a rate limit outside of an each
local LEAST = 0.5        -- seconds that must be left for an attempt
local WINDOW_MAX = 86400 -- seconds a limit lasts, at most
local AGAIN_MAX = 600    -- seconds until an event comes again, at most
local DOWN_MAX = 120     -- … while its PDS is down, at most
local QUIET = 60         -- seconds without any answer are an outage
local LEDGERS = 1000     -- services whose limits are remembered
local POLICIES = 20      -- of one service

--- Seconds as a text that durations are written in.
local function duration(seconds)
  return format("%dms", max(1, floor(seconds * 1000)))
end
M.duration = duration

local function escape(text)
  return (text:gsub("[^%w%-._~]", function(c)
    return format("%%%02X", c:byte())
  end))
end

local function plain(key, value)
  local kind = type(value)
  if kind == "number" and value % 1 == 0 then
    return format("%.0f", value)
  elseif kind == "string" or kind == "number" or kind == "boolean" then
    return tostring(value)
  end
  error(format("the parameter '%s' is a text, a number, true, false, or a list of them, not %s",
    tostring(key), kind), 0)
end

--- Parameters as a query, in order of their names.
local function query(params)
  local names, parts = {}, {}
  for name in pairs(params or {}) do
    names[#names + 1] = tostring(name)
  end
  sort(names)
  for _, name in ipairs(names) do
    local value = params[name]
    for _, one in ipairs(type(value) == "table" and value or { value }) do
      parts[#parts + 1] = escape(name) .. "=" .. escape(plain(name, one))
    end
  end
  return #parts > 0 and "?" .. concat(parts, "&") or ""
end

local function check_nsid(what, nsid)
  if type(nsid) ~= "string" or not nsid:find "^%a[%w-]*%.[%w-]+%.[%w.-]*%a[%w]*$" then
    error(format("%s wants the name of a method, such as \"com.atproto.repo.getRecord\", not %s",
      what, type(nsid) == "string" and "'" .. nsid .. "'" or type(nsid)), 3)
  end
end
M.check_nsid = check_nsid

--- An option nobody knows is an error at `level`, as this function would count it.
local function check_options(what, options, known, level)
  if options == nil then
    return {}
  elseif type(options) ~= "table" then
    error(format("%s: options are a table, not %s", what, type(options)), level)
  end
  for key in pairs(options) do
    if not known[key] then
      local near = type(key) == "string" and host.closest(key, known)
      error(format("%s has no option '%s'%s", what, tostring(key),
        near and format("; did you mean '%s'?", near) or ""), level)
    end
  end
  return options
end
M.check_options = check_options

local PRIORITIES = { high = true, normal = true, low = true }

function M.check_priority(what, priority, level)
  if priority ~= nil and not PRIORITIES[priority] then
    error(format("%s: 'priority' is \"high\", \"normal\" or \"low\"", what), level)
  end
end

--- "pds.example.com" or an address as "https://pds.example.com"; nil when it is no such thing.
function M.origin(text)
  if type(text) ~= "string" then
    return nil
  end
  text = text:gsub("/+$", "")
  if not text:find("://", 1, true) then
    text = "https://" .. text
  end
  local scheme, authority = text:match "^(%a+)://([%w.:%[%]_-]+)$"
  scheme = scheme and scheme:lower()
  if scheme ~= "https" and scheme ~= "http" then
    return nil
  end
  return scheme .. "://" .. authority:lower()
end

-- # Answers

--- A stranger's text in a message of ours: short, and on one line.
local function quote(text)
  text = text:gsub("[%z\1-\31\127]+", " ")
  if #text > 300 then
    text = text:sub(1, 300):gsub("[\192-\255]?[\128-\191]*$", "") .. "…"
  end
  return text
end

local function decode(body)
  local value = jet.json.decode(body)
  return type(value) == "table" and value or nil
end
M.decode = decode

local function text_of(value)
  return type(value) == "string" and value or nil
end

--- What a refusal says: its name (or nil) and a sentence.
local function refusal(nsid, response)
  local body = decode(response.body) or {}
  local name, message = text_of(body.error), text_of(body.message)
  name = name and quote(name)
  return name, format("%s: %d%s%s", nsid, response.status, name and " " .. name or "",
    message and ": " .. quote(message) or "")
end

-- Names of errors which mean that the token is the reason, whatever the status.
local TOKEN = { ExpiredToken = true, InvalidToken = true }

-- Nobody was there who could have looked at the request.
local OUTAGE = { [429] = true, [502] = true, [503] = true, [504] = true }

local function is_transient(status)
  return status == 408 or status == 425 or status == 429 or status >= 500
end

-- # Rate limits

-- Per service: what its headers have said last, by the policy that they name ("5000;w=3600"), and
-- which policy answers for a method. Of writes per client: their points are the account's own, and
-- another one on the same service may have some left.
local ledgers, ledger_count = {}, 0

local function ledger(service)
  local l = ledgers[service]
  if not l then
    if ledger_count >= LEDGERS then -- strangers say where their PDS is
      ledgers, ledger_count = {}, 0
    end
    l = { policies = {}, of = {} }
    ledgers[service] = l
    ledger_count = ledger_count + 1
  end
  return l
end

--- Where the limits of a call are.
local function limits_of(client, points)
  if points == 0 then
    return ledger(client.service)
  elseif not client.own or client.own.service ~= client.service then
    client.own = { service = client.service, policies = {}, of = {} }
  end
  return client.own
end

-- The part of a limit that stays for what is more important.
local RESERVE = { high = 0, normal = 0.05, low = 0.25 }
M.reserve = RESERVE

--- Takes `cost` from a bucket { limit =, remaining =, reset =, window = }; or says for how many
--- seconds there is too little. When something more important waits, the rest waits longer.
function M.take(bucket, cost, priority, now)
  if now >= bucket.reset then
    bucket.remaining = bucket.limit
    bucket.reset = now + bucket.window
  end
  local wanted = bucket.wanted
  if priority ~= "high" and wanted and now < wanted then
    return wanted - now
  end
  local reserve = floor(bucket.limit * RESERVE[priority])
  if bucket.remaining - cost < min(reserve, bucket.limit - cost) then
    if priority == "high" then
      bucket.wanted = bucket.reset + 1
    end
    return bucket.reset - now
  end
  bucket.remaining = bucket.remaining - cost
end

--- The whole number that a header begins with, or nil. Any number of digits is still a number.
local function number_in(text)
  local number = text and tonumber(text:match "^%s*(%d+)")
  return number and min(number, 2 ^ 53)
end

--- Reads RateLimit-* of an answer into the ledger.
local function note_limit(client, nsid, headers, points)
  local limit = number_in(headers["ratelimit-limit"])
  local remaining = number_in(headers["ratelimit-remaining"])
  local reset = number_in(headers["ratelimit-reset"])
  if not limit or not remaining or limit < 1 then
    return nil
  end
  local policy = headers["ratelimit-policy"] or tostring(limit)
  local window = min(number_in(policy:match ";%s*w=(%d+)") or 300, WINDOW_MAX)
  local now = jet.time()
  local left = max(0, min((reset or now + window) - now, window))
  local l = limits_of(client, points)
  local name = #policy <= 40 and policy or "other"
  if not l.policies[name] then
    l.count = (l.count or 0) + 1
    name = l.count <= POLICIES and name or "other"
  end
  local bucket = l.policies[name] or {}
  bucket.limit, bucket.remaining, bucket.window = limit, min(remaining, limit), max(1, window)
  bucket.reset = now + left
  l.policies[name] = bucket
  l.of[nsid] = name
  if points > 0 and client.settle then
    client.settle(limit, bucket.remaining, window, left)
  end
  return bucket
end

local function retry_after(headers)
  local seconds = number_in(headers["retry-after"])
  return seconds and min(seconds, WINDOW_MAX)
end

--- For how many seconds a call must wait; nil: it may go.
local function must_wait(client, nsid, points, priority)
  local l, now = ledger(client.service), jet.time()
  if l.blocked and now < l.blocked then
    return l.blocked - now, "the service has asked for a pause"
  end
  l = limits_of(client, points)
  local bucket = l.policies[l.of[nsid]]
  if bucket then
    local cost = points > 0 and bucket.window >= 3600 and points or 1
    local seconds = M.take(bucket, cost, priority, now)
    if seconds then
      return seconds, "the rate limit is used up"
    end
  end
  if points > 0 and client.budget then
    local seconds = client.budget(points, priority)
    if seconds then
      return seconds, "the account's points are used up"
    end
  end
end

-- # Calls

-- What writes cost of an account's points.
local POINTS = {
  ["com.atproto.repo.createRecord"] = 3,
  ["com.atproto.repo.putRecord"] = 2,
  ["com.atproto.repo.deleteRecord"] = 1,
}

--- One attempt: "ok", value; "no", message, name, status; "token", message, name, status, the
--- token's number; or "login" (there is none), "limited" or "later", message, name, status, and how
--- many seconds at least.
local function attempt(client, what, method, nsid, call, left)
  local points = call.points or POINTS[nsid] or 0
  local headers = {}
  for name, value in pairs(call.headers or {}) do
    headers[name] = value
  end
  local token, number = call.token, nil
  if not token and client.authorize then
    local seconds
    token, number, seconds = client.authorize()
    if not token then
      return "login", number, nil, nil, seconds
    end
  end
  if token then
    headers.Authorization = "Bearer " .. token
  end
  local priority = call.priority or client.priority or "normal"
  local seconds, why = must_wait(client, nsid, points, priority)
  if seconds then
    host.count("waits", priority)
    why = format("%s: %s for another %d s", nsid, why, math.ceil(seconds))
    return "limited", why, nil, 429, seconds
  end
  local timeout = call.timeout or TIMEOUT
  if left then
    timeout = max(LEAST / 2, min(timeout, left - LEAST / 2))
  end
  if call.type then
    headers["Content-Type"] = call.type
  end
  local url = client.service .. "/xrpc/" .. nsid .. query(call.params)
  local response, message = host.fetch(what, method, url, call.body, { headers = headers,
    timeout = duration(timeout), max_bytes = call.max_bytes or MAX_BYTES })
  if not response then
    host.count("requests", "unanswered")
    return "later", format("%s: %s", nsid, message)
  end
  local bucket = note_limit(client, nsid, response.headers, points)
  if not bucket and points > 0 and client.settle and response.status < 300 then
    client.settle(nil)
  end
  if response.status >= 200 and response.status < 300 then
    local value = decode(response.body)
    if call.wants and not (response.body == "" and call.wants == true)
      and not (value and (call.wants == true or text_of(value[call.wants]))) then
      -- It was not the service that answered, but something in front of it.
      host.count("requests", "failed")
      return "later", format("%s: the answer is no JSON", nsid)
    end
    host.count("requests", "ok")
    if response.body == "" then
      return "ok", {}, nil, response.status
    end
    if not value and (response.headers["content-type"] or ""):find("json", 1, true) then
      return "no", format("%s: the answer is no JSON", nsid), nil, response.status
    end
    return "ok", value or response.body, nil, response.status
  end
  local name
  name, message = refusal(nsid, response)
  if response.status == 429 then
    host.count("requests", "limited")
    local l, now = ledger(client.service), jet.time()
    local after = retry_after(response.headers)
    if bucket then
      bucket.remaining = 0
      after = max(after or 0, bucket.reset - now)
    else
      after = after or PAUSE_MAX
      l.blocked = now + after
    end
    return "limited", message, name, 429, after
  end
  if token and not call.token and (response.status == 401 or TOKEN[name]) then
    host.count("requests", "token")
    return "token", message, name, response.status, number
  elseif is_transient(response.status) then
    host.count("requests", "failed")
    return "later", message, name, response.status, retry_after(response.headers)
  end
  host.count("requests", "refused")
  return "no", message, name, response.status
end

--- The service has answered, be it yes or no.
local function worked(client)
  local l = ledger(client.service or "")
  l.worked, l.down = jet.time(), nil
end

--- Ends the task: the event comes again, later and later while nothing works. Where that is the
--- fault of no event, it is no attempt of the event's: no login, a limit, or a service that has not
--- answered anybody for a while. A 500, or silence in the middle of answers to others, may well be
--- the event's own.
local function give_back(client, verdict, message, status, seconds)
  local l, now = ledger(client.service or ""), jet.time()
  if verdict ~= "limited" then
    l.down = l.down or now
  end
  local down = verdict ~= "limited" and min(now - l.down, DOWN_MAX) or 0
  local after = duration(min(max(seconds or 0, down, PAUSE), AGAIN_MAX))
  local silent = verdict == "later" and (status == nil or OUTAGE[status])
    and (not l.worked or l.worked < now - QUIET)
  if verdict == "limited" or verdict == "login" or silent then
    host.outage(message, after)
  end
  jet.retry(message, after)
end

--- The function `fn` as a part of a call: it returns as attempt() does, and is tried again while
--- there is time. Returns its value, or nil, message, name, status.
local function persist(client, fn, patient, hasty)
  local pause, renewed = PAUSE, false
  local waited = 0
  while true do
    local _, left = host.task()
    local verdict, value, name, status, extra
    if left and left < LEAST then
      verdict, value = "late", "there was no time left"
    else
      verdict, value, name, status, extra = fn(left)
    end
    if verdict == "ok" then
      worked(client)
      return value, nil
    elseif verdict == "no" then
      worked(client)
      return nil, value, name, status
    elseif verdict == "token" then
      local token, message, seconds
      if not renewed then
        renewed = true
        token, message, seconds = client.renew(extra)
      end
      if token then
        verdict = "again"
      elseif type(message) == "string" then
        verdict, value, name, status, extra = "login", message, nil, nil, seconds
      else
        return nil, value, name, status
      end
    end
    if verdict ~= "again" then
      local in_each
      in_each, left = host.task() -- time has passed
      local wait = max(pause * (0.5 + random() / 2), extra or 0)
      pause = min(2 * pause, PAUSE_MAX)
      if in_each and patient ~= false then
        if left and wait + LEAST >= left then
          give_back(client, verdict, value, status, extra)
        end
      elseif hasty or verdict ~= "limited" or waited + wait > PATIENCE
        or (left and wait + LEAST >= left) then
        return nil, value, name, status
      end
      waited = waited + wait
      jet.sleep(duration(wait))
    end
  end
end
M.persist = persist

--- The option `timeout` in seconds, or nil.
function M.seconds(what, text, level)
  if text == nil then
    return nil
  end
  local seconds = host.seconds(text)
  if not seconds or seconds <= 0 or seconds > 600 then
    error(format("%s: 'timeout' is 1ms to 10m, such as \"30s\"", what), level)
  end
  return seconds
end

--- Calls a method: the answer, or nil, message, name of the error, status. `call` may have params,
--- body (a text), type, headers, timeout (seconds), max_bytes, priority, points, retry (false:
--- never tries again), token, wants (true: only JSON is an answer; or the name of a text that it
--- must have), hasty (with retry = false: waits for no limit either).
function M.call(client, what, method, nsid, call)
  host.can_wait(what)
  return persist(client, function(left)
    return attempt(client, what, method, nsid, call, left)
  end, call.retry, call.hasty)
end

-- # jet.xrpc

local CALL_OPTIONS = { headers = true, timeout = true, max_bytes = true, priority = true,
  retry = true, proxy = true, type = true }

--- What a user gives as options of get and post, as a `call`.
function M.user_call(what, options, level)
  options = check_options(what, options, CALL_OPTIONS, level + 1)
  M.check_priority(what, options.priority, level + 1)
  local headers = {}
  for name, value in pairs(options.headers or {}) do
    headers[name] = value
  end
  if options.proxy ~= nil then
    headers["atproto-proxy"] = options.proxy
  end
  return { headers = headers, timeout = M.seconds(what, options.timeout, level + 1),
    max_bytes = options.max_bytes, priority = options.priority, retry = options.retry,
    type = options.type }
end

--- get and post for whoever has a client.
function M.get(client, what, nsid, params, options)
  check_nsid(what, nsid)
  if params ~= nil and type(params) ~= "table" then
    error(format("%s wants the parameters as a table, not %s", what, type(params)), 2)
  end
  local call = M.user_call(what, options, 3)
  call.params = params
  return M.call(client, what, "GET", nsid, call)
end

function M.post(client, what, nsid, body, options)
  check_nsid(what, nsid)
  local call = M.user_call(what, options, 3)
  if type(body) == "table" then
    call.body = jet.json.encode(body)
    call.type = call.type or "application/json"
  elseif type(body) == "string" then
    call.body = body
    call.type = call.type or "application/octet-stream"
  elseif body ~= nil then
    error(format("%s wants the body as a table or as bytes, not %s", what, type(body)), 2)
  end
  return M.call(client, what, "POST", nsid, call)
end

local Service = {}
Service.__index = Service

function Service:get(nsid, params, options)
  return M.get(self, "xrpc:get", nsid, params, options)
end

function Service:post(nsid, body, options)
  return M.post(self, "xrpc:post", nsid, body, options)
end

function Service:__tostring()
  return "xrpc " .. self.service
end

function M.service(address)
  local service = M.origin(address)
  if not service then
    error(format("jet.xrpc wants a host or an address, such as \"public.api.bsky.app\", not '%s'",
      tostring(address)), 2)
  end
  return setmetatable({ service = service }, Service)
end

return M
