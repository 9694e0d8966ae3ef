-- Feeds for tests/e2e/suites/feed.mjs: posts of a PDS, and one that says who asks.
local jet = require "moonjet"

local c = jet.config
local all = jet.feed(c.all, { hostname = c.hostname, keep = 100, persist = true })

jet.feed(c.mine, {
  hostname = c.hostname, auth = "required",
  posts = function(request)
    local list, cursor = all:list(request.limit, request.cursor)
    local mine = {}
    for _, item in ipairs(list) do
      if item.post:find(request.viewer, 1, true) then
        mine[#mine + 1] = item
      end
    end
    return mine, cursor
  end,
})

jet.from { collection = "app.bsky.feed.post", op = "create" }
  :tap(function(ev) all:add(ev, nil, ev:get "text" == "pin me" and { pin = true } or nil) end)
jet.from "app.bsky.feed.post:delete":tap(function(ev) all:remove(ev.uri) end)
jet.serve("GET /count", function() return tostring(all:count()) end)
