-- A webhook with whatever options webhooks_spec.lua gives.

local jet = require "moonjet"

if jet.config.taken then
  jet.from "app.bsky.feed.like:create"
    :to(jet.webhook { url = "https://y.example", name = jet.config.taken })
end

local options = assert(load("return { " .. (jet.config.options or "") .. " }"))()
jet.from "app.bsky.feed.post:create":to(jet.webhook(options))
