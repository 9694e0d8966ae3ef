--- What a bot writes: posts, replies, quotes, threads, likes, reposts and follows, with rich text,
--- images and link cards. Everything is a record that me:create writes, so in an each it is written
--- once however often its event comes.
---
---   text ─▶ rich text ─▶ handles looked up ─▶ images fetched, measured, uploaded ─▶ me:create
local host, jet = ...

local repo = host.library "repo"
local rich_text = host.library "richtext"

local error, ipairs, pairs, select = error, ipairs, pairs, select
local tostring, type = tostring, type
local format = string.format

local M = {}

local POST, LIKE, REPOST, FOLLOW = "app.bsky.feed.post", "app.bsky.feed.like",
  "app.bsky.feed.repost", "app.bsky.graph.follow"
local IMAGES, IMAGE_BYTES, THUMB_BYTES = 4, 2000000, 1000000
local PAGE_BYTES = 4 * 2 ^ 20
local REDIRECTS = 3
local THREAD = 100 -- posts of one thread
local PAGES = 30   -- of own likes that are searched, of 100 each

-- # What a post, or an event, is to others

--- uri and cid of a post: an event, a table with both (what me:post returns), or nil.
local function ref_of(x)
  local kind = type(x)
  if (kind == "userdata" or kind == "table") and type(x.uri) == "string"
    and type(x.cid) == "string" then
    return { uri = x.uri, cid = x.cid }
  end
end

local function check_ref(what, x, level)
  local ref = ref_of(x)
  if not ref then
    error(format("%s wants an event, or a table with uri and cid; not %s", what, type(x)), level)
  end
  return ref
end
M.check_ref = check_ref

--- Where the post's thread begins, as far as it says: an event, what me:post returned (`root`),
--- what me:get_record and me:list return (`value`), or a view of the AppView's (`record`).
local function root_of(x)
  if type(x) == "userdata" then
    return x:table "reply.root"
  elseif x.root then
    return x.root
  end
  local record = type(x.value) == "table" and x.value or x.record
  local reply = type(record) == "table" and record.reply
  return type(reply) == "table" and reply.root
end
M.root_of = root_of

--- The reply's `reply`: below the post, in its thread. A stranger wrote what the thread's root is.
local function reply_to(x)
  local parent, root = ref_of(x), root_of(x)
  root = type(root) == "table" and ref_of(root)
  if root and not root.uri:find "^at://[^/]+/[^/]+/[^/]+$" then
    root = nil
  end
  return { root = root or parent, parent = parent }
end

-- # Images

--- Gets an address, following a few redirects; each is checked as the first is. The answer and its
--- address, or nil and a message.
local function fetch(url, max_bytes)
  for _ = 0, REDIRECTS do
    local response, message = jet.http.get(url, { max_bytes = max_bytes, timeout = "20s",
      headers = { ["User-Agent"] = "Moonjet bot" } })
    if not response then
      return nil, message
    end
    local to = response.headers.location
    if response.status == 200 then
      return response, url
    elseif response.status < 301 or response.status > 308 or not to then
      return nil, format("%s: status %d", url, response.status)
    end
    url = M.join(url, to)
    if not url then
      return nil, format("a redirect leads nowhere: %s", to)
    end
  end
  return nil, format("%s: too many redirects", url)
end

--- The address `to` on the page `url`; nil when it is none of the web.
function M.join(url, to)
  if to:find "^https?://" then
    return to
  end
  local scheme, place, path = url:match "^(https?:)//([^/?#]+)([^?#]*)"
  if not scheme or to:find "^%a[%w+.-]*:" then
    return nil
  elseif to:find "^//" then
    return scheme .. to
  elseif to:find "^/" then
    return scheme .. "//" .. place .. to
  end
  return scheme .. "//" .. place .. (path:match "^(.*/)" or "/") .. to
end

local IMAGE = { data = true, url = true, blob = true, alt = true, aspect = true }

