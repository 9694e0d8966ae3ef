-- What sinks_spec.lua tests: plug-ins in C and in Lua, in front of and behind a batch.
local jet = require "moonjet"

local posts = jet.from "app.bsky.feed.post:create"

posts:to(jet.sink("file", { path = "posts.jsonl", rotate = 1e6, sync = true }))
posts:batch { max = 2, every = "1m" }:to(jet.sink("file", { path = "batches.jsonl" }))
posts:to(jet.sink("discord",
  { url = "https://discord.example.com/hook", text = "{text} by {did}" }))
