-- A script for tests/specs: HTTP, DIDs and routes.
local jet = require "moonjet"
local log = jet.log.info

local seen = 0
jet.from "*":tap(function()
  seen = seen + 1
end)

jet.every("1h", function()
  local answer, err = jet.http.get("https://example.com/weather?now=1", {
    headers = { ["X-Who"] = "moonjet" }, max_bytes = 100,
  })
  if not answer then
    log("no weather: %s", err)
  else
    log("%d %s %s", answer.status, answer.headers["content-type"] or "", answer.body)
  end
end)

jet.spawn(function()
  local who, err = jet.resolve "alice.example.com"
  log("alice: %s", who and who.did .. " " .. tostring(who.pds) or err)
end)

jet.serve("GET /seen", function(request)
  return tostring(seen) .. (request.query.mark or "")
end)

jet.serve("POST /echo", function(request)
  return 201, request.body .. request.headers["x-more"], { ["X-Path"] = request.path }
end)

jet.serve("PUT /echo", function(request)
  return request.body
end)

jet.serve("GET /status", function(request)
  return tonumber(request.query.is), "a body", { ["X-Method"] = request.method }
end)

jet.serve("GET /slow", function()
  jet.sleep "10s"
  return "late"
end)

jet.serve("GET /proxy", function()
  local answer = jet.http.get "https://example.com/other"
  return "<" .. answer.body .. ">"
end)

jet.serve("GET /files/*", function(request)
  return request.path
end)

jet.serve("GET /a%20b/100%25/+%C3%A9", function(request)
  return request.path
end)

jet.serve("GET /a%20b/*", function(request)
  return "below " .. request.path
end)

jet.serve("GET /star/%2A", function()
  return "a star"
end)

jet.serve("GET /header", function()
  return 200, "", { ["X-List"] = { "a", "b" } }
end)

jet.serve("GET /broken", function()
  error "on purpose"
end)
