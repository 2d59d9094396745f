-- Lua's patterns, matched in Lua: slower than the string library by far, but under the eyes of a budget, which that is
-- not while it backtracks. The functions are string.find, match, gmatch and gsub of Lua 5.4. A pattern becomes a chain
-- of functions, each of which matches one item and calls the next. This file must not know when it is needed.

local pattern = {}

local byte, char, find, gsub, sub = string.byte, string.char, string.find, string.gsub, string.sub
local concat = table.concat
local error, tonumber, tostring, type = error, tonumber, tostring, type

local unpack = table.unpack or unpack

-- Captures: starts[i] and stops[i], the position behind the last byte; false while it is open.
local POSITION = -1

---@class khp.pattern.Match what a match is made in
---@field s string
---@field starts integer[]
---@field stops (integer|false)[]

-- Sets of bytes -----------------------------------------------------------------------------------------------------

-- item ("a", ".", "%d", "[^a-z]") → set of the bytes that it matches, as the string library says; a few hundred.
local sets, set_count = {}, 0

local function set_of(item)
  local set = sets[item]
  if not set then
    set = {}
    local anchored = "^" .. (item == "$" and "%$" or item)
    for code = 0, 255 do
      set[code] = find(char(code), anchored) ~= nil
    end
    if set_count == 256 then
      sets, set_count = {}, 0
    end
    sets[item], set_count = set, set_count + 1
  end
  return set
end

-- Where a single item that begins at p ends.
local function item_end(text, p)
  local c = sub(text, p, p)
  if c == "%" then
    if p == #text then
      error("malformed pattern (ends with '%')", 0)
    end
    return p + 1
  elseif c ~= "[" then
    return p
  end
  local q = sub(text, p + 1, p + 1) == "^" and p + 2 or p + 1
  repeat -- the first ']' is no end
    c = sub(text, q, q)
    if c == "" then
      error("malformed pattern (missing ']')", 0)
    end
    q = c == "%" and q + 2 or q + 1
  until sub(text, q, q) == "]"
  return q
end

-- Items -------------------------------------------------------------------------------------------------------------
-- Each takes the match and a position, and returns where the whole match ends, or nil.

local function one(set, after)
  return function(m, i)
    if set[byte(m.s, i)] then
      return after(m, i + 1)
    end
    return nil
  end
end

local function optional(set, after)
  return function(m, i)
    return set[byte(m.s, i)] and after(m, i + 1) or after(m, i)
  end
end

local function longest(set, least, after)
  return function(m, i)
    local s, last = m.s, i
    while set[byte(s, last)] do
      last = last + 1
    end
    for j = last, i + least, -1 do
      local stop = after(m, j)
      if stop then
        return stop
      end
    end
    return nil
  end
end

local function shortest(set, after)
  return function(m, i)
    while true do
      local stop = after(m, i)
      if stop then
        return stop
      elseif not set[byte(m.s, i)] then
        return nil
      end
      i = i + 1
    end
  end
end

local function open(index, position, after)
  return function(m, i)
    m.starts[index], m.stops[index] = i, position and POSITION
    return after(m, i)
  end
end

local function close(index, after)
  return function(m, i)
    m.stops[index] = i
    local stop = after(m, i)
    if not stop then
      m.stops[index] = false
    end
    return stop
  end
end

local function balanced(first, last, after)
  return function(m, i)
    local s, depth = m.s, 0
    if byte(s, i) ~= first then
      return nil
    end
    for j = i, #s do
      local c = byte(s, j)
      if c == last then
        depth = depth - 1
        if depth == 0 then
          return after(m, j + 1)
        end
      elseif c == first then
        depth = depth + 1
      end
    end
    return nil
  end
end

local function frontier(set, after)
  return function(m, i)
    if not set[byte(m.s, i - 1) or 0] and set[byte(m.s, i) or 0] then
      return after(m, i)
    end
    return nil
  end
end

