-- Peers played by hand, of either role: they send any bytes at any time, and look at what comes as HTTP heads and
-- WebSocket frames. A server's script runs in a task of its own for each connection; a client is used where it was
-- made. Every wait ends with an error when it takes too long. Knows the wire and nothing of our handshakes.

local core = require "khp.core"
local crypto = require "khp.crypto"
local http = require "khp.http"
local khp = require "khp"
local limits = require "khp.limits"
local net = require "spec.support.net"
local task = require "khp.task"

local hand = { KEY = "dGhlIHNhbXBsZSBub25jZQ==", ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" }

local KHP = "x-kaazing-handshake"

---@class hand.Peer
---@field received string bytes that nobody has looked at yet
---@field ended string? how the connection ended
local peer = {}
peer.__index = peer

local events = {}

function events.open(_, self)
  self.opened = true
  task.wake(self)
end

function events.bytes(_, self, bytes)
  self.received = self.received .. bytes
  task.wake(self)
end

function events.closed(_, self, _, reason)
  self.ended = reason == "" and "closed" or reason
  task.wake(self)
end

-- Waits until f() gives something other than nil, and returns it.
local function await(self, f, what)
  local deadline = core.loop.clock() + net.PATIENCE
  while true do
    local a, b = f()
    if a ~= nil then
      return a, b
    end
    local left = deadline - core.loop.clock()
    if left <= 0 or self.ended then
      error(("%s, waiting for %s; left over: %q"):format(self.ended or "in vain", what, self.received), 3)
    end
    task.wait(self, left)
  end
end

--- Sends bytes as they are.
function peer:write(bytes)
  return core.conn.write(self.conn, bytes)
end

--- Takes one HTTP message, with its body.
function peer:http()
  return await(self, function()
    local parse = self.role == "server" and http.parse_request or http.parse_response
    local message, rest = parse(self.received)
    if message then
      self.received = rest
      return message
    elseif rest then
      error(rest)
    end
  end, "an HTTP message")
end

local function unmask(payload, key)
  local out = {}
  for i = 1, #payload do
    out[i] = string.char(payload:byte(i) ~ key:byte((i - 1) % 4 + 1))
  end
  return table.concat(out)
end

-- The first frame of these bytes, and what follows it; nil while it is incomplete.
local function read_frame(bytes)
  if #bytes < 2 then
    return nil
  end
  local first, second = bytes:byte(1, 2)
  local length, at = second % 128, 3
  if length == 126 and #bytes >= 4 then
    length, at = string.unpack(">I2", bytes, 3)
  elseif length == 127 and #bytes >= 10 then
    length, at = string.unpack(">I8", bytes, 3)
  elseif length >= 126 then
    return nil
  end
  local masked = second >= 128
  local key = bytes:sub(at, at + 3)
  at = masked and at + 4 or at
  if #bytes < at + length - 1 then
    return nil
  end
  local payload = bytes:sub(at, at + length - 1)
  payload = masked and unmask(payload, key) or payload
  local frame = { opcode = first % 16, fin = first >= 128, rsv = first // 16 % 8, masked = masked, payload = payload }
  if frame.opcode == 8 and #payload >= 2 then
    frame.code, frame.reason = string.unpack(">I2", payload), payload:sub(3)
  end
  return frame, bytes:sub(at + length)
end

--- Takes one frame: { opcode, fin, rsv, masked, payload }, and code and reason of a close frame.
function peer:frame()
  return await(self, function()
    local frame, rest = read_frame(self.received)
    if frame then
      self.received = rest
    end
    return frame
  end, "a frame")
end

--- Takes one frame, which must be one binary message, and returns it as HTTP.
function peer:extended()
  local frame = self:frame()
  assert(frame.opcode == 2 and frame.fin, ("a whole binary message expected, not opcode %d %q"):format(
    frame.opcode, frame.payload))
  local parse = self.role == "server" and http.parse_request or http.parse_response
  local message, rest = parse(frame.payload)
  assert(message, rest)
  assert(rest == "", "bytes behind the message")
  return message
end

--- Takes one frame, which must close; returns its code and reason.
function peer:closed()
  local frame = self:frame()
  assert(frame.opcode == 8, ("a close frame expected, not opcode %d %q"):format(frame.opcode, frame.payload))
  return frame.code, frame.reason
end

--- The bytes of a frame as this role sends it.
function peer:bytes_of(first, payload)
  return net.frame(first, payload, { unmasked = self.role == "server" })
end

function peer:binary(payload)
  return self:write(self:bytes_of(0x82, payload))
end

function peer:text(payload)
  return self:write(self:bytes_of(0x81, payload))
end

function peer:close(code)
  return self:write(self:bytes_of(0x88, code and string.pack(">I2", code) or ""))
end

--- Ends the stream in order.
function peer:finish()
  core.conn.close(self.conn)
end

function peer:abort()
  core.conn.abort(self.conn)
end

--- Waits until the other side has ended the connection; returns what nobody has looked at.
function peer:await_end()
  while not self.ended do
    await(self, function()
      return self.ended
    end, "the end")
  end
  return self.received
end

local clients = {}

--- Ends every client that was made here, at once.
function hand.drop()
  for _, one in ipairs(clients) do
    one:abort()
  end
  clients = {}
end

--- A client, connected.
---@param port integer
---@return hand.Peer
function hand.client(port)
  local self = setmetatable({ received = "", role = "client" }, peer)
  clients[#clients + 1] = self
  self.conn = core.conn.connect({ host = "127.0.0.1", port = port }, events, self, limits.defaults)
  await(self, function()
    return self.opened
  end, "a connection")
  return self
end

--- The bytes of an opening; more: further lines, each with its CR LF.
function hand.opening(path, more)
  return "GET " .. (path or "/") .. " HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    .. "Sec-WebSocket-Key: " .. hand.KEY .. "\r\nSec-WebSocket-Version: 13\r\n" .. (more or "") .. "\r\n"
end

--- A client that has made the opening with KHP; returns the response as well.
function hand.khp_client(port, path, more)
  local self = hand.client(port)
  self:write(hand.opening(path, "Sec-WebSocket-Protocol: " .. KHP .. "\r\n" .. (more or "")))
  local response = self:http()
  assert(response.status == 101 and response.headers["sec-websocket-protocol"] == KHP, "the opening failed")
  return self, response
end

--- As a server: the 101 for this opening, with KHP; more: further lines; false instead of a protocol: none.
function hand.switch(request, more, protocol)
  if protocol == nil then
    protocol = KHP
  end
  return "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
    .. crypto.accept(request.headers["sec-websocket-key"]) .. "\r\n"
    .. (protocol and "Sec-WebSocket-Protocol: " .. protocol .. "\r\n" or "") .. (more or "") .. "\r\n"
end

--- As a server: reads the opening and answers it with 101; returns the request.
function peer:agree(more, protocol)
  local request = self:http()
  self:write(hand.switch(request, more, protocol))
  return request
end

--- An extended 101.
hand.COMPLETED = "HTTP/1.1 101 Switching Protocols\r\n\r\n"

-- What most scripts leave to be done at their end: answers the close frame.
local function linger(self)
  local frame
  repeat
    frame = self:frame()
  until frame.opcode == 8
  self:close(frame.code)
end

---@class hand.Server
---@field url string
---@field port integer
---@field peers hand.Peer[] in order of their coming
local server = {}
server.__index = server

--- A server whose script(peer, number) runs for each connection; close frames that come after it are answered.
---@param script fun(peer: hand.Peer, number: integer)
---@return hand.Server
function hand.server(script)
  local self = setmetatable({ peers = {}, failures = {}, running = 0 }, server)
  local function begin(conn)
    local one = setmetatable({ received = "", role = "server", conn = conn }, peer)
    core.conn.on_event(conn, events, one)
    self.peers[#self.peers + 1] = one
    self.running = self.running + 1
    khp.spawn(function()
      local ok, message = xpcall(script, debug.traceback, one, #self.peers)
      self.running = self.running - 1
      if not ok then
        self.failures[#self.failures + 1] = message
        one:abort()
      elseif not one.ended then
        pcall(linger, one)
      end
    end)
  end
  self.listener = assert(core.listener.listen({ host = "127.0.0.1", port = 0 }, { open = begin }, nil, limits.defaults))
  local _, port = core.listener.address(self.listener)
  self.port = port
  self.url = ("ws://127.0.0.1:%d/"):format(port)
  return self
end

--- Waits until every script has ended, and closes; an error in one is an error here.
function server:close()
  net.await(function()
    return self.running == 0
  end, "the server's scripts to end")
  core.listener.close(self.listener)
  for _, one in ipairs(self.peers) do
    one:abort()
  end
  if self.failures[1] then
    error("in the server's script: " .. self.failures[1], 2)
  end
end

return hand
