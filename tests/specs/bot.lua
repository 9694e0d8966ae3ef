-- For bot_spec.lua: a bot that answers everything, as jet.config says how, and runs Lua for specs.
local jet = require "moonjet"

local config = jet.config
local BOT = "did:plc:botbotbotbotbotbotbotbot"
local function agent(identifier)
  return jet.agent { identifier = identifier, password = jet.secret "BOT",
    service = "https://pds.test" }
end
local me = agent(config.identifier or BOT)
local twin = config.identifier and agent(BOT) -- the same account by its DID

if config.manners then
  me:manners(config.manners)
  if twin then
    twin:manners(config.manners)
  end
end
if config.label then
  me:label_self_as_bot()
end

local function note(what, ev, why, subject)
  jet.log.info("%s %s %s%s", what, ev.uri or ev.did, table.concat(why, ","),
    subject and " " .. subject or "")
end

if config.on then
  me:on(config.on, function(ev, why, subject)
    note("on", ev, why, subject)
    if config.answer then
      local post, message, name = me:reply(ev, config.answer)
      if not post then
        jet.log.info("no answer: %s %s", tostring(name), message)
      end
    end
  end, config.options)
end

if config.dm then
  me:on_dm(function(message)
    jet.log.info("dm %s: %s", message.did, message.text)
    if message.text == "fail" then
      error "as it was asked"
    end
    me:dm(message, "re: " .. message.text)
  end)
end

local function list(...)
  local all = { ... }
  for i = 1, select("#", ...) do
    all[i] = all[i] == nil and jet.null or all[i]
  end
  return jet.array(all)
end

-- "return function(me, jet, ev) … end": of a post in an each, or of a request without one.
local function run(source, ev)
  local make, message = load(source, "=run")
  if not make then
    error(message, 0)
  end
  return list(make()(me, jet, ev, twin))
end

jet.from { collection = "app.bsky.feed.post", tags = "run" }:each(function(ev)
  jet.log.info("%s", jet.json.encode(run(ev:get "source", ev)))
end)

jet.serve("POST /run", function(request)
  return run(request.body)
end)
