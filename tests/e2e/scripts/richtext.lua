-- For suites/richtext.mjs: POST /marks takes a JSON list of texts and tells what jet.richtext finds
-- in each; POST /split cuts each into parts of at most `max` characters.
local jet = require "moonjet"

jet.serve("POST /marks", function(request)
  local out = {}
  for i, text in ipairs(jet.json.decode(request.body)) do
    local rich = jet.richtext(text)
    out[i] = { length = rich:length(), marks = jet.array(rich.marks) }
  end
  return jet.array(out)
end)

jet.serve("POST /split", function(request)
  local out = {}
  local max = tonumber(request.query.max)
  for i, text in ipairs(jet.json.decode(request.body)) do
    local parts = {}
    for k, part in ipairs(jet.richtext(text):split { max = max }) do
      parts[k] = { text = part.text, marks = jet.array(part.marks) }
    end
    out[i] = jet.array(parts)
  end
  return jet.array(out)
end)

jet.from "app.bsky.feed.post:delete":to(jet.stream "nothing")
