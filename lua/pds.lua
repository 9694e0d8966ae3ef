--- t:pds: a PDS with one account, for specs of scripts that have an agent. It answers the requests
--- of the script's agents and look-ups of its account, keeps what they write, and can be told to
--- fail.
local env, host = ...

local error, ipairs, next, pairs, setmetatable = error, ipairs, next, pairs, setmetatable
local tonumber, tostring, type = tonumber, tostring, type
local format, floor = string.format, math.floor

local json = env.jet.json

local Pds = {}
Pds.__index = Pds

-- # Small things

local ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

local function base64url(bytes)
  local out = {}
  for i = 1, #bytes, 3 do
    local a, b, c = bytes:byte(i, i + 2)
    local n = a * 65536 + (b or 0) * 256 + (c or 0)
    for k = 0, (c and 3) or (b and 2) or 1 do
      local six = floor(n / 64 ^ (3 - k)) % 64
      out[#out + 1] = ALPHABET:sub(six + 1, six + 1)
    end
  end
  return table.concat(out)
end

local function unescape(text)
  return (text:gsub("+", " "):gsub("%%(%x%x)", function(hex)
    return string.char(tonumber(hex, 16))
  end))
end

local function params_of(url)
  local params = {}
  for name, value in (url:match "%?(.*)$" or ""):gmatch "([^&=]+)=([^&]*)" do
    params[unescape(name)] = unescape(value)
  end
  return params
end

local function refuse(status, name, message)
  return { status = status, body = { error = name, message = message or name } }
end

-- Made up, but of the right form; the same content has the same one.
local function cid_of(self, value)
  local text = json.encode(value)
  if not self.cids[text] then
    self.cid_count = self.cid_count + 1
    local digits, n = {}, self.cid_count
    for i = 52, 1, -1 do
      digits[i] = ("abcdefghijklmnopqrstuvwxyz234567"):sub(n % 32 + 1, n % 32 + 1)
      n = floor(n / 32)
    end
    self.cids[text] = "bafyrei" .. table.concat(digits)
  end
  return self.cids[text]
end

-- # Sessions

local function token(self, kind, lasts)
  self.token_count = self.token_count + 1
  local now = floor(host.now() / 1e6)
  local claims = { iat = now, exp = now + lasts, scope = kind, jti = tostring(self.token_count),
    sub = self.did }
  local text = table.concat({ base64url "{\"alg\":\"HS256\"}", base64url(json.encode(claims)),
    base64url "signature" }, ".")
  self.tokens[text] = { kind = kind, exp = claims.exp }
  return text
end

local function session(self)
  return { status = 200, body = { did = self.did, handle = self.handle, active = true,
    accessJwt = token(self, "access", self.lifetime),
    refreshJwt = token(self, "refresh", 90 * 86400) } }
end

--- The token of a request, when it is good; or what is answered.
local function check(self, request, kind)
  local text = (request.headers.Authorization or ""):match "^Bearer (.+)$"
  local found = text and self.tokens[text]
  if not found or found.kind ~= kind then
    return nil, refuse(401, "InvalidToken")
  elseif found.over or host.now() / 1e6 >= found.exp then
    return nil, refuse(400, "ExpiredToken", "Token has expired")
  end
  return text
end

-- # Methods

local function put(self, collection, rkey, record, created)
  local path = collection .. "/" .. rkey
  local entry = { uri = format("at://%s/%s", self.did, path), cid = cid_of(self, record),
    collection = collection, rkey = rkey, value = record }
  if created then
    self.order[#self.order + 1] = path
  end
  self.records[path] = entry
  return entry
end

local function remove(self, path)
  self.records[path] = nil
  for i, one in ipairs(self.order) do
    if one == path then
      table.remove(self.order, i)
      return
    end
  end
end

local methods = {}

methods["com.atproto.server.createSession"] = function(self, body)
  if body.identifier ~= self.did and body.identifier ~= self.handle
    or self.password and body.password ~= self.password then
    return refuse(401, "AuthenticationRequired", "Invalid identifier or password")
  end
  return session(self)
end

methods["com.atproto.server.refreshSession"] = function(self, _, request)
  local text, refused = check(self, request, "refresh")
  if not text then
    return refused
  end
  self.tokens[text].over = true
  return session(self)
end

methods["com.atproto.repo.putRecord"] = function(self, body)
  local old = self.records[body.collection .. "/" .. body.rkey]
  local cid = cid_of(self, body.record)
  if old and old.cid == cid then
    return { status = 200, body = { uri = old.uri, cid = cid } }
  elseif body.swapRecord == env.jet.null and old or type(body.swapRecord) == "string"
    and (not old or old.cid ~= body.swapRecord) then
    return refuse(400, "InvalidSwap", format("Record was at %s", old and old.cid or "null"))
  end
  local entry = put(self, body.collection, body.rkey, body.record, not old)
  return { status = 200, body = { uri = entry.uri, cid = entry.cid } }
end

methods["com.atproto.repo.createRecord"] = function(self, body)
  local rkey = body.rkey or format("3made%08d", #self.order + self.token_count)
  if self.records[body.collection .. "/" .. rkey] then
    return refuse(500, "InternalServerError")
  end
  local entry = put(self, body.collection, rkey, body.record, true)
  return { status = 200, body = { uri = entry.uri, cid = entry.cid } }
end

methods["com.atproto.repo.deleteRecord"] = function(self, body)
  remove(self, body.collection .. "/" .. body.rkey)
  return { status = 200, body = env.jet.object {} }
end

methods["com.atproto.repo.applyWrites"] = function(self, body)
  for _, write in ipairs(body.writes) do
    local there = self.records[write.collection .. "/" .. tostring(write.rkey)]
    if (write["$type"]:match "#(.*)$" == "create") == (there ~= nil) then
      return refuse(500, "InternalServerError")
    end
  end
  local results = {}
  for i, write in ipairs(body.writes) do
    local op = write["$type"]:match "#(.*)$"
    if op == "delete" then
      remove(self, write.collection .. "/" .. write.rkey)
      results[i] = { ["$type"] = "com.atproto.repo.applyWrites#deleteResult" }
    else
      local entry = put(self, write.collection, write.rkey, write.value, op == "create")
      results[i] = { ["$type"] = format("com.atproto.repo.applyWrites#%sResult", op),
        uri = entry.uri, cid = entry.cid }
    end
  end
  return { status = 200, body = { results = env.jet.array(results) } }
end

methods["com.atproto.repo.uploadBlob"] = function(_, body, request)
  return { status = 200, body = { blob = { ["$type"] = "blob",
    ref = { ["$link"] = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy" },
    mimeType = request.headers["Content-Type"], size = #body } } }
end

methods["com.atproto.repo.getRecord"] = function(self, params)
  local entry = self.records[params.collection .. "/" .. params.rkey]
  if not entry or params.repo ~= self.did and params.repo ~= self.handle then
    return refuse(400, "RecordNotFound", "Could not locate record")
  end
  return { status = 200, body = { uri = entry.uri, cid = entry.cid, value = entry.value } }
end

methods["com.atproto.repo.listRecords"] = function(self, params)
  if params.repo ~= self.did and params.repo ~= self.handle then
    return refuse(400, "InvalidRequest", "Could not find repo: " .. tostring(params.repo))
  end
  local from, limit = tonumber(params.cursor) or 0, tonumber(params.limit) or 50
  local all, page = self:list(params.collection), {}
  for i = 1, params.reverse and 0 or floor(#all / 2) do
    all[i], all[#all + 1 - i] = all[#all + 1 - i], all[i]
  end
  for i = from + 1, math.min(from + limit, #all) do
    page[#page + 1] = { uri = all[i].uri, cid = all[i].cid, value = all[i].value }
  end
  return { status = 200, body = { records = env.jet.array(page),
    cursor = from + limit < #all and tostring(from + limit) or nil } }
end

-- No token needed.
local OPEN = { ["com.atproto.server.createSession"] = true, ["com.atproto.repo.getRecord"] = true,
  ["com.atproto.server.refreshSession"] = true, ["com.atproto.repo.listRecords"] = true }

local function carry_out(self, nsid, request)
  if not OPEN[nsid] then
    local text, refused = check(self, request, "access")
    if not text then
      return refused
    end
  end
  local method = self.served[nsid] or methods[nsid]
  if not method then
    return refuse(501, "MethodNotImplemented",
      nsid .. ": the spec's PDS has no such method; pds:serve adds one")
  end
  local input = request.body
  if request.method == "GET" then
    input = params_of(request.url)
  elseif (request.headers["Content-Type"] or ""):find("json", 1, true) then
    input = json.decode(request.body)
  end
  return method(self, input, request)
end

local function answer(self, request)
  local nsid = request.url:match("^[^?]*", #self.service + 7)
  self.called[#self.called + 1] = nsid
  for i, rule in ipairs(self.rules) do
    if rule.method == nil or rule.method == nsid then
      rule.times = rule.times - 1
      if rule.times == 0 then
        table.remove(self.rules, i)
      end
      if rule.lost then
        carry_out(self, nsid, request)
      end
      if rule.unanswered then
        return nil, rule.unanswered
      end
      return rule.response
    end
  end
  return carry_out(self, nsid, request)
end

-- # What a spec sees

--- What the account's collection holds, in the order in which it was created.
function Pds:list(collection)
  local all = {}
  for _, path in ipairs(self.order) do
    local entry = self.records[path]
    if collection == nil or entry.collection == collection then
      all[#all + 1] = entry
    end
  end
  return all
end

--- Which methods were called since the last call.
function Pds:calls()
  local called = self.called
  self.called = {}
  return called
end

--- Answers a method itself: the function gets the parameters or the body, and the request.
function Pds:serve(nsid, fn)
  if type(nsid) ~= "string" or not host.callable(fn) then
    error("pds:serve wants the name of a method and a function", 2)
  end
  self.served[nsid] = function(_, input, request)
    return fn(input, request)
  end
end

local RULE = { method = true, times = true, status = true, body = true, headers = true,
  unanswered = true, lost = true }

--- The next requests fail: { times = 3, status = 503 }, { unanswered = "timed out" }.
function Pds:fail(rule)
  if type(rule) ~= "table" then
    error("pds:fail wants a table: pds:fail { status = 503, times = 3 }", 2)
  end
  for key in pairs(rule) do
    if not RULE[key] then
      error(format("pds:fail has no '%s'", tostring(key)), 2)
    end
  end
  self.rules[#self.rules + 1] = { method = rule.method, times = rule.times or 1,
    unanswered = rule.unanswered or rule.lost and "the answer was lost", lost = rule.lost,
    response = { status = rule.status or 500, headers = rule.headers,
      body = rule.body or { error = "Failed", message = "as the spec says" } } }
end

--- What pds:fail has said is over.
function Pds:ok()
  self.rules = {}
end

--- Access tokens are over; with true, refresh tokens are, too.
function Pds:expire(all)
  for _, t in pairs(self.tokens) do
    if t.kind == "access" or all then
      t.over = true
    end
  end
end

local OPTIONS = { did = true, handle = true, password = true, service = true, lifetime = true,
  people = true, http = true }

return function(t, options)
  options = options or {}
  if type(options) ~= "table" then
    error("t:pds wants its options as a table", 3)
  end
  for key in pairs(options) do
    if not OPTIONS[key] then
      error(format("t:pds has no option '%s'", tostring(key)), 3)
    end
  end
  local self = setmetatable({
    did = options.did or "did:plc:botbotbotbotbotbotbotbot", handle = options.handle or "bot.test",
    password = options.password, service = options.service or "https://pds.test",
    lifetime = options.lifetime or 7200,
    records = {}, order = {}, cids = {}, cid_count = 0, tokens = {}, token_count = 0, served = {},
    rules = {}, called = {},
  }, Pds)
  t:http(function(request)
    if request.url:sub(1, #self.service + 6) == self.service .. "/xrpc/" then
      return answer(self, request)
    elseif options.http then
      return options.http(request)
    end
    return nil, "the spec has no such server"
  end)
  t:resolve(function(who)
    if who == self.did or who == self.handle then
      return { did = self.did, handle = self.handle, pds = self.service }
    end
    for handle, did in next, options.people or {} do
      if who == handle or who == did then
        return { did = did, handle = handle, pds = "https://elsewhere.test" }
      end
    end
    return nil, who .. ": there is no such account"
  end)
  return self
end
