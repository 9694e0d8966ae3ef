-- feed.lua: a feed generator in one file: posts about old computers, newest first, liked ones
-- higher.
--
--   moonjet run examples/feed.lua --data data --config hostname=feeds.example.com \
--     --config feed=at://did:plc:…/app.bsky.feed.generator/retro
--
-- Bluesky asks https://feeds.example.com/xrpc/app.bsky.feed.getFeedSkeleton?feed=…; docs/feeds.md
-- says how to get there.

local jet = require "moonjet"

local feed = jet.feed(jet.config.feed or error "say which feed: --config feed=at://…",
  { keep = 20000, ttl = "7d", persist = true, hostname = jet.config.hostname })

jet.from { collection = "app.bsky.feed.post", op = "create", reply = false,
  words = { "amiga", "z80", "commodore", "zx spectrum", "atari" } }
  :tap(function(ev) feed:add(ev) end):as "add"

jet.from "app.bsky.feed.post:delete"
  :tap(function(ev) feed:remove(ev.uri) end):as "remove"

-- A like is worth a minute and a half.
jet.from "app.bsky.feed.like:create"
  :tap(function(ev)
    local subject = ev:get "subject.uri"
    if subject then
      feed:bump(subject, "90s")
    end
  end):as "like"
