-- Takes the bytes of one direction of a connection apart, as they come: HTTP heads, then frames, of whose messages
-- messages.lua knows more. Nothing is guessed that the bytes can tell, and what breaks the rules ends it, with its
-- place. This file must not know where the bytes come from, nor how anything is shown.

local core = require "khp.core"
local http = require "khp.http"
local messages = require "khp.cli.messages"

local dissect = {}

local byte, concat, find, format, min, sub =
  string.byte, table.concat, string.find, string.format, math.min, string.sub
local frame, is_utf8 = core.frame, core.conn.utf8

local KEEP = messages.KEEP

local KHP = "x-kaazing-handshake"

local names = {
  [0] = "continuation", [1] = "text", [2] = "binary", [8] = "close", [9] = "ping", [10] = "pong",
}

---@class khp.cli.dissect.Event
---@field what "head"|"frame"|"extended"|"error"
---@field from "client"|"server"
---@field offset integer of its first byte in the stream, from 0
---@field raw string? head, extended: the bytes of the message
---@field message table? head, extended: as khp.http parses it
---@field frame table? as core.frame.header() gives it, with `name`, `payload` (its beginning), `compressed`
---@field inside boolean? the frame is, or may be, part of the extended handshake, or a directive
---@field directive string? the message that the frame ends is one
---@field inflated { length: integer, payload: string, opcode: integer }? the message that the frame ends: its length
---  and its beginning
---@field code integer? of a close frame
---@field reason string?
---@field text string? error: what is wrong

---@class khp.cli.Dissect
---@field from "client"|"server"|nil  nil: not known yet
---@field shared khp.cli.dissect.Shared
---@field state "head"|"body"|"tail"|"frames"|"over"
---@field bytes string what came last
---@field place integer of the first byte in it that is not taken apart yet
---@field at integer its offset in the stream
---@field events khp.cli.dissect.Event[] not given yet
---@field frame khp.cli.dissect.Event? the frame that is not complete
---@field messages khp.cli.Messages
---@field parser userdata? of the HTTP message that is not complete
---@field headless boolean? the bytes begin with frames
local methods = {}
local mt = { __index = methods }

---@param from "client"|"server"|nil
---@param shared khp.cli.dissect.Shared? the other direction's
---@return khp.cli.Dissect
function dissect.new(from, shared)
  shared = shared or {}
  return setmetatable({
    from = from, shared = shared, messages = messages.new(shared), state = "head", bytes = "", place = 1, at = 0,
    events = {},
  }, mt)
end

