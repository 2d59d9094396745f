-- Parses and writes the URLs that khp connects to, is redirected to, or finds in absolute-form requests (RFC 3986,
-- RFC 6455 3): ws, wss, http, https, and ws+unix, wss+unix with the path of a Unix socket before a second colon, as in
-- Node's ws: ws+unix:///run/app.sock:/echo?a=b. Percent-encoding is kept as it is: nothing is decoded or encoded.
-- This file must not know names or addresses beyond their form: it resolves and connects nothing.

local uri = {}

local concat, remove = table.concat, table.remove
local byte, char, find, format = string.byte, string.char, string.find, string.format
local gmatch, gsub, lower, match, sub = string.gmatch, string.gsub, string.lower, string.match, string.sub
local error, pairs, tonumber, type = error, pairs, tonumber, type

---@class khp.Uri
---@field scheme string "ws", "wss", "http", "https", "ws+unix" or "wss+unix"
---@field secure boolean whether it uses TLS
---@field userinfo string? user and password as written
---@field host string in lower case; an IPv6 address without brackets; "localhost" for a Unix socket
---@field ipv6 boolean? whether the host is an IPv6 address
---@field zone string? zone of a link-local IPv6 address
---@field port integer? the scheme's default port if the URL has none; nil for a Unix socket
---@field unix string? path of the Unix socket
---@field path string begins with "/"
---@field query string? without the "?"
---@field target string path and query, as in a request line

local secure = {
  ws = false, wss = true, http = false, https = true, ["ws+unix"] = false, ["wss+unix"] = true,
}
local default_port = { [false] = 80, [true] = 443 }
local is_websocket = { ws = true, wss = true, ["ws+unix"] = true, ["wss+unix"] = true }

local function is_ipv4(text)
  local count = 0
  if find(text, "[^%d.]") or #text > 15 then
    return false
  end
  for part in gmatch(text .. ".", "([^.]*)%.") do
    if part == "" or #part > 3 or tonumber(part) > 255 then
      return false
    end
    count = count + 1
  end
  return count == 4
end

-- How many of the 16-bit groups of an IPv6 address this text is; nil when it is none. An IPv4 tail counts two.
local function count_groups(text)
  local count, last = 0, false
  if text == "" then
    return 0
  end
  for group in gmatch(text .. ":", "([^:]*):") do
    if last then
      return nil
    elseif find(group, "^%x%x?%x?%x?$") then
      count = count + 1
    elseif is_ipv4(group) then
      count, last = count + 2, true
    else
      return nil
    end
  end
  return count, last
end

local function is_ipv6(text)
  if #text > 45 then
    return false
  end
  local gap = find(text, "::", 1, true)
  if not gap then
    return count_groups(text) == 8
  elseif find(text, "::", gap + 1, true) then
    return false
  end
  local before, ended = count_groups(sub(text, 1, gap - 1))
  local after = count_groups(sub(text, gap + 2))
  return before ~= nil and after ~= nil and not ended and before + after <= 7
end

-- Fills in userinfo, host, zone and port; returns what is wrong.
local function read_authority(u, text)
  local at = find(text, "@", 1, true)
  if at then
    u.userinfo = sub(text, 1, at - 1)
    text = sub(text, at + 1)
    if find(text, "@", 1, true) then
      return "more than one '@' before the path"
    end
  end
  local host, port
  if byte(text) == 91 then -- RFC 3986 3.2.2: "[" IPv6 "]"; RFC 6874: "%25" and a zone
    local close = find(text, "]", 1, true)
    host, port = sub(text, 2, (close or 0) - 1), sub(text, (close or 0) + 1)
    local percent = close and find(host, "%25", 1, true)
    if percent then
      u.zone = sub(host, percent + 3)
      host = sub(host, 1, percent - 1)
    end
    if not close or not is_ipv6(host) or u.zone and (u.zone == "" or find(u.zone, "[^%w._~-]")) then
      return "not an IPv6 address"
    end
    u.ipv6 = true
  else
    local colon = find(text, ":", 1, true)
    host, port = sub(text, 1, (colon or 0) - 1), colon and sub(text, colon) or ""
    if host == "" then
      return "no host"
    elseif find(host, "[^%w._~-]") then
      return "a host name has letters, digits, '-', '.' and '_' only"
    elseif #host > 255 then
      return "the host name is too long"
    end
  end
  u.host = lower(host)
  if port == "" or port == ":" then
    u.port = default_port[u.secure]
  else
    u.port = #port <= 6 and tonumber(match(port, "^:(%d+)$"))
    if not u.port or u.port < 1 or u.port > 65535 then
      return "the port is not a number from 1 to 65535"
    end
  end
