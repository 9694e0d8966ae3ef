-- A script of its own that fails in another way, in :map.
jet.from { kind = "commit" }
  :map(function(ev) error "on purpose" end)
  :to(jet.stream "errors")
