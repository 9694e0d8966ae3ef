-- main stays untouched; "shout" has the posts of one kind, louder, and the fences.
jet.from { collection = "app.bsky.feed.post", op = "create" }
  :where(function(ev) return ev.text:find("multi", 1, true) ~= nil end)
  :map(function(ev)
    ev.record.text = ev.record.text:upper()
    return ev
  end)
  :to(jet.stream "shout")

jet.from { collection = "org.example.fence" }:to(jet.stream "shout")
