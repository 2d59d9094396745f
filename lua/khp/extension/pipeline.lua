-- The extensions of one connection at work: each message passes them in a fixed order, out from the application to the
-- wire and back in (RFC 6455 9.1: the first one listed is the nearest to the application). A connection without
-- extensions has no pipeline. This file must not know how extensions are negotiated, nor what any of them does.

local core = require "khp.core"
local log = require "khp.log"
local lawful = require "khp.extended.reason"
local task = require "khp.task"

local conn = core.conn
local error, floor, ipairs, pairs, setmetatable, type = error, math.floor, ipairs, pairs, setmetatable, type

local pipeline = {}

--- An extension at work on one connection. All methods are optional. "Swallowed" means that the message goes no
--- further.
---@class khp.ExtensionSession
---@field send (fun(self, message: string, kind: "text"|"binary"): string?, string?, any)? transforms an outgoing
---  message: returns message, kind and whether to set the reserved bit; nil: swallowed; nil, a message and
---  optionally an error code (default EEXTENSION): refused, so that conn:send() fails with it
---@field receive (fun(self, message: string, kind: "text"|"binary", marked: boolean): string?, string?, any)?
---  transforms an incoming message: returns message and kind; nil: swallowed; nil, a reason and optionally a close code
---  (default 1002): closes the connection. `marked`: its reserved bit is set
---@field ping (fun(self, payload: string))? a native ping arrived, and was answered
---@field pong (fun(self, payload: string): boolean?)? a native pong arrived; true: swallowed: neither the
---  extensions above nor conn:ping() see it
---@field open fun(self)? the handshakes are complete; from now on messages are the application's
---@field closed (fun(self, code: integer, reason: string))? the connection has closed

--- What an extension uses to act on its connection.
---@class khp.Link
---@field role "server"|"client" which side this is
---@field conn khp.Connection the connection
---@field parameters table the negotiated parameters: names as an array, and a table from name to value
---@field package pipe khp.Pipeline
---@field package above khp.Link? towards the application
---@field package below khp.Link? towards the wire
---@field package session khp.ExtensionSession
---@field package name string
---@field package bit integer reserved bit of a frame (4, 2, 1), 0 none
local Link = {}
Link.__index = Link

---@class khp.Pipeline
---@field conn userdata
---@field top khp.Link? the nearest to the application
---@field bottom khp.Link? the nearest to the wire
---@field bits integer reserved bits that are in use
---@field sent integer messages that have come as far as the wire
---@field delivered boolean something of the last message has gone on to the application
local Pipeline = { __name = "khp.pipeline" }
Pipeline.__index = Pipeline

-- What an extension's own mistake comes to.
local function fail(link, message)
  log.error("extension %s: %s", link.name, message)
  conn.close(link.pipe.conn, 1011, "internal error")
  return nil, "an extension failed", 1011
end

-- A hook runs as a callback, which must not wait. One that throws ends its connection, and no other.
local function guard(link, hook, ...)
  local ok, a, b, c = task.call_back(hook, ...)
  if not ok then
    return fail(link, a)
  end
  return a, b, c
end

-- What is wrong with a message that a hook gave.
local function mistake(link, message, kind, marked)
  if type(message) ~= "string" then
    return "a message expected, not " .. type(message)
  elseif kind ~= nil and kind ~= "text" and kind ~= "binary" then
    return '"text" or "binary" expected, not ' .. tostring(kind)
  elseif marked and link.bit == 0 then
    return "it has no reserved bit to set: 'rsv' says which"
  end
  return nil
end

-- Out ---------------------------------------------------------------------------------------------------------------

-- A message is refused. One that is above counts on it that what it made of a message, or has announced, is sent.
local function refuse(self, is_counted_on, text, code)
  if is_counted_on then
    conn.close(self.conn, 1011, "internal error")
  end
  return nil, text, type(code) == "string" and code or "EEXTENSION", {}
end

-- From a link, which is asked first, to the wire.
local function transmit(self, link, message, kind, bits)
  local original, sent_before = message, self.sent
  while link do
    local session = link.session
    local send = session.send
    if send then
      local out, as, marked = guard(link, send, session, message, kind)
      if not out then
        if as then
          return refuse(self, message ~= original or self.sent ~= sent_before, as, marked)
        end
        return true
      end
      local wrong = mistake(link, out, as, marked)
      if wrong then
        local _, text = fail(link, "send: " .. wrong)
        return refuse(self, false, text)
      end
      message, kind = out, as or kind
      if marked then
        bits = bits + link.bit
      end
    end
    link = link.below
  end
  if kind == "text" and bits == 0 and not conn.utf8(message) then
    return refuse(self, self.sent ~= sent_before, "an extension made a text message that is not UTF-8")
  end
  self.sent = self.sent + 1
  local sent, text, code, detail = conn.frame(self.conn, message, kind, bits)
  if code == "ELIMIT" then -- no memory, and the extensions count on it that the message is sent
    conn.close(self.conn, 1011, text)
  end
  return sent, text, code, detail
