-- For suites/bot.mjs: a bot that logs what happens to it, answers mentions and replies if it is to,
-- and does what POST /run says.
local jet = require "moonjet"
local config = jet.config

local me = jet.agent { identifier = config.did, service = config.service,
  password = jet.secret(config.secret or "BOT") }

if config.label then
  me:label_self_as_bot()
end
if config.per_thread then
  me:manners { per_thread = tonumber(config.per_thread) }
end

me:on({ "mention", "reply", "quote", "like", "repost", "follow", "unlike", "unfollow" },
  function(ev, why, subject)
    jet.log.info("HAPPENED %s %s %s", table.concat(why, ","), ev.uri, subject or "-")
    if config.answer and (why.mention or why.reply) then
      me:reply(ev, config.answer)
    end
  end)

if config.chat then
  me:on_dm(function(message)
    jet.log.info("MESSAGE %s", message.text)
    me:dm(message, jet.richtext("you said: "):add(message.text))
  end, { every = "200ms", service = config.chat })
end

jet.serve("POST /run", function(request)
  local list = { load(request.body, "=run")()(me, jet) }
  for i = 1, 3 do
    list[i] = list[i] == nil and jet.null or list[i]
  end
  return jet.array(list)
end)
