-- feed.lua: a feed generator in one file: posts about old computers, newest first, liked ones
-- higher.
--
--   moonjet run examples/feed.lua --data data \
--     --config feed=at://did:plc:…/app.bsky.feed.generator/retro
--
-- Bluesky asks https://your.host/xrpc/app.bsky.feed.getFeedSkeleton?feed=…&cursor=…&limit=…

local jet = require "moonjet"

local uri = jet.config.feed or error "say which feed: --config feed=at://…"

-- Keys in order of their scores, kept over restarts. The score is a time: a like is worth 90 s.
local feed = jet.zset("feed", { max = 20000, ttl = "7d", persist = true })

jet.from { collection = "app.bsky.feed.post", op = "create", reply = false,
  words = { "amiga", "z80", "commodore", "zx spectrum", "atari" } }
  :tap(function(ev) feed:set(ev.uri, ev.time_us / 1e6) end):as "add"

jet.from "app.bsky.feed.post:delete"
  :tap(function(ev) feed:remove(ev.uri) end):as "remove"

jet.from "app.bsky.feed.like:create"
  :tap(function(ev)
    local subject = ev:get "subject.uri"
    if subject and feed:score(subject) then
      feed:incr(subject, 90)
    end
  end):as "like"

jet.serve("GET /xrpc/app.bsky.feed.getFeedSkeleton", function(request)
  if request.query.feed ~= uri then
    return 400, { error = "UnknownFeed", message = "this is not the feed you look for" }
  end
  -- What strangers ask for may be any text.
  local limit = tonumber((request.query.limit or ""):match "^%d+$") or 50
  limit = math.min(math.max(limit, 1), 100)
  local after = math.min(tonumber((request.query.cursor or ""):match "^%d+$") or 0, 20000)
  local posts = jet.array {}
  for i, entry in ipairs(feed:top(limit, after)) do
    posts[i] = { post = entry.key }
  end
  return { feed = posts, cursor = #posts == limit and tostring(after + limit) or nil }
end)
