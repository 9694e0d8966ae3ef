--- What makes an agent a bot: flows of what happens to it, and manners.
---
---   me:on { "mention", "reply" }  ─▶  one flow, matched in C by me.account  ─▶  each
---                                      └ a post that is both runs the function once, with both
---                                        reasons
---   me.account             ─▶  a flow of all mentions and replies, which hears "!stop" and
---                              "!start" whatever the script does with them
---
--- Manners are kept over restarts, in maps that scripts cannot name: who has said stop, whom the
--- bot has answered lately, and which accounts are bots. A bot answers neither itself nor who has
--- said stop; another bot once in a while only; and nobody for ever in one thread, nor, as a quote
--- or a post of its own begins another thread, all day long.
local host, jet = ...

local posts = host.library "post"
local rich_text = host.library "richtext"
local xrpc = host.library "xrpc"

local error, ipairs, pairs, tostring, type = error, ipairs, pairs, tostring, type
local format = string.format

local M = {}

local POST, LIKE, REPOST, FOLLOW, PROFILE = "app.bsky.feed.post", "app.bsky.feed.like",
  "app.bsky.feed.repost", "app.bsky.graph.follow", "app.bsky.actor.profile"

local MANNERS = { stop = { "!stop" }, start = { "!start" }, cooldown = "1h", per_thread = 20,
  per_day = 250 }
local KNOWN, UNKNOWN = "1d", "10m" -- how long it is remembered whether an account is a bot

local memory, stops, past -- maps, once there is an agent

--- While a script loads that has an agent.
function M.declare()
  memory = memory or host.map "moonjet.bots"
  stops = stops or host.map "moonjet.stops"
end

-- # Reasons

--- What of the network each reason is; the account is a set.
local MATCHES = {
  mention = function(account) return { collection = POST, mentions = account } end,
  reply = function(account) return { collection = POST, reply_to = account } end,
  reply_root = function(account) return { collection = POST, root = account } end,
  quote = function(account) return { collection = POST, quotes = account } end,
  like = function(account) return { collection = LIKE, subject = account } end,
  repost = function(account) return { collection = REPOST, subject = account } end,
  follow = function(account) return { collection = FOLLOW, subject = account } end,
}
--- Those of deletes, which do not say what was deleted: a map remembers it.
local UNDONE = { unlike = LIKE, unrepost = REPOST, unfollow = FOLLOW }
local REASON_OF = { [LIKE] = "like", [REPOST] = "repost", [FOLLOW] = "follow" }

local function all_reasons()
  local names = {}
  for name in pairs(MATCHES) do
    names[name] = true
  end
  for name in pairs(UNDONE) do
    names[name] = true
  end
  return names
end
local REASONS = all_reasons()

local function did_of(uri)
  return type(uri) == "string" and uri:match "^at://([^/]+)" or uri
end

