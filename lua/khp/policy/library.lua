-- The standard library as policies have it: what cannot leave the policy, what cannot run on inside of C where no
-- budget is looked at, and the time and random numbers of the world that the policy is in. Nothing here can be reached
-- that belongs to the host. This file must not know what else is in a policy's environment.

local core = require "khp.core"
local pattern = require "khp.policy.pattern"
local task = require "khp.task"
local worlds = require "khp.policy.world"

local library = {}

local charge = core.budget.charge
local byte, find, gmatch, gsub, match, rep =
  string.byte, string.find, string.gmatch, string.gsub, string.match, string.rep
local concat, insert, remove, sort = table.concat, table.insert, table.remove, table.sort
local error, floor, pairs, pcall, select, tonumber, tostring, type =
  error, math.floor, pairs, pcall, select, tonumber, tostring, type

local move, utf8 = table.move, utf8 -- luacheck: read globals table.move utf8

local unpack = table.unpack or unpack

local function copy(of, names)
  local result = {}
  for name in names:gmatch "%S+" do
    result[name] = of[name]
  end
  return result
end

-- Strings -----------------------------------------------------------------------------------------------------------

-- Steps that a match may take and is still left to the string library, which cannot be interrupted. Most matches take
-- far less than they might: what is beyond goes to a matcher that can be.
local MOST_STEPS = 4000000

local LOOK = 1000 -- after so many it is time to look at the clock

-- How many steps the string library may need at most. Of the pattern: { number of items that may match at n places,
-- number of choices between two }; remembered, as there are few of them.
local shapes, shape_count = {}, 0

local function shape_of(text)
  local shape = shapes[text]
  if not shape then
    local items = gsub(text, "%%.", "")
    local _, repeats = gsub(items, "[-*+]", "")
    local _, choices = gsub(items, "?", "")
    local _, long = gsub(text, "%%[%db]", "")
    shape = { repeats + long, choices }
    if shape_count == 256 then
      shapes, shape_count = {}, 0
    end
    shapes[text], shape_count = shape, shape_count + 1
  end
  return shape
end

--- How many steps matching this pattern may take with a subject of so many bytes, at worst.
---@param text string
---@param size integer
---@param plain boolean?
---@return number
function library.steps(text, size, plain)
  local weight = 1 + #text / 16
  if plain then
    return (size + 1) * weight
  end
  local shape = shape_of(text)
  local exponent = shape[1] + (byte(text) == 94 and 0 or 1) -- "^"
  return (size + 1) ^ exponent * 2 ^ shape[2] * weight
end

