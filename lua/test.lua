--- The spec runner: collects what a spec file describes, runs it, and prints how it went. C gives
--- it the means (core/script/spec.c): calls with a time limit, beds for scripts, a place to print.
local env, host = ...
local options, pretty, spies = host.options, host.pretty, host.spies

local error, next, pcall, rawset = error, next, pcall, rawset
local select, setmetatable, tostring, type = select, setmetatable, tostring, type
local concat, insert, format, rep = table.concat, table.insert, string.format, string.rep

-- # What blocks undo

-- Takes out the spies made since there were so many, into the list if one is given; the first
-- failure, or nil. A table's __newindex may run for that, so it is under the limit.
local function undo_spies(count, list)
  local first
  for _ = count + 1, spies.count() do
    local failure = host.protect(spies.take_out, count, list)
    first = first or failure
  end
  return first
end

-- What insulate keeps to its block: globals and loaded modules.
local insulated = { env, host.loaded }

local function remember()
  local copies = {}
  for i, t in next, insulated do
    copies[i] = {}
    for k, v in next, t do
      copies[i][k] = v
    end
  end
  return copies
end

local function restore(copies)
  for i, t in next, insulated do
    for k in next, t do
      if copies[i][k] == nil then
        rawset(t, k, nil)
      end
    end
    for k, v in next, copies[i] do
      rawset(t, k, v)
    end
  end
end

-- What has been set since, as a list of tables by key.
local function changes_since(copies)
  local changes = {}
  for i, t in next, insulated do
    changes[i] = {}
    for k, v in next, t do
      if copies[i][k] ~= v then
        changes[i][k] = v
      end
    end
  end
  return changes
end

local function change(changes)
  for i, t in next, insulated do
    for k, v in next, changes[i] do
      rawset(t, k, v)
    end
  end
end

-- # Collecting

local hooks = { before_each = "before_each", after_each = "after_each", setup = "setup",
  teardown = "teardown", strict_setup = "setup", strict_teardown = "teardown",
  lazy_setup = "lazy_setup", lazy_teardown = "lazy_teardown" }

local function new_block(name, parent)
  local block = { name = name, parent = parent, children = {}, spies = {} }
  for _, list in next, hooks do
    block[list] = {}
  end
  return block
end

local root = new_block(nil, nil)
local block = root   -- what describe is filling, or the block of the test that runs
local running        -- the test that runs
local collected      -- all is described: what comes now would never run

local function need_function(what, fn)
  if not host.callable(fn) then
    error(format("%s wants a function", what), 3)
  end
end

local function need_collecting(what)
  if running or collected then
    error(format("%s cannot stand inside an `it` or a hook", what), 3)
  end
end

