-- A bot that rolls dice for who mentions it, and does what POST /run says.
local jet = require "moonjet"
local config = jet.config

local me = jet.agent { identifier = config.identifier, did = config.did, service = config.service,
  password = jet.secret "BOT" }

jet.from { collection = "app.bsky.feed.post", op = "create", mentions = me.account,
  did = jet.no(me.account) }
  :each(function(ev)
    local parent = { uri = ev.uri, cid = ev.cid }
    me:create("app.bsky.feed.post", {
      text = ("You rolled %d. %s"):format(math.random(6), jet.time()),
      reply = { parent = parent, root = ev:table "reply.root" or parent },
    }, { priority = "high" })
  end, { workers = 8 })
  :as "dice"

jet.serve("POST /run", function(request)
  local chunk, message = load(request.body, "run")
  if not chunk then
    return 400, message
  end
  local ok, a, b, c, d = pcall(chunk(), me, jet)
  if not ok then
    return 500, tostring(a)
  end
  local list = {}
  for i, value in ipairs { a == nil and jet.null or a, b == nil and jet.null or b,
    c == nil and jet.null or c, d == nil and jet.null or d } do
    list[i] = value
  end
  return 200, list
end)

jet.serve("GET /who", function()
  return { did = me.did or jet.null, handle = me.handle or jet.null, account = me.account:count() }
end)
