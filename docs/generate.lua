--- Writes the reference of docs/scripting.md from lua/_meta/moonjet.lua, where types and words of
--- the script surface are kept once.
---
---   luajit docs/generate.lua            rewrites what is between the markers
---   luajit docs/generate.lua --check    fails when that would change anything
---
--- Both fail when something is declared without a word about it.
local META, DOC = "lua/_meta/moonjet.lua", "docs/scripting.md"
local BEGIN = "<!-- reference: generated from lua/_meta/moonjet.lua by `make docs` -->"
local END = "<!-- end of the reference -->"

local function read(path)
  local f = assert(io.open(path, "rb"))
  local text = f:read "*a"
  f:close()
  return text
end

-- "jet.Duration text after it" into type and words. Types have spaces only around "|", after ":" or
-- ",", and within brackets.
local function split_type(tail)
  local i, depth, last = 1, 0, ""
  while i <= #tail do
    local c = tail:sub(i, i)
    if c:match "[%(%[{<]" then
      depth = depth + 1
    elseif c:match "[%)%]}>]" then
      depth = depth - 1
    elseif c == '"' then
      i = tail:find('"', i + 1, true) or #tail
    elseif c == " " and depth == 0 and not last:match "[|:,]" and tail:sub(i + 1, i + 1) ~= "|" then
      return tail:sub(1, i - 1), tail:sub(i + 1)
    end
    last = tail:sub(i, i)
    i = i + 1
  end
  return tail, ""
end

