--- Lua values as people read them: in the REPL, and where an assertion shows what it got. The text
--- of plain data is Lua source that makes the same value again.
---
--- A table that fits is one line; a larger one is an entry a line, keys in order. Tables inside
--- themselves and what lies too deep are named instead of shown, so every value has a finite text.
local _, host = ...

local concat, sort, floor, huge = table.concat, table.sort, math.floor, math.huge
local format, rep, byte = string.format, string.rep, string.byte
local rawget, next, tostring, type = rawget, next, tostring, type

local WIDTH = 80 -- of a line that holds a whole table
local DEPTH = 20
local BYTES = 100000 -- of the whole text; where it is cut, that is said

local M = {}

--- Tables that are shown by a name, and not by what they hold.
M.names = setmetatable({}, { __mode = "k" })

local escapes = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ["\\"] = "\\\\", ['"'] = '\\"' }

-- The byte as an escape; three digits, so that a digit behind it stays apart.
local function escape(c)
  return escapes[c] or format("\\%03d", byte(c))
end

-- How many bytes the UTF-8 character at `i` has; nil when it is none.
local function character(s, i)
  local a, b, c, d = byte(s, i, i + 3)
  local function tail(x)
    return x and x >= 0x80 and x <= 0xbf
  end
  if a >= 0xc2 and a <= 0xdf and tail(b) then
    return 2
  elseif a >= 0xe0 and a <= 0xef and tail(b) and tail(c) then
    local surrogate_or_long = (a == 0xe0 and b < 0xa0) or (a == 0xed and b > 0x9f)
    return not surrogate_or_long and 3 or nil
  elseif a >= 0xf0 and a <= 0xf4 and tail(b) and tail(c) and tail(d) then
    local too_large_or_long = (a == 0xf0 and b < 0x90) or (a == 0xf4 and b > 0x8f)
    return not too_large_or_long and 4 or nil
  end
end

--- The string in quotes. Letters of all scripts stay; control characters and what is no UTF-8 are
--- escaped, so that no text can move a terminal's cursor.
function M.quote(s)
  if not s:find "[%c\128-\255\"\\]" then
    return '"' .. s .. '"'
  end
  local out, n, i = { '"' }, 1, 1
  while i <= #s do
    local a = byte(s, i)
    local len = 1
    n = n + 1
    if a >= 0x80 then
      len = character(s, i)
      -- C1 controls are two bytes, and terminals obey some of them.
      if len and not (a == 0xc2 and byte(s, i + 1) < 0xa0) then
        out[n] = s:sub(i, i + len - 1)
      else
        len = len or 1
        out[n] = s:sub(i, i + len - 1):gsub(".", escape)
      end
    elseif a < 0x20 or a == 0x7f or a == 0x22 or a == 0x5c then
      out[n] = escape(s:sub(i, i))
    else
      out[n] = s:sub(i, i)
    end
    i = i + len
  end
  out[n + 1] = '"'
  return concat(out)
end

local function number(n)
  if n ~= n then
    return "0/0"
  elseif n == huge then
    return "math.huge"
  elseif n == -huge then
    return "-math.huge"
  elseif n == floor(n) and n >= -2 ^ 53 and n <= 2 ^ 53 then
    return format("%.0f", n) -- times in microseconds are as long as that
  end
  local short = format("%.14g", n)
  return tonumber(short) == n and short or format("%.17g", n)
end

local reserved = {}
for word in ("and break do else elseif end false for function goto if in local nil not or repeat "
  .. "return then true until while"):gmatch "%a+" do
  reserved[word] = true
end

local function key_text(k, show)
  if type(k) == "string" and k:find "^[%a_][%w_]*$" and not reserved[k] then
    return k
  end
  return "[" .. show(k) .. "]"
end

local order = { number = 1, string = 2, boolean = 3 }

local function before(a, b)
  local ta, tb = type(a), type(b)
  if ta ~= tb then
    return (order[ta] or 4) < (order[tb] or 4)
  elseif ta == "number" or ta == "string" then
    return a < b
  end
  return tostring(a) < tostring(b)
end

