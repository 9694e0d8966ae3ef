-- Makes room in a list from very far below, for a minute, inside a function of LuaJIT's where no
-- hook reaches.
jet.from "app.bsky.feed.post:create"
  :where(function(ev)
    return not ev.text:find("stuck", 1, true) or table.insert({}, -2 ^ 31, ev.text)
  end)
  :to(jet.stream "fragile")
