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
