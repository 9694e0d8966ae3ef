-- webhook.lua: new followers of an account, posted to your server in batches, signed, and tried
-- again until it takes them.
--
--   MOONJET_SECRET_HOOK=whsec_… moonjet run examples/webhook.lua --data data \
--     --config did=did:plc:… --config url=https://example.com/hook
--
-- `moonjet webhook listen` is a receiver to try it with: it makes a secret, and shows what comes.

local jet = require "moonjet"

local url = jet.config.url or error "say where to post to: --config url=https://…"
local did = jet.config.did or error "say whose followers: --config did=did:plc:…"

local hook = jet.webhook {
  url = url,
  secret = jet.secret "HOOK",
  allow = jet.config.allow,                     -- a receiver in your own network, by name
  batch = { max = 500, every = "2s" },
  format = function(events)
    local list = jet.array {}
    for i, ev in ipairs(events) do
      list[i] = { did = ev.did, uri = ev.uri, time_us = ev.time_us }
    end
    return list
  end,
}

jet.from { collection = "app.bsky.graph.follow", op = "create", subject = did }
  :to(hook)
