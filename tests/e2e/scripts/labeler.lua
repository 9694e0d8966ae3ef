-- A labeler for tests/e2e/suites/labeler.mjs: labels what it is told to, and posts with "spam".
local jet = require "moonjet"

local labeler = jet.labeler { hostname = jet.config.hostname, key = jet.secret "LABEL_KEY",
  seq = jet.config.seq and tonumber(jet.config.seq) }

jet.from { collection = "app.bsky.feed.post", op = "create", text = jet.words { "spam" } }
  :tap(function(ev) labeler:apply(ev, "spam", { cid = ev.cid }) end)

jet.serve("POST /do", function(request)
  for _, call in ipairs(jet.json.decode(request.body)) do
    labeler[call[1]](labeler, call[2], call[3], call[4])
  end
end)
