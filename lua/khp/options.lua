-- Checks tables of options: everything public that takes one declares its options once and is then safe from
-- misspelt names, wrong types and values out of range. A mistake is the caller's and is thrown at the caller's
-- line, with the name that was probably meant. This file must not know what any option is for.

local options = {}

local concat, floor, min, sort = table.concat, math.floor, math.min, table.sort
local error, next, pairs, tostring, type = error, next, pairs, tostring, type

---@class khp.Option
---@field type string Lua's type names or "integer", "strings" (an array of them), "any"; several separated by "|"
---@field default any
---@field required boolean?
---@field min number? inclusive
---@field max number? inclusive
---@field choices string[]? the only values allowed
---@field check (fun(value: any): any, string?)? false or nil and what is wrong

---@class khp.Declaration
---@field what string
---@field entries table<string, khp.Option>
---@field plain table<string, table<string, boolean>> for options that are checked by Lua's type alone: which
---@field defaults table<string, any>
---@field required string[]

local NONE = {}

-- Optimal string alignment: how many letters must be changed, added, dropped or swapped with their neighbour.
local function distance(a, b)
  local before, last, row = {}, {}, {}
  for j = 0, #b do
    last[j] = j
  end
  for i = 1, #a do
    row[0] = i
    for j = 1, #b do
      local same = a:byte(i) == b:byte(j)
      local d = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (same and 0 or 1))
      if i > 1 and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
        d = min(d, before[j - 2] + 1)
      end
      row[j] = d
    end
    before, last, row = last, row, before
  end
  return last[#b]
end

--- The known name nearest to a misspelt one, or nil when none is near.
---@param name string
---@param names table<string, any> known names as keys
---@return string?
function options.nearest(name, names)
  local best, least
  if #name > 64 then
    return nil
  end
  local lower = name:lower()
  for candidate in pairs(names) do
    local d = distance(lower, candidate:lower())
    if d <= 1 + floor(#candidate / 4) and (not least or d < least or d == least and candidate < best) then
      best, least = candidate, d
    end
  end
  return best
end

local function unknown(declaration, name)
  local shown = type(name) == "string" and "'" .. name .. "'" or "[" .. tostring(name) .. "]"
  local near = type(name) == "string" and options.nearest(name, declaration.entries)
  if near then
    return declaration.what .. ": unknown option " .. shown .. ", did you mean '" .. near .. "'?"
  end
  local names = {}
  for known in pairs(declaration.entries) do
    names[#names + 1] = known
  end
  sort(names)
  return declaration.what .. ": unknown option " .. shown .. " (known: " .. concat(names, ", ") .. ")"
end

local function is_strings(value)
  if type(value) ~= "table" then
    return false
  end
  local n = #value
  for i = 1, n do
    if type(value[i]) ~= "string" then
      return false
    end
  end
  for key in pairs(value) do
    if type(key) ~= "number" or key < 1 or key > n then
      return false
    end
  end
  return true
end

local function is_a(value, kind)
  if type(value) == kind then
    return kind ~= "number" or value == value
  elseif kind == "integer" then
    return type(value) == "number" and value == floor(value) and value - value == 0
  end
  return kind == "strings" and is_strings(value) or kind == "any"
end

local WITH_ARTICLE = { integer = "an integer", strings = "an array of strings" }

-- What is wrong with this value, or nil.
local function problem(option, value)
  local kind = option.type
  if not is_a(value, kind) then
    local fits = false
    for one in kind:gmatch("[^|]+") do
      fits = fits or is_a(value, one)
    end
    if not fits then
      local wanted = {}
      for one in kind:gmatch("[^|]+") do
        wanted[#wanted + 1] = WITH_ARTICLE[one] or "a " .. one
      end
      return "must be " .. concat(wanted, " or ") .. ", not " ..
        (type(value) == "number" and tostring(value) or type(value))
    end
  end
  if type(value) == "number" then
    if option.min and value < option.min then
      return "must be at least " .. tostring(option.min) .. ", not " .. tostring(value)
    elseif option.max and value > option.max then
      return "must be at most " .. tostring(option.max) .. ", not " .. tostring(value)
    end
  end
  if option.choices then
    for _, choice in pairs(option.choices) do
      if value == choice then
        return nil
      end
    end
    return "must be one of " .. concat(option.choices, ", ") .. ", not '" .. tostring(value) .. "'"
  end
  if option.check then
    local ok, message = option.check(value)
    if not ok then
      return message or "has a wrong value"
    end
  end
  return nil
end

-- The set of types that an option may have, where no more than that has to be checked; else nil.
local function plain_types(kinds)
  local types = {}
  for kind in kinds:gmatch("[^|]+") do
    if kind ~= "string" and kind ~= "table" and kind ~= "boolean" and kind ~= "function" then
      return nil
    end
    types[kind] = true
  end
  return types
end

--- Prepares a declaration, once, when a module loads.
---@param what string the function that takes the options, as its user knows it: "khp.listen"
---@param entries table<string, khp.Option>
---@return khp.Declaration
function options.declare(what, entries)
  local declaration = { what = what, entries = entries, plain = {}, defaults = {}, required = {} }
  for name, option in pairs(entries) do
    if not option.choices and not option.check then
      declaration.plain[name] = plain_types(option.type)
    end
    if option.default ~= nil then
      local wrong = problem(option, option.default)
      if wrong then
        error(what .. ": the default of '" .. name .. "' " .. wrong, 2)
      end
      declaration.defaults[name] = option.default
    end
    if option.required then
      declaration.required[#declaration.required + 1] = name
    end
  end
  sort(declaration.required)
  return declaration
end

--- Checks a table of options as it is, and makes nothing of it: for what is called so often that it fills in its
--- defaults itself. Throws at the caller's line; a function that calls this must not do so as a tail call, which
--- would hide that line.
---@param declaration khp.Declaration
---@param given table?
---@param level integer? whose line to blame, as error() counts from the function that calls verify; default 2
function options.verify(declaration, given, level)
  level = (level or 2) + 1
  if given ~= nil and type(given) ~= "table" then
    error(declaration.what .. ": options must be a table, not " .. type(given), level)
  end
  local plain = declaration.plain
  for name, value in next, given or NONE do
    local types = plain[name]
    if not types or not types[type(value)] then
      local option = declaration.entries[name]
      if not option then
        error(unknown(declaration, name), level)
      end
      local wrong = problem(option, value)
      if wrong then
        error(declaration.what .. ": option '" .. name .. "' " .. wrong, level)
      end
    end
  end
  for i = 1, #declaration.required do
    local name = declaration.required[i]
    if not given or given[name] == nil then
      error(declaration.what .. ": option '" .. name .. "' is missing", level)
    end
  end
end

--- Checks a table of options and returns a new one with the defaults filled in. Throws as verify does.
---@param declaration khp.Declaration
---@param given table?
---@param level integer? as for verify
---@return table
function options.check(declaration, given, level)
  options.verify(declaration, given, (level or 2) + 1)
  local checked = {}
  for name, default in next, declaration.defaults do
    checked[name] = default
  end
  for name, value in next, given or NONE do
    checked[name] = value
  end
  return checked
end

return options
