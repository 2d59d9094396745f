-- What both roles of the opening handshake share: the queue of events, the one function that assigns a state, and
-- the questions that both ask of header fields. All of it works on what a peer sent: nothing here may take more
-- than linear time. This file must not know a role.

local http = require "khp.http"

local common = {}

local concat, sort = table.concat, table.sort
local byte, find, format, gmatch, gsub, lower, sub =
  string.byte, string.find, string.format, string.gmatch, string.gsub, string.lower, string.sub
local error, ipairs, pairs, tostring, type = error, ipairs, pairs, tostring, type

--- The subprotocol that asks for an extended handshake (KHP O1).
common.KHP = "x-kaazing-handshake"

-- Events stand in the machine's array part, four values each, so that none needs a table of its own.
local WIDTH = 4

--- Adds an event with up to three values.
function common.push(machine, name, a, b, c)
  local n = machine.last
  machine[n + 1], machine[n + 2], machine[n + 3], machine[n + 4] = name, a, b, c
  machine.last = n + WIDTH
end

--- Takes the oldest event: its name and values, or nil when there is none. Its place is used again once all are taken.
function common.poll(machine)
  local n, last = machine.first, machine.last
  if n == last then
    return nil
  elseif n + WIDTH == last then
    machine.first, machine.last = 0, 0
  else
    machine.first = n + WIDTH
  end
  return machine[n + 1], machine[n + 2], machine[n + 3], machine[n + 4]
end

--- Assigns the state, which must be one that machine.legal allows after the present one.
function common.enter(machine, state)
  if not machine.legal[machine.state][state] then
    error("no way from state " .. machine.state .. " to " .. state)
  end
  machine.state = state
end

--- A peer's text, fit for a message: short, and without what a terminal or a log would mind.
---@param text string
---@return string
function common.show(text)
  if #text > 60 then
    text = sub(text, 1, 57) .. "..."
  end
  text = gsub(text, "[^\32-\126]", function(c)
    return format("\\x%02X", byte(c))
  end)
  return "'" .. text .. "'"
end

-- What nearly every Connection header says, so that it need not be taken apart.
local usual = { Upgrade = true, upgrade = true, ["keep-alive, Upgrade"] = true }

--- Does the value of a Connection header name Upgrade?
---@param value string
---@return boolean
function common.names_upgrade(value)
  return usual[value] or common.lists(value, "upgrade")
end

--- Is this word (lower case) an element of a comma-separated list, whatever its case?
---@param list string
---@param word string letters and digits only
---@return boolean
function common.lists(list, word)
  if list == word then
    return true
  end
  list = lower(list)
  local pattern = "^[ \t]*" .. word .. "[ \t]*$"
  for item in gmatch(list, "[^,]+") do
    if find(item, pattern) then
      return true
    end
  end
  return false
end

--- Is a field there more than once, that may be there once only? `value` is what was found under its name: several
--- are combined with commas.
---@param headers table
---@param name string
---@param value string
---@return boolean
function common.is_repeated(headers, name, value)
  return find(value, ",", 1, true) ~= nil and #http.values(headers, name) > 1
end

--- The index of a string in an array, or nil.
function common.index(array, value)
  for i = 1, #array do
    if array[i] == value then
      return i
    end
  end
  return nil
end

--- The first string that is in the array twice, or nil.
function common.duplicate(array)
  local n, seen = #array, {}
  if n == 2 then
    return array[1] == array[2] and array[1] or nil
  end
  for i = 1, n do
    if seen[array[i]] then
      return array[i]
    end
    seen[array[i]] = true
  end
  return nil
end

--- Are all extensions chosen ones that were offered, none of them twice (KHP O6, RFC 6455 9.1)?
---@param chosen table parsed
---@param offered table parsed
---@return string? message what is wrong
function common.check_extensions(chosen, offered)
  if not chosen[1] then
    return nil
  end
  local seen = {}
  for i = 1, #chosen do
    local name, known = chosen[i].name, false
    for j = 1, #offered do
      known = known or offered[j].name == name
    end
    if not known then
      return "the extension " .. common.show(name) .. " was not offered"
    elseif seen[name] then
      return "the extension " .. common.show(name) .. " is chosen twice"
    end
    seen[name] = true
  end
  return nil
end

--- Appends a field to a list name, value, name, value …
---@param list string[]
---@param name string
---@param value string
local function append(list, name, value)
  local n = #list
  list[n + 1], list[n + 2] = name, value
end

common.append = append

local function add(list, name, value, owned)
  if type(name) ~= "string" then
    return "a header's name must be a string, not " .. type(name)
  elseif type(value) ~= "string" and type(value) ~= "number" then
    return "the header " .. name .. " must be a string, not " .. type(value)
  elseif owned(lower(name)) then
    return "the header " .. common.show(name) .. " is the handshake's own"
  end
  append(list, name, tostring(value))
  return nil
end

--- Appends headers in any of their forms (name, value, name, value …; a list of pairs; a map; a headers object) to a
--- list of the first form.
---@param list table
---@param headers table?
---@param owned fun(name: string): boolean is this name (lower case) one that only the handshake may set?
---@return string? message what is wrong
function common.add_headers(list, headers, owned)
  if headers == nil then
    return nil
  elseif type(headers) ~= "table" then
    return "headers must be a table, not " .. type(headers)
  end
  local problem
  if type(headers[1]) == "string" then
    for i = 1, #headers, 2 do
      problem = problem or add(list, headers[i], headers[i + 1], owned)
    end
  elseif headers[1] ~= nil then
    for _, pair in ipairs(headers) do
      if type(pair) ~= "table" then
        return "a list of headers has pairs of name and value, not " .. type(pair)
      end
      problem = problem or add(list, pair[1], pair[2], owned)
    end
  else
    local names = {}
    for name in pairs(headers) do
      if type(name) ~= "string" then
        return "a header's name must be a string, not " .. type(name)
      end
      names[#names + 1] = name
    end
    sort(names)
    for _, name in ipairs(names) do
      local values = headers[name]
      for _, value in ipairs(type(values) == "table" and values or { values }) do
        problem = problem or add(list, name, value, owned)
      end
    end
  end
  return problem
end

--- Does a list name, value, name, value … have this name (lower case)?
function common.has_header(list, name)
  for i = 1, #list, 2 do
    if lower(list[i]) == name then
      return true
    end
  end
  return false
end

--- Appends Server and Date to a response (KHP E15).
---@param list string[] name, value, name, value …
---@param settings { server: string|false, date: (fun(): string)|false }
---@param given any is there something of a policy's in the list, which may have either already?
function common.add_server_and_date(list, settings, given)
  local n, name, date = #list, settings.server, settings.date
  if name and not (given and common.has_header(list, "server")) then
    list[n + 1], list[n + 2] = "Server", name
    n = n + 2
  end
  if date and not (given and common.has_header(list, "date")) then
    list[n + 1], list[n + 2] = "Date", date()
  end
end

--- A comma-separated list of an array of strings, or nil for an empty one: a header is never sent empty (KHP E6).
function common.join(array)
  return array[1] and concat(array, ", ") or nil
end

return common
