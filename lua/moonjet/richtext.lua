--- Rich text: a text, and which of its bytes are a mention, a link or a tag.
---
---   text    "Hello @alice.test, see example.com"
---   marks         { from = 6, to = 17, handle = "alice.test" }   { from = 23, to = 34, uri = … }
---
--- Marks count bytes from 0, ends exclusive, as the facets of a record do; they are in order and do
--- not overlap. A mark has a `uri`, a `tag`, a `did`, or a `handle` that is not looked up yet.
--- Finding them, and counting what people see as one character, is C's part
--- (core/atproto/richtext.h).
local host, jet = ...

local error, getmetatable, ipairs, pairs = error, getmetatable, ipairs, pairs
local setmetatable, tostring, type = setmetatable, tostring, type
local math, table = math, table

local M = {}

local POST = 300      -- characters of a post; 3,000 bytes
local SHORT_PATH = 15 -- of a path that is shown whole

local methods = setmetatable({}, {
  __index = function(known, key)
    local near = host.closest(tostring(key), known)
    error(("a rich text has no '%s'%s"):format(tostring(key),
      near and ("; did you mean '%s'?"):format(near) or ""), 2)
  end,
})
local Rich = { __index = methods }

--- Raises unless the options are a table of these names. Here and below, `level` is where error
--- puts the blame, counted from the function that gets it.
function M.check_options(what, options, names, level)
  if options == nil then
    return {}
  elseif type(options) ~= "table" then
    error(("%s wants its options as a table, not %s"):format(what, type(options)), level)
  end
  for name in pairs(options) do
    if not names[name] then
      local near = host.closest(tostring(name), names)
      error(("%s has no option '%s'%s"):format(what, tostring(name),
        near and ("; did you mean '%s'?"):format(near) or ""), level)
    end
  end
  return options
end

local function make(text, marks)
  return setmetatable({ text = text, marks = marks or {} }, Rich)
end

-- Of bytes, records allow ten times as many.
local function bytes_for(max)
  return math.max(max, POST) * 10
end

function M.is(x)
  return type(x) == "table" and getmetatable(x) == Rich
end

local function check_text(what, text, level)
  if type(text) ~= "string" then
    error(("%s wants a text, not %s"):format(what, type(text)), level)
  end
  local bad = host.bad_utf8(text)
  if bad then
    error(("%s: the text is no UTF-8 at byte %d; to cut a text, use truncate"):format(what, bad),
      level)
  end
  return text
end

