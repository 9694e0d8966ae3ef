-- Two flows: the first fails on every event, the second must not notice.
jet.from { kind = "commit" }
  :where(function(ev) return ev.record.no.such.thing end)
  :to(jet.stream "broken")

jet.from { kind = "commit" }:to(jet.stream "healthy")
