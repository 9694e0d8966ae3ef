-- keyword.lua: a stream of the posts that hold one of your words.
--
--   moonjet run examples/keyword.lua --config words=lua,luajit --config stream=lua-posts
--
-- then connect a Jetstream client to ws://localhost:6008/stream/lua-posts/subscribe

local jet = require "moonjet"

-- What --config said, or these. Configuration is text, so the list is taken apart here, once.
local name = jet.config.stream or "keyword"
local words = {}
for word in (jet.config.words or "lua,moonjet"):gmatch "[^,]+" do
  words[#words + 1] = word
end

-- `words` looks at the text, at alt texts, link cards and tags, for whole words, whatever their
-- case, in one pass however many there are. No Lua runs for posts that have none. (`text` in
-- its place would look at the text alone.)
jet.from { collection = "app.bsky.feed.post", op = "create", words = words }
  :where(jet.no { lang = "pt" })              -- decided in C, too
  :where(function(ev)
    -- "lua de mel" is a honeymoon. What a match cannot say, a function can.
    return not ev.text:lower():find("lua de mel", 1, true)
  end)
  :as "no-honeymoons"
  :to(jet.stream(name))
