-- Requests, look-ups and routes: what the suite "net" asks for.
local queue = {}

jet.from { collection = "app.bsky.feed.post", op = "create" }:each(function(ev)
  local answer, err = jet.http.post(jet.config.hook, { uri = ev.uri, text = ev.text })
  queue[#queue + 1] = answer and answer.status or err
end)

jet.serve("GET /get", function(request)
  local answer, err = jet.http.get(request.query.url, { timeout = request.query.timeout })
  if not answer then
    return 502, err
  end
  return answer.status, answer.body
end)

jet.serve("GET /who", function(request)
  local who, err = jet.resolve(request.query.who)
  if not who then
    return 404, err
  end
  return { did = who.did, handle = who.handle or jet.null, pds = who.pds, key = who.key }
end)

jet.serve("POST /echo/*", function(request)
  return { path = request.path, body = request.body, peer = request.peer,
    mixed = request.headers["x-mixed"], query = request.query }
end)

jet.serve("GET /sent", function() return jet.array(queue) end)

jet.serve("GET /busy", function()
  local n = 0
  while true do n = n + 1 end
end)

jet.serve("GET /sleepy", function() jet.sleep "1h" end)
