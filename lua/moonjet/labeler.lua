--- jet.labeler: labels, signed, kept for ever, and served.
---
---   apply, negate ─▶ is it news? ─▶ signed ─▶ disk ─▶ subscribeLabels, queryLabels
---
--- All of that is C (core/state/labels, core/server/labels); here are the arguments, and a look at
--- whether the world can know our key.
local host, jet = ...

local SERVICE, KEY = "#atproto_labeler", "#atproto_label"
local OPTIONS = { did = true, hostname = true, key = true, policies = true, seq = true }

local format = string.format
local complain, try = host.complain, host.try

local function nearest(name, among)
  local near = host.closest(tostring(name), among)
  return near and format("; did you mean '%s'?", near) or ""
end

-- The set of labels that may be used, of a list or of what a service record has; nil: any.
local function values_of(policies)
  if policies == nil then
    return nil
  end
  local list = type(policies) == "table" and (policies.labelValues or policies)
  if type(list) ~= "table" or #list == 0 then
    complain "jet.labeler: 'policies' is a list of labels: { \"spam\", \"rude\" }"
  end
  local set = {}
  for i = 1, #list do
    set[tostring(list[i])] = true
  end
  return set
end

-- What is labelled: an address, a DID, or the record of an event.
local function subject_of(what, subject)
  if type(subject) == "userdata" then
    subject = subject.uri
  end
  if type(subject) ~= "string" then
    complain("%s wants what to label: an event, an at:// address, or a DID", what)
  end
  return subject
end

local function check_key(did, multibase)
  local ours = "did:key:" .. multibase
  local identity, message = host.resolve_document(did)
  if not identity then
    jet.log.warn("jet.labeler: cannot look up the labeler, so whether its key is known is not "
      .. "known: %s", message)
  elseif not identity.label_key then
    jet.log.warn("jet.labeler: the DID document of %s has no key %s, so nobody can check its "
      .. "labels: put %s there", did, KEY, ours)
  elseif identity.label_key ~= ours then
    jet.log.warn("jet.labeler: the DID document of %s has another key %s than ours, so nobody will "
      .. "believe these labels: there it is %s, here %s", did, KEY, identity.label_key, ours)
  elseif not identity.labeler then
    jet.log.warn("jet.labeler: the DID document of %s has no service %s, so nobody will find its "
      .. "labels", did, SERVICE)
  end
end

local dids = {}

local M = {}

function M.labeler(options)
  if type(options) ~= "table" then
    complain "jet.labeler wants a table: jet.labeler { did = \"did:…\", key = jet.secret \"…\" }"
  end
  for name in pairs(options) do
    if not OPTIONS[name] then
      complain("jet.labeler has no option '%s'%s", tostring(name), nearest(name, OPTIONS))
    end
  end
  local did, where = try(host.service_did, "jet.labeler", options.did, options.hostname)
  if not did then
    complain "jet.labeler wants to know who it is: did = \"did:plc:…\", or hostname = …"
  elseif type(options.key) ~= "string" then
    complain "jet.labeler wants a private key: key = jet.secret \"LABEL_KEY\""
  elseif options.seq ~= nil and (type(options.seq) ~= "number" or options.seq < 1) then
    complain "jet.labeler: 'seq' is the number of the next label, 1 or more"
  elseif dids[did] then
    complain("jet.labeler: %s is declared already", did)
  end
  dids[did] = true
  local values = values_of(options.policies)
  local handle, multibase, live = try(host.labeler, did, options.key, options.seq)
  if where then
    host.publish(did, "key", KEY, multibase)
    host.publish(did, "service", SERVICE, "AtprotoLabeler", where)
  end
  if live then
    jet.spawn(check_key, did, multibase)
  end

  local labeler = {}

  local function change(what, neg, subject, val, more)
    subject = subject_of(what, subject)
    if type(val) ~= "string" then
      complain("%s wants a label as text, not %s", what, type(val))
    elseif values and not values[val] then
      complain("%s: '%s' is not among the policies%s", what, val, nearest(val, values))
    end
    if more ~= nil and type(more) ~= "table" then
      complain("%s: the third argument is a table: { cid = \"…\" }", what)
    end
    more = more or {}
    for name in pairs(more) do
      if name ~= "cid" and (neg or name ~= "exp") then
        complain("%s has no option '%s'", what, tostring(name))
      elseif type(more[name]) ~= "string" then
        complain("%s: '%s' is a text", what, tostring(name))
      end
    end
    try(host.label, handle, neg, subject, val, more.cid, more.exp)
  end

  function labeler.apply(_, subject, val, more)
    change("labeler:apply", false, subject, val, more)
  end

  function labeler.negate(_, subject, val, more)
    change("labeler:negate", true, subject, val, more)
  end

  function labeler.list(_, subject, n)
    subject = subject_of("labeler:list", subject)
    local prefix = subject:match "^(.*)%*$"
    local list = try(host.labels, handle, prefix or subject, prefix == nil, n)
    for i = 1, #list do
      list[i].sig, list[i].ver = nil, nil
    end
    return list
  end

  function labeler.key()
    return "did:key:" .. multibase
  end

  return host.sealed("labeler", labeler)
end

return M
