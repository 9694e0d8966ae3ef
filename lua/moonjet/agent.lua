--- jet.agent: an account, by its app password. What it writes is written once: the key of a record
--- comes from the event and the action, so an event that comes again, after a crash or an outage,
--- finds what was written before.
---
---   jet.agent { … }  declares: no request is made
---   me:create(…)     in a task: session ─▶ room in the rate limits ─▶ putRecord under that key
---
--- What an agent knows over restarts is in a map that scripts cannot name: sessions, the DID behind
--- a handle, when it has logged in lately, and its points. Tokens are in there, in no table that a
--- script can reach, and in no message.
local host, jet = ...

local xrpc = host.library "xrpc"

local error, ipairs, pcall, setmetatable = error, ipairs, pcall, setmetatable
local tonumber, tostring, type = tonumber, tostring, type
local ceil, format, max, min = math.ceil, string.format, math.max, math.min

-- # What is remembered

local LOGINS = { { name = "5 minutes", window = 300, limit = 3 },
  { name = "a day", window = 86400, limit = 10 } }
local POINTS = { { name = "hour", window = 3600, limit = 5000 },
  { name = "day", window = 86400, limit = 35000 } }
local REFUSED = 600   -- seconds until a password that was refused is tried again
local DOWN = 5        -- seconds until a PDS that did not answer is asked again
local FLIGHT = 90     -- seconds a login may take before somebody else tries
local TOKEN_MAX = 16384

local memory          -- the map, once there is an agent
local sets = {}       -- of accounts, by name
local private = setmetatable({}, { __mode = "k" }) -- what belongs to an agent

--- Under which key something of the agent is remembered.
local function key_of(a, what)
  return what .. "\n" .. (a.service or "") .. "\n" .. a.identifier
end

local function recall(a, what)
  local text = host.peek(memory, key_of(a, what))
  return type(text) == "string" and xrpc.decode(text) or nil
end

local function remember(a, what, value)
  memory:set(key_of(a, what), value and jet.json.encode(value) or nil)
end

-- # Sessions

local BASE64 = {}
local ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
for i = 1, #ALPHABET do
  BASE64[ALPHABET:byte(i)] = i - 1
end

--- How long a token lasts, by what it says itself: seconds, or nil.
local function lifetime(token)
  local part = token:match "^[%w_-]+%.([%w_-]+)%."
  if not part then
    return nil
  end
  local bytes, n, bits, count = {}, 0, 0, 0
  for i = 1, #part do
    bits, count = bits * 64 + BASE64[part:byte(i)], count + 6
    if count >= 8 then
      count = count - 8
      local byte = math.floor(bits / 2 ^ count)
      bits = bits - byte * 2 ^ count
      n = n + 1
      bytes[n] = string.char(byte)
    end
  end
  local claims = xrpc.decode(table.concat(bytes))
  local exp, iat = claims and tonumber(claims.exp), claims and tonumber(claims.iat)
  if not exp then
    return nil
  end
  return max(0, exp - (iat or jet.time()))
end

local function is_token(value)
  return type(value) == "string" and #value > 0 and #value <= TOKEN_MAX
    and not value:find "[^%w%-._~+/=]"
end

--- The address of the PDS that a DID document names, or nil.
local function pds_of(document)
  local services = type(document) == "table" and document.service
  for _, service in ipairs(type(services) == "table" and services or {}) do
    if type(service) == "table" and type(service.id) == "string"
      and service.id:find "#atproto_pds$" then
      return xrpc.origin(service.serviceEndpoint)
    end
  end
end

--- Whether a password may go there: nobody on the way can read it, or there is no way.
local function is_private(origin)
  local place = origin:match "^http://(.*)$"
  place = place and place:gsub(":%d+$", "")
  return not place or place == "localhost" or place == "[::1]" or place:find "^127%.[%d.]+$" ~= nil
end

local function is_did(text)
  return type(text) == "string" and #text <= 2048 and text:find "^did:%l+:[%w._:%%-]+$" ~= nil
end

--- The agent has that DID from now on, also where the handle becomes somebody else's.
local function know(a, did, handle)
  a.handle = handle or a.handle
  if a.account and not (a.account:has(did) and a.account:count() == 1) then
    a.account:clear()
    a.account:add(did)
  end
  a.did = did
  if (recall(a, "did") or {}).did ~= did then
    remember(a, "did", { did = did, handle = a.handle })
  end
end

--- What to do where the DID that was known is not the one that is wanted.
local function remedy(a)
  return format("; if it is another account now, give jet.agent its DID: %s = \"did:plc:…\"",
    is_did(a.identifier) and "identifier" or "did")
end

