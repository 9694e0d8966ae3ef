-- dice-bot.lua: answers who mentions it with a roll of dice: "@dice.example.com d20".
--
--   export MOONJET_SECRET_BOT_PASSWORD=…
--   moonjet run examples/dice-bot.lua --data data --config handle=dice.example.com
--
-- The password is an app password of the bot's account.

local jet = require "moonjet"

local me = jet.agent {
  identifier = jet.config.did or jet.config.handle
    or error "say who the bot is: --config handle=dice.example.com",
  password = jet.secret "BOT_PASSWORD",
}
me:label_self_as_bot()

-- Each mention is answered once, whatever happens: should we crash before we know that the answer
-- is out, the event comes again, and the answer is found. Who says "!stop" gets no more of them.
me:on_mention(function(ev)
  local sides = math.min(math.max(tonumber(ev.text:match "%f[%w]d(%d+)") or 6, 2), 1000)
  me:reply(ev, ("You rolled %d."):format(math.random(sides)))
end, { limit = jet.config.limit or "6/m" })
