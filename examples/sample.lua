-- sample.lua: a small, fair and varied part of all posts, for people and models that read along.

local jet = require "moonjet"

local part = tonumber(jet.config.part or "0.05")

-- How many posts of an account were let through in the last hour. Kept in C: a million entries cost
-- the collector nothing, and they survive a reload.
local hourly = jet.map("posts_by_did", { max = 1e6, ttl = "1h" })

jet.from "app.bsky.feed.post:create"
  :sample(part, "did")                  -- 5 % of the accounts, always the same ones
  :dedupe { by = function(ev) return ev.text:lower() end, within = "30m", max = 1e6 }
  :where(function(ev) return hourly:incr(ev.did) <= 3 end):as "three-an-hour"
  :to(jet.stream "sample")
