-- discord.lua: posts that mention your project, in a Discord channel, through a plug-in.
--
--   MOONJET_SECRET_DISCORD=https://discord.com/api/webhooks/… moonjet run examples/discord.lua

local jet = require "moonjet"

jet.from { collection = "app.bsky.feed.post", op = "create", words = { "moonjet" } }
  :dedupe { by = "did", within = "10m" }        -- one message per account in ten minutes
  :limit { rate = "20/m" }                      -- and no flood
  :to(jet.sink("discord", { url = jet.secret "DISCORD", text = "{text}\n{link}" }))
