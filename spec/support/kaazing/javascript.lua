-- A stand-in for Kaazing's JavaScript client on a browser's WebSocket: as strict and as odd as it is, and nothing of
-- our own in it. Facts are numbered as in our notes on the wire of Kaazing's gateway and clients.

local hand = require "spec.support.hand"
local http = require "khp.http"
local socket = require "spec.support.kaazing.socket"

local javascript = {}

local KHP = "x-kaazing-handshake"

---@class kaazing.JavaScript
---@field socket kaazing.Socket
---@field protocol string? as it is: with a CR at its end (7.7)
---@field extensions table<string, string> name to what follows it
---@field url string where it got to
local methods = {}
methods.__index = methods

-- It gives up: 1006 for the page.
local function fail(self, why)
  self.socket:close()
  return nil, why
end

-- The opening, as the browser makes it.
local function open_native(self, url, protocols)
  local native = socket.connect(url.port)
  self.socket = native
  local offered = { KHP, table.unpack(protocols) }
  native.peer:write(("GET %s?%s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nPragma: no-cache\r\n"
    .. "Cache-Control: no-cache\r\nUpgrade: websocket\r\nOrigin: http://%s\r\nSec-WebSocket-Version: 13\r\n"
    .. "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Protocol: %s\r\n\r\n"):format(url.path, url.query, url.authority,
    url.authority, hand.KEY, table.concat(offered, ", "))) -- 7.1
  local head = native:head()
  local response = assert(http.parse_response(head .. "\r\n\r\n")) -- 9.1: browsers take names in any case
  if response.status ~= 101 then
    return nil, "the browser reports an error: " .. response.status
  end
  assert(response.headers["sec-websocket-accept"] == hand.ACCEPT, "a wrong Sec-WebSocket-Accept")
  local protocol = response.headers["sec-websocket-protocol"]
  for _, one in ipairs(offered) do
    if one == protocol then
      return protocol, head
    end
  end
  return nil, "the browser wants a protocol that it asked for" -- 7.15
end

