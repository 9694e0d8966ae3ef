-- A script for tests/specs: an agent that answers mentions, and does what routes say.
local jet = require "moonjet"
local config = jet.config

local me = jet.agent { identifier = config.identifier or "bot.test", password = jet.secret "BOT",
  did = config.did, service = config.service }
local other = config.other and jet.agent { identifier = config.other, password = "x",
  service = config.service }

jet.from { collection = "app.bsky.feed.post", op = "create", mentions = me.account }
  :each(function(ev)
    local parent = { uri = ev.uri, cid = ev.cid }
    local done, message = me:create("app.bsky.feed.post", {
      text = "You rolled " .. math.random(1e6) .. ".", reply = { parent = parent, root = parent },
    })
    if not done then
      jet.log.warn("no answer: %s", message)
    end
  end):as "answer"

jet.from "app.example.twice:create":each(function(ev)
  local subject = { uri = ev.uri, cid = ev.cid }
  me:create("app.bsky.feed.like", { subject = subject }, { priority = "low" })
  me:create("app.bsky.feed.repost", { subject = subject })
end)

jet.from "app.example.batched:create":batch { max = 3, every = "1s" }:each(function(events)
  for _, ev in ipairs(events) do
    me:create("app.bsky.feed.like", { subject = { uri = ev.uri, cid = ev.cid } }, { event = ev })
  end
end)

local slept = jet.counter "slept"
jet.from "app.example.sleepy:create":each(function()
  slept:inc()
  jet.sleep "900ms"
  me:create("app.example.note", {})
end, { timeout = "1s" })

-- Runs a text of the spec's as a task.
jet.serve("POST /run", function(request)
  local chunk, message = load(request.body, "run")
  if not chunk then
    return 400, message
  end
  local ok, a, b, c, d = pcall(chunk(), me, jet, other)
  if not ok then
    return 500, tostring(a)
  end
  return 200, { a == nil and jet.null or a, b == nil and jet.null or b, c == nil and jet.null or c,
    d == nil and jet.null or d }
end)

jet.serve("GET /who", function()
  return { did = me.did or jet.null, handle = me.handle or jet.null,
    account = me.account:count(), text = tostring(me) }
end)
