--- jet.feed: feed generators, over jet.zset and jet.serve.
---
---   add, bump, remove ─▶ zset: post ─ time ─▶ getFeedSkeleton, newest first, page by page
---
--- A page ends with a cursor that names its last post and that post's time. The next page begins
--- behind that place in the order, whatever was added in front meanwhile: nothing comes twice,
--- and only what moved up is missed, which is on the first page then.
local host, jet = ...

local METHOD = "app.bsky.feed.getFeedSkeleton"
local ROUTE = "GET /xrpc/" .. METHOD
local SERVICE = "#bsky_fg"
local OPTIONS = { keep = true, ttl = true, persist = true, name = true, auth = true, did = true,
  hostname = true, posts = true }
local KEEP = 20000
local URI_MAX = 1000

local format = string.format
local complain, try = host.complain, host.try

local function fail(name, message, status)
  return status or 400, { error = name, message = message }
end

-- # Who asks

--- Tokens that are meant for another service or method: a PDS may send the one it was given along.
local ELSEWHERE = { BadJwtAudience = true, BadJwtLexiconMethod = true }

--- The DID behind the request, or nil; or nil and what is wrong, as name and message.
local function viewer_of(setup, request)
  local header = request.headers.authorization
  if header == nil then
    if setup.auth == "required" then
      return nil, "AuthMissing", "this feed wants to know who asks: send a service auth token"
    end
    return nil
  end
  local token = header:match "^[Bb]earer +(%S+)$"
  if not token then
    return nil, "AuthMissing", "the Authorization header holds no bearer token"
  end
  local did, name, message = host.jwt_read(token, setup.did, SERVICE, METHOD)
  if not did then
    if setup.auth == "optional" and ELSEWHERE[name] then
      return nil -- who brought no token at all would be answered, too
    end
    return nil, name, message
  end
  local identity = host.resolve_document(did)
  if identity and identity.key and host.jwt_verify(token, identity.key) then
    return did
  end
  -- The account may have a new key since.
  identity = host.resolve_anew(did)
  if not identity or not identity.key then
    return nil, "BadJwtIss", "the signing key of " .. did .. " cannot be found"
  end
  if host.jwt_verify(token, identity.key) then
    return did
  end
  return nil, "BadJwtSignature", "the token is not signed with the key of " .. did
end

-- # Requests

local function limit_of(text)
  if text == nil then
    return 50
  end
  local limit = tonumber(text:match "^%d%d?%d?$")
  return limit and limit >= 1 and limit <= 100 and limit or nil
end

