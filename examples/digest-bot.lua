-- digest-bot.lua: a thread a day, with the hashtags that were used most.
--
--   export MOONJET_SECRET_BOT_PASSWORD=…
--   moonjet run examples/digest-bot.lua --data data --config handle=news.example.com
--
-- The password is an app password of the bot's account. With --config hour=18 the thread comes in
-- the evening (UTC), which is what it does without.

local jet = require "moonjet"

local me = jet.agent {
  identifier = jet.config.handle or error "say who the bot is: --config handle=news.example.com",
  password = jet.secret "BOT_PASSWORD",
}
me:label_self_as_bot()

local tags = jet.top("tags", { k = 500, window = "24h" })
local done = jet.map("done", { persist = true })

jet.from { collection = "app.bsky.feed.post", op = "create" }
  :tap(function(ev)
    for tag in ev:tags() do
      tags:add(tag:lower())
    end
  end)

jet.every("1m", function()
  local day, hour = jet.now():match "^(.-)T(%d%d)"
  if tonumber(hour) < (tonumber(jet.config.hour) or 18) or done:has(day) then
    return
  end
  local text = jet.richtext("Hashtags of " .. day .. "\n")
  for place, tag in ipairs(tags:list(20)) do
    text:add(("\n%d. "):format(place)):tag(tag.key):add((" (%d posts)"):format(tag.count))
  end
  -- The key names the thread, so that it is written once, even if we crash half way through it.
  local posts, message = me:thread(text, { key = "digest " .. day, counters = true, langs = "en" })
  if posts then
    done:set(day, true)
    tags:clear()
  else
    jet.log.warn("no digest yet: %s", message)
  end
end)
