-- What the stand-ins for Kaazing's clients stand on: a TCP connection, an opening, WebSocket messages with a time by
-- which they come. Knows the wire and nothing of our handshakes. Facts are numbered as in our notes on the wire of
-- Kaazing's gateway and clients.

local core = require "khp.core"
local hand = require "spec.support.hand"
local net = require "spec.support.net"
local task = require "khp.task"

local socket = {}

socket.GO_ON = "\u{F0FF}N"

local base64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

--- Basic credentials, as they stand in Authorization.
function socket.basic(user, password)
  return "Basic " .. ((user .. ":" .. password):gsub("..?.?", function(three)
    local a, b, c = three:byte(1, 3)
    local n = a << 16 | (b or 0) << 8 | (c or 0)
    local out = ""
    for i = 1, #three + 1 do
      local at = (n >> 24 - 6 * i & 63) + 1
      out = out .. base64:sub(at, at)
    end
    return out .. ("="):rep(3 - #three)
  end))
end

---@class kaazing.Url
---@field port integer
---@field authority string
---@field path string
---@field query string?
---@field asked string path and query as given, without `.kl`

--- A ws:// URL. Clients understand no other (7.10: http:// throws).
function socket.parse(url)
  local authority, port, target = url:match "^ws://([%w.]+:(%d+))(/?.*)$"
  assert(authority, "no ws:// URL: " .. url)
  local path, query = target:match "^([^?]*)%??(.*)$"
  path = path == "" and "/" or path
  local items = {}
  for item in query:gmatch "[^&]+" do
    if not item:find "^%.kl=" then
      items[#items + 1] = item
    end
  end
  local rest = table.concat(items, "&")
  return {
    port = tonumber(port), authority = authority, path = path,
    query = rest == "" and ".kl=Y" or rest .. "&.kl=Y", -- 7.1: added, and once only
    asked = rest == "" and path or path .. "?" .. rest,
  }
end

---@class kaazing.Socket
---@field peer hand.Peer
---@field closed_with { code: integer?, reason: string? }? of the close frame that came
local methods = {}
methods.__index = methods

--- Connects.
function socket.connect(port)
  return setmetatable({ peer = hand.client(port), frames = 0 }, methods)
end

--- The head of the next HTTP response as it came, without its empty line.
function methods:head()
  local peer = self.peer
  net.await(function()
    return peer.received:find("\r\n\r\n", 1, true) or peer.ended
  end, "a response")
  local head, rest = peer.received:match "^(.-)\r\n\r\n(.*)$"
  assert(head, "no response: " .. peer.received)
  peer.received = rest
  return head
end

-- The next frame by that time; nil: none came, or (true) the stream ended.
local function next_frame(self, deadline)
  local peer = self.peer
  while true do
    local frames = net.frames(peer.received)
    if frames[1] then
      local length = #frames[1].payload
      peer.received = peer.received:sub((length < 126 and 2 or length < 65536 and 4 or 10) + length + 1)
      return frames[1]
    end
    local left = deadline - core.loop.clock()
    if peer.ended or left <= 0 then
      return nil, peer.ended ~= nil
    end
    task.wait(peer, left)
  end
end

--- The next message as a native WebSocket gives it: put together from its frames, pings answered.
---@param on_frame (fun(frame: table): boolean?)? hears every frame; true: a sign of life
---@param idle number? seconds without such a sign after which it is "idle"
---@return string? message, string kind or "timeout", "idle", "closed"
function methods:message(on_frame, idle)
  local clock = core.loop.clock
  local deadline, quiet = clock() + net.PATIENCE, clock() + (idle or math.huge)
  local parts, kind = {}, nil
  while true do
    local frame, ended = next_frame(self, math.min(deadline, quiet))
    if not frame then
      return nil, ended and "closed" or idle and clock() >= quiet and "idle" or "timeout"
    end
    local opcode = frame.opcode
    if on_frame and on_frame(frame) then
      quiet = clock() + (idle or math.huge)
    end
    if opcode == 8 then
      local code, reason
      if #frame.payload >= 2 then
        code, reason = string.unpack(">I2", frame.payload), frame.payload:sub(3)
      end
      self.closed_with = { code = code, reason = reason }
      if not self.closing then
        self.closing = true
        self.peer:write(net.frame(0x88, frame.payload))
      end
      return nil, "closed"
    elseif opcode == 9 then
      self.peer:write(net.frame(0x8A, frame.payload))
    elseif opcode < 3 then
      parts[#parts + 1], kind = frame.payload, kind or opcode
      if frame.fin then
        return table.concat(parts), kind == 1 and "text" or "binary"
      end
    end
  end
end

function methods:text(payload)
  self.peer:write(net.frame(0x81, payload))
end

function methods:binary(payload)
  self.peer:write(net.frame(0x82, payload))
end

--- Closes; without a code the frame is empty. Waits for the answer: what it says.
function methods:close(code, reason)
  if not self.closing then
    self.closing = true
    self.peer:write(net.frame(0x88, code and string.pack(">I2", code) .. (reason or "") or ""))
  end
  while not self.closed_with do
    local message, why = self:message()
    assert(message or why == "closed", "no answer to the close frame")
    if not message and not self.closed_with then
      break -- the stream ended without one
    end
  end
  return self.closed_with
end

return socket
