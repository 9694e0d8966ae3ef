--- Direct messages: read by polling the chat service's log through the account's PDS, and written
--- the same way.
---
---   every 15 s   getLog(cursor) ─▶ messages ─▶ fn, one after the other ─▶ cursor
---
--- Where the log has been read up to is kept over restarts; so are the ids of what has been handed
--- on, so that a message is handed on once, unless Moonjet dies while the function runs.
local host, jet = ...

local rich_text = host.library "richtext"
local posts = host.library "post"

local error, ipairs, pcall, tostring, type = error, ipairs, pcall, tostring, type
local format = string.format

local M = {}

local SERVICE = "did:web:api.bsky.chat#bsky_chat"
local EVERY, PAUSE_MAX = 15, 600 -- seconds
local LENGTH = 1000              -- characters of a message; 10,000 bytes
local PAGES = 200                -- of the log, in one turn
local SEEN = "2d"

local memory -- a map, once a script reads messages
local kit    -- library bot: under which keys an agent remembers, and manners

--- One call to the chat service.
local function ask(me, a, method, nsid, input)
  local service = a.chat or SERVICE
  return me[method](me, nsid, input, { proxy = service, timeout = "20s" })
end

-- # Writing

local function convo_with(me, a, did)
  local answer, message, name, status = ask(me, a, "get", "chat.bsky.convo.getConvoForMembers",
    { members = { did } })
  local convo = answer and answer.convo
  if type(convo) ~= "table" or type(convo.id) ~= "string" then
    return nil, message or "the chat service's answer is no conversation", name, status
  end
  return convo.id
end

local function send(me, a, to, text)
  local convo = type(to) == "table" and to.convo
  if not convo then
    local did, message, name, status
    did, message = posts.did_of("me:dm", to, 3)
    if not did then
      return nil, message
    end
    convo, message, name, status = convo_with(me, a, did)
    if not convo then
      return nil, message, name, status
    end
  end
  text:resolve()
  local facets = text:facets()
  return ask(me, a, "call", "chat.bsky.convo.sendMessage", { convoId = convo,
    message = { text = text.text, facets = facets and jet.array(facets) } })
end

-- # Reading

--- What the function gets of a log entry; nil when it is no message of somebody else's.
local function message_of(a, entry)
  if type(entry) ~= "table" or entry["$type"] ~= "chat.bsky.convo.defs#logCreateMessage" then
    return nil
  end
  local m = entry.message
  if type(m) ~= "table" or type(m.id) ~= "string" or type(m.text) ~= "string"
    or type(m.sender) ~= "table" or type(m.sender.did) ~= "string" or m.sender.did == a.did
    or type(entry.convoId) ~= "string" then
    return nil
  end
  return { id = m.id, did = m.sender.did, text = m.text, convo = entry.convoId, sent_at = m.sentAt,
    facets = m.facets }
end

--- Hands the message on, once, unless its sender wants no answers.
local function hand_on(a, fn, message, manners)
  local seen = kit.key(a, "seen", message.id)
  if kit.recall(memory, a, "seen", message.id) then
    return
  end
  local answered
  if manners then
    if kit.heeds(a, message.did, message.text) then
      jet.log.debug("a message of %s is left alone: they have said whether they want answers",
        message.did)
      memory:set(seen, true, SEEN)
      return
    end
    local why
    answered, why = kit.may_answer(a, { uri = "at://" .. message.did .. "/dm/" .. message.id,
      root = { uri = message.id } })
    if not answered then
      jet.log.debug("a message of %s is left alone: %s", message.did, why)
      memory:set(seen, true, SEEN)
      return
    end
  end
  local ok, failure = pcall(fn, message)
  if not ok then
    jet.log.error("on_dm: %s", tostring(failure))
  end
  if answered then
    answered()
  end
  memory:set(seen, true, SEEN)
end

--- Reads the log to its end. True, or nil and a message. What was said before the bot was first
--- started is passed over.
local function read_log(me, a, fn, manners)
  local at = kit.key(a, "cursor", "")
  local cursor = kit.recall(memory, a, "cursor", "")
  local first = cursor == nil
  for _ = 1, PAGES do
    local answer, message = ask(me, a, "get", "chat.bsky.convo.getLog", { cursor = cursor })
    if not answer then
      return nil, message
    elseif type(answer.logs) ~= "table" then
      return nil, "the chat service's answer is no log"
    end
    for _, entry in ipairs(first and {} or answer.logs) do
      local m = message_of(a, entry)
      if m then
        hand_on(a, fn, m, manners)
      end
    end
    local next_cursor = answer.cursor
    if type(next_cursor) ~= "string" or next_cursor == cursor or #next_cursor > 4000 then
      break
    end
    cursor = next_cursor
    if not first then
      memory:set(at, cursor)
    end
    if #answer.logs == 0 then
      break
    end
  end
  if first then
    memory:set(at, cursor or "")
  end
  return true
end

local OPTIONS = { every = true, service = true, manners = true }

--- Adds the methods; `bot` is the library of that name.
function M.add(Agent, self_of, bot)
  kit = bot
  function Agent:on_dm(fn, options)
    local a = self_of(self, "on_dm")
    if type(fn) ~= "function" then
      error(format("me:on_dm wants a function, not %s", type(fn)), 2)
    end
    host.need_declare "me:on_dm"
    options = rich_text.check_options("me:on_dm", options, OPTIONS, 3)
    local every = options.every and host.seconds(options.every) or EVERY
    if options.every and not host.seconds(options.every) then
      error("me:on_dm: 'every' is a duration, such as \"15s\"", 2)
    elseif a.dms then
      error("me:on_dm: there is a function for messages already", 2)
    end
    a.chat = options.service or a.chat
    a.dms = true
    memory = memory or host.map "moonjet.chats"
    local pause, not_before = every, 0
    jet.every(options.every or EVERY .. "s", function()
      if jet.time() < not_before then
        return
      end
      local ok, message = self:login()
      if ok then
        ok, message = read_log(self, a, fn, options.manners ~= false)
      end
      if ok then
        pause, not_before = every, 0
        return
      end
      pause = math.min(pause * 2, math.max(PAUSE_MAX, every))
      not_before = jet.time() + pause
      jet.log.warn("messages cannot be read: %s; trying again in %d s", tostring(message), pause)
    end)
    return self
  end

  function Agent:dm(to, text, options)
    local a = self_of(self, "dm")
    options = rich_text.check_options("me:dm", options, { service = true }, 3)
    text = rich_text.of("me:dm", text, 3)
    if not text:fits(LENGTH) then
      error(format("me:dm: the text has %d characters in %d bytes, and a message 1000 in 10000",
        text:length(), #text.text), 2)
    end
    host.can_wait "me:dm"
    a.chat = options.service or a.chat
    return send(self, a, to, text)
  end
end

return M
