-- Never comes back for one event; everything else goes on.
local seen = 0
jet.from { kind = "commit" }
  :where(function(ev)
    seen = seen + 1
    while seen == 3 do end
    return true
  end)
  :to(jet.stream "endless")
