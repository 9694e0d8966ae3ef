-- A script for tests/specs: feeds, with everything they have.
local jet = require "moonjet"

local base = "at://did:plc:aaaaaaaaaaaaaaaaaaaaaaaa/app.bsky.feed.generator/"
local where = { keep = 5, hostname = "feeds.example.com" }

local ring, other = jet.feed({ base .. "ring", base .. "other" }, where)

jet.feed(base .. "mine", {
  hostname = "feeds.example.com",
  auth = jet.config.auth,
  posts = function(request)
    if request.cursor == "boom" then
      return "boom"
    end
    local list = { { post = "at://did:plc:x/app.bsky.feed.post/" .. (request.viewer or "nobody") } }
    for i, item in ipairs((ring:list(request.limit))) do
      list[i + 1] = item
    end
    return list, 7
  end,
})

jet.from { collection = "app.bsky.feed.post", op = "create" }
  :tap(function(ev)
    ring:add(ev)
    if ev:get "text" == "pinned" then
      other:add(ev.uri, nil, { pin = true, context = "top" })
    elseif ev:get "text" == "again" then
      other:add(ev.uri, ev.time_us, { repost = "at://did:plc:x/app.bsky.feed.repost/1" })
    end
  end)

jet.from "app.bsky.feed.like:create"
  :tap(function(ev) ring:bump(ev:get "subject.uri", "10m") end)

jet.from "app.bsky.feed.post:delete"
  :tap(function(ev)
    ring:remove(ev.uri)
    other:remove(ev.uri)
  end)

jet.serve("GET /count", function()
  return ("%d %s"):format(ring:count(), tostring(ring:has "at://x"))
end)

jet.serve("GET /wrong", function(request)
  ring[request.query.how](ring, 7, "soon")
end)
