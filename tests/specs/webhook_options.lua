-- A webhook with whatever options webhooks_spec.lua gives.

local jet = require "moonjet"

local options = assert(load("return { " .. (jet.config.options or "") .. " }"))()
jet.from "app.bsky.feed.post:create":to(jet.webhook(options))