--- The value as text. `options.width`: tables that fit so many characters stay on one line (0: each
--- entry has a line of its own); `options.depth`: tables below are "…".
function M.format(value, options)
  local width = options and options.width or WIDTH
  local depth_max = options and options.depth or DEPTH
  local path, size = {}, 0 -- tables being shown, bytes so far
  local show

  local function entries(t, indent, depth)
    local list, keys, count = {}, {}, 0
    while rawget(t, count + 1) ~= nil do
      count = count + 1
    end
    for k in next, t do
      if type(k) ~= "number" or k < 1 or k > count or k ~= floor(k) then
        keys[#keys + 1] = k
      end
    end
    sort(keys, before)
    for i = 1, count + #keys do
      if size > BYTES then
        list[#list + 1] = "…"
        break
      end
      local k = keys[i - count]
      if i <= count then
        list[i] = show(rawget(t, i), indent, depth)
      else
        list[i] = key_text(k, function(x)
          return show(x, indent, depth)
        end) .. " = " .. show(rawget(t, k), indent, depth)
      end
      size = size + #list[i]
    end
    return list
  end

  function show(v, indent, depth)
    local kind = type(v)
    if kind == "string" then
      if #v > BYTES then
        return M.quote(v:sub(1, BYTES)) .. format(" … %d bytes", #v)
      end
      return M.quote(v)
    elseif kind == "number" then
      return number(v)
    elseif kind == "userdata" then
      v = host.plain(v)
      if type(v) ~= "table" then
        return v
      end
    elseif kind ~= "table" then
      return kind == "function" and "<function>" or kind == "thread" and "<coroutine>"
        or tostring(v)
    end
    if M.names[v] then
      return M.names[v]
    elseif next(v) == nil then
      return "{}"
    elseif path[v] then
      return "<this table again>"
    elseif depth >= depth_max then
      return "{ … }"
    end
    path[v] = true
    local inner = indent .. "  "
    local list = entries(v, inner, depth + 1)
    path[v] = nil
    local line = concat(list, ", ")
    if #line + #indent + 4 <= width and not line:find("\n", 1, true) then
      return "{ " .. line .. " }"
    end
    return "{\n" .. inner .. concat(list, ",\n" .. inner) .. ",\n" .. indent .. "}"
  end

  return show(value, "", 0)
end

-- Lines of a text.
local function lines_of(text)
  local lines = {}
  for line in (text .. "\n"):gmatch "(.-)\n" do
    lines[#lines + 1] = line
  end
  return lines
end

--- Two texts, line by line: a list of { mark, line } with mark "-" for what only the first has, "+"
--- for what only the second has, " " for both. Long stretches that both have are cut.
function M.diff(a, b)
  local x, y = lines_of(a), lines_of(b)
  local n, m = #x, #y
  local out = {}
  local function put(mark, line)
    out[#out + 1] = { mark, line }
  end
  local head = 0
  while head < n and head < m and x[head + 1] == y[head + 1] do
    head = head + 1
  end
  local tail = 0
  while tail < n - head and tail < m - head and x[n - tail] == y[m - tail] do
    tail = tail + 1
  end
  local rows, columns = n - head - tail, m - head - tail
  for i = 1, head do
    put(" ", x[i])
  end
  if rows * columns > 1000000 then
    -- Too much for the table below: all of the one, then all of the other.
    for i = head + 1, n - tail do
      put("-", x[i])
    end
    for i = head + 1, m - tail do
      put("+", y[i])
    end
  else
    -- The longest common part: length[i][j] is that of what follows x[head + i] and y[head + j].
    local length = {}
    for i = rows + 1, 1, -1 do
      length[i] = {}
      for j = columns + 1, 1, -1 do
        local below, right = i <= rows and length[i + 1][j] or 0, length[i][j + 1] or 0
        if i <= rows and j <= columns and x[head + i] == y[head + j] then
          length[i][j] = length[i + 1][j + 1] + 1
        else
          length[i][j] = below > right and below or right
        end
      end
    end
    local i, j = 1, 1
    while i <= rows or j <= columns do
      if i <= rows and j <= columns and x[head + i] == y[head + j] then
        put(" ", x[head + i])
        i, j = i + 1, j + 1
      elseif j > columns or (i <= rows and length[i + 1][j] >= length[i][j + 1]) then
        put("-", x[head + i])
        i = i + 1
      else
        put("+", y[head + j])
        j = j + 1
      end
    end
  end
  for i = n - tail + 1, n do
    put(" ", x[i])
  end
  return M.shorten(out, 3)
end

--- Of a diff, the changes and so many lines around each.
function M.shorten(list, context)
  local near, out, skipped = {}, {}, 0
  for i = 1, #list do
    if list[i][1] ~= " " then
      for k = i - context, i + context do
        near[k] = true
      end
    end
  end
  for i = 1, #list do
    if near[i] then
      if skipped > 0 then
        out[#out + 1] = { " ", format("%s… %d lines", rep(" ", 2), skipped) }
        skipped = 0
      end
      out[#out + 1] = list[i]
    else
      skipped = skipped + 1
    end
  end
  if skipped > 0 then
    out[#out + 1] = { " ", format("%s… %d lines", rep(" ", 2), skipped) }
  end
  return out
end

return M
