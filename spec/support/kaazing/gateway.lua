-- A stand-in for Kaazing's gateway and its balancer, with a switch for each of its oddities. It echoes. Nothing of our
-- own handshakes is in it. Facts are numbered as in our notes on the wire of Kaazing's gateway and clients.

local core = require "khp.core"
local crypto = require "khp.crypto"
local hand = require "spec.support.hand"
local http = require "khp.http"
local khp = require "khp"

local gateway = {}

local KHP, MARK, CONTROL = "x-kaazing-handshake", "\u{F0FF}", "\1\1\1\2"
local PHRASE = "Web Socket Protocol Handshake"

---@class kaazing.GatewayOptions
---@field directives boolean|nil nil: as the query asks (1.2); true: a balancer's address, always; false: never
---@field first string? URL of an `R` in the first place; "": `R` alone (1.3)
---@field second string|false|nil likewise in the second one; false: nothing comes there
---@field instead string? a message in the second directive's place
---@field late boolean? the first directive leaves when the request has come: they cross (1.8)
---@field balancer string? ws:// URL of the extended 302 for whom no directives are (1.4)
---@field pieces integer? messages that a response is spread over
---@field kind "text"|"binary"|nil of these and of directives
---@field phrase string? of each 101 (1.9)
---@field unsorted boolean? headers come in the reverse order (1.10)
---@field challenges string[]? one for each round (section 4)
---@field authorization string? the right answer to them
---@field protocols string[]? of the service, in its order (section 3)
---@field idle integer? milliseconds (section 5)
---@field silent boolean? it breaks that promise