--- Every reason for which the event is the account's business: a list, with each as a key, too.
local function reasons_of(ev, is_me)
  local reasons = {}
  local function add(name, yes)
    if yes then
      reasons[#reasons + 1] = name
      reasons[name] = true
    end
  end
  local function names_me(path)
    local uri = ev:get(path)
    return type(uri) == "string" and is_me(did_of(uri))
  end
  if ev.op ~= "create" then
    return reasons
  elseif ev.collection == POST then
    for did in ev:mentions() do
      add("mention", not reasons.mention and is_me(did))
    end
    add("reply", names_me "reply.parent.uri")
    add("reply_root", names_me "reply.root.uri")
    add("quote", names_me "embed.record.uri" or names_me "embed.record.record.uri")
  elseif REASON_OF[ev.collection] then
    add(REASON_OF[ev.collection], names_me(ev.collection == FOLLOW and "subject" or "subject.uri"))
  end
  return reasons
end

-- # Manners

local function key_under(name, what, ...)
  local parts = { what, name, ... }
  for i, part in ipairs(parts) do
    if #part > 1000 then
      parts[i] = part:sub(1, 1000)
    end
  end
  return table.concat(parts, "\n")
end

--- Under which key something of the agent is remembered: by the DID, since the handle may change,
--- and the script may name the one or the other.
local function key(a, ...)
  return key_under(a.did or a.identifier, ...)
end

--- What is remembered under that key, or was before the DID was known.
local function recall(map, a, ...)
  local value = map:get(key(a, ...))
  if value == nil and a.did and a.did ~= a.identifier then
    value = map:get(key_under(a.identifier, ...))
  end
  return value
end

local function has_stopped(a, did)
  return recall(stops, a, "stop", did) == true
end

local function manners_of(a)
  return a.manners or MANNERS
end

--- Whether the account says of itself that it is a bot: a label in its profile. What cannot be
--- found out is no.
local function is_bot(a, did)
  local at = key(a, "bot", did)
  local known = memory:get(at)
  if known ~= nil then
    return known
  end
  local who = host.resolve_document(did)
  local found, name
  if who and who.pds then
    local _
    found, _, name = xrpc.call({ service = who.pds }, "me:reply", "GET",
      "com.atproto.repo.getRecord", { retry = false, hasty = true, timeout = 5,
        params = { repo = did, collection = PROFILE, rkey = "self" } })
  end
  local bot = false
  if found then
    local profile = type(found.value) == "table" and found.value or {}
    local labels = type(profile.labels) == "table" and profile.labels.values
    for _, label in ipairs(type(labels) == "table" and labels or {}) do
      bot = bot or (type(label) == "table" and label.val == "bot")
    end
  end
  memory:set(at, bot, (found or name == "RecordNotFound") and KNOWN or UNKNOWN)
  return bot
end

--- What the agent is about to answer: whose it is, which one, and in which thread.
local function question_of(x)
  local uri = x.uri
  local root = posts.root_of(x)
  root = type(root) == "table" and root.uri
  return did_of(uri), uri, type(root) == "string" and root or uri
end

local function refuse(message, name, label)
  host.count("skips", label)
  return nil, message, name
end

--- Asks before an answer: nil, why not, and the reason's name; or the function that notes the
--- answer. The same question may be answered again: it comes again after a crash.
local function may_answer(a, x)
  local did, uri, root = question_of(x)
  local manners = manners_of(a)
  if did == a.did then
    return refuse("a bot does not answer itself", "Own", "own")
  elseif has_stopped(a, did) then
    return refuse(did .. " does not want to hear from the bot", "OptedOut", "opted_out")
  end
  local day = format("%d", jet.time() / 86400)
  local before = recall(memory, a, "last", did)
  local in_thread = recall(memory, a, "thread", did, root) or 0
  local in_day = recall(memory, a, "day", day, did) or 0
  if before ~= uri then
    if before and manners.cooldown and is_bot(a, did) then
      return refuse(did .. " is a bot, too, and was answered lately", "Cooldown", "cooldown")
    elseif manners.per_thread and in_thread >= manners.per_thread then
      return refuse(format("%s has got %d answers in this thread", did, manners.per_thread),
        "Cooldown", "cooldown")
    elseif manners.per_day and in_day >= manners.per_day then
      return refuse(format("%s has got %d answers today", did, manners.per_day), "Cooldown",
        "cooldown")
    end
  end
  return function()
    if recall(memory, a, "last", did) ~= uri then
      in_thread = recall(memory, a, "thread", did, root) or 0
      in_day = recall(memory, a, "day", day, did) or 0
      memory:set(key(a, "thread", did, root), in_thread + 1, "1d")
      memory:set(key(a, "day", day, did), in_day + 1, "1d")
    end
    memory:set(key(a, "last", did), uri, manners.cooldown or "1h")
  end
end

--- Whether one of the words stands in the text by itself.
local function says(text, words)
  if not words then
    return false
  end
  text = " " .. text:lower():gsub("%s", " ") .. " "
  for _, word in ipairs(words) do
    if text:find(" " .. word .. " ", 1, true) then
      return true
    end
  end
  return false
end

--- Notes "!stop" and "!start"; true when that was all that was to be done.
function M.heeds(a, did, text)
  local manners = manners_of(a)
  if says(text, manners.start) and has_stopped(a, did) then
    stops:remove(key(a, "stop", did))
    stops:remove(key_under(a.identifier, "stop", did))
    jet.log.info("%s wants to hear from %s again", did, a.identifier)
    return true
  elseif says(text, manners.stop) then
    stops:set(key(a, "stop", did), true)
    jet.log.info("%s does not want to hear from %s any more", did, a.identifier)
    return true
  end
  return has_stopped(a, did)
end

M.key, M.recall, M.may_answer = key, recall, may_answer

--- Whether the post says no more than whether its account wants answers. Changes nothing: a
--- function may be late, and the account may have said something else since.
local function is_order(a, ev)
  return says(ev.text, manners_of(a).stop) or recall(memory, a, "started", ev.uri) == true
end

-- # Flows

local listeners = 0

--- Hears what is said to the agent, once per agent and before all limits.
function M.listen(a, account)
  listeners = listeners + 1
  local matches = { MATCHES.mention(account), MATCHES.reply(account) }
  for _, match in ipairs(matches) do
    match.op, match.did = "create", jet.no(account)
  end
  jet.from(matches):tap(function(ev)
    if M.heeds(a, ev.did, ev.text) and not has_stopped(a, ev.did) then
      memory:set(key(a, "started", ev.uri), true, "1d")
    end
  end):as("agent.manners" .. (listeners > 1 and listeners or ""))
end

local function check_reasons(what, reasons)
  if type(reasons) == "string" then
    reasons = { reasons }
  elseif type(reasons) ~= "table" or #reasons == 0 then
    error(what .. " wants a reason or a list of them, such as { \"mention\", \"reply\" }", 4)
  end
  for _, name in ipairs(reasons) do
    if not REASONS[name] then
      local near = host.closest(tostring(name), REASONS)
      error(format("%s knows no reason '%s'%s", what, tostring(name),
        near and format("; did you mean '%s'?", near) or ""), 4)
    end
  end
  return reasons
end

--- The options of on, and what is left for each.
local function on_options(what, options)
  if options ~= nil and type(options) ~= "table" then
    error(format("%s wants its options as a table, not %s", what, type(options)), 4)
  end
  local own, rest = {}, { workers = 4 }
  for name, value in pairs(options or {}) do
    if name == "limit" or name == "manners" or name == "name" then
      own[name] = value
    else
      rest[name] = value
    end
  end
  return own, rest
end

--- The flow of what matches, limited per account if that is wanted, into an each of that name.
local function attach(flow, name, work, own, rest)
  if own.limit ~= nil then
    flow = host.try(flow.limit, flow, { rate = own.limit, by = "did" })
  end
  flow = host.try(flow.each, flow, work, rest)
  return host.try(flow.as, flow, name)
end

--- Flows that remember what likes, reposts and follows of the account were, and one of their
--- deletes.
local function attach_undone(a, me, undone, name, fn, own, rest)
  past = past or host.map "moonjet.past"
  local made, deleted = {}, {}
  for i, reason in ipairs(undone) do
    local collection = UNDONE[reason]
    made[i] = { collection = collection, op = "create", subject = me.account }
    deleted[i] = { collection = collection, op = "delete" }
  end
  jet.from(made):tap(function(ev)
    local subject = ev:get(ev.collection == FOLLOW and "subject" or "subject.uri")
    if type(subject) == "string" and #subject <= 4000 and ev.did ~= a.did then
      past:set(key(a, ev.uri), subject)
    end
  end):as(name .. "_made")
  local flow = jet.from(deleted):where(function(ev) return recall(past, a, ev.uri) ~= nil end)
  attach(flow, name .. "_undone", function(ev)
    local subject = recall(past, a, ev.uri)
    local reason = "un" .. REASON_OF[ev.collection]
    local result = fn(ev, { reason, [reason] = true }, subject)
    past:remove(key(a, ev.uri))
    past:remove(key_under(a.identifier, ev.uri))
    return result
  end, own, rest)
end

local function on(a, me, what, reasons, fn, options)
  reasons = check_reasons(what, reasons)
  if type(fn) ~= "function" then
    error(format("%s wants a function, not %s", what, type(fn)), 3)
  end
  host.need_declare(what)
  local own, rest = on_options(what, options)
  local account = me.account
  local matches, undone = {}, {}
  for _, reason in ipairs(reasons) do
    if UNDONE[reason] then
      undone[#undone + 1] = reason
    else
      local match = MATCHES[reason](account)
      match.op, match.did = "create", jet.no(account)
      matches[#matches + 1] = match
    end
  end
  local function is_me(did)
    return did ~= nil and (did == a.did or account:has(did))
  end
  local name = own.name or ("on_" .. table.concat(reasons, "_")):sub(1, 50)
  if #undone > 0 then
    attach_undone(a, me, undone, name, fn, own, rest)
  end
  if #matches == 0 then
    return
  end
  attach(jet.from(matches), name, function(ev)
    local why = reasons_of(ev, is_me)
    if ev.collection == POST and own.manners ~= false then
      if (why.mention or why.reply) and is_order(a, ev) then
        host.count("skips", "opted_out")
        jet.log.debug("%s is left alone: it says whether its account wants answers", ev.uri)
        return
      end
      local good, message = may_answer(a, ev)
      if not good then
        jet.log.debug("%s is left alone: %s", ev.uri, message)
        return
      end
    end
    return fn(ev, why)
  end, own, rest)
end

-- # The self-label

--- The profile with the label, or nil when it has it.
local function labelled(profile)
  local labels = type(profile.labels) == "table" and profile.labels or
    { ["$type"] = "com.atproto.label.defs#selfLabels" }
  local values = type(labels.values) == "table" and labels.values or jet.array {}
  for _, label in ipairs(values) do
    if type(label) == "table" and label.val == "bot" then
      return nil
    end
  end
  values[#values + 1] = { val = "bot" }
  labels.values = values
  profile.labels = labels
  return profile
end

--- Puts the label into the profile. True, or nil and a message.
local function put_label(me)
  local did, message = me:login()
  if not did then
    return nil, message
  end
  local found, name
  found, message, name = me:get_record(format("at://%s/%s/self", did, PROFILE))
  if not found and name ~= "RecordNotFound" then
    return nil, message
  end
  local profile = labelled(found and found.value or {})
  if not profile then
    return true
  end
  local ok
  ok, message = me:put(PROFILE, "self", profile, { swap = found and found.cid or false })
  return ok and true or nil, message
end

local function keep_labelling(a, me)
  local pause = 10
  while not recall(memory, a, "labelled") do
    local ok, message = put_label(me)
    if ok then
      memory:set(key(a, "labelled"), true)
      jet.log.info("%s says in its profile that it is a bot", a.identifier)
      return
    end
    jet.log.warn("%s has no bot label yet: %s", a.identifier, tostring(message))
    jet.sleep(pause .. "s")
    pause = math.min(pause * 2, 3600)
  end
end

-- # Methods of agents

local MANNERS_OPTIONS = { stop = true, start = true, cooldown = true, per_thread = true,
  per_day = true }

local function check_words(name, words)
  if words == false then
    return false
  elseif type(words) == "string" then
    words = { words }
  end
  if type(words) ~= "table" then
    error(format("me:manners: '%s' is a list of words, or false", name), 3)
  end
  local list = {}
  for i, word in ipairs(words) do
    if type(word) ~= "string" or word == "" or word:find "%s" then
      error(format("me:manners: '%s' is a list of words without spaces", name), 3)
    end
    list[i] = word:lower()
  end
  return list
end

function M.add(Agent, self_of)
  posts.add(Agent, self_of, function(me, x)
    return may_answer(self_of(me, "reply"), x)
  end)
  host.library "chat".add(Agent, self_of, M)

  function Agent:on(reasons, fn, options)
    on(self_of(self, "on"), self, "me:on", reasons, fn, options)
    return self
  end

  for reason in pairs(REASONS) do
    local what = "on_" .. reason
    Agent[what] = function(self, fn, options)
      on(self_of(self, what), self, "me:" .. what, reason, fn, options)
      return self
    end
  end

  function Agent:reasons(ev)
    local a = self_of(self, "reasons")
    if type(ev) ~= "userdata" then
      error(format("me:reasons wants an event, not %s", type(ev)), 2)
    end
    return reasons_of(ev, function(did) return did ~= nil and did == a.did end)
  end

  function Agent:manners(options)
    local a = self_of(self, "manners")
    host.need_declare "me:manners"
    options = rich_text.check_options("me:manners", options, MANNERS_OPTIONS, 3)
    local manners = {}
    for name, default in pairs(MANNERS) do
      manners[name] = default
      if options[name] ~= nil then
        manners[name] = options[name]
      end
    end
    manners.stop = check_words("stop", manners.stop)
    manners.start = check_words("start", manners.start)
    if manners.cooldown and not host.seconds(manners.cooldown) then
      error("me:manners: 'cooldown' is a duration, such as \"1h\", or false", 2)
    end
    for _, name in ipairs { "per_thread", "per_day" } do
      local n = manners[name]
      if n and (type(n) ~= "number" or n < 1 or n % 1 ~= 0) then
        error(format("me:manners: '%s' is a whole number from 1, or false", name), 2)
      end
    end
    a.manners = manners
    return self.account and self -- a read of me.account listens
  end

  --- Whether the account has said stop.
  function Agent:opted_out(did)
    return has_stopped(self_of(self, "opted_out"), tostring(did))
  end

  function Agent:label_self_as_bot()
    local a = self_of(self, "label_self_as_bot")
    host.need_declare "me:label_self_as_bot"
    jet.spawn(keep_labelling, a, self)
    return self
  end
end

return M
