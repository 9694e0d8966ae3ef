-- For richtext_spec.lua: makes rich text of each post, as its first language says, and logs what
-- came of it.
local jet = require "moonjet"

local function told(rich)
  return { text = rich.text, length = rich:length(), facets = rich:facets() }
end

local kept = jet.richtext "hi @alice.test"

local how = {
  kept = function() return kept:resolve() end,
  resolve = function(text) return jet.richtext(text):resolve() end,
  markdown = function(text) return jet.richtext(text, { markdown = true }) end,
  shorten = function(text) return jet.richtext(text, { shorten = true }) end,
  build = function()
    return jet.richtext "Hi ":mention "@alice.test":add ", look: "
      :link("our page", "https://example.com/page"):add(", ", { detect = false })
      :link "https://example.com/a":add " ":tag "moon":add " ":add "b.com":resolve()
  end,
  number = function() return jet.richtext(1) end,
  cut = function() return jet.richtext(("éé"):sub(1, 3)) end,
  option = function() return jet.richtext("x", { marcdown = true }) end,
  method = function() return jet.richtext "x":lenght() end,
  address = function() return jet.richtext():link "x" end,
}

local cut = {
  split = function(rich) return rich:split() end,
  split20 = function(rich) return rich:split { max = 20 } end,
  counters = function(rich) return rich:split { counters = true } end,
  truncate = function(rich) return { rich:truncate(20) } end,
  short = function(rich) return { rich:truncate() } end,
}

jet.from "app.bsky.feed.post:create":each(function(ev)
  local what, text = ev.langs[1], ev.text
  if how[what] then
    jet.log.info("%s", jet.json.encode(told(how[what](text))))
    return
  end
  local parts = {}
  for i, part in ipairs(cut[what](jet.richtext(text))) do
    parts[i] = told(part)
  end
  jet.log.info("%s", jet.json.encode { parts = parts })
end)