local function names(value)
  local list = {}
  for _, one in ipairs(http.tokens(value or "") or {}) do
    list[#list + 1] = one
  end
  return list
end

-- 1.10: names in alphabetical order without regard to case, then cookies, then the length.
local function write(self, status, reason, headers, body)
  local function rank(name)
    return name == "Content-Length" and "~~" or name == "Set-Cookie" and "~" or name:lower()
  end
  if body then
    headers[#headers + 1] = { "Content-Length", tostring(#body) }
  end
  table.sort(headers, function(a, b)
    local one, other = rank(a[1]), rank(b[1])
    if one == other then
      return a[2] < b[2]
    end
    return (one < other) ~= (self.options.unsorted or false)
  end)
  local lines = { ("HTTP/1.1 %d %s\r\n"):format(status, reason) }
  for _, header in ipairs(headers) do
    lines[#lines + 1] = header[1] .. ": " .. header[2] .. "\r\n"
  end
  return table.concat(lines) .. "\r\n" .. (body or "")
end

-- Of both handshakes: 1.9, 1.11.
local function switching(self, key, protocol, extensions)
  local headers = {
    { "Connection", "Upgrade" }, { "Date", "Sun, 22 Nov 2026 12:00:00 GMT" },
    { "Sec-WebSocket-Accept", crypto.accept(key) }, { "Server", "Kaazing Gateway" }, { "Upgrade", "websocket" },
  }
  if protocol then
    headers[#headers + 1] = { "Sec-WebSocket-Protocol", protocol }
  end
  for _, one in ipairs(extensions or {}) do -- one line for each
    headers[#headers + 1] = { "Sec-WebSocket-Extensions", one }
  end
  return write(self, 101, self.options.phrase or PHRASE, headers)
end

-- Messages ---------------------------------------------------------------------------------------------------------

local function send(self, message, kind)
  self.wrote = core.loop.clock()
  return self.peer:write(self.peer:bytes_of(kind == "text" and 0x81 or 0x82, message))
end

-- 6: it closes with 1000, and waits for the answer.
local function close(self, code)
  self.peer:close(code or 1000)
  local frame
  repeat
    frame = self.peer:frame()
  until frame.opcode == 8
  self.closed_with = frame.code
  self.peer:finish()
  return nil
end

-- The next message. Pings are answered, a close frame is given back with its code and reason (6).
local function receive(self)
  local parts, kind = {}, nil
  while true do
    local frame = self.peer:frame()
    self.read, self.pinged = core.loop.clock(), false
    assert(frame.masked, "clients mask")
    if frame.opcode == 8 then
      self.closed_with = frame.code or 1005
      self.peer:write(self.peer:bytes_of(0x88, frame.payload))
      self.peer:finish()
      return nil
    elseif frame.opcode == 9 then
      self.peer:write(self.peer:bytes_of(0x8A, frame.payload))
    elseif frame.opcode < 3 then
      parts[#parts + 1], kind = frame.payload, kind or frame.opcode
      if frame.fin then
        return table.concat(parts), kind == 1 and "text" or "binary"
      end
    end
  end
end

-- 1.1, 1.3: `N`, `R` alone, or `R` and a URL with the opening's query merged into it; then it closes.
local function direct(self, location)
  if not location then
    send(self, MARK .. "N", self.options.kind)
    return true
  end
  local url = location
  if location ~= "" and self.query ~= "" then
    url = location .. (location:find("?", 1, true) and "&" or "?") .. self.query
  end
  send(self, MARK .. "R" .. url, self.options.kind)
  return close(self)
end

-- The extended handshake -------------------------------------------------------------------------------------------

-- 1.7: any messages, read as a stream of HTTP.
local function read_request(self)
  local bytes = ""
  while true do
    local message = receive(self)
    if not message then
      return nil
    end
    bytes = bytes .. message
    local request, rest = http.parse_request(bytes)
    assert(request or not rest, rest)
    if request then
      assert(rest == "", "more than a request")
      self.gateway.requests[#self.gateway.requests + 1] = request
      return request
    end
  end
end

-- 1.5, 1.6: one message, and an empty binary one for whoever asked for it, as far as the first that is no 401.
local function respond(self, status, bytes)
  local pieces = self.options.pieces or 1
  local size = math.ceil(#bytes / pieces)
  for at = 1, #bytes, size do
    send(self, bytes:sub(at, at + size - 1), self.options.kind)
  end
  if self.ends then
    send(self, "", "binary")
    self.ends = status == 401
  end
end

-- Section 2: what must not stand in an extended request.
local forbidden = {
  ["accept-charset"] = true, ["accept-encoding"] = true, ["content-length"] = true,
  ["content-transfer-encoding"] = true, date = true, expect = true, ["keep-alive"] = true, referer = true, te = true,
  trailer = true, ["transfer-encoding"] = true, upgrade = true, via = true,
}

local function is_forbidden(request)
  for i = 1, #request.headers, 2 do
    local name = request.headers[i]:lower()
    if name ~= "sec-websocket-protocol" and name ~= "sec-websocket-extensions"
      and (forbidden[name] or name:find "^sec%-" or name:find "^proxy%-") then
      return true
    end
  end
  return false
end

-- Section 3: the service's list is walked in its order. Section 2: both requests' protocols count.
local function choose_protocol(self, request)
  local asked = {}
  for _, one in ipairs { self.opening, request } do
    for _, name in ipairs(names(one.headers["sec-websocket-protocol"])) do
      asked[name] = true
    end
  end
  for _, name in ipairs(self.options.protocols or {}) do
    if asked[name] then
      return name
    end
  end
  return nil
end

-- Section 5: idle timeout where the service has one, ping-pong always; what it does not know it leaves out.
local function choose_extensions(self, request)
  local chosen = {}
  for _, one in ipairs(http.extensions(request.headers["sec-websocket-extensions"] or "")) do
    if one.name == "x-kaazing-idle-timeout" and self.options.idle then
      chosen[#chosen + 1] = one.name .. "; timeout=" .. self.options.idle
      self.idle = self.options.idle / 1000
    elseif one.name == "x-kaazing-ping-pong" then
      chosen[#chosen + 1] = one.name .. "; 01010102"
      self.control = CONTROL
    end
  end
  return chosen
end

local HTML = { "Content-Type", "text/html" }

-- Section 4: no token 401, a wrong one 403, unless there is one more challenge. true: let in; nil: it ended.
local function authorize(self, request)
  local challenges = self.options.challenges or {}
  local given = request.headers.authorization or self.opening.headers.authorization
  if not self.options.authorization or given == self.options.authorization then
    return true
  end
  self.round = self.round + 1
  local challenge = challenges[self.round]
  if challenge then -- 1.12: neither Date nor Server
    local headers = { { "WWW-Authenticate", challenge }, HTML }
    respond(self, 401, write(self, 401, "Unauthorized", headers, "<html>401</html>"))
    return false
  end
  respond(self, 403, write(self, 403, "Forbidden", { HTML }, "<html>403</html>"))
  return nil
end

local function refuse(self)
  respond(self, 400, write(self, 400, "Bad Request", {}, ""))
  return close(self)
end

-- Returns whether the connection is open.
local function extended(self)
  while true do
    local request = read_request(self)
    if not request then
      return nil
    elseif self.options.late and self.round == 0 then
      send(self, MARK .. "N", self.options.kind)
    end
    if is_forbidden(request) or request.path ~= self.opening.path then
      return refuse(self)
    elseif self.options.balancer and not self.asks then -- 1.4
      respond(self, 302, write(self, 302, "Found", {
        { "location", (self.options.balancer:gsub("^ws", "http")) }, { "Server", "Kaazing Gateway" },
        { "Date", "Sun, 22 Nov 2026 12:00:00 GMT" },
      }, ""))
      return close(self)
    end
    local allowed = authorize(self, request)
    if allowed then
      local extensions = choose_extensions(self, request)
      respond(self, 101, switching(self, self.opening.headers["sec-websocket-key"], choose_protocol(self, request),
        extensions))
      return true
    elseif allowed == nil then -- 4: the WebSocket stays open
      receive(self)
      return nil
    end
  end
end

-- The open connection ----------------------------------------------------------------------------------------------

local function beat(self)
  if self.control then
    send(self, CONTROL .. "\10\0", "text")
  else
    self.wrote = core.loop.clock()
    self.peer:write(self.peer:bytes_of(0x8A, ""))
  end
end

-- Section 5: a pong after 3/4 of the timeout without a word of its own; a ping after half of it without one of the
-- client's, and the end of TCP, without a close frame, after the other half.
local function keep_alive(self)
  local clock = core.loop.clock
  while not self.peer.ended and not self.closed_with do
    khp.sleep(self.idle / 8)
    local now = clock()
    if now - self.wrote >= self.idle * 3 / 4 then
      beat(self)
    end
    if now - self.read >= self.idle then
      self.dropped = true
      self.peer:abort()
    elseif now - self.read >= self.idle / 2 and not self.pinged then
      self.pinged = true
      self.wrote = now
      self.peer:write(self.peer:bytes_of(0x89, ""))
    end
  end
end

-- Section 5: of extended pings, pongs and escapes in text. Returns true where the application has nothing of it.
local function control_message(self, message)
  if self.escaped then
    self.escaped = false
    return message:sub(1, 4) ~= CONTROL and self.peer:close(1002)
  elseif message == CONTROL then
    self.escaped = true
  elseif message == CONTROL .. "\9\0" then
    send(self, CONTROL .. "\10\0", "text")
  elseif message ~= CONTROL .. "\10\0" then
    if message:sub(1, 4) == CONTROL then
      self.peer:close(1002)
    end
    return message:sub(1, 4) == CONTROL
  end
  return true
end

local function echo(self)
  self.read, self.wrote = core.loop.clock(), core.loop.clock()
  if self.idle and not self.options.silent then
    khp.spawn(keep_alive, self)
  end
  while true do
    local message, kind = receive(self)
    if not message then
      return
    elseif message == "close without a code" then
      self.peer:close()
    elseif message:find "^close " then
      self.peer:close(tonumber(message:match "%d+"))
    elseif not (self.control and kind == "text" and control_message(self, message)) then
      if self.control and kind == "text" and message:sub(1, 4) == CONTROL then
        send(self, CONTROL, "text")
      end
      send(self, message, kind)
    end
  end
end

local function script(self)
  local opening = self.peer:http()
  self.opening, self.query = opening, opening.query or ""
  self.gateway.openings[#self.gateway.openings + 1] = opening
  local headers = opening.headers
  if opening.method ~= "GET" or not headers["sec-websocket-key"] or headers["sec-websocket-version"] ~= "13" then
    return self.peer:write(write(self, 400, "Bad Request", {}, ""))
  end
  local khp_asked = false
  for _, name in ipairs(names(headers["sec-websocket-protocol"])) do
    khp_asked = khp_asked or name == KHP
  end
  assert(khp_asked, "the client does not ask for " .. KHP)
  self.asks = self.query:find(".kl=Y", 1, true) ~= nil -- 1.2: the text
  self.ends = self.asks or self.query:find(".kv=10.05", 1, true) ~= nil -- 1.5
  self.peer:write(switching(self, headers["sec-websocket-key"], KHP))
  local options = self.options
  local directives = options.directives
  if directives == nil then
    directives = self.asks or options.balancer ~= nil
  end
  if directives and not options.late and not direct(self, options.first) then
    return
  elseif not extended(self) then
    return
  end
  if options.instead then
    send(self, options.instead, "text")
    return receive(self)
  elseif self.asks and directives and options.second ~= false and not direct(self, options.second) then
    return
  end
  return echo(self)
end

--- A gateway on a free port; close() as that of hand.server.
---@param options kaazing.GatewayOptions?
---@return hand.Server server with openings and requests that came, and connections
function gateway.new(options)
  local self
  local connections, openings, requests = {}, {}, {}
  self = hand.server(function(peer)
    local connection = { peer = peer, gateway = self, options = options or {}, round = 0 }
    connections[#connections + 1] = connection
    return script(connection)
  end)
  self.connections, self.openings, self.requests = connections, openings, requests
  return self
end

return gateway
