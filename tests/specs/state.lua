-- A script for tests/specs: what scripts remember.
local jet = require "moonjet"

local vips = jet.set("vips", { "did:web:first.example.com" })
jet.from { kind = "commit", did = vips }:to(jet.stream "vips")

local seen = jet.map("seen", { ttl = "1h", persist = true })
local likes = jet.zset "likes"
local tags = jet.top "tags"
local depth = jet.gauge "depth"

jet.from "app.bsky.feed.post":tap(function(ev)
  local n = seen:incr(ev.did)
  depth:set(n)
  for tag in ev:tags() do
    tags:add(tag)
    likes:incr(tag)
  end
  jet.log.info("%d", n)
end)

jet.from "app.bsky.feed.like":tap(function()
  local best = likes:top(1)[1]
  jet.log.info("%s %d %s", best.key, best.score, tags:list(1)[1].key)
end)

jet.from "app.bsky.graph.follow":tap(function(ev)
  vips:add(ev.record.subject)
end)
