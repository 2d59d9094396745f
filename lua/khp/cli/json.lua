-- Writes JSON (RFC 8259), one line for a value: what --json prints. Strings become UTF-8 whatever they hold. This file
-- must not know what is written, and reads nothing.

local core = require "khp.core"

local json = {}

local byte, format, gsub, sub = string.byte, string.format, string.gsub, string.sub
local concat, sort = table.concat, table.sort
local is_utf8 = core.conn.utf8

-- Arrays are marked, since an empty table does not tell.
local array = {}

--- Marks a table as an array: what stands in 1, 2, ….
---@param list any[]
---@return any[]
function json.array(list)
  return setmetatable(list, array)
end

local names = {
  ['"'] = '\\"', ["\\"] = "\\\\", ["\b"] = "\\b", ["\f"] = "\\f", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t",
}

local function escape(c)
  return names[c] or format("\\u%04x", byte(c))
end

local REPLACEMENT = "\239\191\189"

-- Each byte that is no part of UTF-8 becomes U+FFFD.
local function repair(text)
  local parts, at = {}, 1
  while at <= #text do
    local first = byte(text, at)
    local n = first < 0xC0 and 1 or first < 0xE0 and 2 or first < 0xF0 and 3 or 4
    local c = sub(text, at, at + n - 1)
    if not is_utf8(c) then
      c, n = REPLACEMENT, 1
    end
    parts[#parts + 1] = c
    at = at + n
  end
  return concat(parts)
end

--- A string, in quotes.
---@param text string
---@return string
function json.string(text)
  if not is_utf8(text) then
    text = gsub(text, "[\128-\255]+", repair)
  end
  return '"' .. gsub(text, '[%c"\\\127]', escape) .. '"'
end

local write

local function write_array(list)
  local parts = {}
  for i = 1, #list do
    parts[i] = write(list[i])
  end
  return "[" .. concat(parts, ",") .. "]"
end

-- Members in the order of their names, so that the same value is the same line; "event" comes first.
local function write_object(object)
  local keys, parts = {}, {}
  for key in pairs(object) do
    keys[#keys + 1] = key
  end
  sort(keys, function(a, b)
    return (a == "event" and "" or a) < (b == "event" and "" or b)
  end)
  for i, key in ipairs(keys) do
    parts[i] = json.string(key) .. ":" .. write(object[key])
  end
  return "{" .. concat(parts, ",") .. "}"
end

local function write_number(value)
  if value ~= value or value == math.huge or value == -math.huge then
    return "null"
  end
  return value % 1 == 0 and format("%.0f", value) or format("%.14g", value)
end

--- A value: nil, a boolean, a number, a string, an array or a table with names.
---@param value any
---@return string
function write(value)
  local kind = type(value)
  if kind == "string" then
    return json.string(value)
  elseif kind == "number" then
    return write_number(value)
  elseif kind == "table" then
    return getmetatable(value) == array and write_array(value) or write_object(value)
  end
  return value == nil and "null" or tostring(value)
end

json.write = write

return json
