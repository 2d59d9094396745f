-- What Kaazing's clients and gateways have beyond the protocol's text: balancer directives, the query parameters by
-- which clients ask for them, and a reason phrase of their own. This file must not know a role.

local uri = require "khp.uri"

local dialect = {}

local concat, find, gmatch, match = table.concat, string.find, string.gmatch, string.match
local type = type

--- Of a 101; the Java client takes no other.
dialect.PHRASE = "Web Socket Protocol Handshake"

--- What a directive begins with: U+F0FF.
dialect.MARK = "\239\131\191"

--- The directive of a server that nobody balances: go on here.
dialect.GO_ON = dialect.MARK .. "N"

local function has(query, parameter)
  return find(query, parameter, 1, true) ~= nil and find("&" .. query .. "&", "&" .. parameter .. "&", 1, true) ~= nil
end

--- Does the query of an opening ask for directives?
---@param query string?
---@return boolean
function dialect.has_directives(query)
  return query ~= nil and has(query, ".kl=Y")
end

--- Does it ask for an empty message after each extended response? Older clients want no more than that.
---@param query string?
---@return boolean
function dialect.has_ends(query)
  return query ~= nil and (has(query, ".kl=Y") or has(query, ".kv=10.05"))
end

-- The query of a URL, and what the opening's has besides. `.kl=Y` stands last: a URL that ended in "N" would be the
-- other directive to the JavaScript client.
local function merge(own, more)
  local parts, names = {}, { [".kl"] = true }
  for item in gmatch(own or "", "[^&]+") do
    local name = match(item, "^[^=]*")
    if name ~= ".kl" then
      parts[#parts + 1], names[name] = item, true
    end
  end
  for item in gmatch(more, "[^&]+") do
    if not names[match(item, "^[^=]*")] then
      parts[#parts + 1] = item
    end
  end
  parts[#parts + 1] = ".kl=Y"
  return concat(parts, "&")
end

--- Where a directive leads: an absolute WebSocket URL, whose query has what the opening's query has, and asks for
--- directives again.
---@param location string as for Location; a relative one is resolved against the opening's URL
---@param request table the opening
---@param secure boolean is it under TLS?
---@return string? url, string? message
function dialect.destination(location, request, secure)
  if type(location) ~= "string" or location == "" then
    return nil, "not a location"
  end
  local here, message, to = {}, nil, nil
  if not find(location, "^%a[%w+.-]*:") then
    here, message = uri.parse((secure and "wss://" or "ws://") .. (request.host or request.headers.host or "")
      .. request.path)
  end
  if here then
    to, message = uri.resolve(here, location)
  end
  if not to then
    return nil, message
  end
  to = uri.websocket(to)
  to.query = merge(to.query, request.query)
  to.target = to.path .. "?" .. to.query
  return uri.format(to)
end

return dialect
