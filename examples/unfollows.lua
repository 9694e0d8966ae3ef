-- unfollows.lua: who has stopped following you. A delete says which record is gone, not what was in
-- it; so what it said has to be remembered.
--
--   moonjet run examples/unfollows.lua --data data --config did=did:plc:…

local jet = require "moonjet"

local did = jet.config.did or error "say whose followers: --config did=did:plc:…"

-- From the follow's address to when it came, kept over restarts.
local follows = jet.map("follows", { max = 1e6, persist = true })

jet.from { collection = "app.bsky.graph.follow", op = "create", subject = did }
  :tap(function(ev) follows:set(ev.uri, ev.time_us) end):as "follow"

jet.from "app.bsky.graph.follow:delete"
  :where(function(ev) return follows:remove(ev.uri) end):as "was-mine"
  :tap(function(ev) jet.log.info("%s has stopped following", ev.did) end)
  :to(jet.stream "unfollows")