end

local function set_target(u, path, query)
  u.path = path == "" and "/" or path
  u.query = query
  u.target = query and u.path .. "?" .. query or u.path
  return u
end

-- Splits path, query and fragment. A fragment is found out, not kept.
local function split_path(text)
  local hash = find(text, "#", 1, true)
  if hash then
    text = sub(text, 1, hash - 1)
  end
  local question = find(text, "?", 1, true)
  if question then
    return sub(text, 1, question - 1), sub(text, question + 1), hash ~= nil
  end
  return text, nil, hash ~= nil
end

local function refuse(text, problem)
  local at = match(text, "^.*@()") -- messages go into logs, where user and password do not belong (RFC 3986 7.5)
  if at then
    text = (match(text, "^%a[%w+.-]*://") or "") .. "***@" .. sub(text, at)
  end
  if #text > 80 then
    text = sub(text, 1, 77) .. "..."
  end
  text = gsub(text, "[^\32-\126]", function(c)
    return format("\\x%02X", byte(c))
  end)
  return nil, "bad URL '" .. text .. "': " .. problem
end

local function read(text, drop_fragment)
  if find(text, "[^\33-\126]") then -- RFC 3986 2: whatever else there is must be escaped
    return refuse(text, "blanks, controls and characters outside ASCII must be percent-encoded")
  end
  local colon = find(text, ":", 1, true)
  local scheme = colon and lower(sub(text, 1, colon - 1))
  if not scheme or secure[scheme] == nil then
    return refuse(text, "it must begin with ws://, wss://, http://, https:// or ws+unix://")
  end
  local u = { scheme = scheme, secure = secure[scheme] }
  local rest = sub(text, colon + 1)
  local path, query, fragment, authority
  if find(scheme, "+unix", 1, true) then
    rest = gsub(rest, "^//", "")
    path, query, fragment = split_path(rest)
    colon = find(path, ":", 1, true)
    u.unix = sub(path, 1, (colon or 0) - 1)
    path = colon and sub(path, colon + 1) or "/"
    u.host = "localhost"
    if byte(u.unix) ~= 47 or u.unix == "/" then
      return refuse(text, "a unix socket needs its absolute path, as in ws+unix:///run/app.sock:/echo")
    elseif path ~= "" and byte(path) ~= 47 then
      return refuse(text, "the resource after the socket's path must begin with '/'")
    end
  else
    if sub(rest, 1, 2) ~= "//" then
      return refuse(text, "'//' is missing after '" .. scheme .. ":'")
    end
    local stop = find(rest, "[/?#]", 3) or #rest + 1
    authority = sub(rest, 3, stop - 1)
    path, query, fragment = split_path(sub(rest, stop))
    local problem = read_authority(u, authority)
    if problem then
      return refuse(text, problem)
    end
  end
  if fragment and is_websocket[scheme] and not drop_fragment then -- RFC 6455 3
    return refuse(text, "a WebSocket URL has no fragment ('#' is written %23)")
  end
  return set_target(u, path, query)
end

--- Parses an absolute URL. A fragment is an error in a ws URL, and dropped from an http URL.
---@param text string
---@return khp.Uri? u
---@return string? message
function uri.parse(text)
  if type(text) ~= "string" then
    error("a URL is a string, not " .. type(text), 2)
  end
  return read(text, false)
end

