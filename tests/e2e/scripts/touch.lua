-- Every record passes through a script that reads all of it and changes one field.
jet.from { collection = "org.example.values" }
  :where(function(ev) return ev:table() ~= nil end)
  :to(jet.stream "read")

jet.from { collection = "org.example.values", op = "create" }
  :map(function(ev)
    ev.record.note = "changed"
    return ev
  end)
  :to(jet.stream "changed")
