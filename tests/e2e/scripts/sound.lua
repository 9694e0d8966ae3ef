jet.from "app.bsky.feed.post:create"
  :where(function(ev)
    return ev.text ~= ""
  end)
  :to(jet.stream "sound")
