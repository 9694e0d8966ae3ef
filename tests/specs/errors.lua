--- Errors that are no texts, by what the post says.

local function object(tostring)
  return setmetatable({}, { __tostring = tostring })
end

local kinds = {
  told = function() error(object(function() return "the object's words" end)) end,
  placed = function() error(object(function() return "errors.lua:7: the object's place" end)) end,
  bare = function() error {} end,
  number = function() error(object(function() return 5 end)) end,
  failing = function() error(object(function() error "on purpose" end)) end,
  nested = function() error(object(function() error(object(error)) end)) end,
  endless = function() error(object(function() while true do end end)) end,
  waiting = function() error(object(function() jet.sleep "1s" end)) end,
  zero = function() error("a\0b\0", 0) end,
}

jet.from { text = jet.words { "sync" } }:tap(function(ev) kinds[ev.text:match "%w+"]() end)
jet.from { text = jet.words { "task" } }:each(function(ev) kinds[ev.text:match "%w+"]() end)
jet.from { text = jet.words { "inner" } }:each(function(ev)
  coroutine.wrap(function() kinds[ev.text:match "%w+"]() end)()
end)
