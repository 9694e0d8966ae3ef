-- A configuration file: `moonjet run examples/config/moonjet.lua`. Every option that
-- `moonjet run --help` lists has its place here; what the command line or a MOONJET_… variable says
-- goes over it. Try a change with --check-config first; --print-config shows all that is in force.
-- Paths are relative to this file.

source(env("SOURCE", "wss://bsky.network"))

listen {
  stream = ":6008",             -- subscribers, and what scripts serve
  metrics = "127.0.0.1:6009",   -- /metrics, /status, /_health
}

-- Without it, events and what scripts remember are kept in memory only:
-- journal { data = "/var/lib/moonjet", retain = "36h", retain_bytes = "16G" }

limits { max_per_ip = 20 }

scripting { watch = true }      -- a script that is saved is reloaded

script "../quickstart.lua"

script "../keyword.lua" {
  config = { words = "lua,luajit,openresty", stream = "lua-posts" }, -- jet.config
  memory = "32M",               -- of heap
  call = "20ms",                -- one call may take
  -- secrets = { "BOT_PW" },    -- what jet.secret may ask for
  -- http_allow = { "10.0.0.7:8080" }, -- beyond the public internet
  -- on_error = "pass",         -- an error lets the event go on as it came
  -- lane = "own", lag = "skip", -- a thread of its own; behind, it misses events
}

-- set "vips" { file = "vips.txt" } -- jet.set "vips", wantedDids=set:vips, moonjet ctl set