-- 7.3: a text message, no Host, empty headers where there is nothing to say.
local function request(self)
  local lines = {
    ("GET %s HTTP/1.1"):format(self.target), -- 7.4: of the first URL, also after a redirect
    "WebSocket-Protocol: ",
    "Sec-WebSocket-Protocol: " .. table.concat(self.protocols, ","),
    "Sec-WebSocket-Extensions: " .. table.concat(self.offered, ","),
  }
  if self.authorization then
    lines[#lines + 1] = "Authorization: " .. self.authorization
  end
  self.socket:text(table.concat(lines, "\r\n") .. "\r\n\r\n")
end

-- 7.9: a directive, of either kind of message; `N` ends it.
local function directive(self)
  local message, why = self.socket:message()
  if not message then
    return nil, "1006: " .. why
  end
  assert(message:sub(1, 3) == "\u{F0FF}", ("a directive expected, not %q"):format(message))
  if message:find "N$" then
    return "N"
  elseif message:sub(4, 4) == "R" then
    return "R", message:sub(5)
  end
  return nil, "1006: neither N nor R"
end

-- 7.5: all messages before the empty one.
local function read_response(self)
  local parts = {}
  while true do
    local message, why = self.socket:message()
    if not message then
      return nil, "1006: " .. why
    elseif message == "" then
      return table.concat(parts)
    end
    parts[#parts + 1] = message
  end
end

-- 7.8: what is not registered, or has no parameter where it needs one, throws.
local function take_extensions(self, value)
  for text in (value .. ", "):gmatch "(.-), " do
    local name, rest = text:match "^([^;\r]+)(.*)$"
    local known = false
    for _, one in ipairs(self.offered) do
      known = known or one == name
    end
    assert(known, "it throws: an extension that it does not know: " .. tostring(name))
    if name == "x-kaazing-idle-timeout" then
      self.idle = tonumber(rest:match "^; timeout=(%d+)\r?$" or error "it throws: no timeout") / 1000
    elseif name == "x-kaazing-ping-pong" then
      local hex = rest:match "^; (%x%x%x%x%x%x%x%x)\r?$" or error "it throws: no control bytes"
      self.control = hex:gsub("%x%x", function(two)
        return string.char(tonumber(two, 16))
      end)
    end
    self.extensions[name] = rest
  end
end

-- 7.6, 7.7: lines end at LF; the last that begins with HTTP/1.1 has the code; names are compared as they are written.
local function parse(self, text)
  local code, challenge
  for line in text:gmatch "[^\n]*" do
    local function value(name)
      return line:sub(1, #name) == name and line:sub(#name + 3) or nil
    end
    if line:find "^HTTP/1%.1" then
      code = line:match "^%S+ (%d+)"
    end
    self.protocol = value "Sec-WebSocket-Protocol" or self.protocol
    challenge = value "WWW-Authenticate" or challenge
    local extensions = value "Sec-WebSocket-Extensions"
    if extensions then
      take_extensions(self, extensions)
    end
  end
  return code, challenge
end

-- 7.11: what the challenge says after its prefix; `Basic` exactly is what this page can answer.
local function answer(self, challenge)
  local scheme = challenge:gsub("^Application ", ""):match "^%S+"
  self.challenges[#self.challenges + 1] = challenge
  local credentials = self.credentials and self.credentials(#self.challenges, scheme)
  return scheme == "Basic" and credentials or nil
end

local function extended(self)
  while true do
    request(self)
    local text, why = read_response(self)
    if not text then
      return nil, why
    end
    local code, challenge = parse(self, text)
    if code == "101" then
      return true
    elseif code ~= "401" then
      return nil, "1006: status " .. tostring(code)
    end
    self.authorization = answer(self, challenge)
    if not self.authorization then
      return nil, "1006: no credentials"
    end
  end
end

local function connect(self, url)
  self.url = url
  local protocol, why = open_native(self, socket.parse(url), self.protocols)
  if not protocol then
    return nil, why
  elseif protocol ~= KHP then -- 7.2: open at once, and no directives
    self.protocol = protocol
    return self
  end
  for place = 1, 2 do
    local word, location = directive(self)
    if word == "R" then -- 7.10: closes, then connects there; no maximum, but there is one in a test
      self.redirects = self.redirects + 1
      assert(self.redirects < 5, "redirected for ever")
      self.left = self.socket:close()
      return connect(self, location)
    elseif not word then
      return fail(self, location)
    end
    if place == 1 then
      local ok, problem = extended(self)
      if not ok then
        return fail(self, problem)
      end
    end
  end
  return self
end

--- Connects as a page does.
---@param url string
---@param given { protocols: string[]?, credentials: (fun(count: integer, scheme: string): string?)? }?
---@return kaazing.JavaScript? open nil: 1006 for the page
---@return string? why
function javascript.connect(url, given)
  given = given or {}
  return connect(setmetatable({
    protocols = given.protocols or {},
    credentials = given.credentials,
    offered = { "x-kaazing-idle-timeout", "x-kaazing-ping-pong" },
    extensions = {},
    challenges = {},
    redirects = 0,
    target = socket.parse(url).asked,
  }, methods), url)
end

--- The next message for the page. 7.13: an extended ping is answered with an extended pong, in text. 7.14: any message
--- is a sign of life, native pings and pongs are none; without one it closes.
---@return string? message, string kind or "idle", "closed"
function methods:receive()
  local escaped = false
  while true do
    local message, kind = self.socket:message(nil, self.idle)
    if kind == "idle" then
      self.socket:close()
    end
    if not message then
      return nil, kind
    elseif kind == "text" and self.control and not escaped and message:sub(1, 4) == self.control then
      self.signs = (self.signs or 0) + 1
      if message == self.control .. "\9\0" then
        self.socket:text(self.control .. "\10\0")
      elseif message == self.control then
        escaped = true
      end
    else
      return message, kind
    end
  end
end

--- 7.13: text that begins with the control bytes is preceded by them.
function methods:send(text)
  if self.control and text:sub(1, 4) == self.control then
    self.socket:text(self.control)
  end
  self.socket:text(text)
end

function methods:send_binary(bytes)
  self.socket:binary(bytes)
end

function methods:close(code, reason)
  return self.socket:close(code, reason)
end

return javascript
