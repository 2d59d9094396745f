-- What a server's policy is given and what it may return. A request goes in as a copy of what is documented, so that
-- nothing a policy does to it reaches the handshake; a decision comes out as a copy in which every field was checked. A
-- message names the field and what was expected. This file must not know who asks, nor what is done with the answer.

local common = require "khp.opening.common"
local decision = require "khp.policy.decision"
local http = require "khp.http"
local options = require "khp.options"

local contract = {}

local concat, find, format, lower, match, sort =
  table.concat, string.find, string.format, string.lower, string.match, table.sort
local ipairs, next, pairs, tostring, type = ipairs, next, pairs, tostring, type

local NONE = {}
local show = common.show

--- A copy of the request: changing it has no effect.
---@class khp.PolicyRequest
---@field method string "GET" for every WebSocket opening
---@field target string path and query, as sent
---@field path string without the query
---@field query string? after the "?"; nil if there is none
---@field version string "1.1"
---@field headers khp.http.Headers found by name, ignoring case
---@field body string? of an ordinary or extended request; at most limits.body bytes
---@field protocols string[] subprotocols, in the client's order of preference
---@field extensions khp.http.Extension[] in the client's order of preference
---@field upgrade boolean? opening only: whether it asks for a WebSocket
---@field host string? opening only: value of the Host header
---@field origin string? opening only: value of the Origin header

--- The request as a policy sees it.
---@param request table
---@return khp.PolicyRequest
function contract.request(request)
  local protocols, extensions = {}, {}
  for i, name in ipairs(request.protocols) do
    protocols[i] = name
  end
  for i, extension in ipairs(request.extensions) do
    extensions[i] = { name = extension.name, parameters = extension.parameters }
  end
  return {
    method = request.method,
    target = request.target,
    path = request.path,
    query = request.query,
    version = request.version,
    headers = request.headers,
    body = request.body,
    protocols = protocols,
    extensions = extensions,
    upgrade = request.upgrade,
    host = request.host,
    origin = request.origin,
  }
end

-- Fields ------------------------------------------------------------------------------------------------------------
-- Each takes a field's name and value, and returns the value as it may be used, or nil and what is wrong.

local function shown(value)
  return type(value) == "string" and show(value) or type(value) == "number" and tostring(value) or type(value)
end

local function expected(field, what, value)
  return nil, format("%s: %s expected, not %s", field, what, shown(value))
end

local function text(field, value)
  if type(value) ~= "string" or find(value, "[%z\1-\8\10-\31\127]") then
    return expected(field, "a string without control characters", value)
  end
  return value
end

