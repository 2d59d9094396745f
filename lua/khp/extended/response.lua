-- Writes the responses of the extended handshake, and sees to it that none says what it may not: header fields that
-- only the handshake sets, extensions that were not asked for. This file must not know states or events.

local common = require "khp.opening.common"
local http = require "khp.http"

local response = {}

local concat, tostring, type = table.concat, tostring, type
local show = common.show

-- What frames a message and what is negotiated (KHP E14, E20).
local ours = {
  ["content-length"] = true,
  ["transfer-encoding"] = true,
  ["sec-websocket-accept"] = true,
  ["sec-websocket-protocol"] = true,
  ["sec-websocket-extensions"] = true,
}

local function is_ours(name)
  return ours[name] == true
end

-- In a response that completes, also what makes it one (RFC 6455 4.2.2).
local function is_ours_in_101(name)
  return ours[name] or name == "upgrade" or name == "connection"
end

--- The bytes of a response.
---@param settings khp.extended.Settings
---@param status integer
---@param list string[] the handshake's own fields, name, value, name, value …; it is added to
---@param given { reason: string?, headers: table?, body: string? } a policy's
---@param body string? nil: the response has none
---@return string? bytes, string? message, string? code
function response.write(settings, status, list, given, body)
  local headers = given.headers
  if headers ~= nil then
    local problem = common.add_headers(list, headers, body == nil and is_ours_in_101 or is_ours)
    if problem then
      return nil, problem
    end
  end
  common.add_server_and_date(list, settings, headers)
  return http.write_response { status = status, reason = given.reason, headers = list, body = body }
end

--- The extensions that a policy chooses: none but those that were asked for, none twice (KHP E14).
---@param asked table<string, true> names
---@param wanted string[] each as it stands in the header
---@return table[]? parsed, string? value of the header (nil: no header), or what is wrong
function response.extensions(asked, wanted)
  if type(wanted) ~= "table" then
    return nil, "extensions are an array of strings, not " .. type(wanted)
  end
  local chosen = {}
  for i = 1, #wanted do
    local text = wanted[i]
    local list = type(text) == "string" and http.extensions(text)
    if not list or #list == 0 then
      return nil, "not an extension: " .. show(tostring(text))
    end
    for j = 1, #list do
      local name = list[j].name
      if not asked[name] then
        return nil, "extension " .. show(name) .. " was not asked for"
      end
      for k = 1, #chosen do
        if chosen[k].name == name then
          return nil, "extension " .. show(name) .. " is named twice"
        end
      end
      chosen[#chosen + 1] = list[j]
    end
  end
  return chosen, #chosen > 0 and concat(wanted, ", ") or nil
end

return response
