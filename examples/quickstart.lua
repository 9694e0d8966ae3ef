-- quickstart.lua: what `make run` runs. Read it top to bottom; it is the whole tour.
--
-- A script draws a graph once, when it is loaded: where events come from, what happens to them,
-- where they go. Moonjet then runs every event of the network through it.

local jet = require "moonjet"

-- The main stream is what ws://…/subscribe serves. No line here touches it, so it stays what it is:
-- every event of the network, as any Jetstream client expects it.

-- This draws a second stream beside it, with the posts that are about the moon. `lua` is moon in
-- Portuguese. Watch it at ws://…/stream/moon/subscribe, with any Jetstream client.
local words = { "lua", "luna", "lune", "moon" }

jet.from { collection = "app.bsky.feed.post", op = "create" } -- C decides this
  :where(function(ev)                                         -- Lua decides the rest
    local text = ev.text:lower()
    for _, word in ipairs(words) do
      if text:find(word, 1, true) then
        return true
      end
    end
    return false
  end)
  :map(function(draft)                                        -- and may edit what goes on from here
    draft.record.text = "🌙 " .. draft.text
    return draft
  end)
  :to(jet.stream "moon")

-- Counting needs no stream. See it in the metrics: moonjet_script_languages.
local languages = jet.counter("languages", { "lang" })

jet.from "app.bsky.feed.post:create"
  :tap(function(ev)
    languages:inc(ev.langs[1] or "none")
  end)
