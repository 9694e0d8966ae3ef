-- Webhooks of each format, for webhooks_spec.lua.

local jet = require "moonjet"

local url = "https://hook.example/path?token=abc"
local posts = jet.from "app.bsky.feed.post:create"

posts:where { text = "plain" }:to(jet.webhook { url = url, name = "plain" })
posts:where { text = "list" }
  :to(jet.webhook { url = url, name = "list", batch = { max = 2, every = "5s" } })

local own = jet.webhook {
  url = url,
  name = "own",
  format = function(ev)
    if ev.text:find "nothing" then
      return nil
    elseif ev.text:find "table" then
      return { text = ev.text, uri = ev.uri }
    elseif ev.text:find "number" then
      return 5
    elseif ev.text:find "loop" then
      while true do end
    elseif ev.text:find "wait" then
      jet.sleep "1s"
    end
    return "<" .. ev.text .. ">", "text/plain"
  end,
}
posts:where { text = "own" }:to(own)
jet.from "app.bsky.feed.like:create":to(own)

posts:where { text = "lists" }:to(jet.webhook {
  url = url,
  name = "lists",
  batch = { max = 10, bytes = 2000 },
  format = function(events)
    local texts = jet.array {}
    for i, ev in ipairs(events) do
      texts[i] = ev.text
    end
    return texts
  end,
})
