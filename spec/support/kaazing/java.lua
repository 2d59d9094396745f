-- A stand-in for Kaazing's Java client, as strict and as odd as it is. Facts are numbered as in our notes on the wire
-- of Kaazing's gateway and clients.

local hand = require "spec.support.hand"
local socket = require "spec.support.kaazing.socket"

local java = {}

local KHP = "x-kaazing-handshake"

---@class kaazing.Java
---@field socket kaazing.Socket
---@field protocol string?
---@field url string where it got to
local methods = {}
methods.__index = methods

-- 8.1: an ordinary HTTP request first. 200 and 201 go on; other redirects than of HTTP there are none.
local function ask_for_cookies(self, url)
  local path = url.path == "/" and "" or url.path
  local plain = socket.connect(url.port)
  plain.peer:write(("GET %s/;e/cookies?.krn=0123456789&%s HTTP/1.1\r\nOrigin: privileged://%s\r\nHost: %s\r\n\r\n")
    :format(path, url.query, url.authority, url.authority))
  local response = plain.peer:http()
  plain.peer:abort()
  self.cookie_requests = self.cookie_requests + 1
  if response.status ~= 200 and response.status ~= 201 then
    return nil, "the cookie request got " .. response.status
  end
  assert(response.body == "" or #response.body > 7 and not response.body:find "^HTTP/1%.1",
    "it takes the body for a wrapped response")
  return response.body == "" and "" or "Cookie: " .. response.body .. "\r\n"
end