-- What a function of the script gave as posts: texts or tables, as the lexicon has them.
local function check_posts(uri, posts, limit)
  if type(posts) ~= "table" then
    error(format("jet.feed %s: 'posts' returns a list of posts, not %s", uri, type(posts)), 0)
  end
  local list = jet.array {}
  for i = 1, math.min(#posts, limit) do
    local post = posts[i]
    if type(post) == "string" then
      post = { post = post }
    end
    if type(post) ~= "table" or type(post.post) ~= "string" or post.post:sub(1, 5) ~= "at://" then
      error(format("jet.feed %s: post %d of 'posts' is neither an at:// address nor "
        .. "{ post = \"at://…\" }", uri, i), 0)
    end
    list[i] = post
  end
  return list
end

local function answer(feed, setup, request)
  local viewer, name, message
  if setup.auth ~= "none" then
    viewer, name, message = viewer_of(setup, request)
    if name then
      return fail(name, message, 401)
    end
  end
  local limit, cursor = limit_of(request.query.limit), request.query.cursor
  if not limit then
    return fail("InvalidRequest", "limit is a whole number from 1 to 100")
  end
  if cursor == "" then
    cursor = nil
  end
  local posts, next_cursor
  if setup.posts then
    posts, next_cursor = setup.posts {
      feed = setup.uri, viewer = viewer, limit = limit, cursor = cursor, request = request }
    posts = check_posts(setup.uri, posts, limit)
    if next_cursor ~= nil then
      next_cursor = tostring(next_cursor)
    end
  else
    posts, next_cursor = feed:list(limit, cursor)
    if not posts then
      return fail("InvalidRequest", "this is no cursor of this feed: start without one")
    end
  end
  return { feed = posts, cursor = next_cursor }
end

-- # Declaring

local function check_options(options)
  for name in pairs(options) do
    if not OPTIONS[name] then
      local near = host.closest(tostring(name), OPTIONS)
      complain("jet.feed has no option '%s'%s", tostring(name),
        near and format("; did you mean '%s'?", near) or "")
    end
  end
  local auth = options.auth
  if auth == nil then
    auth = options.posts and "optional" or "none"
  end
  if auth ~= "none" and auth ~= "optional" and auth ~= "required" then
    complain "jet.feed: 'auth' is \"none\", \"optional\" or \"required\""
  end
  if options.posts ~= nil and type(options.posts) ~= "function" then
    complain "jet.feed: 'posts' is a function that returns a list of posts"
  end
  local did, where = try(host.service_did, "jet.feed", options.did, options.hostname)
  if auth ~= "none" and not did then
    if options.auth == nil then
      auth = "none"
    else
      complain("jet.feed: to check who asks it must know its own name: hostname = "
        .. "\"feeds.example.com\", or did = …")
    end
  end
  return auth, did, where
end

-- A name for the zset: the record key, as far as a name may hold it.
local function state_name(rkey)
  local name = rkey:gsub("[^%w_]", "_")
  return "feed_" .. name
end

local function check_uri(uri)
  local did, rkey
  if type(uri) == "string" then
    did, rkey = uri:match "^at://(did:%l+:[%w._:%%-]+)/app%.bsky%.feed%.generator/([%w._:~-]+)$"
  end
  if not did then
    complain("jet.feed wants the address of the feed's record: "
      .. "at://did:plc:…/app.bsky.feed.generator/NAME")
  end
  return rkey
end

local feeds, names = {}, {}

local function declare(uri, options)
  local rkey = check_uri(uri)
  local auth, did, where = check_options(options)
  if feeds[uri] then
    complain("jet.feed: %s is declared already", uri)
  end
  local name = options.name or state_name(rkey)
  if names[name] then
    complain("jet.feed: another feed keeps its posts as '%s' already: give this one a name = …",
      tostring(name))
  end
  names[name] = true
  local keep = { max = options.keep or KEEP, ttl = options.ttl, persist = options.persist }
  local made, posts = pcall(jet.zset, name, keep)
  if not made then
    complain((tostring(posts):gsub("^jet%.zset", "jet.feed"))) -- keep and ttl are its options
  end
  -- What is known of a post besides its time; most have nothing.
  local notes = try(jet.map, name .. "_notes", keep)
  local setup = { uri = uri, auth = auth, did = did, posts = options.posts }

  local feed = {}

  function feed.add(_, post, time_us, note)
    if type(post) == "userdata" then -- an event
      if time_us == nil then
        time_us = post.time_us
      end
      post = post.uri
    end
    if type(post) ~= "string" or post:sub(1, 5) ~= "at://" or #post > URI_MAX then
      complain "feed:add wants a post: an event, or its at:// address"
    end
    if time_us ~= nil and type(time_us) ~= "number" then
      complain "feed:add: the time is in microseconds, as ev.time_us is"
    end
    if note ~= nil then
      if type(note) ~= "table" then
        complain("feed:add: the third argument is a table: { repost = \"at://…\" }, "
          .. "{ pin = true } or { context = \"…\" }")
      end
      try(notes.set, notes, post, jet.json.encode { repost = note.repost, pin = note.pin,
        context = note.context })
    end
    try(posts.set, posts, post, math.floor(time_us or jet.time() * 1e6))
  end

  function feed.remove(_, post)
    try(notes.remove, notes, post)
    return try(posts.remove, posts, post)
  end

  function feed.bump(_, post, duration)
    local by = try(host.duration, "feed:bump", duration)
    if not try(posts.score, posts, post) then
      return false
    end
    posts:incr(post, by)
    return true
  end

  function feed.has(_, post)
    return try(posts.score, posts, post) ~= nil
  end

  function feed.count()
    return try(posts.count, posts)
  end

  function feed.list(_, limit, cursor)
    local time, last
    if cursor ~= nil then
      time, last = tostring(cursor):match "^(%-?%d+)/(at://.+)$"
      if not time or #time > 17 then
        return nil, "this is no cursor of this feed"
      end
    end
    limit = limit or 50
    local entries = try(host.zset_page, posts, limit, tonumber(time), last)
    local list = jet.array {}
    for i = 1, #entries do
      local post = entries[i].key
      local item = { post = post }
      local note = notes:get(post)
      note = note and jet.json.decode(note)
      if note then
        if note.repost then
          item.reason = { ["$type"] = "app.bsky.feed.defs#skeletonReasonRepost",
            repost = note.repost }
        elseif note.pin then
          item.reason = { ["$type"] = "app.bsky.feed.defs#skeletonReasonPin" }
        end
        item.feedContext = note.context
      end
      list[i] = item
    end
    local final = entries[#entries]
    local more = #entries == limit and limit > 0
    return list, more and format("%.0f/%s", final.score, final.key) or nil
  end

  feed = host.sealed("feed", feed)
  feeds[uri] = true
  host.serve_for(ROUTE, "feed", uri, function(request)
    if not feeds[request.query.feed] then
      if request.query.feed == nil then
        return fail("InvalidRequest", "say which feed: ?feed=at://…")
      end
      return fail("UnknownFeed", "there is no such feed here")
    end
    return answer(feed, setup, request)
  end)
  if did then
    host.publish(did, "feed", uri)
    if where then
      host.publish(did, "service", SERVICE, "BskyFeedGenerator", where)
    end
  end
  return feed
end

local M = {}

function M.feed(where, options)
  if options == nil then
    options = {}
  elseif type(options) ~= "table" then
    complain "jet.feed wants its options as a table: { keep = 20000, persist = true }"
  end
  if type(where) ~= "table" then
    return (declare(where, options))
  end
  if #where == 0 then
    complain "jet.feed wants one address, or a list of some"
  end
  if options.name ~= nil then
    complain "jet.feed: several feeds cannot have one 'name'"
  end
  local list = {}
  for i = 1, #where do
    list[i] = declare(where[i], options)
  end
  return unpack(list)
end

return M
