-- What the rules alone ask of a request that arrives at a WebSocket server: RFC 2616 of any, RFC 6455 4.2.1 of an
-- opening. Pure functions: each returns nothing, or the status to answer with, a message of its own and perhaps a
-- header that the answer needs. This file must not know connections, time, or whether the server wants the request.

local common = require "khp.opening.common"
local crypto = require "khp.crypto"
local http = require "khp.http"
local uri = require "khp.uri"

local show = common.show
local is_host, is_key = http.is_host, crypto.is_key
local byte, find, match = string.byte, string.find, string.match
local tonumber = tonumber

local request_rules = {}

local ALLOW = { "Allow", "GET" }
local VERSION = { "Sec-WebSocket-Version", "13" }

--- Does the peer speak HTTP/1.1 or higher? Versions are numbers, RFC 2616 3.1.
---@param version string
---@return boolean
function request_rules.is_modern(version)
  return version == "1.1" or (tonumber(match(version, "^1%.(%d+)$")) or 0) >= 1
end

local is_modern = request_rules.is_modern

--- Host and target of any request, RFC 2616 5.1.2, 5.2 and 14.23. Sets request.host, which may be nil.
---@return integer? status, string? message
function request_rules.check_address(request)
  local headers, target = request.headers, request.target
  local host = headers.host
  if not host then
    if is_modern(request.version) then
      return 400, "the Host header is missing"
    end
  elseif not is_host(host) then
    if common.is_repeated(headers, "host", host) then
      return 400, "the Host header is there more than once"
    end
    return 400, "the Host header is no host and port: " .. show(host)
  end
  if byte(target) ~= 47 and find(target, "://", 1, true) then
    local u, message = uri.parse(target)
    if not u or u.unix then
      return 400, message or "the request target is no http URL"
    end
    host = uri.host(u) -- RFC 2616 5.2: the Host header does not count
  end
  request.host = host
end

local function check_key(headers, key)
  if not key then
    return 400, "the Sec-WebSocket-Key header is missing"
  elseif is_key(key) then
    return nil
  elseif common.is_repeated(headers, "sec-websocket-key", key) then
    return 400, "the Sec-WebSocket-Key header is there more than once"
  end
  return 400, "Sec-WebSocket-Key is not 16 bytes in base64: " .. show(key)
end

local function check_version(headers, version)
  if version == "13" then
    return nil
  elseif not version then
    return 400, "the Sec-WebSocket-Version header is missing", VERSION
  elseif common.is_repeated(headers, "sec-websocket-version", version) then
    return 400, "the Sec-WebSocket-Version header is there more than once", VERSION
  end
  return 426, "this server speaks WebSocket version 13, not " .. show(version), VERSION -- RFC 6455 4.4
end

-- Reads the two lists into the request.
local function read_offers(request, headers)
  local value = headers["sec-websocket-protocol"]
  if value then
    local tokens, message = http.tokens(value)
    if not tokens then
      return 400, "Sec-WebSocket-Protocol is malformed: " .. message
    end
    local twice = #tokens > 1 and common.duplicate(tokens)
    if twice then -- RFC 6455 4.1: unique strings
      return 400, "Sec-WebSocket-Protocol names " .. show(twice) .. " more than once"
    end
    request.protocols = tokens
  end
  value = headers["sec-websocket-extensions"]
  if value then
    local extensions, message = http.extensions(value)
    if not extensions then
      return 400, "Sec-WebSocket-Extensions is malformed: " .. message
    end
    request.extensions = extensions
  end
end

--- Everything that RFC 6455 4.2.1 asks of an opening, the most basic fault first. Sets key, origin, protocols and
--- extensions of the request. key, version: values of their headers.
---@return integer? status, string? message, table? header
function request_rules.check_opening(request, key, version)
  local headers = request.headers
  local connection = headers.connection
  if request.method ~= "GET" then
    return 405, "a WebSocket opening is a GET request, not " .. show(request.method), ALLOW
  elseif not is_modern(request.version) then -- an HTTP/1.0 Upgrade means nothing, RFC 2145 2.3
    return 400, "a WebSocket opening needs HTTP/1.1, not HTTP/" .. request.version
  elseif byte(request.path) ~= 47 then -- "*"
    return 400, "the request target names no resource: " .. show(request.target)
  elseif request.host == "" then
    return 400, "the Host header is empty"
  elseif not connection then
    return 400, "the Connection header is missing"
  elseif not common.names_upgrade(connection) then
    return 400, "the Connection header does not name Upgrade: " .. show(connection)
  elseif headers["transfer-encoding"] or (tonumber(headers["content-length"]) or 0) ~= 0 then
    return 400, "a WebSocket opening has no body"
  end
  local origin = headers.origin
  if origin and common.is_repeated(headers, "origin", origin) then
    return 400, "the Origin header is there more than once"
  end
  request.key, request.origin = key, origin
  local status, message, header = check_key(headers, key)
  if not status then
    status, message, header = check_version(headers, version)
  end
  if not status then
    status, message, header = read_offers(request, headers)
  end
  return status, message, header
end

return request_rules