-- "https://www.example.com/a/long/path?x=1" as people need to see it.
local function shorten(uri)
  local place, path = uri:match "^%a+://([^/?#]+)(.*)$"
  if not place then
    place, path = uri:match "^([^/?#]+)(.*)$"
  end
  if not place then
    return uri
  elseif path == "/" then
    path = ""
  elseif host.fit(path, 0, SHORT_PATH, #path) < #path then
    path = path:sub(1, host.fit(path, 0, SHORT_PATH - 2, #path)) .. "…"
  end
  return place .. path
end

-- The text with the displays of some marks replaced: `display(mark)` returns the new one, nil to
-- leave it, or false to leave the text and drop the mark.
local function redisplay(rich, display)
  local out, marks, at, len = {}, {}, 0, 0
  local function put(piece)
    out[#out + 1] = piece
    len = len + #piece
  end
  for _, mark in ipairs(rich.marks) do
    put(rich.text:sub(at + 1, mark.from))
    local shown, from = display(mark), len
    put(shown or rich.text:sub(mark.from + 1, mark.to))
    if shown ~= false then
      marks[#marks + 1] = { from = from, to = len, uri = mark.uri, tag = mark.tag, did = mark.did,
        handle = mark.handle }
    end
    at = mark.to
  end
  put(rich.text:sub(at + 1))
  return make(table.concat(out), marks)
end

-- "[our page](https://example.com)": the text as it is shown, and marks of the links.
local function read_links(text)
  local out, marks, at, len = {}, {}, 1, 0
  while true do
    local from, to, shown, uri = text:find("%[([^%[%]\n]+)%]%((https?://[^%s()]+)%)", at)
    if not from then
      break
    end
    out[#out + 1] = text:sub(at, from - 1)
    out[#out + 1] = shown
    len = len + from - at
    marks[#marks + 1] = { from = len, to = len + #shown, uri = uri }
    len = len + #shown
    at = to + 1
  end
  out[#out + 1] = text:sub(at)
  return table.concat(out), marks
end

-- The marks of both lists, in order, without those of `more` that overlap one of `marks`.
local function merge(marks, more)
  local all, i = {}, 1
  for _, mark in ipairs(more) do
    while marks[i] and marks[i].to <= mark.from do
      all[#all + 1] = marks[i]
      i = i + 1
    end
    if not marks[i] or marks[i].from >= mark.to then
      all[#all + 1] = mark
    end
  end
  for k = i, #marks do
    all[#all + 1] = marks[k]
  end
  return all
end

local function detect(text)
  local marks = host.facets(text)
  for i, facet in ipairs(marks) do
    local mark = { from = facet.from, to = facet.to }
    if facet.kind == "mention" then
      mark.handle = facet.value:lower()
    elseif facet.kind == "link" then
      mark.uri = facet.bare and "https://" .. facet.value or facet.value
    elseif facet.kind == "tag" then
      mark.tag = facet.value
    else
      mark.tag = "$" .. facet.value:upper()
    end
    marks[i] = mark
  end
  return marks
end

local OPTIONS = { detect = true, markdown = true, shorten = true }

local function new(what, text, options, level)
  if M.is(text) then
    return text
  end
  options = M.check_options(what, options, OPTIONS, level + 1)
  text = check_text(what, text == nil and "" or text, level + 1)
  local marks = {}
  if options.markdown then
    text, marks = read_links(text)
  end
  if options.detect ~= false then
    marks = merge(marks, detect(text))
  end
  local rich = make(text, marks)
  if options.shorten then
    rich = redisplay(rich, function(mark)
      local shown = mark.uri and rich.text:sub(mark.from + 1, mark.to)
      return shown and shown:find "^%a+://" and shorten(shown) or nil
    end)
  end
  return rich
end

function M.new(text, options)
  return new("jet.richtext", text, options, 2)
end

--- A text or rich text as rich text, for WHAT.
function M.of(what, text, level)
  return new(what, text, nil, level)
end

-- ---- building ----

-- Appends the text, with a mark of those fields.
local function append(rich, shown, mark)
  mark.from = #rich.text
  mark.to = mark.from + #shown
  rich.text = rich.text .. shown
  if mark.to > mark.from then
    rich.marks[#rich.marks + 1] = mark
  end
  return rich
end

function methods:add(text, options)
  local more, at = new("richtext:add", text, options, 3), #self.text
  self.text = self.text .. more.text
  for _, mark in ipairs(more.marks) do
    self.marks[#self.marks + 1] = { from = mark.from + at, to = mark.to + at, uri = mark.uri,
      tag = mark.tag, did = mark.did, handle = mark.handle }
  end
  return self
end

function methods:mention(shown, who)
  check_text("richtext:mention", shown, 3)
  who = who or shown:gsub("^@", "")
  if type(who) ~= "string" then
    error(("richtext:mention wants a handle or DID, not %s"):format(type(who)), 2)
  end
  if who:find "^did:" then
    return append(self, shown, { did = who })
  end
  return append(self, shown:find "^@" and shown or "@" .. shown, { handle = who:lower() })
end

function methods:link(shown, uri)
  check_text("richtext:link", shown, 3)
  uri = uri or shown
  if type(uri) ~= "string" or not uri:find "^https?://[^%s/]%S*$" then
    error(("richtext:link wants an address, https://…, not '%s'"):format(tostring(uri)), 2)
  end
  return append(self, shown == uri and shorten(uri) or shown, { uri = uri })
end

function methods:tag(tag)
  tag = check_text("richtext:tag", tag, 3):gsub("^#", "")
  if tag == "" or jet.graphemes(tag) > 64 then
    error("richtext:tag wants a tag of 1 to 64 characters", 2)
  end
  return append(self, "#" .. tag, { tag = tag })
end

-- ---- measuring and cutting ----

function methods:length()
  return jet.graphemes(self.text)
end

function methods:fits(max)
  max = max or POST
  return #self.text <= bytes_for(max) and jet.graphemes(self.text) <= max
end

-- The part of the text, with the marks that are in it as a whole.
local function slice(rich, from, to)
  local marks = {}
  for _, mark in ipairs(rich.marks) do
    if mark.from >= from and mark.to <= to then
      marks[#marks + 1] = { from = mark.from - from, to = mark.to - from, uri = mark.uri,
        tag = mark.tag, did = mark.did, handle = mark.handle }
    end
  end
  return make(rich.text:sub(from + 1, to), marks)
end

-- The mark that a cut before byte `at` would cut through.
local function mark_across(rich, at)
  for _, mark in ipairs(rich.marks) do
    if mark.from >= at then
      return nil
    elseif mark.to > at then
      return mark
    end
  end
end

-- Where a part that begins at `from` ends, so that it has at most `max` graphemes and bytes, and
-- ends with a word: not in a mark, and in the middle of a word only where that word is half of the
-- part.
local function part_end(rich, from, max, bytes)
  local text = rich.text
  local fit = host.fit(text, from, max, bytes)
  if fit == #text then
    return fit
  end
  local mark = mark_across(rich, fit)
  local limit = mark and mark.from > from and mark.from or fit
  local word = host.word_end(text, from, limit)
  mark = mark_across(rich, word)
  while mark and word > from do
    word = host.word_end(text, from, math.max(mark.from, from))
    mark = mark_across(rich, word)
  end
  if word > from and (word - from >= (limit - from) / 2 or limit == word) then
    return word
  end
  -- One grapheme always goes, or there would be no end.
  return math.max(limit, host.fit(text, from, 1, #text))
end

-- The text with no mark that is longer than a part: of a link, less is shown.
local function fit_marks(rich, max, bytes)
  local function long(shown)
    return #shown > bytes or jet.graphemes(shown) > max
  end
  return redisplay(rich, function(mark)
    local shown = rich.text:sub(mark.from + 1, mark.to)
    if not long(shown) then
      return nil
    elseif mark.uri then
      local shorter = shorten(mark.uri)
      return not long(shorter) and shorter
    end
    return false
  end)
end

local function check_max(what, max, least, level)
  if max == nil then
    return POST
  elseif type(max) ~= "number" or max < least or max > 10000 then
    error(("%s: max is %d to 10000 characters"):format(what, least), level)
  end
  return math.floor(max)
end

function methods:truncate(max)
  max = check_max("richtext:truncate", max, 2, 3)
  if self:fits(max) then
    return self
  end
  local to = part_end(self, 0, max - 1, bytes_for(max) - #"…")
  local cut = slice(self, 0, to)
  cut.text = cut.text .. "…"
  return cut
end

local function split(rich, max, bytes)
  rich = fit_marks(rich, max, bytes)
  local parts, text = {}, rich.text
  local from = host.trim(text, 0, #text)
  while from < #text do
    local stop = part_end(rich, from, max, bytes)
    local _, to = host.trim(text, from, stop)
    parts[#parts + 1] = slice(rich, from, to)
    from = host.trim(text, stop, #text)
  end
  return parts
end

local SPLIT_OPTIONS = { max = true, counters = true }

function methods:split(options)
  options = M.check_options("richtext:split", options, SPLIT_OPTIONS, 3)
  local max = check_max("richtext:split", options.max, 20, 3)
  if self:fits(max) then
    return { self }
  elseif not options.counters then
    return split(self, max, bytes_for(max))
  end
  for digits = 1, 6 do
    local counter = #" /" + 2 * digits
    local parts = split(self, max - counter, bytes_for(max) - counter)
    if #parts == 1 then
      return parts
    elseif #tostring(#parts) <= digits then
      for i, part in ipairs(parts) do
        part.text = ("%s %d/%d"):format(part.text, i, #parts)
      end
      return parts
    end
  end
end

-- ---- towards a record ----

--- Looks the handles up, each once. One that leads nowhere gets no facet, but is kept and asked for
--- again the next time: a name server may only have been away.
function methods:resolve()
  local known = {}
  for _, mark in ipairs(self.marks) do
    if mark.handle and not mark.did then
      if known[mark.handle] == nil then
        local who = jet.resolve(mark.handle)
        known[mark.handle] = who and who.did or false
      end
      mark.did = known[mark.handle] or nil
    end
  end
  return self
end

local FACET = "app.bsky.richtext.facet"

function methods:facets()
  local facets = {}
  for _, mark in ipairs(self.marks) do
    local feature
    if mark.uri then
      feature = { ["$type"] = FACET .. "#link", uri = mark.uri }
    elseif mark.tag then
      feature = { ["$type"] = FACET .. "#tag", tag = mark.tag }
    elseif mark.did then
      feature = { ["$type"] = FACET .. "#mention", did = mark.did }
    end
    if feature then
      facets[#facets + 1] = { ["$type"] = FACET, features = { feature },
        index = { byteStart = mark.from, byteEnd = mark.to } }
    end
  end
  return #facets > 0 and facets or nil
end

function Rich:__tostring()
  return self.text
end

return M