local function check_images(what, images, level)
  if type(images) ~= "table" or #images == 0 then
    error(format("%s: images are a list: images = { { data = …, alt = \"…\" } }", what), level)
  elseif #images > IMAGES then
    error(format("%s: a post has at most %d images, not %d", what, IMAGES, #images), level)
  end
  for i, image in ipairs(images) do
    local name = format("%s: image %d", what, i)
    rich_text.check_options(name, image, IMAGE, level + 1)
    if type(image.alt) ~= "string" then
      error(name .. " has no alt text: say what it shows to those who do not see it, or alt = \"\" "
        .. "when there is nothing to say", level)
    elseif not image.data and not image.url and not image.blob then
      error(format("%s wants data = BYTES, url = \"https://…\", or blob = what me:upload returned",
        name), level)
    end
  end
end

--- Bytes of an image, of a kind and size that a post may have, as a blob, with its width and
--- height. Or nil and a message.
local function upload(me, name, bytes, max_bytes)
  local kind, width, height = host.image(bytes)
  if not kind then
    return nil, format("%s is no PNG, JPEG, GIF or WebP", name)
  elseif #bytes > max_bytes then
    return nil, format("%s has %d bytes, and may have %d", name, #bytes, max_bytes)
  end
  local blob, message = me:upload(bytes, kind)
  if not blob then
    return nil, message
  end
  return blob, width, height
end

--- The images' embed, or nil and a message.
local function embed_images(me, what, images)
  local list = {}
  for i, image in ipairs(images) do
    local name = format("%s: image %d", what, i)
    local blob, width, height = image.blob, nil, nil
    if not blob then
      local bytes = image.data
      if not bytes then
        local response, message = fetch(image.url, IMAGE_BYTES)
        if not response then
          return nil, format("%s: %s", name, message)
        end
        bytes = response.body
      end
      blob, width, height = upload(me, name, bytes, IMAGE_BYTES)
      if not blob then
        return nil, width
      end
    end
    local aspect = image.aspect or (width and { width = width, height = height })
    list[i] = { image = blob, alt = image.alt, aspectRatio = aspect }
  end
  return { ["$type"] = "app.bsky.embed.images", images = jet.array(list) }
end

-- # Link cards

local function first(...)
  for i = 1, select("#", ...) do
    local text = select(i, ...)
    if text and text ~= "" then
      return text
    end
  end
  return ""
end

--- What a page says of itself, as a card for me:post { card = … }; the picture is uploaded. Or nil
--- and a message.
function M.card(me, url)
  local response, at = fetch(url, PAGE_BYTES)
  if not response then
    return nil, at
  end
  local kind = response.headers["content-type"] or ""
  if not kind:find "html" then
    return nil, format("%s is no web page but %s", at, kind == "" and "of no known type" or kind)
  end
  local head = host.page_head(response.body)
  local card = {
    uri = url,
    title = first(head["og:title"], head["twitter:title"], head.title,
      url:match "^%a+://([^/?#]+)"),
    description = first(head["og:description"], head["twitter:description"], head.description),
  }
  local picture = first(head["og:image:secure_url"], head["og:image:url"], head["og:image"],
    head["twitter:image"])
  picture = picture ~= "" and M.join(at, picture)
  if picture then
    local got, message = fetch(picture, THUMB_BYTES)
    if got then
      card.thumb, message = upload(me, picture, got.body, THUMB_BYTES)
    end
    if not card.thumb then
      jet.log.info("the card of %s has no picture: %s", url, tostring(message))
    end
  end
  return card
end

local CARD = { uri = true, title = true, description = true, thumb = true }

local function check_card(what, card, level)
  if type(card) == "string" then
    card = { uri = card, title = "", description = "" }
  end
  rich_text.check_options(what .. ": card", card, CARD, level + 1)
  if type(card.uri) ~= "string" or not card.uri:find "^https?://[^%s/]%S*$" then
    error(format("%s: a card wants its address: card = \"https://…\", or { uri =, title =, "
      .. "description = }", what), level)
  end
end

local function embed_card(me, card)
  if type(card) == "string" then
    local message
    card, message = M.card(me, card)
    if not card then
      return nil, message
    end
  end
  return { ["$type"] = "app.bsky.embed.external", external = { uri = card.uri,
    title = card.title or "", description = card.description or "", thumb = card.thumb } }
end

-- # Posts

local OPTIONS = { langs = true, labels = true, tags = true, images = true, card = true,
  quote = true, replies = true, quotes = true, key = true, priority = true }

local function check_texts(what, name, list, most, level)
  if type(list) == "string" then
    list = { list }
  end
  if type(list) ~= "table" or #list > most then
    error(format("%s: '%s' is a list of at most %d texts", what, name, most), level)
  end
  for _, text in ipairs(list) do
    if type(text) ~= "string" then
      error(format("%s: '%s' is a list of texts", what, name), level)
    end
  end
  return list
end

local GATES = {
  mentioned = "#mentionRule", followers = "#followerRule", following = "#followingRule",
}

local function check_gates(what, options, is_reply, level)
  local replies = options.replies
  if replies ~= nil and is_reply then
    error(format("%s: 'replies' is for the post that begins a thread, and this one is a reply: "
      .. "leave it out", what), level)
  end
  if replies ~= nil and replies ~= "nobody" then
    for _, who in ipairs(check_texts(what, "replies", replies, 3, level + 1)) do
      if not GATES[who] then
        error(format("%s: replies come from \"nobody\", or \"mentioned\", \"followers\" and "
          .. "\"following\"; not '%s'", what, who), level)
      end
    end
  end
  if options.quotes ~= nil and type(options.quotes) ~= "boolean" then
    error(format("%s: 'quotes' is true or false", what), level)
  end
end

--- Raises when the post cannot be one; nothing is sent before that. Returns the rich text and the
--- options.
local function check_post(what, text, options, is_reply, level)
  options = rich_text.check_options(what, options, OPTIONS, level + 1)
  text = rich_text.of(what, text, level + 1)
  if not text:fits() then
    error(format("%s: the text has %d characters in %d bytes, and a post 300 in 3000; "
      .. "me:thread writes several, rich:truncate(300) less", what, text:length(), #text.text),
      level)
  end
  if options.images then
    check_images(what, options.images, level + 1)
  end
  if options.card then
    check_card(what, options.card, level + 1)
    if options.images then
      error(format("%s: a post has images or a card", what), level)
    end
  end
  if options.quote then
    check_ref(what .. ": quote", options.quote, level + 1)
  end
  check_gates(what, options, is_reply, level + 1)
  for name, most in pairs { langs = 3, tags = 8, labels = 10 } do
    if options[name] ~= nil then
      check_texts(what, name, options[name], most, level + 1)
    end
  end
  return text, options
end

local function labels_of(labels)
  local values = {}
  for i, label in ipairs(type(labels) == "string" and { labels } or labels) do
    values[i] = { val = label }
  end
  return { ["$type"] = "com.atproto.label.defs#selfLabels", values = jet.array(values) }
end

--- The post's embed, nil when it has none; or false and a message.
local function embed_of(me, what, options)
  local media, message
  if options.images then
    media, message = embed_images(me, what, options.images)
  elseif options.card then
    media, message = embed_card(me, options.card)
  end
  if message then
    return false, message
  end
  local quoted = options.quote
    and { ["$type"] = "app.bsky.embed.record", record = ref_of(options.quote) }
  if quoted and media then
    return { ["$type"] = "app.bsky.embed.recordWithMedia", record = quoted, media = media }
  end
  return quoted or media
end

local function list_of(x)
  return jet.array(type(x) == "string" and { x } or x)
end

--- Who may reply, and quote: records beside the post, under its key. They are created, never
--- replaced: of a post that was there already, what its owner has changed in the app since stays.
local function write_gates(me, post, options)
  if options.replies then
    local allow = {}
    for i, who in ipairs(options.replies == "nobody" and {} or list_of(options.replies)) do
      allow[i] = { ["$type"] = "app.bsky.feed.threadgate" .. GATES[who] }
    end
    local ok, message = me:create("app.bsky.feed.threadgate",
      { post = post.uri, allow = jet.array(allow) }, { rkey = post.rkey })
    if not ok then
      return nil, message
    end
  end
  if options.quotes == false then
    return me:create("app.bsky.feed.postgate", { post = post.uri,
      embeddingRules = { { ["$type"] = "app.bsky.feed.postgate#disableRule" } } },
      { rkey = post.rkey })
  end
  return true
end

--- Writes what check_post() found good. `reply` is a record's, or nil.
local function write_post(me, what, text, options, reply, priority)
  local embed, message = embed_of(me, what, options)
  if embed == false then
    return nil, message
  end
  text:resolve()
  local facets = text:facets()
  local record = {
    ["$type"] = POST, text = text.text, facets = facets and jet.array(facets), reply = reply,
    embed = embed, langs = options.langs and list_of(options.langs),
    tags = options.tags and list_of(options.tags),
    labels = options.labels and labels_of(options.labels),
  }
  local post, name, status
  post, message, name, status = me:create(POST, record,
    { key = options.key, priority = options.priority or priority })
  if not post then
    return nil, message, name, status
  end
  local ok
  ok, message = write_gates(me, post, options)
  if not ok then
    return nil, message
  end
  post.root = reply and reply.root or nil
  return post
end

-- # What is about somebody else's record

local function subject(me, collection, x, options, what)
  options = rich_text.check_options(what, options, { key = true, priority = true }, 4)
  return me:create(collection, { subject = x },
    { key = options.key, priority = options.priority or "low" })
end

--- The address of the account's own record of that collection about the subject; false when there
--- is none, nil and a message when that cannot be said. By its DID: handles change.
local function find_own(me, a, collection, about, what)
  local did, message = repo.did_of(a)
  if not did then
    return nil, message
  end
  local cursor
  for _ = 1, PAGES do
    local page
    page, message = me:get("com.atproto.repo.listRecords",
      { repo = did, collection = collection, limit = 100, cursor = cursor })
    if not page then
      return nil, message
    end
    for _, record in ipairs(type(page.records) == "table" and page.records or {}) do
      local s = type(record.value) == "table" and record.value.subject
      if s == about or (type(s) == "table" and s.uri == about) then
        return record.uri
      end
    end
    cursor = page.cursor
    if type(cursor) ~= "string" then
      return false
    end
  end
  return nil, format("%s: the record about %s is not among the account's last %d of %s; give its "
    .. "address, at://…", what, about, PAGES * 100, collection)
end

local function undo(me, a, collection, about, what)
  host.can_wait(what)
  local uri = about
  if not about:find("/" .. collection .. "/", 1, true) then
    local message
    uri, message = find_own(me, a, collection, about, what)
    if uri == nil then
      return nil, message
    end
  end
  return not uri or me:delete(uri)
end

local function uri_of(what, x, level)
  if type(x) == "string" and x:find "^at://" then
    return x
  end
  return check_ref(what, x, level + 1).uri
end

--- A DID: of an event, or a text; a handle is looked up. Or nil and a message.
local function did_of(what, x, level)
  if type(x) == "userdata" then
    x = x.did
  end
  if type(x) ~= "string" then
    error(format("%s wants an account: an event, a DID or a handle; not %s", what, type(x)), level)
  elseif x:find "^did:" then
    return x
  end
  local who, message = jet.resolve((x:gsub("^@", "")))
  return who and who.did, message
end
M.did_of = did_of

-- # Methods of agents

--- Adds them. `answer(self, ev)` is asked before an answer: nil and a message when there should be
--- none, otherwise a function that notes that there was one.
function M.add(Agent, self_of, answer)
  function Agent:post(text, options)
    self_of(self, "post")
    text, options = check_post("me:post", text, options, false, 3)
    host.can_wait "me:post"
    return write_post(self, "me:post", text, options, nil, "normal")
  end

  local function answer_with(me, what, ev, text, options, reply)
    local noted, message, name = answer(me, ev)
    if not noted then
      return nil, message, name
    end
    local post, status
    post, message, name, status = write_post(me, what, text, options, reply, "high")
    if post then
      noted()
    end
    return post, message, name, status
  end

  function Agent:reply(to, text, options)
    self_of(self, "reply")
    check_ref("me:reply", to, 3)
    text, options = check_post("me:reply", text, options, true, 3)
    host.can_wait "me:reply"
    return answer_with(self, "me:reply", to, text, options, reply_to(to))
  end

  function Agent:quote(what, text, options)
    self_of(self, "quote")
    check_ref("me:quote", what, 3)
    text, options = check_post("me:quote", text, options, false, 3)
    host.can_wait "me:quote"
    local with = { quote = what }
    for k, v in pairs(options) do
      with[k] = v
    end
    return answer_with(self, "me:quote", what, text, with, nil)
  end

  --- The parts of a thread, checked: { text =, options = } each.
  local function check_parts(parts, options)
    local list = {}
    if type(parts) == "string" or rich_text.is(parts) then
      parts = rich_text.of("me:thread", parts, 4):split { counters = options.counters }
    elseif type(parts) ~= "table" then
      error(format("me:thread wants a text or a list of texts, not %s", type(parts)), 3)
    end
    if #parts == 0 or #parts > THREAD then
      error(format("me:thread wants 1 to %d parts, not %d", THREAD, #parts), 3)
    end
    for i, part in ipairs(parts) do
      local what = format("me:thread: part %d", i)
      local with = {}
      if type(part) == "table" and not rich_text.is(part) then
        for k, v in pairs(part) do
          with[k] = v
        end
        part, with.text = part.text, nil
      end
      with.langs = with.langs or options.langs
      with.labels = with.labels or options.labels
      with.key = options.key and options.key .. "/" .. i
      with.priority = options.priority
      for _, name in ipairs(i == 1 and { "replies", "quotes" } or {}) do
        if options[name] ~= nil then
          with[name] = options[name]
        end
      end
      local text
      text, with = check_post(what, part, with, i > 1 or options.below ~= nil, 4)
      list[i] = { text = text, options = with }
    end
    return list
  end

  local THREAD_OPTIONS = { counters = true, langs = true, labels = true, key = true,
    priority = true, replies = true, quotes = true, below = true }

  function Agent:thread(parts, options)
    self_of(self, "thread")
    options = rich_text.check_options("me:thread", options, THREAD_OPTIONS, 3)
    local list, posts = check_parts(parts, options), {}
    local noted
    local reply
    if options.below then
      check_ref("me:thread: below", options.below, 3)
    end
    host.can_wait "me:thread"
    if options.below then
      local message, name
      noted, message, name = answer(self, options.below)
      if not noted then
        return nil, message, name
      end
      reply = reply_to(options.below)
    end
    for i, part in ipairs(list) do
      local post, message, name, status = write_post(self, "me:thread", part.text, part.options,
        reply, "normal")
      if not post then
        return nil, message, name, status
      end
      posts[i] = post
      local ref = ref_of(post)
      reply = { root = reply and reply.root or ref, parent = ref }
    end
    if noted then
      noted()
    end
    return posts
  end

  function Agent:card(url)
    self_of(self, "card")
    check_card("me:card", url, 3)
    host.can_wait "me:card"
    return M.card(self, url)
  end

  function Agent:like(x, options)
    self_of(self, "like")
    return subject(self, LIKE, check_ref("me:like", x, 3), options, "me:like")
  end

  function Agent:repost(x, options)
    self_of(self, "repost")
    return subject(self, REPOST, check_ref("me:repost", x, 3), options, "me:repost")
  end

  function Agent:follow(who, options)
    self_of(self, "follow")
    host.can_wait "me:follow"
    local did, message = did_of("me:follow", who, 3)
    if not did then
      return nil, message
    end
    return subject(self, FOLLOW, did, options, "me:follow")
  end

  function Agent:unlike(x)
    local a = self_of(self, "unlike")
    return undo(self, a, LIKE, uri_of("me:unlike", x, 3), "me:unlike")
  end

  function Agent:unrepost(x)
    local a = self_of(self, "unrepost")
    return undo(self, a, REPOST, uri_of("me:unrepost", x, 3), "me:unrepost")
  end

  function Agent:unfollow(who)
    local a = self_of(self, "unfollow")
    if type(who) == "string" and who:find "^at://" then
      return undo(self, a, FOLLOW, who, "me:unfollow")
    end
    host.can_wait "me:unfollow"
    local did, message = did_of("me:unfollow", who, 3)
    if not did then
      return nil, message
    end
    return undo(self, a, FOLLOW, did, "me:unfollow")
  end
end

return M
