-- redact.lua: changes what subscribers get. Here `jet.main()` is edited, so it is /subscribe itself
-- that changes, for everybody.
--
--   moonjet run examples/redact.lua

local jet = require "moonjet"

-- 1. Drop what nobody should get at all. A match is decided in C; no Lua runs for it.
jet.main():where(jet.no { collection = "app.bsky.graph.block" })

-- 2. Edit posts. `draft` is the event with a record that may be changed. Only what is assigned
--    changes; every other byte of the record is passed on as it came.
jet.main():map(function(draft)
  if draft.collection ~= "app.bsky.feed.post" or draft.op == "delete" then
    return draft
  end

  -- Anything that looks like an e-mail address.
  local text, found = draft.text:gsub("[%w._+-]+@[%w-]+%.[%a.]+", "[email]")
  if found > 0 then
    draft.record.text = text
    -- Facets point at bytes of the old text, so they would mark the wrong words now.
    draft:unset "facets"
  end

  -- Alt texts are text, too. Parts of a record are walked, and changed, in place.
  for image in draft:each "embed.images" do
    if image.alt then
      image.alt = image.alt:gsub("[%w._+-]+@[%w-]+%.[%a.]+", "[email]")
    end
  end

  return draft -- nil would drop the event
end)

-- A record that was edited no longer has the CID it came with, so the event is sent without one.
