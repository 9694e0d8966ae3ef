-- A script for tests/specs: reload, secrets, the end.
local jet = require "moonjet"

local token = jet.secret "TOKEN"
local loaded = jet.map "loaded"
local here = 0

jet.spawn(function()
  loaded:incr "times"
end)

jet.from "*":tap(function()
  here = here + 1
  jet.log.info("%d events, loaded %d times, token %d letters", here, loaded:get "times", #token)
end)

jet.serve("GET /token", function()
  return { token = token, list = jet.array {}, when = jet.time() }
end)

jet.on_stop(function()
  jet.log.info "over"
end)