local function event(self, what, offset)
  local one = { what = what, from = self.from or "client", offset = offset }
  self.events[#self.events + 1] = one
  return one
end

local function fail(self, offset, text)
  event(self, "error", offset).text = text
  self.state = "over"
end

local function drop(self, n)
  self.place, self.at = self.place + n, self.at + n
end

local function rest_of(self)
  return sub(self.bytes, self.place)
end

-- HTTP ---------------------------------------------------------------------------------------------------------------

--- Whose bytes are these? A response, a request, or frames, which a client masks.
---@param bytes string the first ones of a direction
---@return "client"|"server"|nil from nil: too few to tell
---@return boolean? is_frames
function dissect.whose(bytes)
  if #bytes < 2 then
    return nil
  elseif find(bytes, "^HTTP/") or #bytes < 5 and find("HTTP/", bytes, 1, true) == 1 then
    return #bytes >= 5 and "server" or nil
  elseif find(bytes, "^%u[%u%-]+ ") or find(bytes, "^%u[%u%-]+$") and #bytes < 16 then
    return find(bytes, " ", 1, true) and "client" or nil
  end
  return byte(bytes, 2) >= 128 and "client" or "server", true
end

-- What a head says about what follows.
local function learn(self, message)
  local shared, headers = self.shared, message.headers
  if message.status == 101 then
    shared.khp = headers["sec-websocket-protocol"] == KHP
    messages.learn(shared, headers)
    return true
  end
  local offered = http.tokens(headers["sec-websocket-protocol"] or "") or {}
  for _, name in ipairs(offered) do
    self.messages.offers_khp = self.messages.offers_khp or name == KHP
  end
  return message.method and (headers.upgrade or ""):lower() == "websocket"
end

local steps = {}

function steps.head(self, ended)
  local bytes = rest_of(self)
  local from, is_frames = dissect.whose(bytes)
  self.from = self.from or from
  if self.at == 0 and is_frames then -- a capture that begins later
    self.state, self.headless, self.messages.headless = "frames", true, true
    return true
  elseif not self.from and not ended or bytes == "" then
    return false
  end
  local kind = self.from == "server" and "response" or "request"
  local parser = http.parser(kind)
  local message, text = parser:head(bytes)
  if not message then
    if text then
      fail(self, self.at, "no HTTP " .. kind .. ": " .. text)
    end
    return text ~= nil
  end
  local size = #bytes - #parser:rest()
  local one = event(self, "head", self.at)
  one.raw, one.message = sub(bytes, 1, size), message
  drop(self, size)
  if learn(self, message) then
    self.state = "frames"
  else
    self.state, self.head, self.parser = "body", one, http.parser(kind)
    self.parser:head(one.raw)
  end
  return true
end

-- RFC 7230 3.3.3: a response that does not say how long it is goes on to the end.
local function goes_on(message)
  local headers, status = message.headers, message.status
  return status and status >= 200 and status ~= 204 and status ~= 304 and not headers["content-length"] and
    not headers["transfer-encoding"]
end

-- The body belongs to the head's event.
function steps.body(self)
  if goes_on(self.head.message) then
    self.state, self.parser = "tail", nil
    return true
  end
  local bytes = rest_of(self)
  local body, text = self.parser:body(bytes)
  if text then
    fail(self, self.at, text)
    return true
  end
  local size = #bytes - #(body and self.parser:rest() or "")
  self.head.raw = self.head.raw .. sub(bytes, 1, size)
  drop(self, size)
  if body then
    self.state, self.parser = "head", nil
  end
  return body ~= nil
end

function steps.tail(self)
  local bytes = rest_of(self)
  self.head.raw = self.head.raw .. sub(bytes, 1, KEEP - #self.head.raw)
  drop(self, #bytes)
  return false
end

-- Frames -------------------------------------------------------------------------------------------------------------

-- RFC 6455 5: what is wrong with this header here, or nil.
local function problem(self, header)
  local is_control = header.opcode >= 8
  if not names[header.opcode] then
    return format("the opcode %d is reserved (RFC 6455 5.2)", header.opcode)
  elseif header.rsv ~= 0 and self.shared.negotiated == false then
    return "a reserved bit is set, and no extension was agreed to (RFC 6455 5.2)"
  elseif header.masked ~= (self.from == "client") then
    return (header.masked and "a server's frame is masked" or "a client's frame is not masked") .. " (RFC 6455 5.1)"
  elseif is_control and not header.fin then
    return "a control frame is in pieces (RFC 6455 5.5)"
  elseif is_control and header.length > 125 then
    return "a control frame has more than 125 bytes (RFC 6455 5.5)"
  elseif header.opcode == 0 and not self.messages.first then
    return "a continuation without a beginning (RFC 6455 5.4)"
  elseif not is_control and header.opcode ~= 0 and self.messages.first then
    return "a new message inside another one (RFC 6455 5.4)"
  end
  return nil
end

-- RFC 6455 5.5.1.
local function take_close(self, one, payload)
  if payload == "" then
    return
  elseif #payload == 1 then
    return fail(self, one.offset, "a close frame with half a code (RFC 6455 5.5.1)")
  end
  one.code, one.reason = byte(payload, 1) * 256 + byte(payload, 2), sub(payload, 3)
  if not frame.is_close_code(one.code) then
    fail(self, one.offset, format("the close code %d may not be sent (RFC 6455 7.4)", one.code))
  elseif not is_utf8(one.reason) then
    fail(self, one.offset, "the reason of a close frame is not UTF-8 (RFC 6455 5.5.1)")
  end
end

local function end_frame(self)
  local one = self.frame
  self.frame = nil
  local header = one.frame
  local payload = concat(one.parts)
  header.payload = sub(payload, 1, KEEP)
  if header.opcode == 8 then
    take_close(self, one, payload)
  elseif header.opcode < 8 then
    local done = self.messages:take(one, payload)
    if done and done.what == "error" then
      fail(self, done.offset, done.text)
    elseif done then
      done.from = self.from
      self.events[#self.events + 1] = done
    end
  end
end

local function begin_frame(self, header)
  local wrong = problem(self, header)
  if wrong then
    fail(self, self.at, wrong)
    return
  end
  header.name = names[header.opcode]
  local one = event(self, "frame", self.at)
  one.frame, one.parts, one.left, one.keep = header, {}, header.length, KEEP
  if header.opcode < 8 then
    self.messages.from = self.from
    one.keep = self.messages:begin(header)
  end
  self.frame = one
  drop(self, header.size)
end

function steps.frames(self)
  local one = self.frame
  if not one then
    local header, wrong = frame.header(self.bytes, self.place)
    if wrong then
      fail(self, self.at, wrong .. " (RFC 6455 5.2)")
    elseif header then
      begin_frame(self, header)
    end
    return wrong ~= nil or header ~= nil
  end
  local taken = min(one.left, #self.bytes - self.place + 1)
  local header, offset = one.frame, one.frame.length - one.left
  if offset < one.keep and taken > 0 then
    local piece = sub(self.bytes, self.place, self.place + min(taken, one.keep - offset) - 1)
    one.parts[#one.parts + 1] = header.key and frame.mask(piece, header.key, offset) or piece
  end
  one.left = one.left - taken
  drop(self, taken)
  if one.left == 0 then
    end_frame(self)
    return true
  end
  return false
end

function steps.over()
  return false
end

-- A frame, or a body, that has not ended is kept back: it is the last.
local function take_events(self)
  local events, last = self.events, nil
  if self.frame or self.state == "body" or self.state == "tail" then
    last = table.remove(events)
  end
  self.events = { last }
  return events
end

--- Is nothing of a handshake to be expected any more?
---@return boolean
function methods:is_settled()
  return self.state == "over" or self.state == "frames" and self.messages:is_settled()
end

--- Takes bytes. Returns what was found in them.
---@param bytes string
---@return khp.cli.dissect.Event[]
function methods:feed(bytes)
  self.bytes, self.place = rest_of(self) .. bytes, 1
  while self.state ~= "over" and steps[self.state](self) do
  end
  return take_events(self)
end

-- What is not complete at the end, or nil.
local function missing(self)
  local one = self.frame
  if one then
    local payload = concat(one.parts)
    one.frame.payload = sub(payload, 1, KEEP)
    one.inside = one.frame.opcode < 8 and self.messages:is_inside(payload)
    self.frame = nil
    return ("in the middle of a frame: %.0f of %.0f bytes are missing"):format(one.left, one.frame.length), one.offset
  elseif self.state == "body" then
    return "in the middle of a body", self.at
  elseif self.place <= #self.bytes then
    return self.state == "frames" and "in the middle of a frame's header" or "in the middle of a head", self.at
  elseif self.messages.first or self.messages.parser then
    return "in the middle of a message", self.at
  end
  return nil
end

-- lost: so many bytes are not there; nil: the end.
local function finish(self, lost)
  while self.state ~= "over" and steps[self.state](self, true) do
  end
  if self.state ~= "over" then
    local what, offset = missing(self)
    if lost then
      fail(self, self.at + #self.bytes - self.place + 1, format("%.0f bytes are missing in the capture", lost))
    elseif what then
      fail(self, offset, "the bytes end " .. what)
    end
  end
  self.state = "over"
  self.messages:close()
  return take_events(self)
end

--- No more bytes come. What is not complete is an error, at the place where it begins.
---@return khp.cli.dissect.Event[]
function methods:finish()
  return finish(self)
end

--- Bytes are missing: where the next frame begins is not known any more, and the direction ends.
---@param n integer
---@return khp.cli.dissect.Event[]
function methods:skip(n)
  return finish(self, n)
end

return dissect
