-- Writes JSON (RFC 8259), one line for a value, whatever bytes its strings hold. This file must not know what is
-- written, and reads no JSON.

local core = require "khp.core"

local json = {}

local byte, find, format, gsub, sub = string.byte, string.find, string.format, string.gsub, string.sub
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

-- What some reader might take for the end of a line, or a terminal for an order: NEL and the other controls of C1, and
-- the separators of lines and paragraphs.
local function escape_high(text)
  text = gsub(text, "\194([\128-\159])", escape)
  return (gsub(text, "\226\128([\168\169])", function(c)
    return format("\\u20%02x", byte(c) - 128)
  end))
end

--- A string, in quotes, as UTF-8: each byte that is not part of UTF-8 becomes U+FFFD.
---@param text string
---@return string
function json.string(text)
  if find(text, "[\128-\255]") then
    text = is_utf8(text) and text or gsub(text, "[\128-\255]+", repair)
    text = gsub(text, '[%z\1-\31"\\\127]', escape)
    return '"' .. escape_high(text) .. '"'
  end
  return '"' .. gsub(text, '[%z\1-\31"\\\127]', escape) .. '"'
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

local TWO_TO_63 = 2 ^ 63

-- There are no infinite numbers in JSON. Beyond 64 bits "%d" has no meaning.
local function write_number(value)
  if value ~= value or value == math.huge or value == -math.huge then
    return "null"
  end
  if value % 1 ~= 0 then
    return format("%.14g", value)
  end
  return format(value >= -TWO_TO_63 and value < TWO_TO_63 and "%d" or "%.0f", value)
end

--- A value: nil, a boolean, a number, a string, an array or a table with names. Of anything else, what tostring() says.
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
  return value == nil and "null" or kind == "boolean" and tostring(value) or json.string(tostring(value))
end

json.write = write

return json
