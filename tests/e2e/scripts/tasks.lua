-- Every event through tasks: one by one, in lists, and what is left when the script ends. One task
-- computes for ever.
local done = jet.counter("done", { "what" })

jet.from "*":each(function(ev)
  local did = ev.did
  jet.sleep "1ms"
  assert(ev.did == did)
  done:inc "each"
end, { workers = 64, queue = 100000 })

jet.from "*":batch { max = 50, every = "100ms" }:each(function(events)
  jet.sleep "1ms"
  done:inc("list", #events)
end, { queue = 100000 })

jet.every("20ms", function() done:inc "tick" end)

jet.spawn(function()
  local n = 0
  while true do n = n + 1 end
end)

jet.on_stop(function()
  jet.sleep "50ms"
  jet.log.info("the script has said goodbye")
end)
