-- What a script sees is LuaJIT's sandboxed base and the global `jet`.
std = "luajit"
max_line_length = 100
read_globals = { "jet" }
unused_args = false
-- The type stubs only declare.
files["lua/_meta"] = { globals = { "jet" }, ignore = { "212", "241", "221", "211" }, max_line_length = false }
files["lua/_meta/spec.lua"] = { ignore = { "1.." } }
-- Specs run with describe, it and busted's kind of assert.
files["**/*_spec.lua"] = { std = "+busted", read_globals = { "fail" } }
-- Configuration files see words of their own (lua/config.lua).
files["examples/config"] = { read_globals = { "env", "journal", "limits", "listen", "log", "script",
  "scripting", "set", "source" } }
