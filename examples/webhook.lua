-- webhook.lua: new followers of an account, posted to your server in batches, and tried again when
-- it does not answer.
--
--   moonjet run examples/webhook.lua --config did=did:plc:… --config url=https://example.com/hook

local jet = require "moonjet"

local url = jet.config.url or error "say where to post to: --config url=https://…"
local did = jet.config.did or error "say whose followers: --config did=did:plc:…"
local sent = jet.counter("webhook_posts", { "status" })

-- Posts the list until it is taken: 1 s, 2 s, 4 s … between tries, as long as `each` lets it.
local function post(list)
  local pause = 1
  while true do
    local response, message = jet.http.post(url, list, { timeout = "5s" })
    sent:inc(response and response.status or "none")
    if response and response.status < 300 then
      return
    elseif response and response.status < 500 and response.status ~= 429 then
      error(("%s refuses: %d"):format(url, response.status)) -- asking again would not help
    end
    jet.log.warn("%s: %s; again in %d s", url, message or response.status, pause)
    jet.sleep(pause .. "s")
    pause = math.min(pause * 2, 300)
  end
end

jet.from { collection = "app.bsky.graph.follow", op = "create", subject = did }
  :batch { max = 500, every = "2s" }
  :each(function(events)
    local list = jet.array {}
    for i, ev in ipairs(events) do
      list[i] = { did = ev.did, uri = ev.uri, time_us = ev.time_us }
    end
    post(list)
  end, { timeout = "1h", queue = 1000 })