--- Takes what createSession or refreshSession has answered. nil and a message when it is no use.
local function take_session(a, answer, service)
  if type(answer) ~= "table" or not is_token(answer.accessJwt) or not is_token(answer.refreshJwt)
    or not is_did(answer.did) then
    return nil, format("%s: the answer is no session", service)
  end
  if a.did and a.did ~= answer.did then
    return nil, format("%s says that %s is %s, not %s%s", service, a.identifier, answer.did, a.did,
      remedy(a))
  end
  local old = a.session or {}
  local lasts = lifetime(answer.accessJwt) or 3600
  local pds = pds_of(answer.didDoc)
  a.number = a.number + 1
  a.session = {
    did = answer.did, access = answer.accessJwt, refresh = answer.refreshJwt,
    service = a.service or (pds and is_private(pds) and pds) or service,
    renew = jet.time() + lasts - min(120, lasts / 5),
  }
  host.hide(old.access, a.session.access)
  host.hide(old.refresh, a.session.refresh)
  a.client.service = a.session.service
  know(a, answer.did, type(answer.handle) == "string" and answer.handle or nil)
  remember(a, "session", a.session)
  return a.session
end

--- The session of before the restart, or of the script's last version.
local function recall_session(a)
  local s = recall(a, "session")
  if not s or not is_token(s.access) or not is_token(s.refresh) or not is_did(s.did)
    or not xrpc.origin(s.service) or type(s.renew) ~= "number" then
    return nil
  end
  if a.did and a.did ~= s.did then
    return nil
  end
  a.did = s.did
  host.hide(nil, s.access)
  host.hide(nil, s.refresh)
  a.number = a.number + 1
  a.session = s
  a.client.service = s.service
  return s
end

