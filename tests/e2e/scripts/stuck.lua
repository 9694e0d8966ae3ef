-- A search that would take minutes, inside a function of LuaJIT's where no hook reaches.
local hay, needle = ("a"):rep(2 ^ 22), ("a"):rep(2 ^ 19) .. "b"
jet.from "app.bsky.feed.post:create"
  :where(function(ev)
    return not ev.text:find("stuck", 1, true) or hay:find(needle, 1, true)
  end)
  :to(jet.stream "fragile")