end

-- An extension may answer for what it did to a message (a compressor's window) only if the message goes out. So the
-- queue is asked before any of them sees it.
function Pipeline:send(message, kind)
  local room, text, code, detail = conn.room(self.conn, #message)
  if not room then
    return nil, text, code, detail
  end
  return transmit(self, self.top, message, kind, 0)
end

-- In ----------------------------------------------------------------------------------------------------------------

local function has(bits, bit)
  return bit > 0 and floor(bits / bit) % 2 == 1
end

-- From a link, which is asked first, to the application. wire, wire_kind: the message as it came in frames, nil for one
-- that an extension has made.
local function take(self, link, message, kind, bits, wire, wire_kind)
  while link do
    local session = link.session
    local receive = session.receive
    if receive then
      local got, as, code = guard(link, receive, session, message, kind, has(bits, link.bit))
      if not got then
        if as then
          conn.close(self.conn, code or 1002, lawful(as))
        end
        return nil
      end
      local wrong = mistake(link, got, as)
      if wrong then
        fail(link, "receive: " .. wrong)
        return nil
      end
      message, kind = got, as or kind
    elseif has(bits, link.bit) then
      return conn.close(self.conn, 1002, "a reserved bit that means nothing here")
    end
    link = link.above
  end
  local is_new = message ~= wire or bits ~= 0
  if not conn.hears(self.conn) then -- an extension has closed it
    return nil
  elseif is_new and #message > conn.limit(self.conn) then
    return conn.close(self.conn, 1009, "message is too big")
  elseif kind == "text" and (is_new or wire_kind ~= kind) and not conn.utf8(message) then -- RFC 6455 8.1
    return conn.close(self.conn, 1007, "text is not UTF-8")
  end
  self.delivered = true
  return conn.deliver(self.conn, message, kind)
end

function Pipeline:receive(message, kind, bits)
  self.delivered = false
  take(self, self.bottom, message, kind, bits, message, kind)
  if not self.delivered then -- where messages are taken one at a time, the next may come
    conn.next(self.conn)
  end
end

-- From the wire upwards, until one of them keeps it for itself.
local function control(self, name, payload)
  local link = self.bottom
  while link do
    local hook = link.session[name]
    if hook and guard(link, hook, link.session, payload) == true then
      return true
    end
    link = link.above
  end
  return false
end

function Pipeline:ping(payload)
  return control(self, "ping", payload)
end

function Pipeline:pong(payload)
  return control(self, "pong", payload)
end

function Pipeline:closed(code, reason)
  local link = self.bottom
  while link do
    for timer in pairs(link.timers or {}) do
      timer:cancel()
    end
    link.timers, link.over = nil, true
    if link.session.closed then
      guard(link, link.session.closed, link.session, code, reason)
    end
    link = link.above
  end
end

--- The handshakes are over.
function Pipeline:open()
  local link = self.bottom
  while link and self.conn.state == "open" do
    if link.session.open then
      guard(link, link.session.open, link.session)
    end
    link = link.above
  end
end

--- The extension of this name that is at work.
---@param name string
---@return khp.ExtensionSession? session
function Pipeline:session(name)
  local link = self.top
  while link and link.name ~= name do
    link = link.below
  end
  return link and link.session
end

-- Links -------------------------------------------------------------------------------------------------------------

-- What is given to the links is the extension's own, and its mistake is thrown where it was made.
local function check(what, link, message, kind, marked)
  local wrong = mistake(link, message, kind, marked)
  if wrong then
    error(what .. ": " .. wrong, 3)
  end
end

--- Sends a message to the peer through the extensions below this one.
---@param message string
---@param kind "text"|"binary"|nil default "text"
---@param marked boolean? sets this extension's reserved bit
---@return true? sent
---@return string? message
---@return string? code
---@return table? detail
function Link:send(message, kind, marked)
  check("link:send", self, message, kind, marked)
  local pipe = self.pipe
  local room, text, code, detail = conn.room(pipe.conn, #message)
  if not room then
    return nil, text, code, detail
  end
  return transmit(pipe, self.below, message, kind or "text", marked and self.bit or 0)
end

--- Delivers a message to the application through the extensions above this one.
---@param message string
---@param kind "text"|"binary"|nil default "text"
function Link:deliver(message, kind)
  check("link:deliver", self, message, kind)
  take(self.pipe, self.above, message, kind or "text", 0)
end

--- Sends a native ping (RFC 6455 5.5.2).
---@param payload string? at most 125 bytes
---@return true? sent
---@return string? message
---@return string? code
---@return table? detail
function Link:ping(payload)
  return conn.send_ping(self.pipe.conn, payload or "")
end

-- A timer that runs is held by the loop; one that was cancelled, by nobody.
local CANCELLED_GO = { __mode = "k" }

--- Calls f once after the given time, unless the connection closes first.
---@param seconds number
---@param f fun()
---@return userdata timer timer:cancel() stops it
function Link:after(seconds, f)
  if type(seconds) ~= "number" or seconds ~= seconds or type(f) ~= "function" then
    error("link:after: seconds and a function expected", 2)
  end
  local timer
  timer = core.timer(seconds, function()
    self.timers[timer] = nil
    guard(self, f)
  end)
  if self.over then
    timer:cancel()
    return timer
  end
  self.timers = self.timers or setmetatable({}, CANCELLED_GO)
  self.timers[timer] = true
  return timer
end

--- Closes the connection gracefully.
---@param code integer close code
---@param reason string? UTF-8, at most 123 bytes
function Link:close(code, reason)
  conn.close(self.pipe.conn, code, lawful(reason or ""))
end

--- Another extension in use on this connection; nil if it is not.
---@param name string
---@return khp.ExtensionSession? session
function Link:other(name)
  return self.pipe:session(name)
end

--- Drops the connection at once, without a close frame.
function Link:abort()
  conn.abort(self.pipe.conn)
end

--- Seconds since anything arrived from the peer, including control frames and parts of messages.
---@return number seconds
function Link:silence()
  return conn.silence(self.pipe.conn)
end

--- The maximum message size at present: that of the handshake, or of the open connection. An extension that makes
--- messages larger, as decompression does, has to observe it and close with 1009.
---@return integer bytes
function Link:limit()
  return conn.limit(self.pipe.conn)
end

-- Making ------------------------------------------------------------------------------------------------------------

local BITS = { [0] = 0, 4, 2, 1 } -- RSV1 is the highest of the three (RFC 6455 5.2)

-- Of alternatives, the first that can. nil, a message and perhaps a session: none, or the connection is at its end
-- because of one.
local function start(link, one)
  local self, message = link.pipe.conn, nil
  for _, candidate in ipairs(one.alternatives) do
    local session
    session, message = guard(link, candidate.definition.start, link, one.parameters, candidate.memory)
    if session and type(session) ~= "table" then
      session, message = fail(link, "start: a table expected, not " .. type(session))
    end
    if self.state ~= "open" then
      return nil, message or link.name .. " has ended the connection", session
    elseif session then
      return session
    end
  end
  return nil, message or link.name .. " could not start"
end

---@param self userdata the connection
---@return khp.Pipeline
local function new(self)
  return setmetatable({ conn = self, top = nil, bottom = nil, bits = 0, sent = 0, delivered = false }, Pipeline)
end

--- Puts extensions to work. Those that are there already, the opening's, stay nearer to the wire.
---@param self userdata the connection
---@param pipe khp.Pipeline? of the opening
---@param role "server"|"client"
---@param agreed khp.Agreed[] in the order of the header
---@return khp.Pipeline? pipe
---@return string? message an extension cannot work with what was agreed
function pipeline.attach(self, pipe, role, agreed)
  local problem
  pipe = pipe or new(self)
  for i = #agreed, 1, -1 do
    local one = agreed[i]
    local link = setmetatable({
      name = one.name,
      role = role,
      conn = self,
      parameters = one.parameters,
      pipe = pipe,
      above = nil,
      below = pipe.top,
      session = nil,
      bit = BITS[one.alternatives[1].definition.rsv or 0],
      timers = nil,
      over = false,
    }, Link)
    local session, message, begun = start(link, one)
    link.session = session or begun or {} -- what it has begun ends with the connection, even so
    if pipe.top then
      pipe.top.above = link
    else
      pipe.bottom = link
    end
    pipe.top = link
    pipe.bits = pipe.bits + link.bit
    if not session then
      problem = message
      break
    end
  end
  conn.pipe(self, pipe, pipe.bits)
  return not problem and pipe or nil, problem
end

return pipeline
