-- A script for tests/specs: a labeler.
local jet = require "moonjet"

local labeler = jet.labeler {
  did = jet.config.did, hostname = "labels.example.com", key = jet.secret "LABEL_KEY",
  policies = jet.config.policies and { labelValues = { "spam", "rude" } },
  seq = jet.config.seq,
}

jet.from { collection = "app.bsky.feed.post", op = "create", text = jet.words { "buy" } }
  :tap(function(ev)
    labeler:apply(ev, "spam")
    labeler:apply(ev.did, "rude", { exp = "7d" })
  end)

jet.from "app.bsky.feed.post:delete"
  :tap(function(ev) labeler:negate(ev, "spam") end)

local function shown(list)
  for i = 1, #list do
    list[i].cts = nil
  end
  return jet.array(list)
end

jet.serve("GET /list", function(request)
  return shown(labeler:list(request.query.of, tonumber(request.query.n)))
end)

jet.serve("GET /key", function() return labeler:key() end)

jet.serve("POST /do", function(request)
  local call = jet.json.decode(request.body)
  labeler[call.method](labeler, call.subject, call.val, call.more)
end)
