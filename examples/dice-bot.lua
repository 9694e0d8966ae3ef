-- dice-bot.lua: answers who mentions it with a roll of dice: "@dice.example.com d20".
--
--   MOONJET_SECRET_BOT_PASSWORD=… moonjet run examples/dice-bot.lua --config did=did:plc:…
--
-- The password is an app password of the bot's account.

local jet = require "moonjet"

local did = jet.config.did or error "say who the bot is: --config did=did:plc:…"
local password = jet.secret "BOT_PASSWORD"

-- Answered posts, kept over restarts: nobody gets two answers.
local answered = jet.map("answered", { max = 1e5, ttl = "7d", persist = true })

local session -- of the bot's account: { pds =, token = }

local function log_in()
  local me, message = jet.resolve(did)
  if not me or not me.pds then
    return nil, message or "no PDS"
  end
  local response
  response, message = jet.http.post(me.pds .. "/xrpc/com.atproto.server.createSession",
    { identifier = did, password = password })
  if not response then
    return nil, message
  elseif response.status ~= 200 then
    return nil, "login: " .. response.status
  end
  session = { pds = me.pds, token = jet.json.decode(response.body).accessJwt }
  return session
end

-- Creates the record; logs in when it must, once.
local function create(collection, rkey, record)
  for _ = 1, 2 do
    local s, message = session, nil
    if not s then
      s, message = log_in()
    end
    if not s then
      return nil, message
    end
    local response, problem = jet.http.post(s.pds .. "/xrpc/com.atproto.repo.putRecord", {
      repo = did, collection = collection, rkey = rkey, record = record,
    }, { headers = { Authorization = "Bearer " .. s.token } })
    if not response then
      return nil, problem
    elseif response.status == 200 then
      return jet.json.decode(response.body)
    elseif response.status ~= 401 and response.status ~= 400 then
      return nil, "putRecord: " .. response.status
    end
    session = nil -- the token is over
  end
  return nil, "the PDS does not take our word"
end

jet.from { collection = "app.bsky.feed.post", op = "create", mentions = did, did = jet.no(did) }
  :limit { rate = "6/m", by = "did" }
  :each(function(ev)
    if answered:has(ev.uri) then
      return
    end
    local sides = math.min(math.max(tonumber(ev.text:match "%f[%w]d(%d+)") or 6, 2), 1000)
    local parent = { uri = ev.uri, cid = ev.cid }
    -- The record's key is the question's: should we crash before we note that we have answered, the
    -- same answer is written again instead of a second one.
    local ok, message = create("app.bsky.feed.post", ev.rkey, {
      ["$type"] = "app.bsky.feed.post",
      text = ("You rolled %d."):format(math.random(sides)),
      createdAt = jet.now(),
      reply = { parent = parent, root = ev:table "reply.root" or parent },
    })
    if ok then
      answered:set(ev.uri, true)
    else
      jet.log.warn("reply to %s: %s", ev.uri, message)
    end
  end, { workers = 4, queue = 256 })