local function again(index, after)
  return function(m, i)
    local text = sub(m.s, m.starts[index], m.stops[index] - 1)
    if sub(m.s, i, i + #text - 1) == text then
      return after(m, i + #text)
    end
    return nil
  end
end

-- Patterns ----------------------------------------------------------------------------------------------------------

local function finish(_, i)
  return i
end

local function at_end(m, i)
  return i == #m.s + 1 and i or nil
end

local compile

-- A '%' that stands for more than a class; nil where it does not.
local function special(text, p, state)
  local c = sub(text, p + 1, p + 1)
  if c == "b" then
    local first, last = byte(text, p + 2, p + 3)
    if not last then
      error("malformed pattern (missing arguments to '%b')", 0)
    end
    return balanced(first, last, compile(text, p + 4, state))
  elseif c == "f" then
    if sub(text, p + 2, p + 2) ~= "[" then
      error("missing '[' after '%f' in pattern", 0)
    end
    local last = item_end(text, p + 2)
    return frontier(set_of(sub(text, p + 2, last)), compile(text, last + 1, state))
  elseif find(c, "^%d") then
    local index = tonumber(c)
    if not state.closed[index] then
      error("invalid capture index %" .. c, 0)
    end
    return again(index, compile(text, p + 2, state))
  end
  return nil
end

local function capture(text, p, state)
  state.count = state.count + 1
  local index = state.count
  if index > 32 then
    error("too many captures", 0)
  elseif sub(text, p + 1, p + 1) == ")" then
    state.closed[index] = false -- a position is nothing to come again
    return open(index, true, compile(text, p + 2, state))
  end
  state.open[#state.open + 1] = index
  return open(index, false, compile(text, p + 1, state))
end

local repeats = {
  ["?"] = optional,
  ["*"] = function(set, after)
    return longest(set, 0, after)
  end,
  ["+"] = function(set, after)
    return longest(set, 1, after)
  end,
  ["-"] = shortest,
}

-- The chain for the pattern from p on. state: how many captures there are, and which are open and closed.
function compile(text, p, state)
  local c = sub(text, p, p)
  if c == "" then
    if state.open[1] then
      error("unfinished capture", 0)
    end
    return finish
  elseif c == "$" and p == #text and not state.open[1] then
    return at_end
  elseif c == "(" then
    return capture(text, p, state)
  elseif c == ")" then
    local index = table.remove(state.open)
    if not index then
      error("invalid pattern capture", 0)
    end
    state.closed[index] = true
    return close(index, compile(text, p + 1, state))
  end
  local chain = c == "%" and special(text, p, state)
  if chain then
    return chain
  end
  local last = item_end(text, p)
  local set, sign = set_of(sub(text, p, last)), sub(text, last + 1, last + 1)
  if repeats[sign] then
    return repeats[sign](set, compile(text, last + 2, state))
  end
  return one(set, compile(text, last + 1, state))
end

local function prepare(text, from)
  local state = { count = 0, open = {}, closed = {} }
  return compile(text, from, state), state.count
end

-- Capture i of a match, or all of it where there is none.
local function captured(m, i, from, stop)
  if not m.starts[1] and i == 1 then
    return sub(m.s, from, stop - 1)
  elseif m.stops[i] == POSITION then
    return m.starts[i]
  elseif not m.starts[i] then
    error("invalid capture index %" .. i .. " in replacement string", 0)
  end
  return sub(m.s, m.starts[i], m.stops[i] - 1)
end

local function captures(m, count, from, stop)
  local list = {}
  for i = 1, count do
    list[i] = captured(m, i, from, stop)
  end
  return unpack(list, 1, count)
end

local function new_match(s)
  return { s = s, starts = {}, stops = {} }
end

-- Where the first match from init on begins and ends, and how many captures it has.
local function search(m, text, init)
  local anchored = sub(text, 1, 1) == "^"
  local chain, count = prepare(text, anchored and 2 or 1)
  for i = init, anchored and init or #m.s + 1 do
    local stop = chain(m, i)
    if stop then
      return i, stop, count
    end
  end
  return nil
end

local function start(s, init)
  init = tonumber(init) or 1
  if init < 0 then
    init = #s + init + 1
  end
  return init < 1 and 1 or init
end

-- The string library's functions ------------------------------------------------------------------------------------

---@param s string
---@param text string
---@param init integer?
---@param plain boolean?
function pattern.find(s, text, init, plain)
  init = start(s, init)
  if init > #s + 1 then
    return nil
  elseif plain or not find(text, "[%^%$%*%+%?%.%(%[%%%-]") then -- as there, a lonely ')' is no mistake here
    text = gsub(text, "%p", "%%%0")
  end
  local m = new_match(s)
  local from, stop, count = search(m, text, init)
  if not from then
    return nil
  end
  return from, stop - 1, captures(m, count, from, stop)
end

---@param s string
---@param text string
---@param init integer?
function pattern.match(s, text, init)
  init = start(s, init)
  if init > #s + 1 then
    return nil
  end
  local m = new_match(s)
  local from, stop, count = search(m, text, init)
  if not from then
    return nil
  end
  return captures(m, count > 0 and count or 1, from, stop)
end

---@param s string
---@param text string in which ^ is no anchor
---@param init integer?
function pattern.gmatch(s, text, init)
  local chain, count = prepare(text, 1)
  local i, last = start(s, init), nil
  local m = new_match(s)
  return function()
    while i <= #s + 1 do
      local from, stop = i, chain(m, i)
      if stop and stop ~= last then
        i, last = stop, stop
        return captures(m, count > 0 and count or 1, from, stop)
      end
      i = i + 1
    end
    return nil
  end
end

-- What stands in the replacement string for this match.
local function expand(m, text, from, stop)
  local out, i = {}, 1
  while true do
    local at = find(text, "%", i, true)
    if not at then
      out[#out + 1] = sub(text, i)
      return concat(out)
    end
    local c = sub(text, at + 1, at + 1)
    out[#out + 1] = sub(text, i, at - 1)
    if c == "%" then
      out[#out + 1] = "%"
    elseif c == "0" then
      out[#out + 1] = sub(m.s, from, stop - 1)
    elseif find(c, "^%d") then
      out[#out + 1] = captured(m, tonumber(c), from, stop)
    else
      error("invalid use of '%' in replacement string", 0)
    end
    i = at + 2
  end
end

local function replacement(m, by, count, from, stop)
  local value
  if type(by) == "string" then
    return expand(m, by, from, stop)
  elseif type(by) == "function" then
    value = by(captures(m, count > 0 and count or 1, from, stop))
  else
    value = by[captured(m, 1, from, stop)]
  end
  if not value then
    return sub(m.s, from, stop - 1)
  elseif type(value) ~= "string" and type(value) ~= "number" then
    error("invalid replacement value (a " .. type(value) .. ")", 0)
  end
  return tostring(value)
end

---@param s string
---@param text string
---@param by string|table|function
---@param most integer?
function pattern.gsub(s, text, by, most)
  by = type(by) == "number" and tostring(by) or by
  if type(by) ~= "string" and type(by) ~= "table" and type(by) ~= "function" then
    error("bad argument #3 to 'gsub' (string/function/table expected, got " .. type(by) .. ")", 2)
  end
  local anchored = sub(text, 1, 1) == "^"
  local chain, count = prepare(text, anchored and 2 or 1)
  local m, out, i, last, done = new_match(s), {}, 1, nil, 0
  while done < (most or #s + 1) do
    local stop = chain(m, i)
    if stop and stop ~= last then
      done = done + 1
      out[#out + 1] = replacement(m, by, count, i, stop)
      i, last = stop, stop
    elseif i <= #s then
      out[#out + 1] = sub(s, i, i)
      i = i + 1
    else
      break
    end
    if anchored then
      break
    end
  end
  out[#out + 1] = sub(s, i)
  return concat(out), done
end

return pattern