-- The meta file as a list of items: { section =, alias =, class =, fields =, fn =, var =, text =,
-- params =, returns =, type = }, in order.
local function parse(text)
  local items, complaints = {}, {}
  local words, params, returns, class, alias, kind = {}, {}, {}, nil, nil, nil
  local number = 0

  local function complain(message)
    complaints[#complaints + 1] = ("%s:%d: %s"):format(META, number, message)
  end

  local function reset()
    words, params, returns, class, alias, kind = {}, {}, {}, nil, nil, nil
  end

  local function flush_class()
    if class then
      class.text = table.concat(words, "\n")
      items[#items + 1] = class
    elseif alias then
      alias.text = table.concat(words, "\n")
      items[#items + 1] = alias
    end
  end

  for line in (text .. "\n"):gmatch "(.-)\n" do
    number = number + 1
    local section = line:match "^%-%- # (.+)$"
    local tag, rest = line:match "^%-%-%-@(%w+) ?(.*)$"
    local word = not tag and line:match "^%-%-%- ?(.*)$"
    local name, args = line:match "^function ([%w_.:]+)%((.-)%) end$"
    local var = line:match "^(jet%.%w+) = "
    if section then
      flush_class()
      reset()
      items[#items + 1] = { section = section }
    elseif tag == "class" then
      flush_class()
      local own, base = rest:match "^([%w.]+):? ?([%w.]*)$"
      local said = class and {} or words
      reset()
      words = said
      class = { class = own, base = base ~= "" and base or nil, fields = {} }
    elseif tag == "field" then
      local field, optional, tail = rest:match "^([%w_]+)(%??) (.+)$"
      if field and class then
        class.fields[#class.fields + 1] = { name = field, optional = optional == "?", tail = tail }
      else
        complain "a field outside a class"
      end
    elseif tag == "alias" then
      local own, tail = rest:match "^([%w.]+) (.+)$"
      local is, examples = split_type(tail)
      alias = { alias = own, is = is, examples = examples }
      flush_class()
      reset()
    elseif tag == "param" then
      local param, optional, tail = rest:match "^([%w_.]+)(%??) (.+)$"
      params[#params + 1] = { name = param, optional = optional == "?", tail = tail }
    elseif tag == "return" then
      returns[#returns + 1] = rest
    elseif tag == "type" then
      kind = rest
    elseif word then
      words[#words + 1] = word
    elseif name then
      local documented = {}
      for _, p in ipairs(params) do
        documented[p.name] = true
      end
      for arg in args:gmatch "[%w_.]+" do
        if not documented[arg] then
          complain(("%s: what is '%s'?"):format(name, arg))
        end
      end
      if #words == 0 then
        complain(name .. ": not a word about it")
      end
      items[#items + 1] = { fn = name, args = args, params = params, returns = returns,
        text = table.concat(words, "\n") }
      reset()
    elseif var and kind and not var:match "^jet%.Log" then
      items[#items + 1] = { var = var, type = kind, text = table.concat(words, "\n") }
      reset()
    elseif tag == "meta" or tag == "generic" then
      kind = nil -- nothing that a reader of the reference needs
    elseif line == "" or line:match "^local %w+ = {}$" or line:match "^jet[%w.]* = " then
      flush_class()
      reset()
    else
      complain("what is this? " .. line)
    end
  end
  return items, complaints
end

local function escape(s)
  return (s:gsub("|", "\\|"))
end

local function as_code(type_text)
  return "`" .. type_text .. "`"
end

-- Flow:where → flow:where; what a class's values are called in the examples.
local function shown(name)
  return (name:gsub("^(%u)(%w*):", function(a, b)
    return a:lower() .. b .. ":"
  end))
end

local function put_fields(out, fields)
  out[#out + 1] = "| | | |\n|---|---|---|"
  for _, f in ipairs(fields) do
    local kind, words = split_type(f.tail)
    out[#out + 1] = ("| `%s%s` | %s | %s |"):format(f.name, f.optional and "?" or "",
      escape(as_code(kind)), escape(words))
  end
  out[#out + 1] = ""
end

local function put_function(out, item)
  local result = {}
  for i, r in ipairs(item.returns) do
    result[i] = (split_type(r))
  end
  out[#out + 1] = ("#### `%s(%s)`%s\n"):format(shown(item.fn), item.args,
    #result > 0 and " → `" .. table.concat(result, ", ") .. "`" or "")
  if item.text ~= "" then
    out[#out + 1] = item.text .. "\n"
  end
  for _, p in ipairs(item.params) do
    local kind, words = split_type(p.tail)
    out[#out + 1] = ("- `%s%s` %s%s"):format(p.name, p.optional and "?" or "", as_code(kind),
      words ~= "" and ": " .. words or "")
  end
  for _, r in ipairs(item.returns) do
    local _, words = split_type(r)
    if words ~= "" then
      out[#out + 1] = "- returns: " .. words:gsub("^# ?", "")
    end
  end
  if #item.params > 0 or #item.returns > 0 then
    out[#out + 1] = ""
  end
end

local function render(items)
  local out = {}
  for _, item in ipairs(items) do
    if item.section then
      out[#out + 1] = "### " .. item.section .. "\n"
    elseif item.alias then
      out[#out + 1] = ("**%s** is `%s`%s%s\n"):format(item.alias, item.is,
        item.examples ~= "" and ": " .. item.examples or "",
        item.text ~= "" and ". " .. item.text or "")
    elseif item.class and #item.fields > 0 then
      out[#out + 1] = ("**%s**%s%s\n"):format(item.class,
        item.base and (", a " .. item.base) or "", item.text ~= "" and ": " .. item.text or "")
      put_fields(out, item.fields)
    elseif item.class and item.text ~= "" then
      out[#out + 1] = ("**%s**: %s\n"):format(item.class, item.text)
    elseif item.fn then
      put_function(out, item)
    elseif item.var then
      out[#out + 1] = ("#### `%s`: `%s`\n\n%s\n"):format(item.var, item.type, item.text)
    end
  end
  return (table.concat(out, "\n"):gsub("\n\n\n+", "\n\n"))
end

local items, complaints = parse(read(META))
for _, c in ipairs(complaints) do
  io.stderr:write(c, "\n")
end
local doc = read(DOC)
local from, to = doc:find(BEGIN, 1, true)
local last = doc:find(END, 1, true)
if not from or not last then
  io.stderr:write(("%s: the markers are missing:\n%s\n%s\n"):format(DOC, BEGIN, END))
  os.exit(1)
end
local new = doc:sub(1, to) .. "\n\n" .. render(items) .. "\n" .. doc:sub(last)
if arg[1] == "--check" then
  if new ~= doc then
    io.stderr:write(("%s: the reference is not what %s says; run `make docs`\n"):format(DOC, META))
    os.exit(1)
  end
elseif new ~= doc then
  local f = assert(io.open(DOC, "wb"))
  f:write(new)
  f:close()
end
os.exit(#complaints == 0 and 0 or 1)
