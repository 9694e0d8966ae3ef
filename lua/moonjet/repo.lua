--- What an agent does to records: create, put, delete, apply, upload, list, get_record.
---
--- A record is created by putRecord with a key of ours and "there must be none yet" (swapRecord
--- null), which the PDS decides in one transaction. The key comes from the event and the action:
---
---   TID = second of the event │ 30 bits of hash(event, account, collection, which action)
---
--- So the second attempt, whatever became of the first, finds the record under its key. Its text
--- may differ (dice roll anew), what it is about may not: a record about something else is another
--- action's, whose key happens to be the same, and the next key is taken.
local host, jet = ...

local xrpc = host.library "xrpc"

local error, ipairs, pairs, tostring, type = error, ipairs, pairs, tostring, type
local format = string.format
local concat = table.concat

local M = {}

local KEYS = 4 -- keys that an action tries

-- # Small things

local function copy(t)
  local to = {}
  for k, v in pairs(t) do
    to[k] = v
  end
  return to
end

local function same(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then
    return a == b
  end
  for k, v in pairs(a) do
    if not same(v, b[k]) then
      return false
    end
  end
  for k in pairs(b) do
    if a[k] == nil then
      return false
    end
  end
  return true
end

--- What a record is about: what a retry cannot change.
local function is_about_same(a, b)
  local embed_a, embed_b = a.embed or {}, b.embed or {}
  return same(a.subject, b.subject) and same(a.reply, b.reply)
    and same(embed_a.record, embed_b.record)
end

--- "did", "collection", "rkey" of an AT URI, or nil.
local function parts_of(uri)
  if type(uri) == "string" then
    return uri:match "^at://([^/]+)/([^/]+)/([^/]+)$"
  end
end

local function check_collection(what, collection)
  if type(collection) ~= "string" or not collection:find "^%a[%w-]*%.[%w-]+%.[%w.-]*%a$" then
    error(format("%s wants the name of a collection, such as \"app.bsky.feed.post\", not %s", what,
      type(collection) == "string" and "'" .. collection .. "'" or type(collection)), 3)
  end
end

local function check_key(what, rkey)
  if type(rkey) ~= "string" or #rkey > 512 or not rkey:find "^[%w._:~-]+$" or rkey == "."
    or rkey == ".." then
    error(format("%s: '%s' cannot be a record key", what, tostring(rkey)), 3)
  end
end

local function check_record(what, record)
  if type(record) ~= "table" then
    error(format("%s wants the record as a table, not %s", what, type(record)), 3)
  end
end

-- # Actions

--- What this write is: the text that its key is the hash of, when its event was (µs), and when it
--- came. Without an event, and without a name for the action, nothing: then it is done once. Of an
--- event that is not the task's there is one write per collection: behind a batch, the task counts
--- those of other events as well, and a retry has fewer.
local function action(options)
  local id, said, came, own = host.event_id(options.event)
  if options.key ~= nil then
    return (id or "") .. "\0key\0" .. tostring(options.key), said, came
  elseif id then
    return id .. "\0write\0" .. (own and host.write_number() or 0), said, came
  end
end

--- The action's n-th key.
local function key_of(text, said, did, collection, n)
  local all = concat({ text, did, collection, n > 1 and tostring(n) or "" }, "\0")
  if said then
    return host.action_key(said, all)
  end
  return host.named_key(all)
end

--- The record as it is sent: with its type, and in the network's own collections with a time, which
--- is the event's, so that it is the same each time.
local function complete(collection, record, came)
  record = copy(record)
  if record["$type"] == nil then
    record["$type"] = collection
  end
  if record.createdAt == nil and collection:find "^app%.bsky%." then
    record.createdAt = came and host.datetime(came) or jet.now()
  end
  return record
end

local WRITE = { key = true, event = true, rkey = true, priority = true, validate = true,
  timeout = true, retry = true, swap = true }
M.write_options = WRITE

local function write_options(what, options)
  options = xrpc.check_options(what, options, WRITE, 4)
  xrpc.check_priority(what, options.priority, 4)
  return options, { type = "application/json", priority = options.priority, retry = options.retry,
    timeout = xrpc.seconds(what, options.timeout, 4) }
end

--- Adds the methods to those of agents.
function M.add(Agent, self_of, authorize)
  --- The account's DID, logging in if need be; or nil and a message.
  local function did_of(a)
    if a.did then
      return a.did
    end
    return xrpc.persist(a.client, function()
      local token, message, seconds = authorize(a)
      if not token then
        return "login", message, nil, nil, seconds
      end
      return "ok", a.did
    end)
  end
  M.did_of = did_of

  --- A method of com.atproto.repo; returns as xrpc.call.
  local function ask(a, what, method, call)
    call.wants = true
    return xrpc.call(a.client, what, "GET", "com.atproto.repo." .. method, call)
  end

  local function tell(a, what, method, call)
    call.wants = call.wants or true
    return xrpc.call(a.client, what, "POST", "com.atproto.repo." .. method, call)
  end

  --- The record under the key, as { uri, cid, value }; false when there is none; or nil, message
  local function look(a, what, collection, rkey, call)
    local found, message, name, status = ask(a, what, "getRecord", {
      params = { repo = a.did, collection = collection, rkey = rkey },
      priority = call.priority, retry = call.retry })
    if found then
      return found
    elseif name == "RecordNotFound" or status == 404 then
      return false
    end
    return nil, message, name, status
  end

  local function put(a, what, collection, rkey, record, options, call)
    local swap = options.swap
    if swap == false then
      swap = jet.null
    end
    call = copy(call)
    call.body = jet.json.encode { repo = a.did, collection = collection, rkey = rkey,
      record = record, swapRecord = swap, validate = options.validate }
    call.wants = "uri"
    local done, message, name, status = tell(a, what, "putRecord", call)
    if done then
      return { uri = done.uri, cid = done.cid, rkey = rkey }
    end
    return nil, message, name, status
  end

  --- Writes a record under a key that nothing else may have. Also tells whether the key is taken by
  --- something else.
  local function put_new(a, what, collection, rkey, record, options, call)
    options = copy(options)
    options.swap = false
    local done, message, name, status = put(a, what, collection, rkey, record, options, call)
    if done or name ~= "InvalidSwap" then
      return done, message, name, status
    end
    local found
    found, message, name, status = look(a, what, collection, rkey, call)
    if found and is_about_same(record, found.value or {}) then
      return { uri = found.uri, cid = found.cid, rkey = rkey, existed = true }
    elseif found == false then
      return put(a, what, collection, rkey, record, options, call) -- it has just been deleted
    elseif found then
      message = format("%s: there is another record at %s/%s", what, collection, rkey)
      return nil, message, "InvalidSwap", 400, true
    end
    return nil, message, name, status
  end

  --- Creates a record. In an each, once per event, however often the event comes.
  function Agent:create(collection, record, options)
    local what = "me:create"
    local a = self_of(self, "create")
    check_collection(what, collection)
    check_record(what, record)
    local call
    options, call = write_options(what, options)
    if options.rkey ~= nil then
      check_key(what, options.rkey)
    end
    host.can_wait(what)
    local text, said, came = action(options)
    record = complete(collection, record, came)
    local did, message, name, status = did_of(a)
    if not did then
      return nil, message, name, status
    end
    if options.rkey or not text then
      return put_new(a, what, collection, options.rkey or host.fresh_key(), record, options, call)
    end
    local done, taken
    for n = 1, KEYS do
      done, message, name, status, taken = put_new(a, what, collection,
        key_of(text, said, did, collection, n), record, options, call)
      if not taken then
        break
      end
    end
    return done, message, name, status
  end

  --- Writes a record, whether or not there is one; with swap = CID only in place of that one, with
  --- swap = false only when there is none.
  function Agent:put(collection, rkey, record, options)
    local what = "me:put"
    local a = self_of(self, "put")
    check_collection(what, collection)
    check_key(what, rkey)
    check_record(what, record)
    local call
    options, call = write_options(what, options)
    host.can_wait(what)
    local _, _, came = host.event_id(options.event)
    local did, message, name, status = did_of(a)
    if not did then
      return nil, message, name, status
    end
    return put(a, what, collection, rkey, complete(collection, record, came), options, call)
  end

  --- Whether the text names the account; it may not be known before the login.
  local function is_own(a, who)
    return who == a.did or who:lower() == a.identifier or who:lower() == a.handle
  end

  --- Deletes the record; that there is none is as good.
  function Agent:delete(uri, options)
    local what = "me:delete"
    local a = self_of(self, "delete")
    local who, collection, rkey = parts_of(uri)
    if not who then
      error(format("%s wants the record's address, \"at://…\", not '%s'", what, tostring(uri)), 2)
    end
    local call
    options, call = write_options(what, options)
    host.can_wait(what)
    local did, message, name, status = did_of(a)
    if not did then
      return nil, message, name, status
    elseif not is_own(a, who) then
      return nil, format("%s: %s is not %s's", what, uri, a.identifier), "InvalidRequest"
    end
    call.body = jet.json.encode { repo = did, collection = collection, rkey = rkey,
      swapRecord = options.swap or nil }
    local done
    done, message, name, status = tell(a, what, "deleteRecord", call)
    if not done then
      return nil, message, name, status
    end
    return true
  end

  local COST = { create = 3, update = 2, delete = 1 }
  local ENTRY = { op = true, collection = true, rkey = true, record = true, uri = true }

  --- One entry of apply's list as the PDS wants it.
  local function entry_of(what, i, given, make_key, came)
    if type(given) ~= "table" or not COST[given.op] then
      error(format("%s: write %d wants op = \"create\", \"update\" or \"delete\"", what, i), 3)
    end
    xrpc.check_options(format("%s: write %d", what, i), given, ENTRY, 4)
    local collection, rkey = given.collection, given.rkey
    if given.uri ~= nil then
      local _
      _, collection, rkey = parts_of(given.uri)
    end
    if type(collection) ~= "string" or (rkey == nil and given.op ~= "create") then
      error(format("%s: write %d wants a collection and an rkey, or a uri", what, i), 3)
    elseif given.op ~= "delete" and type(given.record) ~= "table" then
      error(format("%s: write %d wants a record", what, i), 3)
    end
    return { ["$type"] = "com.atproto.repo.applyWrites#" .. given.op, collection = collection,
      rkey = rkey or make_key(collection, i),
      value = given.op ~= "delete" and complete(collection, given.record, came) or nil }
  end

  --- Several writes at once: all of them, or none. Returns a list of { uri, cid } in their order.
  function Agent:apply(writes, options)
    local what = "me:apply"
    local a = self_of(self, "apply")
    if type(writes) ~= "table" or #writes == 0 or #writes > 200 then
      error(format("%s wants a list of 1 to 200 writes", what), 2)
    end
    local call
    options, call = write_options(what, options)
    host.can_wait(what)
    local text, said, came = action(options)
    local did, message, name, status = did_of(a)
    if not did then
      return nil, message, name, status
    end
    local function make_key(collection, i)
      return text and key_of(text .. "\0" .. i, said, did, collection, 1) or host.fresh_key()
    end
    local list, points, first = {}, 0, nil
    for i, given in ipairs(writes) do
      list[i] = entry_of(what, i, given, make_key, came)
      points = points + COST[given.op]
      first = first or given.op == "create" and list[i] or nil
    end
    call.points = points
    call.body = jet.json.encode { repo = did, writes = jet.array(list),
      validate = options.validate }
    -- The PDS has no word for "already there": it must be looked for before.
    local before = first and look(a, what, first.collection, first.rkey, call)
    local done
    if before == nil and first then
      return nil, format("%s: cannot tell what is there already", what)
    elseif before and is_about_same(first.value, before.value or {}) then
      done = {}
    else
      done, message, name, status = tell(a, what, "applyWrites", call)
    end
    if not done then
      return nil, message, name, status
    end
    local results = {}
    for i, write in ipairs(list) do
      local told = type(done.results) == "table" and done.results[i] or {}
      results[i] = { uri = format("at://%s/%s/%s", did, write.collection, write.rkey),
        cid = type(told.cid) == "string" and told.cid or nil, rkey = write.rkey,
        existed = done.results == nil and before ~= nil or nil }
    end
    return results
  end

  --- Uploads bytes: the blob, to be put into a record as it is.
  function Agent:upload(bytes, media_type, options)
    local what = "me:upload"
    local a = self_of(self, "upload")
    if type(bytes) ~= "string" or bytes == "" then
      error(format("%s wants the bytes as text, not %s", what,
        bytes == "" and "an empty one" or type(bytes)), 2)
    elseif type(media_type) ~= "string"
      or not media_type:find "^[%w!#$&^_.+-]+/[%w!#$&^_.+-]+$" then
      error(format("%s wants the bytes' type, such as \"image/png\"", what), 2)
    end
    local call = xrpc.user_call(what, options, 3)
    call.body, call.type = bytes, media_type
    call.timeout = call.timeout or 60
    local done, message, name, status = tell(a, what, "uploadBlob", call)
    if not done then
      return nil, message, name, status
    elseif type(done.blob) ~= "table" then
      return nil, format("%s: the answer is no blob", what), nil, status
    end
    return done.blob
  end

  local LIST = { reverse = true, limit = true, page = true, repo = true, priority = true }

  --- Walks the records of a collection, newest first, page by page. What goes wrong is an error.
  function Agent:list(collection, options)
    local what = "me:list"
    local a = self_of(self, "list")
    check_collection(what, collection)
    options = xrpc.check_options(what, options, LIST, 3)
    host.can_wait(what)
    local left = options.limit or 1 / 0
    local page, at, cursor, last = {}, 0, nil, false
    return function()
      if left <= 0 then
        return nil
      end
      while at >= #page do
        if last then
          return nil
        end
        local did, message = did_of(a)
        local answer
        if did then
          answer, message = ask(a, what, "listRecords", { priority = options.priority,
            params = { repo = options.repo or did, collection = collection,
              limit = options.page or 100, cursor = cursor, reverse = options.reverse } })
        end
        if not answer then
          error(message, 2)
        end
        page = type(answer.records) == "table" and answer.records or {}
        at = 0
        last = type(answer.cursor) ~= "string" or #page == 0 or answer.cursor == cursor
        cursor = answer.cursor
      end
      at, left = at + 1, left - 1
      return page[at]
    end
  end

  --- A record of anybody's, as { uri, cid, value }; of others without a login, from where it is
  --- kept.
  function Agent:get_record(uri)
    local what = "me:get_record"
    local a = self_of(self, "get_record")
    local who, collection, rkey = parts_of(uri)
    if not who then
      error(format("%s wants the record's address, \"at://…\", not '%s'", what, tostring(uri)), 2)
    end
    host.can_wait(what)
    local client = a.client
    if not is_own(a, who) then
      local identity, message = host.resolve_document(who)
      if not identity then
        return nil, message
      elseif not identity.pds then
        return nil, format("%s has no PDS", who)
      end
      client = { service = identity.pds }
    end
    return xrpc.call(client, what, "GET", "com.atproto.repo.getRecord",
      { params = { repo = who, collection = collection, rkey = rkey } })
  end
end

return M
