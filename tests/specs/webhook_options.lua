-- A webhook with whatever options webhooks_spec.lua gives.

local jet = require "moonjet"

local options = assert(load("return { " .. (jet.config.options or "") .. " }"))()
if jet.config.taken then
  jet.from("app.bsky.feed.like"):each(function() end):as(jet.config.taken)
end
jet.from "app.bsky.feed.post:create":to(jet.webhook(options))