--- Whether another createSession is allowed, and notes it. Or a message, and seconds.
local function allow_login(a)
  local now = jet.time()
  local kept = {}
  for _, at in ipairs(recall(a, "logins") or {}) do
    if type(at) == "number" and at <= now and at > now - 86400 then
      kept[#kept + 1] = at
    end
  end
  for _, rule in ipairs(LOGINS) do
    local oldest = kept[#kept - rule.limit + 1]
    if oldest and oldest > now - rule.window then
      local wait = ceil(oldest + rule.window - now)
      return nil, format("%s has logged in %d times in %s; the next time in %d s", a.identifier,
        rule.limit, rule.name, wait), wait
    end
  end
  kept[#kept + 1] = now
  remember(a, "logins", jet.array(kept))
  return true
end

--- That login does not count: nobody has answered.
local function forget_login(a)
  local kept = recall(a, "logins") or {}
  kept[#kept] = nil
  remember(a, "logins", jet.array(kept))
end

--- One call for a session, within a login: no each, no waiting. Returns as xrpc.call.
local function session_call(service, nsid, call)
  call.retry = false
  call.priority = "high"
  return xrpc.call({ service = service }, "jet.agent", "POST", nsid, call)
end

--- Where to log in: the address, or nil and a message. By the DID as soon as it is known: a handle
--- may be somebody else's by now, and the password would go to their PDS.
local function find_service(a)
  if a.service then
    return a.service
  end
  local identity, message = jet.resolve(a.did or a.identifier)
  if not identity then
    return nil, format("%s: %s%s", a.identifier, message, a.did and not a.given and remedy(a) or "")
  end
  local pds = xrpc.origin(identity.pds)
  if not pds then
    return nil, format("%s has no PDS", identity.did)
  elseif not is_private(pds) then
    return nil, format("%s has its PDS at %s, and on the way there all can read the password; "
      .. "if that is no matter, give jet.agent service = \"%s\"", identity.did, pds, pds)
  end
  know(a, identity.did, identity.handle)
  return pds
end

--- A new pair for the refresh token; false when it is dead; nil and a message for other failures.
local function refresh(a)
  local s = a.session
  local answer, message, name, status = session_call(s.service, "com.atproto.server.refreshSession",
    { token = s.refresh })
  if answer then
    host.count("logins", "refresh")
    return take_session(a, answer, s.service)
  elseif status == 401 or name == "ExpiredToken" or name == "InvalidToken" then
    return false
  end
  return nil, message
end

local function log_in(a)
  local now = jet.time()
  if a.refused and now < a.refused.again then
    return nil, a.refused.message, a.refused.again - now
  end
  local service, message = find_service(a)
  if not service then
    return nil, message
  end
  local allowed, seconds
  allowed, message, seconds = allow_login(a)
  if not allowed then
    return nil, message, seconds
  end
  host.count("logins", "password")
  local answer, name, status
  answer, message, name, status = session_call(service, "com.atproto.server.createSession", {
    body = jet.json.encode { identifier = a.did or a.identifier, password = a.password },
    type = "application/json" })
  if answer then
    return take_session(a, answer, service)
  elseif status and status >= 400 and status < 500 and status ~= 429 then
    if name == "AuthFactorTokenRequired" then
      message = message .. "; use an app password"
    elseif status == 401 then
      message = message .. "; is the app password right?"
      if a.did and not a.given then
        message = format("%s %s is %s%s", message, a.identifier, a.did, remedy(a))
      end
    end
    a.refused = { message = message, again = now + REFUSED }
    jet.log.error("%s cannot log in: %s", a.identifier, message)
    return nil, message, REFUSED
  elseif not status or status >= 500 then
    forget_login(a)
    a.refused = { message = message, again = jet.time() + DOWN }
  end
  return nil, message
end

--- A session in place of the one there is, or of none.
local function get_session(a)
  local kept = recall(a, "session")
  if kept and kept.refresh ~= (a.session or {}).refresh and recall_session(a)
    and jet.time() < a.session.renew then
    return a.session -- of the script's last version, which runs to its end beside this one
  end
  if a.session then
    local session, message = refresh(a)
    if session or session == nil then
      return session, message
    end
    a.session = nil
    remember(a, "session", nil)
  end
  return log_in(a)
end

--- The token and its number in place of the one with the number `stale`. One at a time, in a task
--- of its own, so that nobody's timeout ends it; all who want it wait.
local function renew(a, stale)
  local s = a.session
  if s and a.number ~= stale and jet.time() < s.renew then
    return s.access, a.number -- somebody was faster
  end
  local flight = a.flight
  if not flight or flight.done or jet.time() > flight.by then
    flight = { waiting = {}, by = jet.time() + FLIGHT }
    jet.spawn(function()
      local ok, session, message, seconds = pcall(get_session, a)
      flight.done, flight.session, flight.seconds = true, ok and session or nil, seconds
      flight.message = ok and message or not ok and tostring(session) or nil
      for _, queue in ipairs(flight.waiting) do
        queue:put(true)
      end
    end)
    a.flight = flight
  end
  if not flight.done then
    local queue = jet.queue(1)
    flight.waiting[#flight.waiting + 1] = queue
    local _, left = host.task()
    queue:get(xrpc.duration(left and max(0.1, left - 0.4) or FLIGHT))
  end
  if flight.session then
    return flight.session.access, a.number
  end
  return nil, flight.message or format("%s: the login takes too long", a.identifier), flight.seconds
end

--- The token for a call: what xrpc asks a client for.
local function authorize(a)
  local s = a.session
  if s and jet.time() < s.renew then
    return s.access, a.number
  end
  return renew(a, a.number)
end

-- # Points

--- Buckets of an hour and of a day, as xrpc.take has them, from before the restart.
local function buckets(a)
  if a.points then
    return a.points
  end
  local kept = recall(a, "points") or {}
  a.points = { free = kept.free == true }
  for i, rule in ipairs(POINTS) do
    local old = type(kept[rule.name]) == "table" and kept[rule.name] or {}
    a.points[i] = { window = rule.window, limit = rule.limit,
      remaining = tonumber(old.remaining) or rule.limit, reset = tonumber(old.reset) or 0 }
  end
  return a.points
end

local function keep_points(a)
  local kept = { free = a.points.free }
  for i, rule in ipairs(POINTS) do
    kept[rule.name] = { remaining = a.points[i].remaining, reset = a.points[i].reset }
  end
  remember(a, "points", kept)
end

local function budget(a, cost, priority)
  local p, now = buckets(a), jet.time()
  if p.free then
    return nil
  end
  for i = #p, 1, -1 do
    local seconds = xrpc.take(p[i], cost, priority, now)
    if seconds then
      return seconds
    end
  end
  keep_points(a)
end

--- What the service says of writes; nil: it counts nothing, and so nor do we.
local function settle(a, limit, remaining, window, left)
  local p = buckets(a)
  p.free = limit == nil
  for _, bucket in ipairs(p) do
    if bucket.window == window then
      bucket.limit, bucket.remaining, bucket.reset = limit, remaining, jet.time() + left
    end
  end
  keep_points(a)
end

-- # Agents

local Agent = {} -- the methods; a bot's are added to them

local function self_of(me, what)
  local a = private[me]
  if not a then
    error(format("call it with a colon: me:%s(…)", what), 3)
  end
  return a
end

--- Asks for the DID behind the handle until it is known, be it by a login.
local function find_did(a)
  if a.did then
    return know(a, a.did) -- the set may have one of before, which the script has replaced
  end
  local pause = 1
  while not a.did do
    local ok, identity, message = pcall(jet.resolve, a.identifier)
    if not ok then
      return -- there is no network here
    elseif a.did then
      return -- a login was faster, and knows better
    elseif identity then
      know(a, identity.did, identity.handle)
      return
    end
    jet.log.warn("who %s is, is not known yet: %s", a.identifier, tostring(message))
    jet.sleep(pause .. "s")
    pause = min(pause * 2, 300)
  end
end

local function account_of(a)
  if not a.account then
    if not host.declaring() then
      error("me.account is a set: read it at the top level of the script", 3)
    end
    local name = "agent:" .. a.identifier:sub(1, 58)
    sets[name] = sets[name] or host.set(name, a.did)
    a.account = sets[name]
    host.library "bot".listen(a, a.account)
    jet.spawn(find_did, a)
  end
  return a.account
end

local meta = { __metatable = false }

function meta.__index(me, key)
  local a = private[me]
  if key == "did" then
    if not a.did and host.declaring() then
      error(format("who %s is, is not known before it has logged in: give jet.agent its DID "
        .. "(did = \"did:plc:…\"), or use me.account in matches", a.identifier), 2)
    end
    return a.did
  elseif key == "handle" then
    return a.handle
  elseif key == "account" then
    return account_of(a)
  elseif Agent[key] ~= nil then
    return Agent[key]
  end
  local near = host.closest(tostring(key), Agent)
  error(format("an agent has no '%s'%s", tostring(key),
    near and format("; did you mean '%s'?", near) or ""), 2)
end

function meta.__newindex(_, key)
  error(format("an agent's '%s' cannot be assigned", tostring(key)), 2)
end

function meta.__tostring(me)
  return "agent " .. private[me].identifier
end

local OPTIONS = { identifier = true, did = true, password = true, service = true, priority = true }

local function agent(options)
  if type(options) ~= "table" then
    error("jet.agent wants a table: jet.agent { identifier = …, password = jet.secret \"…\" }", 2)
  end
  host.need_declare "jet.agent"
  xrpc.check_options("jet.agent", options, OPTIONS, 3)
  local identifier, did = options.identifier or options.did, options.did
  if type(identifier) ~= "string" or not (is_did(identifier) or identifier:find "^[%w-]+%.[%w.-]+$")
    or #identifier > 2048 then
    error("jet.agent wants the account's handle or DID: identifier = \"bot.example.com\"", 2)
  elseif did ~= nil and not is_did(did) then
    error(format("jet.agent: '%s' is no DID", tostring(did)), 2)
  elseif type(options.password) ~= "string" or options.password == "" then
    error("jet.agent wants the account's app password: password = jet.secret \"BOT\"", 2)
  end
  if is_did(identifier) then
    if did and did ~= identifier then
      error(format("jet.agent: identifier is %s, and did is %s", identifier, did), 2)
    end
    did = identifier
  else
    identifier = identifier:lower()
  end
  local service
  if options.service ~= nil then
    service = xrpc.origin(options.service)
    if not service then
      error(format("jet.agent: service is the address of a PDS, such as "
        .. "\"https://pds.example.com\", not '%s'", tostring(options.service)), 2)
    end
  end
  xrpc.check_priority("jet.agent", options.priority, 3)
  memory = memory or host.map "moonjet.agents"
  host.library "bot".declare()
  host.hide(nil, options.password)
  local a = { identifier = identifier, given = did, did = did, service = service,
    password = options.password, number = 0 }
  a.client = {
    service = service, priority = options.priority,
    authorize = function() return authorize(a) end,
    renew = function(stale) return renew(a, stale) end,
    budget = function(cost, priority) return budget(a, cost, priority) end,
    settle = function(...) return settle(a, ...) end,
  }
  local known = recall(a, "did")
  if known and not a.did and is_did(known.did) then
    a.did = known.did
  end
  if known and known.did == a.did and type(known.handle) == "string" then
    a.handle = known.handle
  end
  recall_session(a)
  local me = setmetatable({}, meta)
  private[me] = a
  return me
end

--- Logs in, unless it has: for scripts that want to know early. Returns the DID, or nil and a
--- message.
function Agent:login()
  local a = self_of(self, "login")
  host.can_wait "me:login"
  local token, message = authorize(a)
  if not token then
    return nil, message
  end
  return a.did
end

function Agent:get(nsid, params, options)
  return xrpc.get(self_of(self, "get").client, "me:get", nsid, params, options)
end

function Agent:call(nsid, body, options)
  return xrpc.post(self_of(self, "call").client, "me:call", nsid, body, options)
end

host.library "repo".add(Agent, self_of, authorize)
host.library "bot".add(Agent, self_of)

return { agent = agent, xrpc = xrpc.service, methods = Agent, self_of = self_of }
