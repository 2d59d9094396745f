-- Which web pages may connect: a list of allowed origins (RFC 6454, RFC 6455 4.2.2), and the response headers that tell
-- a browser so when it asks with XMLHttpRequest (CORS). A web page cannot forge its origin; a program can. This file
-- must not know servers or policies.

local origin = {}

local find, format, gsub, lower, match, sub =
  string.find, string.format, string.gsub, string.lower, string.match, string.sub
local concat, ipairs, pairs, setmetatable, type = table.concat, ipairs, pairs, setmetatable, type

local default_ports = { http = "80", https = "443", ws = "80", wss = "443" }

--- A compiled list of origins.
---@class khp.Origins
local methods = {}
local mt = { __name = "khp.origins", __index = methods }

-- scheme, host and port of "scheme://host[:port]", in lower case; nil where it is none.
local function split(text)
  local scheme, host, port = match(lower(text), "^(%a[%w+.-]*)://(%[[%x:.]+%])(:?%d*)$")
  if not scheme then
    scheme, host, port = match(lower(text), "^(%a[%w+.-]*)://([%w._-]+)(:?%d*)$")
  end
  if not scheme or port == ":" then
    return nil
  end
  return scheme, host, port ~= "" and sub(port, 2) or default_ports[scheme] or ""
end

--- Normalizes a host name for comparison: lower case, without a trailing dot.
---@param host string
---@return string
function origin.host(host)
  return (gsub(lower(host), "%.$", ""))
end

--- Whether a host matches a pattern: "example.org", or "*.example.org" for every name below it.
---@param host string in lower case
---@param pattern string in lower case
---@return boolean
function origin.fits(host, pattern)
  if sub(pattern, 1, 2) == "*." then
    return #host >= #pattern and sub(host, -#pattern + 1) == sub(pattern, 2)
  end
  return host == pattern
end

local EXPECTED = "an origin expected: 'https://example.org', 'https://*.example.org:*', 'null' or '*'"

-- One entry of the list, or nil and what is wrong.
local function compile(text)
  if type(text) ~= "string" then
    return nil, EXPECTED .. ", not " .. type(text)
  elseif text == "*" or text == "null" then
    return { text = text }
  end
  local plain, any_port = gsub(text, ":%*$", "")
  local stars, below = gsub(plain, "://%*%.", "://")
  local scheme, host, port = split(stars)
  if not scheme or any_port == 1 and find(plain, ":%d+$") then
    return nil, EXPECTED .. format(", not '%s'", text)
  end
  host = (below == 1 and "*." or "") .. origin.host(host)
  return { scheme = scheme, host = host, port = any_port == 0 and port or nil }
end

local function fits(entry, text, scheme, host, port)
  if entry.text then
    return entry.text == "*" or entry.text == text
  end
  return entry.scheme == scheme and (not entry.port or entry.port == port) and origin.fits(host, entry.host)
end

--- An array of origins: "https://example.org", "https://*.example.org", "http://localhost:*", or "*" for all.
---@class khp.OriginList
---@field absent boolean? whether clients that send no Origin, as programs do, may connect; default true
---@field same boolean? whether pages from the server's own host and port may connect; default true

--- Compiles a list of origins. Wildcards: "*." for all names below a host, ":*" for all ports, "*" for all origins.
---@param list khp.OriginList
---@return khp.Origins? origins
---@return string? message
function origin.new(list)
  local self = setmetatable({ absent = list.absent ~= false, same = list.same ~= false }, mt)
  for key, value in pairs(list) do
    if key == "absent" or key == "same" then
      if type(value) ~= "boolean" then
        return nil, format("%s: a boolean expected, not %s", key, type(value))
      end
    elseif type(key) ~= "number" then
      return nil, format("unknown field '%s': a list of origins has 'absent' and 'same'", tostring(key))
    end
  end
  for i, text in ipairs(list) do
    local wrong
    self[i], wrong = compile(text)
    if not self[i] then
      return nil, format("[%d]: %s", i, wrong)
    end
  end
  return self
end

-- Is this the origin of the host and port that were asked for?
local function is_same(request, scheme, host, port)
  local asked = request.host or request.headers.host or ""
  local name, number = match(lower(asked), "^(.-):(%d+)$")
  return origin.host(name or lower(asked)) == host and (number or default_ports[scheme]) == port
end

--- Whether the page that sent this request may connect.
---@param request { headers: table, host: string? }
---@return boolean allowed
---@return boolean cross whether the page is from another host, so that its browser needs CORS headers
function methods:allows(request)
  local text = request.headers.origin
  if not text or find(text, "^privileged://") then -- Kaazing's Java client; no page has such an origin
    return self.absent, false
  end
  local scheme, host, port = split(text)
  host = host and origin.host(host)
  if scheme and self.same and is_same(request, scheme, host, port) then
    return true, false
  end
  for _, entry in ipairs(self) do
    if (scheme or entry.text) and fits(entry, text, scheme, host, port) then
      return true, true
    end
  end
  return false, false
end

-- What Kaazing's clients send with XMLHttpRequest.
local ALLOWED = {
  "content-type", "authorization", "x-websocket-extensions", "x-websocket-version", "x-websocket-protocol",
}

--- The CORS headers for the response to this request; an empty table if it needs none.
---@param request table
---@return table<string, string|string[]>
function methods:headers(request)
  local allowed, cross = self:allows(request)
  if not allowed or not cross then
    return {}
  end
  return {
    ["Access-Control-Allow-Origin"] = request.headers.origin,
    ["Access-Control-Allow-Credentials"] = "true",
    ["Access-Control-Allow-Headers"] = { (unpack or table.unpack)(ALLOWED) },
  }
end

--- Whether this request is a CORS preflight.
---@param request table
---@return boolean
function origin.is_preflight(request)
  return request.method == "OPTIONS" and request.headers.origin ~= nil
    and request.headers["access-control-request-method"] ~= nil
end

--- The methods that a preflight is answered with: "GET, POST, OPTIONS".
---@type string
origin.METHODS = concat({ "GET", "POST", "OPTIONS" }, ", ")

return origin