local function add(what, name, fn)
  if type(name) ~= "string" then
    error(format("%s wants a name, then a function", what), 3)
  end
  local test = { name = name, fn = fn, parent = block, place = host.place(2) }
  block.children[#block.children + 1] = test
  return test
end

-- What the body has put into tables and, of an insulated block, into globals and modules, goes when
-- it ends, and comes again when the block runs: others may run in between.
local function describer(what, insulate)
  return function(name, fn)
    need_collecting(what)
    need_function(what, fn)
    if type(name) ~= "string" then
      error(format("%s wants a name, then a function", what), 2)
    end
    local outer, count, before = block, spies.count(), insulate and remember()
    local inner = new_block(name, outer)
    outer.children[#outer.children + 1] = inner
    block = inner
    inner.failure = host.protect(fn)
    block = outer
    local stuck = undo_spies(count, inner.spies)
    inner.failure = inner.failure or stuck
    if before then
      inner.changes = changes_since(before)
      restore(before)
    end
  end
end

local api = { describe = describer "describe", context = describer "context",
  expose = describer "expose", insulate = describer("insulate", true) }

function api.it(name, fn)
  need_collecting "it"
  if fn ~= nil then
    need_function("it", fn)
  end
  add("it", name, fn)
end
api.test, api.spec = api.it, api.it

function api.pending(name)
  if running then
    error({ pending = true, message = name or "pending" }, 0)
  end
  need_collecting "pending"
  add("pending", name, nil)
end

function api.fail(message)
  error({ failure = true, message = message == nil and "failed" or message }, 0)
end

for hook, kind in next, hooks do
  api[hook] = function(fn)
    need_collecting(hook)
    need_function(hook, fn)
    local list = block[kind]
    list[#list + 1] = fn
  end
end

function api.finally(fn)
  if not running then
    error("finally belongs into an `it`", 2)
  end
  need_function("finally", fn)
  running.finally = running.finally or {}
  insert(running.finally, 1, fn)
end

-- Words of busted's that specs here have no use for.
local absent = {
  async = "a script's tasks run by themselves; t:advance moves its clock",
  done = "a test ends with its function",
  wait = "t:advance(\"3s\") moves the script's clock",
  randomize = "tests run in the order in which they stand",
}

for word, instead in next, absent do
  api[word] = function()
    error(format("%s is not here: %s", word, instead), 2)
  end
end

api.busted = setmetatable({}, {
  __index = function(_, key)
    error(format("busted.%s is not here: specs have busted's words, and not its runner",
      tostring(key)), 2)
  end,
  __metatable = false,
})

-- # Printing

local colours = { red = "31", green = "32", yellow = "33", dim = "2", bold = "1" }

local function paint(colour, text)
  if not options.colour then
    return text
  end
  return format("\27[%sm%s\27[0m", colours[colour], text)
end

local function say(indent, text)
  host.write(rep(" ", indent) .. text:gsub("\n", "\n" .. rep(" ", indent)) .. "\n")
end

local function one_line(text)
  return (text:gsub("[%c]", " "))
end

-- The text of an error that has one: the spec's own code makes it, under the limit.
local function text_of(value)
  local text
  if type(value) == "table" then
    host.protect(function() text = tostring(value) end)
  end
  return text and not text:find "^table: 0x%x+$" and text or "error: " .. pretty.format(value)
end

local function message_of(failure)
  local message = failure.message
  if failure.stopped then
    return "stopped: it ran for too long"
  elseif type(message) == "string" then
    return (message:gsub("^moonjet:%d+: ", ""))
  end
  return text_of(message)
end

-- The place in front of a message is told apart from it already.
local function without(place, message)
  if place and message:sub(1, #place + 2) == place .. ": " then
    return message:sub(#place + 3)
  end
  return message
end

local function both_sides(failure)
  local lines = {}
  local want, got = pretty.format(failure.expected), pretty.format(failure.actual)
  if not (want .. got):find "\n" and #want < 100 and #got < 100 then
    lines[1] = paint("red", "expected  " .. want)
    lines[2] = paint("green", "actual    " .. got)
    return lines
  end
  lines[1] = paint("red", "- expected") .. "  " .. paint("green", "+ actual")
  local wide = { width = 60 }
  for _, d in next, pretty.diff(pretty.format(failure.expected, wide),
    pretty.format(failure.actual, wide)) do
    local colour = d[1] == "-" and "red" or d[1] == "+" and "green" or "dim"
    lines[#lines + 1] = paint(colour, d[1] .. " " .. d[2])
  end
  return lines
end

-- What went wrong, as lines.
local function explain(failure)
  local lines = {}
  local message = without(failure.at, message_of(failure))
  lines[1] = (failure.at and paint("bold", failure.at .. ": ") or "") .. message
  if failure.note then
    lines[#lines + 1] = failure.note
  end
  if failure.sides then
    for _, line in next, both_sides(failure) do
      lines[#lines + 1] = line
    end
  elseif failure.values then
    lines[#lines + 1] = "actual    " .. pretty.format(failure.actual)
  end
  local trace = failure.trace or {}
  local callers = {}
  for i = 2, #trace do
    if trace[i] ~= trace[i - 1] then
      callers[#callers + 1] = trace[i]
    end
  end
  if #callers > 0 then
    lines[#lines + 1] = paint("dim", "called from " .. concat(callers, ", "))
  end
  return lines
end

local reporter = {}

if options.tap then
  local number = options.told
  function reporter.enter() end
  function reporter.test(test, verdict, failure, said)
    number = number + 1
    local name = one_line(test.full):gsub("#", "\\#")
    if verdict == "skipped" then
      say(0, format("ok %d - %s # SKIP %s", number, name, one_line(failure or "")))
      return
    end
    say(0, format("%s %d - %s", verdict == "passed" and "ok" or "not ok", number, name))
    if verdict == "failed" then
      for _, line in next, explain(failure) do
        say(0, "# " .. line:gsub("\n", "\n# "))
      end
      for _, line in next, said do
        say(0, "# the script said: " .. one_line(line))
      end
    end
  end
else
  function reporter.enter(inner, depth)
    say(2 * depth, inner.name)
  end
  function reporter.test(test, verdict, failure, said)
    local indent = 2 * test.depth
    if verdict == "passed" then
      say(indent, paint("green", "✓ ") .. test.name)
    elseif verdict == "skipped" then
      say(indent, paint("yellow", "○ ") .. test.name
        .. (failure and paint("dim", " (" .. failure .. ")") or ""))
    else
      say(indent, paint("red", "✗ " .. test.name))
      for _, line in next, explain(failure) do
        say(indent + 4, line)
      end
      for _, line in next, said do
        say(indent + 4, paint("dim", "the script said: " .. one_line(line)))
      end
    end
  end
end

-- # Running

local counts = { passed = 0, failed = 0, skipped = 0 }

local function full_name(test)
  local names = { test.name }
  local parent = test.parent
  while parent and parent.name do
    insert(names, 1, parent.name)
    parent = parent.parent
  end
  return concat(names, " ")
end

local function matches(name)
  local good, found = pcall(name.find, name, options.filter)
  if not good then
    error(format("--filter %s: %s", options.filter, (found:gsub("^moonjet:%d+: ", ""))), 0)
  end
  return found ~= nil
end

-- Marks what is to be run: tests whose name matches, and blocks that hold one; `live` is what has
-- a function to run. Returns whether there is any.
local function choose(node, depth)
  node.depth = depth
  if not node.children then
    node.full = full_name(node)
    node.chosen = not options.filter or matches(node.full)
    node.live = node.chosen and node.fn ~= nil
    return node.chosen
  end
  -- What a broken describe would have held is not known, so it is told whatever the filter says.
  local any = node.failure ~= nil
  for _, child in next, node.children do
    any = choose(child, depth + 1) or any
    node.live = node.live or child.live
  end
  node.chosen = any
  return any
end

local function report(test, verdict, failure, said)
  if verdict == "failed" then
    failure.at = failure.at or test.place
  end
  counts[verdict] = counts[verdict] + 1
  reporter.test(test, verdict, failure, said or {})
end

-- Runs hooks in order; the first failure, or nil.
local function run_hooks(list)
  for i = 1, #list do
    local failure = host.protect(list[i])
    if failure then
      return failure
    end
  end
end

local function before(parent)
  if not parent then
    return nil
  end
  return before(parent.parent) or run_hooks(parent.before_each)
end

-- The same, but all of them run.
local function run_all(list)
  local first
  for i = 1, #list do
    local failure = host.protect(list[i])
    first = first or failure
  end
  return first
end

local function after(parent)
  local first
  while parent do
    local failure = run_all(parent.after_each)
    first = first or failure
    parent = parent.parent
  end
  return first
end

local function unseen_errors()
  local errors = host.unseen(true)
  if #errors > 0 then
    return { message = "the script had errors that the spec did not ask for with t:errors():\n"
      .. concat(errors, "\n") }
  end
end

local function run_test(test)
  if not test.fn then
    report(test, "skipped")
    return
  end
  local open, count = host.beds(), spies.count()
  host.unseen(true)
  host.unseen(false)
  running = test
  local failure = before(test.parent)
  failure = failure or host.protect(test.fn)
  local errors = unseen_errors()
  -- These run whatever came before.
  local closing = run_all(test.finally or {})
  local late = after(test.parent)
  local stuck = undo_spies(count)
  failure = failure or closing or late or stuck
  running = nil
  if failure and failure.pending then
    report(test, "skipped", message_of(failure))
  elseif failure or errors then
    if failure and errors then
      failure.note = (failure.note and failure.note .. "\n" or "") .. errors.message
    end
    local said = host.unseen(false)
    for i = 11, #said do
      said[i] = nil
    end
    report(test, "failed", failure or errors, said)
  else
    report(test, "passed")
  end
  host.close(open)
end

local function fail_all(node, failure)
  if not node.chosen then
    return
  elseif node.children then
    for _, child in next, node.children do
      fail_all(child, failure)
    end
  else
    report(node, "failed", failure)
  end
end

local function run_block(inner)
  if not inner.chosen then
    return
  end
  if inner.name then
    reporter.enter(inner, inner.depth)
  end
  local open, count = host.beds(), spies.count()
  local outside = inner.changes and remember()
  if outside then
    change(inner.changes)
  end
  if inner.failure then
    report({ name = "describe", full = (inner.name or "file") .. ": describe",
      depth = inner.depth + 1 }, "failed", inner.failure)
  end
  local failure = host.protect(spies.put, inner.spies) or run_hooks(inner.setup)
    or inner.live and run_hooks(inner.lazy_setup)
  if failure then
    failure.note = "in the setup of " .. (inner.name or "the file")
    for _, child in next, inner.children do
      fail_all(child, failure)
    end
  else
    for _, child in next, inner.children do
      if child.children then
        run_block(child)
      elseif child.chosen then
        run_test(child)
      end
    end
  end
  local lazy = inner.live and run_hooks(inner.lazy_teardown)
  local strict = run_hooks(inner.teardown)
  local stuck = undo_spies(count)
  failure = lazy or strict or stuck
  if failure then
    report({ name = "teardown", full = (inner.name or "file") .. ": teardown",
      depth = inner.depth + 1 }, "failed", failure)
  end
  if outside then
    restore(outside)
  end
  host.close(open)
end

local function list(node)
  if not node.chosen then
    return
  elseif node.children then
    for _, child in next, node.children do
      list(child)
    end
  else
    say(0, node.full)
  end
end

-- # What a spec sees

-- Of jet, what makes and reads values. What draws or waits belongs into scripts.
local given = { test = host.jet_test }
for _, name in next, { "null", "array", "object", "json" } do
  local ok, value = pcall(function()
    return env.jet[name]
  end)
  given[name] = ok and value or nil
end

function given.time()
  return host.now() / 1e6
end

function given.now()
  return os.date("!%Y-%m-%dT%H:%M:%S", math.floor(host.now() / 1e6))
    .. format(".%06dZ", host.now() % 1e6)
end

local jet = setmetatable({}, {
  __index = function(_, key)
    local value = given[key]
    if value == nil then
      error(format("jet.%s is for scripts; a spec loads one with jet.test \"name\"",
        tostring(key)), 2)
    end
    return value
  end,
  __newindex = function(_, key)
    error(format("jet.%s cannot be assigned", tostring(key)), 2)
  end,
  __metatable = false,
})

rawset(env, "jet", jet)
host.loaded.moonjet = jet
rawset(env, "assert", host.assert)
for name, fn in next, api do
  rawset(env, name, fn)
end
host.loaded["luassert"] = host.assert
for name, value in next, spies.words do
  rawset(env, name, value)
  host.loaded["luassert." .. name] = value
end
host.loaded["busted.runner"] = function() end

rawset(env, "print", function(...)
  local words = { ... }
  for i = 1, select("#", ...) do
    words[i] = tostring((select(i, ...)))
  end
  local text = concat(words, "\t")
  say(0, options.tap and "# " .. text:gsub("\n", "\n# ") or text)
end)

--- Runs a spec file's chunk; returns how many passed, failed, and were skipped.
return function(chunk, path)
  local failure = host.protect(chunk)
  root.failure, collected = failure, true
  choose(root, -1)
  if options.list then
    for _, line in next, failure and explain(failure) or {} do
      say(0, line)
    end
    list(root)
    return 0, failure and 1 or 0, 0
  end
  if root.chosen and not options.tap then
    say(0, paint("bold", path))
  end
  run_block(root)
  return counts.passed, counts.failed, counts.skipped
end
