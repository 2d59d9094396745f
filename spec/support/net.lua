-- For specs over real sockets: servers on free ports, and a peer that sends any bytes it likes and keeps all it gets.
-- Everything waits for events, at most PATIENCE seconds.

local core = require "khp.core"
local khp = require "khp"

local net = { PATIENCE = 10 }

--- Turns the loop until f() gives a true value, and returns it; fails loudly when that takes too long.
function net.await(f, what)
  local deadline = core.loop.clock() + net.PATIENCE
  while true do
    local value = f()
    if value then
      return value
    elseif core.loop.clock() > deadline then
      error("waited in vain for " .. (what or "it"), 2)
    end
    khp.step(0.1)
  end
end

--- A server on a free port of 127.0.0.1, and its URL.
function net.serve(options)
  options.host = options.host or "127.0.0.1"
  options.port = options.port or 0
  local server = assert(khp.listen(options))
  local host, port = server:address()
  if host:find(":", 1, true) then
    host = "[" .. host .. "]"
  end
  return server, ("%s://%s:%d/"):format(options.tls and "wss" or "ws", host, port), port
end

function net.echo(conn, message, kind)
  conn:send(message, kind)
end

-- The raw peer ------------------------------------------------------------------------------------------------------

local peer = {}
peer.__index = peer

--- Connects and waits until connected.
function net.peer(port)
  local self = setmetatable({ received = "", ended = nil }, peer)
  local limits = require("khp.limits").defaults
  self.conn = core.conn.connect({ host = "127.0.0.1", port = port }, {
    open = function()
      self.open = true
    end,
    bytes = function(_, _, bytes)
      self.received = self.received .. bytes
    end,
    closed = function(_, _, _, reason)
      self.ended = reason
    end,
  }, nil, limits)
  net.await(function()
    return self.open or self.ended
  end, "a connection")
  assert(self.open, self.ended)
  return self
end

function peer:send(bytes)
  return core.conn.write(self.conn, bytes)
end

--- Waits until the bytes received contain this text (plain), and returns them all.
function peer:await(text)
  net.await(function()
    return self.received:find(text, 1, true) or self.ended
  end, ("%q"):format(text))
  assert(self.received:find(text, 1, true), "the server ended the connection: " .. self.received)
  return self.received
end

--- Waits until the server has ended the connection, and returns all it sent.
function peer:await_end()
  net.await(function()
    return self.ended
  end, "the end")
  return self.received
end

function peer:take()
  local bytes = self.received
  self.received = ""
  return bytes
end

function peer:close()
  core.conn.abort(self.conn)
end

--- Makes the opening handshake without KHP; what comes after the head is left in `received`.
function peer:upgrade(path, more)
  self:send("GET " .. (path or "/") .. " HTTP/1.1\r\nHost: 127.0.0.1\r\n" ..
    "Upgrade: websocket\r\nConnection: Upgrade\r\n" ..
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n" .. (more or "") .. "\r\n")
  local received = self:await("\r\n\r\n")
  local head, rest = received:match "^(.-\r\n\r\n)(.*)$"
  self.received = rest
  return head
end

-- Frames ------------------------------------------------------------------------------------------------------------

--- A frame as a client sends it, with whatever bits are asked for: first byte, payload, { unmasked =, length = }.
function net.frame(first, payload, how)
  how = how or {}
  local length = how.length or #payload
  local mask = how.unmasked and 0 or 128
  local head
  if length < 126 then
    head = string.char(first, mask + length)
  elseif length < 65536 then
    head = string.char(first, mask + 126) .. string.pack(">I2", length)
  else
    head = string.char(first, mask + 127) .. string.pack(">I8", length)
  end
  if how.unmasked then
    return head .. payload
  end
  return head .. "\0\0\0\0" .. payload -- a mask of zeros leaves the payload as it is
end

--- The server's frames in these bytes: a list of { opcode =, fin =, payload = }, and what is left.
function net.frames(bytes)
  local list = {}
  while #bytes >= 2 do
    local first, length = bytes:byte(1, 2)
    local at = 3
    if length == 126 then
      length, at = string.unpack(">I2", bytes, 3)
    elseif length == 127 then
      length, at = string.unpack(">I8", bytes, 3)
    end
    if #bytes < at + length - 1 then
      break
    end
    list[#list + 1] = { opcode = first % 16, fin = first >= 128, payload = bytes:sub(at, at + length - 1) }
    bytes = bytes:sub(at + length)
  end
  return list, bytes
end

--- The code and the reason of the close frame among these bytes.
function net.close_frame(bytes)
  for _, frame in ipairs(net.frames(bytes)) do
    if frame.opcode == 8 then
      if #frame.payload == 0 then
        return 1005, ""
      end
      return string.unpack(">I2", frame.payload), frame.payload:sub(3)
    end
  end
end

return net
