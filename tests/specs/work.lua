-- A script for tests/specs: events that become tasks.
local jet = require "moonjet"
local log = jet.log.info

jet.from "app.bsky.feed.post":each(function(ev)
  jet.sleep "10s"
  log("worked on %s at %s", ev.text, jet.now())
end, { workers = 2 })

jet.from "app.bsky.feed.like":batch({ max = 3, every = "5s" }):each(function(events)
  log("%d likes at %s", #events, jet.now())
end)

local waiting = jet.queue(10)
jet.from "app.bsky.graph.follow":tap(function(ev)
  waiting:put(ev.rkey)
end)
jet.spawn(function()
  while true do
    local rkey = waiting:get "1h"
    log("follow %s", tostring(rkey))
  end
end)

local tries = 0
jet.from "app.bsky.graph.block":each(function(ev)
  tries = tries + 1
  log("block %s, try %d, %s", ev.rkey, tries, ev.id)
  if tries < 3 then
    jet.retry("nobody there", "30s")
  end
end)
