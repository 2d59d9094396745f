-- Does an extended response that completes the handshake answer what the client asked for (RFC 6455 4.1, KHP E11,
-- E14, E20)? This file must not know states or events, or what a wrong answer leads to.

local common = require "khp.opening.common"
local http = require "khp.http"

local verify = {}

local lower = string.lower
local index, show = common.index, common.show

-- KHP E11: where they are present, they must be right.
local function problem_of_switching(response, accept)
  local upgrade, given = response.headers.upgrade, response.headers["sec-websocket-accept"]
  if given and accept and given ~= accept then
    return "the extended response has a wrong Sec-WebSocket-Accept"
  elseif response.status == 101 and upgrade and lower(upgrade) ~= "websocket" then
    return "the extended response upgrades to " .. show(upgrade)
  end
  return nil
end

-- KHP E14: an array that is not empty, of names that were requested, each once.
---@return table? extensions, string? problem
local function read_extensions(value, requested)
  local list, message = http.extensions(value)
  if not list then
    return nil, "Sec-WebSocket-Extensions: " .. message
  elseif #list == 0 then
    return nil, "Sec-WebSocket-Extensions is empty"
  end
  local seen = {}
  for i = 1, #list do
    local name = list[i].name
    if not requested[name] then
      return nil, "the server chose an extension that was not requested: " .. show(name)
    elseif seen[name] then
      return nil, "the server chose an extension twice: " .. show(name)
    end
    seen[name] = true
  end
  return list
end

--- Reads what a completing response has chosen.
---@param response table
---@param accept string? the right Sec-WebSocket-Accept
---@param protocols string[] requested
---@param extensions table<string, true> names requested
---@return { protocol: string?, extensions: table[], response: table }? chosen
---@return string? problem, string? code
function verify.chosen(response, accept, protocols, extensions)
  local problem = problem_of_switching(response, accept)
  if problem then
    return nil, problem, "EHANDSHAKE"
  end
  local protocol = response.headers["sec-websocket-protocol"]
  if protocol == "" then -- deployed peers write empty fields
    protocol = nil
  elseif protocol and not index(protocols, protocol) then -- KHP E20
    return nil, "the server chose a protocol that was not requested: " .. show(protocol), "EHANDSHAKE"
  end
  local value, chosen = response.headers["sec-websocket-extensions"], {}
  if value then
    chosen, problem = read_extensions(value, extensions)
    if not chosen then
      return nil, problem, "EEXTENSION"
    end
  end
  return { protocol = protocol, extensions = chosen, response = response }
end

return verify
