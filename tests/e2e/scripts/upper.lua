-- One :map per kind of edit; each stream shows what the edit did and nothing else.
local posts = { collection = "app.bsky.feed.post", op = "create" }

jet.from(posts)
  :map(function(ev)
    ev.record.text = ev.record.text:upper()
    return ev
  end)
  :to(jet.stream "upper")

jet.from(posts)
  :map(function(ev)
    ev:unset "langs"
    return ev
  end)
  :to(jet.stream "nolangs")

jet.from(posts)
  :map(function(ev)
    if ev.text == "" then return nil end
    return ev
  end)
  :to(jet.stream "same")
