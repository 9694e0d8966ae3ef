-- A script for tests/specs: what goes by time: tasks, and operators.
local jet = require "moonjet"

local ticks = jet.counter "ticks"
local log = jet.log.info

jet.every("1m", function()
  ticks:inc()
end)

jet.spawn(function()
  jet.sleep "90s"
  log("slept until %s", jet.now())
end)

jet.from "app.bsky.feed.repost":dedupe { by = "did", within = "1h" }:to(jet.stream "once")
jet.from "app.bsky.feed.repost":limit { rate = "2/m" }:to(jet.stream "slow")

jet.from "app.bsky.graph.block":tap(function()
  jet.spawn(error, "on purpose")
end)

jet.on_stop(function()
  jet.sleep "2s"
  log("stopped at %s", jet.now())
end)
