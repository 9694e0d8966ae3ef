--- Messages in a Discord channel. The model of a plug-in in Lua: a descriptor with options, and
--- functions that run as a task of the script.
local TEXT_MAX = 2000 -- characters of one message; bytes are never fewer

-- No more than so many bytes, and no half of a character at the end.
local function cut(text, max)
  if #text <= max then
    return text
  end
  local stop = max - 3
  while stop > 0 and text:byte(stop + 1) >= 0x80 and text:byte(stop + 1) < 0xC0 do
    stop = stop - 1
  end
  return text:sub(1, stop) .. "…"
end

local function link(ev)
  if ev.collection == "app.bsky.feed.post" then
    return ("https://bsky.app/profile/%s/post/%s"):format(ev.did, ev.rkey)
  end
  return ev.uri or ""
end

local function render(template, ev)
  return (template:gsub("{([%w_.%[%]]+)}", function(name)
    if name == "link" then
      return link(ev)
    elseif name == "text" then
      return ev.text
    elseif name == "did" or name == "uri" or name == "collection" then
      return ev[name] or ""
    end
    local value = ev:get(name)
    local kind = type(value)
    return (kind == "string" or kind == "number" or kind == "boolean") and tostring(value) or ""
  end))
end

return {
  abi = 1,
  name = "discord",
  help = "Messages in a Discord channel.",
  options = {
    { name = "url", type = "text", help = "the channel's webhook" },
    { name = "text", type = "text", default = "{text}\n{link}", help = "what a message says" },
    { name = "username", type = "text", default = "Moonjet", help = "who it is from" },
    { name = "mentions", type = "flag", default = false, help = "let strangers' text call people" },
  },

  init = function(_, cfg)
    return cfg -- the state: there is nothing else to remember
  end,

  --- As many of the events as fit into one message.
  deliver = function(cfg, events)
    local content, taken = "", 0
    for i = 1, math.min(#events, 10) do
      local text = cut(render(cfg.text, events[i]), TEXT_MAX)
      local longer = content == "" and text or content .. "\n\n" .. text
      if i > 1 and #longer > TEXT_MAX then
        break
      end
      content, taken = longer, i
    end
    if not content:find "%S" then
      return taken -- nothing to say, and Discord takes no empty message
    end
    local response, message = jet.http.post(cfg.url, {
      content = content,
      username = cfg.username,
      allowed_mentions = not cfg.mentions and { parse = jet.array {} } or nil,
    })
    if not response then
      return nil, message
    elseif response.status == 429 then
      local body = jet.json.decode(response.body)
      local wait = type(body) == "table" and tonumber(body.retry_after) or 1
      jet.sleep(("%dms"):format(math.min(math.max(wait, 0.1), 600) * 1000))
      return nil, "Discord asks to wait"
    elseif response.status >= 500 then
      return nil, "Discord answers " .. response.status
    elseif response.status >= 300 then
      return false, "Discord answers " .. response.status .. ": " .. response.body:sub(1, 200)
    end
    return taken
  end,

  deinit = function() end,
}
