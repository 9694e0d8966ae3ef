-- trends.lua: counts what passes, and which hashtags are frequent just now.
--
--   curl localhost:6008/trends            the ten most frequent tags of the last ten minutes
--   curl localhost:6009/metrics           moonjet_script_ops_total{collection=…,op=…}

local jet = require "moonjet"

local ops = jet.counter("ops_total", { "collection", "op" })
-- Follows 200 tags closely; memory does not grow with how many there are.
local tags = jet.top("tags", { k = 200, window = "10m" })

jet.from { kind = "commit" }
  :tap(function(ev) ops:inc(ev.collection, ev.op) end)

jet.from "app.bsky.feed.post:create"
  :tap(function(ev)
    for tag in ev:tags() do
      tags:add(tag:lower())
    end
  end)

-- On the same listener as /subscribe. A table is sent as JSON.
jet.serve("GET /trends", function(request)
  local list = jet.array {}
  local n = tonumber((request.query.n or ""):match "^%d+$") or 10
  for i, t in ipairs(tags:list(math.min(n, 200))) do
    list[i] = { tag = t.key, count = t.count }
  end
  return { tags = list }
end)

jet.every("1m", function()
  local first = tags:list(1)[1]
  if first then
    jet.log.info("#%s leads with %d posts", first.key, first.count)
  end
end)
