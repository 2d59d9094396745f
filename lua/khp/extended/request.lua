-- What an extended request asks for: its expectation, its protocols together with those of the opening, its
-- extensions. This file must not know states or events, or what the answer will be.

local common = require "khp.opening.common"
local http = require "khp.http"

local request = {}

local lower = string.lower
local KHP = common.KHP

-- The set of nothing, never written to.
local NONE = {}

--- Is there an expectation that is not 100-continue? It cannot be met (KHP H8, RFC 2616 14.20).
---@param headers table
---@return boolean
function request.expects_more(headers)
  local value = headers.expect
  if not value then
    return false
  end
  local list = http.tokens(value)
  if not list then
    return true
  end
  for i = 1, #list do
    if lower(list[i]) ~= "100-continue" then
      return true
    end
  end
  return false
end

-- Adds what is new in the list. Returns the set: another one where there was none.
local function unite(names, set, list)
  for i = 1, #list do
    local name = list[i]
    if name ~= KHP and not set[name] then
      if set == NONE then
        set = {}
      end
      names[#names + 1], set[name] = name, true
    end
  end
  return set
end

--- The protocols that may be chosen: those of the opening and of the extended request together (KHP E20).
---@param opening table the opening request
---@param headers table of the extended one
---@return string[]? names in order of preference
---@return table|string set of names, or what is wrong
function request.protocols(opening, headers)
  local names, set = {}, NONE
  if opening.protocols then
    set = unite(names, set, opening.protocols)
  end
  local value = headers["sec-websocket-protocol"]
  if value and value ~= "" then -- deployed clients send an empty one
    local list, message = http.tokens(value)
    if not list then
      return nil, "Sec-WebSocket-Protocol: " .. message
    end
    set = unite(names, set, list)
  end
  return names, set
end

--- The extensions that are asked for.
---@param headers table
---@return table[]? extensions parsed
---@return table|string set of names, or what is wrong
function request.extensions(headers)
  local value = headers["sec-websocket-extensions"]
  if not value or value == "" then
    return {}, NONE
  end
  local list, message = http.extensions(value)
  if not list then
    return nil, "Sec-WebSocket-Extensions: " .. message
  end
  local set = {}
  for i = 1, #list do
    set[list[i].name] = true
  end
  return list, set
end

return request
