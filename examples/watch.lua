-- watch.lua: says when the network falls silent, and when it speaks again.

local jet = require "moonjet"

local quiet_after = tonumber(jet.config.seconds or "60")
local last = jet.time()
local silent = false
local age = jet.gauge "seconds_since_last_event"

jet.from "*":tap(function() last = jet.time() end)

jet.every("5s", function()
  local now = jet.time()
  age:set(math.floor(now - last))
  if now - last > quiet_after and not silent then
    silent = true
    jet.log.warn("no event for %d seconds", quiet_after)
    local url = jet.config.url
    if url then
      jet.http.post(url, { text = "no event for " .. quiet_after .. " seconds" })
    end
  elseif silent and now - last < quiet_after then
    silent = false
    jet.log.info "events again"
  end
end)
