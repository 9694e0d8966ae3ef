-- archive.lua: likes without what identifies who liked, in files that are rotated.

local jet = require "moonjet"

jet.from "app.bsky.feed.like:create"
  :sample(0.1)                                  -- a tenth of all likes
  :keep("subject.uri", "createdAt")             -- of the record, only these; runs in C
  :to(jet.sink("file", { path = jet.config.path or "likes.jsonl", rotate = "256M", keep = 4 }))