local function body(field, value, bounds)
  if type(value) ~= "string" then
    return expected(field, "a string", value)
  elseif #value > bounds.body then
    return nil, format("%s: at most %d bytes expected, not %d", field, bounds.body, #value)
  end
  return value
end

local function anything()
  return false
end

local function headers(field, value, bounds)
  local list, size = {}, 0
  local problem = common.add_headers(list, value, anything)
  if problem then
    return nil, field .. ": " .. problem
  end
  for i = 1, #list, 2 do
    local name, content = list[i], list[i + 1]
    if not http.is_token(name) then
      return nil, format("%s: a header's name expected, not %s", field, show(name))
    end
    local ok, wrong = text(format("%s[%s]", field, show(name)), content)
    if not ok then
      return nil, wrong
    end
    size = size + #name + #content + 4
  end
  if size > bounds.opening_head then
    return nil, format("%s: at most %d bytes expected, not %d", field, bounds.opening_head, size)
  end
  return list
end

local function names_of(list)
  return #list > 0 and concat(list, ", ") or "none"
end

local function protocol(field, value, _, request)
  if type(value) ~= "string" then
    return expected(field, "a string", value)
  elseif not common.index(request.protocols, value) then
    return nil, format("%s: %s was not requested; requested: %s", field, show(value), names_of(request.protocols))
  end
  return value
end

local function requested_extensions(request)
  local names, known = {}, {}
  for i, extension in ipairs(request.extensions) do
    names[i], known[extension.name] = extension.name, true
  end
  return known, names
end

local function extensions(field, value, _, request)
  if type(value) ~= "table" then
    return expected(field, "an array of strings", value)
  end
  local list, count = {}, 0
  local known, names = requested_extensions(request)
  for i, one in ipairs(value) do
    local place = format("%s[%d]", field, i)
    local parsed, problem = nil, nil
    if type(one) == "string" then
      parsed, problem = http.extensions(one)
    end
    if not parsed or #parsed ~= 1 then
      local _, message = expected(place, "an extension, \"name; parameter=value\",", one)
      return nil, message .. (problem and ": " .. problem or "")
    elseif not known[parsed[1].name] then
      return nil, format("%s: %s was not requested; requested: %s", place, show(parsed[1].name), names_of(names))
    end
    list[i] = one
  end
  for _ in pairs(value) do
    count = count + 1
  end
  if count ~= #list then
    return expected(field, "an array of strings", value)
  end
  return list
end

local function opening_only(field, value, _, request)
  if type(value) ~= "boolean" then
    return expected(field, "a boolean", value)
  elseif request.upgrade == nil then
    return nil, field .. ": the opening decides this, and it is over"
  end
  return value
end

local redirects = { [300] = true, [301] = true, [302] = true, [303] = true, [307] = true }

local function redirect_status(field, value)
  if not redirects[value] then
    return expected(field, "300, 301, 302, 303 or 307", value)
  end
  return value
end

-- Subjects ----------------------------------------------------------------------------------------------------------

local subjects = {}

function subjects.accept()
  return true
end

-- More of it is for the machine to check.
local function challenge(field, value)
  if type(value) ~= "string" or not (find(value, '^[^%c%s=,"]+ [^%c]+$') or find(value, '^[^%c%s=,"]+$')) then
    return expected(field, "a challenge, 'Basic realm=\"members\"',", value)
  end
  return value
end

function subjects.challenge(value)
  if type(value) ~= "table" then
    return challenge("challenge", value)
  end
  local list = {}
  for i, one in ipairs(value) do
    local problem
    list[i], problem = challenge(format("challenge[%d]", i), one)
    if problem then
      return nil, problem
    end
  end
  if not list[1] then
    return nil, "challenge: a challenge expected, not an empty list"
  end
  return list
end

local schemes = { ws = true, wss = true, http = true, https = true }

function subjects.redirect(value)
  if type(value) ~= "string" or value == "" or find(value, "[%c ]") then
    return expected("redirect", "a URL", value)
  end
  local scheme = match(value, "^(%a[%w+.-]*):")
  if scheme and not schemes[lower(scheme)] then
    return expected("redirect", "a URL of ws, wss, http or https, or a relative one,", value)
  end
  return value
end

function subjects.reject(value)
  if type(value) ~= "number" or value % 1 ~= 0 or value < 200 or value > 599 then
    return expected("reject", "a status from 200 to 599", value)
  end
  return value
end

local fields = {
  accept = {
    protocol = protocol, extensions = extensions, headers = headers, reason = text, khp = opening_only,
  },
  challenge = { headers = headers, body = body },
  redirect = { status = redirect_status, headers = headers, body = body },
  reject = { headers = headers, body = body, reason = text },
}

local function unknown(action, name, known)
  local near = type(name) == "string" and options.nearest(name, known)
  if near then
    return nil, format("%s: no field %s, did you mean '%s'?", action, shown(name), near)
  end
  local names = {}
  for one in pairs(known) do
    names[#names + 1] = one
  end
  sort(names)
  return nil, format("%s: no field %s; known: %s", action, shown(name), concat(names, ", "))
end

-- What a refusal lacks that its status cannot be without (RFC 2616 10.3, 10.4.2): there is a decision that has it.
local function incomplete(status, given)
  local list = given.headers or NONE
  if status == 401 and not common.has_header(list, "www-authenticate") then
    return "reject(401): a 401 needs a challenge; challenge(…) makes one"
  elseif redirects[status] and not common.has_header(list, "location") then
    return format("reject(%d): a redirect needs a Location; redirect(…) makes one", status)
  end
  return nil
end

--- Checks a decision, all of it.
---@param decided khp.Decision
---@param request table the real one, not the policy's copy
---@param bounds table limits
---@return khp.Decision? checked a copy
---@return string? message "accept.extensions[2]: 'x-foo' was not requested; requested: x-bar"
function contract.check(decided, request, bounds)
  local action, given = decided.action, decided.answer
  local checks = fields[action]
  if not checks then
    return nil, "accept, challenge, redirect or reject expected, got something made of one"
  elseif type(given) ~= "table" then
    return expected(action, "a table of fields", given)
  end
  local subject, problem = subjects[action](decided.subject)
  if not subject then
    return nil, problem
  end
  local checked = next(given) == nil and NONE or {}
  for name, value in pairs(given) do
    local check = checks[name]
    if not check then
      return unknown(action, name, checks)
    end
    checked[name], problem = check(action .. "." .. name, value, bounds, request)
    if checked[name] == nil then
      return nil, problem
    end
  end
  problem = action == "reject" and incomplete(subject, checked)
  if problem then
    return nil, problem
  end
  return decision.new(action, action ~= "accept" and subject or nil, checked)
end

return contract