-- 8.3: the lines must be exactly so.
local function check_head(head)
  local lines = {}
  for line in (head .. "\r\n"):gmatch "(.-)\r\n" do
    lines[#lines + 1] = line
  end
  if lines[1] ~= "HTTP/1.1 101 Web Socket Protocol Handshake" then
    return nil, "not its status line: " .. lines[1]
  end
  local found = {}
  for i = 2, #lines do
    local name, value = lines[i]:match "^([^:]+): (.*)$"
    found[name] = value
  end
  if found.Connection ~= "Upgrade" or (found.Upgrade or ""):lower() ~= "websocket"
    or found["Sec-WebSocket-Accept"] ~= hand.ACCEPT then
    return nil, "not its headers: " .. head
  end
  return found
end

-- 8.2: no extensions, a privileged origin, protocols in one line.
local function open_raw(self, url, cookies)
  self.socket = socket.connect(url.port)
  self.socket.peer:write(("GET %s?%s HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nHost: %s\r\n"
    .. "Origin: privileged://%s\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n"
    .. "Sec-WebSocket-Protocol: %s\r\n%s\r\n"):format(url.path, url.query, url.authority, url.authority, hand.KEY,
    table.concat({ KHP, table.unpack(self.protocols) }, ","), cookies))
  return check_head(self.socket:head())
end

-- A message of the handshake. 8.6: text is the application's, and the handshake hangs. 8.7: a fragment is lost.
local function handshake_message(self)
  local message, kind = self.socket:message(function(frame)
    assert(frame.opcode ~= 0 and (frame.fin or frame.opcode > 2), "it drops continuation frames")
  end)
  if message then
    assert(kind == "binary", "a text message in the handshake goes to the application")
  end
  return message, kind
end

local function directive(self)
  local message, why = handshake_message(self)
  if not message then
    return nil, why
  end
  local word, location = message:match "^\u{F0FF}([NR])(.*)$"
  assert(word, ("a directive expected, not %q"):format(message))
  return word, location
end

-- 8.5: binary; no subprotocols; the path of the first URL, also after a redirect (8.10).
local function request(self)
  local authorization = self.authorization and "Authorization: " .. self.authorization .. "\r\n" or ""
  self.socket:binary(("GET %s HTTP/1.1\r\nSec-WebSocket-Extensions: x-kaazing-idle-timeout\r\n%s\r\n")
    :format(self.target, authorization))
end

-- 8.6: up to the empty message; CR is followed by LF.
local function read_response(self)
  local parts = {}
  while true do
    local message, why = handshake_message(self)
    if not message then
      return nil, why
    elseif message == "" then
      break
    end
    parts[#parts + 1] = message
  end
  local text = table.concat(parts)
  local head = text:match "^(.-\r\n)\r\n"
  assert(head and not head:find "\r[^\n]", "CR without LF")
  return head
end

-- 8.9: an extension that it did not ask for fails the connection; the idle timeout reads so and not otherwise.
local function take_extensions(self, value)
  for text in (value .. ","):gmatch "%s*(.-)%s*," do
    local name, rest = text:match "^([^;]+);?%s*(.*)$"
    if name ~= "x-kaazing-idle-timeout" then
      return nil, "an extension that is not enabled: " .. tostring(name)
    end
    self.idle = tonumber(rest:match "^timeout=(%d+)$" or error "not its idle timeout") / 1000
  end
  return true
end

local function take(self, head)
  local code = head:match "^HTTP/1%.1 (%d+)"
  local challenge = head:match "\r\nWWW%-Authenticate: ([^\r]*)"
  if code == "101" then
    self.protocol = head:match "\r\nSec%-WebSocket%-Protocol: ([^\r]*)"
    local extensions = head:match "\r\nSec%-WebSocket%-Extensions: ([^\r]*)"
    if extensions then
      return take_extensions(self, extensions)
    end
    return true
  elseif code ~= "401" then -- 8.8
    return nil, "status " .. code
  end
  self.challenges[#self.challenges + 1] = challenge
  self.authorization = self.credentials
    and self.credentials(#self.challenges, (challenge:gsub("^Application ", ""):match "^%S+"))
  return false, not self.authorization and "no credentials" or nil
end

local function extended(self)
  while true do
    request(self)
    local head, why = read_response(self)
    if not head then
      return nil, why
    end
    local done, problem = take(self, head)
    if done or problem then
      return done, problem
    end
  end
end

local function connect(self, url)
  self.url = url
  local parsed = socket.parse(url)
  local cookies, why = ask_for_cookies(self, parsed)
  if not cookies then
    return nil, why
  end
  local found
  found, why = open_raw(self, parsed, cookies)
  if not found then
    return nil, why
  elseif found["Sec-WebSocket-Protocol"] ~= KHP then -- 8.11: open at once, with any protocol or none
    self.protocol = found["Sec-WebSocket-Protocol"]
    return self
  end
  for place = 1, 2 do
    local word, location = directive(self)
    if word == "R" then -- 8.10: a close frame first, then all again
      self.redirects = self.redirects + 1
      assert(self.redirects < 5, "redirected for ever")
      self.left = self.socket:close()
      return connect(self, location)
    elseif not word then
      return nil, location
    end
    local ok, problem = true, nil
    if place == 1 then
      ok, problem = extended(self)
    end
    if not ok then
      self.socket:close()
      return nil, problem
    end
  end
  return self
end

--- Connects.
---@param url string
---@param given { protocols: string[]?, credentials: (fun(count: integer, scheme: string): string?)? }?
---@return kaazing.Java? open, string? why
function java.connect(url, given)
  given = given or {}
  return connect(setmetatable({
    protocols = given.protocols or {},
    credentials = given.credentials,
    challenges = {},
    cookie_requests = 0,
    redirects = 0,
    target = socket.parse(url).asked,
  }, methods), url)
end

--- The next message. 8.12: messages and native pings are signs of life, pongs are none; without one it drops TCP.
---@return string? message, string kind or "idle", "closed"
function methods:receive()
  local message, kind = self.socket:message(function(frame)
    if frame.opcode == 9 then
      self.signs = (self.signs or 0) + 1
    end
    return frame.opcode ~= 10
  end, self.idle)
  if kind == "idle" then
    self.socket.peer:abort()
  end
  return message, kind
end

function methods:send(text)
  self.socket:text(text)
end

function methods:send_binary(bytes)
  self.socket:binary(bytes)
end

function methods:close(code, reason)
  return self.socket:close(code, reason)
end

return java
