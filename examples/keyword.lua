-- keyword.lua: a stream of the posts that hold one of your words.
--
--   moonjet run examples/keyword.lua --config words=lua,luajit --config stream=lua-posts
--
-- then connect a Jetstream client to ws://localhost:6008/stream/lua-posts/subscribe

local jet = require "moonjet"

-- What --config said, or these. Configuration is text, so the list is taken apart here, once.
local name = jet.config.stream or "keyword"
local words = {}
for word in (jet.config.words or "lua,moonjet"):lower():gmatch "[^,%s]+" do
  words[#words + 1] = word
end

-- True when `word` stands alone in `text`: "lua" is not in "valuable". A plain find is quick; the
-- two patterns look at the characters on either side of what it found.
local function has_word(text, word)
  local from, to = text:find(word, 1, true)
  while from do
    local before, after = text:sub(from - 1, from - 1), text:sub(to + 1, to + 1)
    if not before:find "[%w_]" and not after:find "[%w_]" then
      return true
    end
    from, to = text:find(word, to + 1, true)
  end
  return false
end

jet.from "app.bsky.feed.post:create"
  :where(function(ev)
    local text = ev.text:lower()
    for _, word in ipairs(words) do
      if has_word(text, word) then
        return true
      end
    end
    -- Hashtags count as words, too, wherever they are in the record.
    for tag in ev:tags() do
      for _, word in ipairs(words) do
        if tag:lower() == word then
          return true
        end
      end
    end
    return false
  end)
  :as "has-word"
  :to(jet.stream(name))
