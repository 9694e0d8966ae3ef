-- labeler.lua: a labeler in one file: marks posts that shout, and accounts that do so all day.
--
--   MOONJET_SECRET_LABEL_KEY=$(openssl rand -hex 32) moonjet run examples/labeler.lua --data data \
--     --config hostname=labels.example.com
--
-- Keep the key. https://labels.example.com/xrpc/com.atproto.label.queryLabels?uriPatterns=* shows
-- the labels, subscribeLabels streams them; docs/feeds.md says how AppViews come to read them.

local jet = require "moonjet"

local labeler = jet.labeler {
  did = jet.config.did, -- of the labeler's account; without, it is the host's did:web
  hostname = jet.config.hostname or error "say where it is: --config hostname=labels.example.com",
  key = jet.secret "LABEL_KEY",
  policies = { "shouting", "always-shouting" },
}

local shouts = jet.map("shouts", { max = 100000, ttl = "1d", persist = true })

local function shouts_in(text)
  local upper = select(2, text:gsub("%u", ""))
  return upper >= 10 and upper > 4 * select(2, text:gsub("%l", ""))
end

jet.from "app.bsky.feed.post:create"
  :where(function(ev) return shouts_in(ev.text or "") end):as "shouting"
  :limit { rate = "5/s" } -- what AppViews take
  :tap(function(ev)
    labeler:apply(ev, "shouting", { cid = ev.cid })
    if shouts:incr(ev.did) == 20 then
      labeler:apply(ev.did, "always-shouting", { exp = "7d" })
    end
  end):as "label"

-- A post that is gone needs no label.
jet.from "app.bsky.feed.post:delete"
  :tap(function(ev) labeler:negate(ev, "shouting") end):as "gone"

-- What is said of an account, for a moderation page: /labels?of=did:plc:…
jet.serve("GET /labels", function(request)
  return jet.array(labeler:list(request.query.of or "*"))
end)