-- Is this match one for the string library? What is no string is: it has the right words for that.
local function is_short(s, text, plain)
  if type(text) ~= "string" or type(s) ~= "string" then
    return true
  end
  local steps = library.steps(text, #s, plain)
  if steps > LOOK then
    charge(1)
  end
  return steps <= MOST_STEPS
end

local function text_of(value)
  return type(value) == "number" and tostring(value) or value
end

-- One of the functions that match.
local function bound_match(quick, slow)
  return function(s, text, ...)
    s, text = text_of(s), text_of(text)
    if is_short(s, text, false) then
      return quick(s, text, ...)
    end
    return slow(s, text, ...)
  end
end

-- What goes through its text without taking memory could take any time: nobody needs more than this.
local LONGEST_LAYOUT, LONGEST_NUMBER = 10000, 1000

local function bound_tonumber(value, ...)
  if type(value) == "string" and #value > LONGEST_NUMBER then
    return nil
  end
  return tonumber(value, ...)
end

local function bound_strings()
  local strings = copy(string, "byte char format len lower reverse sub upper")
  for _, name in ipairs { "pack", "packsize", "unpack" } do -- not in Lua 5.1
    local packs = string[name]
    strings[name] = packs and function(layout, ...)
      if type(layout) == "string" and #layout > LONGEST_LAYOUT then
        error(name .. ": the format is too long", 2)
      end
      return packs(layout, ...)
    end
  end

  function strings.find(s, text, init, plain)
    s, text = text_of(s), text_of(text)
    if is_short(s, text, plain) then
      return find(s, text, init, plain)
    end
    return pattern.find(s, text, init, plain)
  end

  strings.match = bound_match(match, pattern.match)
  strings.gmatch = bound_match(gmatch, pattern.gmatch)
  strings.gsub = bound_match(gsub, pattern.gsub)

  function strings.rep(s, n, separator)
    if s == "" and (separator or "") == "" then -- takes no memory, only time
      return ""
    end
    return rep(s, n, separator)
  end

  return strings
end

library.string = bound_strings()

-- Tables ------------------------------------------------------------------------------------------------------------

local FEW = 1000

-- Elements that a function is about to go through; eight are as long as an instruction.
local function count(n)
  if type(n) == "number" and n > FEW then
    charge(n / 8)
  end
end

local function length(t)
  return type(t) == "table" and #t or 0
end

local function bound_tables()
  local tables = {
    pack = table.pack or function(...)
      return { n = select("#", ...), ... }
    end,
  }

  function tables.concat(t, separator, i, j)
    count((tonumber(j) or length(t)) - (tonumber(i) or 1))
    return concat(t, separator, i, j)
  end

  function tables.insert(t, ...)
    if select("#", ...) > 1 then
      count(length(t))
    end
    return insert(t, ...)
  end

  function tables.remove(t, ...)
    if select("#", ...) > 0 then
      count(length(t))
    end
    return remove(t, ...)
  end

  function tables.sort(t, before)
    local n = length(t)
    count(n * 16)
    return sort(t, before)
  end

  function tables.unpack(t, i, j)
    count((tonumber(j) or length(t)) - (tonumber(i) or 1))
    return unpack(t, i, j)
  end

  if move then
    function tables.move(from, first, last, ...)
      if tonumber(first) and tonumber(last) then
        count(tonumber(last) - tonumber(first))
      end
      return move(from, first, last, ...)
    end
  end

  return tables
end

-- Time and chance ---------------------------------------------------------------------------------------------------

local real

--- The world of the running policy; where none runs, or it has none, the real one.
---@return khp.World
function library.world()
  local world = task.world()
  if not world then
    real = real or worlds.new()
    world = real
  end
  return world
end

local function bound_os()
  return {
    difftime = os.difftime,
    date = function(format, time)
      return os.date(format or "%c", time or floor(library.world().now()))
    end,
    time = function(date)
      if date == nil then
        return floor(library.world().now())
      end
      return os.time(date)
    end,
  }
end

-- A number from 0 to 2^53 - 1.
local function draw()
  local a, b, c, d, e, f, g = byte(library.world().random(7), 1, 7)
  return ((((((a % 32) * 256 + b) * 256 + c) * 256 + d) * 256 + e) * 256 + f) * 256 + g
end

local TWO_53 = 9007199254740992

local function random(m, n)
  if m == nil then
    return draw() / TWO_53
  elseif n == nil then
    m, n = 1, m
  end
  if type(m) ~= "number" or type(n) ~= "number" or m % 1 ~= 0 or n % 1 ~= 0 or n - m >= TWO_53 then
    error("random: whole numbers expected", 2)
  elseif m > n then
    error("random: the interval is empty", 2)
  end
  return floor(m) + floor(draw() % (n - m + 1))
end

local function bound_math()
  local maths = {}
  for name, value in pairs(math) do
    if name ~= "randomseed" then
      maths[name] = value
    end
  end
  maths.random = random
  return maths
end

-- Errors ------------------------------------------------------------------------------------------------------------

-- The handler runs when the stack is unwound: while an error is on its way nothing would bound it.
local function handled(handler, ok, ...)
  if ok then
    return true, ...
  end
  return false, handler(...)
end

local function bound_xpcall(f, handler, ...)
  return handled(handler, pcall(f, ...))
end

--- The library of one policy: tables of its own, which nobody else sees.
---@return table<string, any>
function library.new()
  local result = copy(_G, "assert error ipairs next pairs pcall select tostring type _VERSION")
  result.math = bound_math()
  result.os = bound_os()
  result.string = library.string
  result.table = bound_tables()
  result.unpack = unpack ~= table.unpack and result.table.unpack or nil
  result.utf8 = utf8 and copy(utf8, "char charpattern codepoint codes len offset")
  result.tonumber = bound_tonumber
  result.xpcall = bound_xpcall
  return result
end

-- What ("x"):rep finds while a policy that is not trusted has its turn.
core.budget.guard(library.string)

return library
