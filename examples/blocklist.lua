-- blocklist.lua: accounts that /subscribe never shows, in a list that is edited while Moonjet runs:
--
--   moonjet ctl set add blocked did:plc:…
--   moonjet ctl set remove blocked did:plc:…
--
-- What they did is not lost: moderators see it at /stream/blocked/subscribe. (Subscribers may use
-- a set, too: /subscribe?wantedDids=set:vips for one named vips.)

local jet = require "moonjet"

local blocked = jet.set("blocked", { persist = true })

jet.main():where(jet.no { did = blocked })

jet.from { did = blocked }:to(jet.stream "blocked")