-- RFC 3986 5.2.4, for a path that begins with "/".
local function remove_dots(path)
  local kept, directory = {}, false
  for segment in gmatch(path, "/([^/]*)") do
    directory = segment == "." or segment == ".."
    if segment == ".." then
      remove(kept)
    elseif segment ~= "." then
      kept[#kept + 1] = segment
    end
  end
  local ending = directory and #kept > 0 and "/" or ""
  return "/" .. concat(kept, "/") .. ending
end

--- Resolves a reference, such as the value of Location, against the URL it came from (RFC 3986 5.2). A fragment is
--- dropped. Only a URL of a Unix socket may refer to one: a remote server must not redirect into this machine.
---@param base khp.Uri
---@param reference string absolute or relative
---@return khp.Uri? u
---@return string? message
function uri.resolve(base, reference)
  local u
  if find(reference, "^%a[%w+.-]*:") or sub(reference, 1, 2) == "//" then
    local message
    if byte(reference) == 47 then
      reference = gsub(base.scheme, "%+unix$", "") .. ":" .. reference
    end
    u, message = read(reference, true)
    if not u then
      return nil, message
    elseif u.unix and not base.unix then
      return refuse(reference, "a remote server must not lead to a unix socket")
    end
    return set_target(u, remove_dots(u.path), u.query)
  elseif find(reference, "[^\33-\126]") then
    return refuse(reference, "blanks, controls and characters outside ASCII must be percent-encoded")
  end
  local path, query = split_path(reference)
  u = {}
  for name, value in pairs(base) do
    u[name] = value
  end
  if path == "" then
    return set_target(u, base.path, query or base.query)
  elseif byte(path) ~= 47 then
    path = match(base.path, "^.*/") .. path
  end
  return set_target(u, remove_dots(path), query)
end

local websocket_scheme = { http = "ws", https = "wss" }

--- The same URL with ws for http and wss for https.
---@param u khp.Uri
---@return khp.Uri
function uri.websocket(u)
  local scheme = websocket_scheme[u.scheme]
  if not scheme then
    return u
  end
  local copy = {}
  for name, value in pairs(u) do
    copy[name] = value
  end
  copy.scheme = scheme
  return copy
end

--- The same URL over TLS. Port 80 becomes 443; other ports stay.
---@param u khp.Uri a WebSocket URL
---@return khp.Uri
function uri.over_tls(u)
  local copy = {}
  for name, value in pairs(u) do
    copy[name] = value
  end
  copy.scheme, copy.secure = u.unix and "wss+unix" or "wss", true
  copy.port = u.port == 80 and 443 or u.port
  return copy
end

--- Host and port as in a CONNECT request (RFC 7230 5.3.3): always with the port, never with a zone.
---@param u khp.Uri not of a Unix socket
---@return string
function uri.authority(u)
  return (u.ipv6 and "[" .. u.host .. "]" or u.host) .. ":" .. format("%d", u.port)
end

--- The value of the Host header: with the port only if it is not the scheme's default (RFC 6455 4.1), never with a
--- zone.
---@param u khp.Uri
---@return string
function uri.host(u)
  if u.unix or u.port == default_port[u.secure] then
    return u.ipv6 and "[" .. u.host .. "]" or u.host
  end
  return uri.authority(u)
end

--- The URL as text. User and password are left out unless asked for, so that they do not end up in logs (RFC 3986 7.5).
---@param u khp.Uri
---@param with_userinfo boolean? default false
---@return string
function uri.format(u, with_userinfo)
  if u.unix then
    return u.scheme .. "://" .. u.unix .. ":" .. u.target
  end
  local user = with_userinfo and u.userinfo and u.userinfo .. "@" or ""
  local host = uri.host(u)
  if u.zone then
    host = "[" .. u.host .. "%25" .. u.zone .. sub(host, #u.host + 2)
  end
  return u.scheme .. "://" .. user .. host .. u.target
end

--- The URL as a log shows it: without user and password, and without what its query says, where tokens may stand.
---@param u khp.Uri
---@return string
function uri.show(u)
  local text = uri.format(u)
  return u.query and sub(text, 1, #text - #u.query) .. "…" or text
end

--- Whether two URLs have the same origin: scheme, host and port (RFC 6454 5), with http(s) treated as ws(s).
---@param a khp.Uri
---@param b khp.Uri
---@return boolean
function uri.same_origin(a, b)
  return a.secure == b.secure and a.host == b.host and a.port == b.port and a.unix == b.unix and a.zone == b.zone
end

--- User and password of the URL, percent-decoded; nil if it has none.
---@param u khp.Uri
---@return string? user
---@return string? password nil if there is only a user
function uri.credentials(u)
  if not u.userinfo then
    return nil
  end
  local function decode(text)
    return (gsub(text, "%%(%x%x)", function(hex)
      return char(tonumber(hex, 16))
    end))
  end
  local colon = find(u.userinfo, ":", 1, true)
  if colon then
    return decode(sub(u.userinfo, 1, colon - 1)), decode(sub(u.userinfo, colon + 1))
  end
  return decode(u.userinfo)
end

return uri
