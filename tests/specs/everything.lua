-- A script for tests/specs: everything that arrives, in streams and in print.
local jet = require "moonjet"

jet.from "*":to(jet.stream "all")
jet.from "app.bsky.feed.post":to(jet.print())
jet.from { kind = "commit" }
  :map(function(draft)
    if draft.record then
      draft.record.seen = jet.now()
    draft.record.clock = os.time() .. os.date "! %H:%M"
    end
    return draft
  end)
  :to(jet.stream "seen", jet.print())

local counter = jet.counter("events", { "kind", "op" })
jet.from "*":tap(function(ev)
  counter:inc(ev.kind, ev.op)
  if ev.collection == "org.example.fails" then
    error("on purpose")
  elseif ev.collection == "org.example.logs" then
    jet.log.warn("saw %s", ev.rkey)
    print "and printed"
  end
end)
