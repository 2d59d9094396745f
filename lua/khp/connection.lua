-- What an application may do with an open connection: the methods of "khp.conn". Messages reach it in one of two
-- ways: a callback hears them at once, or they wait in an inbox for receive(); a full inbox stops the peer.
-- This file must not know how the connection came to be: server.lua and client.lua hand it over with adopt().

local core = require "khp.core"
local http = require "khp.http"
local log = require "khp.log"
local task = require "khp.task"

local conn, loop = core.conn, core.loop
local unpack = table.unpack or unpack

local connection = {}

--- How a connection ended.
---@class khp.Closed
---@field code integer close code: the one received, else the one sent, else 1006
---@field reason string reason received or sent, or a network error; may be ""
---@field clean boolean whether close frames were exchanged in both directions
---@field by "local"|"peer"|"network"|"timeout" what ended it

--- A WebSocket connection; client and server use the same kind of object. As a to-be-closed variable
--- (`local conn <close> = …`) it starts to close at the end of its scope, without waiting.
---@class khp.Connection: userdata
---@field protocol string? the negotiated subprotocol
---@field extensions table[] the negotiated extensions, each { name =, parameters = }
---@field khp boolean whether the extended handshake took place
---@field url string? client: the URL it is connected to, after redirects
---@field request table the opening request
---@field response table? client: the opening response
---@field peer table the peer's address: { host =, port = }, or { path = } for a Unix socket
---@field state "connecting"|"opening"|"open"|"closing"|"closed" an application sees only the last three
---@field closed khp.Closed? how it ended; nil before that
---@field captures string[]? server: what the route's pattern captured
---@field data table free for use by policies and the application

---@class khp.Handlers  an application's callbacks, all optional
---@field on_message fun(conn: khp.Connection, message: string, kind: "text"|"binary")?
---@field on_close fun(conn: khp.Connection, code: integer, reason: string)?
---@field on_drain fun(conn: khp.Connection)?

-- An inbox that holds this much stops reading, and starts again when it is empty.
local INBOX_BYTES, INBOX_MESSAGES = 1024 * 1024, 1024

-- At the end of a connection comes all that has been read. What is beyond this is lost, and the connection aborted.
local LAST_BYTES, LAST_MESSAGES = 4 * INBOX_BYTES, 64 * INBOX_MESSAGES

-- The state of an adopted connection is a place (khp.task) where receive() waits; besides it has
--   handlers   the application's callbacks
--   first, last, bytes, [2i], [2i+1]   the inbox: message and kind, and their sum; nil until needed
--   full, held         reading is stopped by the inbox; by pause()
--   pings, draining, ending            places of ping(), drain() and close()
--   on_gone    told when the stream is gone
--   pipe       of extensions

local function enqueue(self, message, kind)
  local state = conn.state(self)
  if state.waiter and task.wake(state, message, kind) then
    return
  end
  local last = (state.last or 0) + 1
  state.first = state.first or 1
  state.last = last
  state[2 * last], state[2 * last + 1] = message, kind
  state.bytes = (state.bytes or 0) + #message
  if not state.full and (state.bytes > INBOX_BYTES or last - state.first >= INBOX_MESSAGES) then
    state.full = true
    conn.pause(self)
  elseif state.full and (state.bytes > LAST_BYTES or last - state.first >= LAST_MESSAGES) then
    conn.abort(self)
  end
end

local function dequeue(self, state)
  local first = state.first
  local message, kind = state[2 * first], state[2 * first + 1]
  state[2 * first], state[2 * first + 1] = nil, nil
  state.bytes = state.bytes - #message
  if first < state.last then
    state.first = first + 1
    return message, kind
  end
  state.first, state.last, state.bytes = nil, nil, nil
  if state.full then
    state.full = nil
    if not state.held then
      conn.resume(self)
    end
  end
  return message, kind
end

local events = {}

function events.closed(self, state, code, reason, clean, by)
  conn.fields(self).closed = { code = code, reason = reason, clean = clean, by = by }
  if not clean and log.enabled "info" then
    log.info("%s: ended with %d by %s%s", log.peer(self), code, by, reason ~= "" and ": " .. log.quote(reason) or "")
  end
  task.wake(state, nil, "closed")
  if state.draining then
    task.wake(state.draining)
  end
  if state.pings then
    for _, place in pairs(state.pings) do
      task.wake(place)
    end
  end
  if state.ending then
    task.wake(state.ending)
  end
  local on_close = state.handlers.on_close -- the last, for it may throw
  if on_close then
    on_close(self, code, reason)
  end
end

function events.pong(_, state, payload)
  local place = state.pings and state.pings[payload]
  if place then
    task.wake(place, loop.clock())
  end
end

function events.drained(self, state)
  if state.draining then
    task.wake(state.draining, true)
  end
  local on_drain = state.handlers.on_drain
  if on_drain then
    on_drain(self)
  end
end

function events.gone(self, state)
  if state.on_gone then
    state.on_gone(self)
  end
end

-- Fields that are seldom asked for are made of what is at hand when they are.
local lazy = { __index = {} }

---@param fields table with the raw head of a request or response in [lazy]
function lazy.__index(fields, name)
  if name == "request" and fields[lazy] then
    local request = http.parse_request(fields[lazy])
    fields.request = request
    return request
  elseif name == "data" then
    local data = {}
    rawset(fields, "data", data)
    return data
  end
  return nil
end

--- The extensions of both handshakes together: those of the opening stay in force.
---@param opening table[] parsed
---@param extended table[]? likewise; nil where there was no extended handshake
---@return table[]
function connection.extensions(opening, extended)
  if not extended or not opening[1] then
    return extended or opening
  end
  local all = {}
  for i = 1, #opening do
    all[i] = opening[i]
  end
  for i = 1, #extended do
    all[#all + 1] = extended[i]
  end
  return all
end

-- Delivers an event that came before the connection was adopted.
local function replay(self, name, ...)
  local state, ok, message = conn.state(self), true, nil
  if name == "message" then
    ok, message = xpcall(state.handlers.on_message or enqueue, debug.traceback, self, ...)
  elseif events[name] then
    ok, message = xpcall(events[name], debug.traceback, self, state, ...)
  end
  if not ok then
    log.error("%s: %s", name, message)
    conn.close(self, 1011, "internal error")
  end
end

--- Makes an open connection the application's.
---@param self userdata
---@param fields table the public fields
---@param handlers khp.Handlers
---@param head string? the opening request's head, from which the field `request` is made when asked for
---@param on_gone fun(conn: userdata)?
---@param pipe khp.Pipeline? of the extensions that are at work
---@param early table[]? events that came already, in order: { "message", message, kind }, { "closed", … }; what the
---  connection holds back still comes after them
function connection.adopt(self, fields, handlers, head, on_gone, pipe, early)
  fields[lazy] = head
  conn.fields(self, setmetatable(fields, lazy))
  conn.on_event(self, events, { handlers = handlers, on_gone = on_gone, pipe = pipe })
  conn.on_message(self, handlers.on_message or enqueue)
  conn.open(self)
  if pipe then
    pipe:open()
  end
  for i = 1, early and #early or 0 do
    replay(self, unpack(early[i], 1, 7))
  end
  conn.next(self)
end

-- nil, "closed", "ECLOSED", detail
local function closed(self)
  return nil, "closed", "ECLOSED", self.closed or {}
end

---@class khp.Connection
local methods = conn.methods

--- Queues a message, which is sent when control returns to the event loop. Never waits.
---@param message string must be UTF-8 if it is text
---@param kind "text"|"binary"|nil default "text"
---@return true? sent
---@return string? message
---@return string? code ELIMIT: the queue is full (backpressure); wait for on_drain or with drain(). EPROTOCOL: the text
---  is not UTF-8. EHANDSHAKE: the handshakes are not complete. EEXTENSION: an extension refused it. ECLOSED
---@return table? detail
methods.send = conn.send

--- Bytes in the send queue: sent by the program, but not yet taken by the operating system.
---@return integer bytes
methods.queued = conn.queued

--- The TLS session: { version, cipher, server_name, alpn, peer_subject, peer_verified, resumed }; nil without TLS.
---@return table? session
methods.tls = conn.tls

--- Returns the next message. Waits. Throws if another task is already waiting for a message of this connection, or if
--- the connection has an on_message callback.
---@param timeout number? seconds; nil: no timeout
---@return string? message
---@return string kind "text" or "binary"; on failure the error message
---@return string? code ETIMEOUT, ECLOSED
---@return khp.Closed? detail
function methods.receive(self, timeout)
  local state = conn.state(self)
  if state.handlers.on_message then
    error("receive: on_message hears the messages of this connection", 2)
  elseif state.first then
    return dequeue(self, state)
  elseif self.closed then
    return closed(self)
  end
  local message, kind = task.wait(state, timeout)
  if message then
    return message, kind
  elseif kind == "timeout" then
    return nil, "timeout: no message in " .. tostring(timeout) .. " s", "ETIMEOUT", {}
  end
  return closed(self)
end

local function next_message(self)
  return methods.receive(self)
end

--- Iterates over the messages until the connection is closed: `for message, kind in conn:each() do … end`. Waits, as
--- receive() does.
---@return fun(conn: khp.Connection): string?, string?
---@return khp.Connection
function methods.each(self)
  return next_message, self
end

--- Sends a ping and waits for its pong.
---@param timeout number? seconds; default 20
---@return number? seconds round-trip time
---@return string? message
---@return string? code ETIMEOUT, ECLOSED, ELIMIT
---@return table? detail
function methods.ping(self, timeout)
  task.check_waiting(2)
  local state = conn.state(self)
  local pings = state.pings or {}
  state.pings = pings
  local count = (state.ping_count or 0) + 1
  state.ping_count = count
  local payload = ("khp %d"):format(count)
  local sent, message, code, detail = conn.send_ping(self, payload)
  if not sent then
    return nil, message, code, detail
  end
  local place, before = {}, loop.clock()
  pings[payload] = place
  local after, why = task.wait(place, timeout or 20)
  pings[payload] = nil
  if after then
    return after - before
  elseif why == "timeout" then
    return nil, "timeout: no pong", "ETIMEOUT", {}
  end
  return closed(self)
end

--- Waits until a send queue that was full has fallen below half its limit; returns at once if it was not full.
---@param timeout number? seconds; nil: no timeout
---@return true? ok
---@return string? message
---@return string? code ETIMEOUT, ECLOSED
---@return table? detail
function methods.drain(self, timeout)
  local state = conn.state(self)
  if self.state ~= "open" then
    return closed(self)
  elseif not conn.congested(self) then
    return true
  end
  state.draining = state.draining or {}
  local drained, why = task.wait(state.draining, timeout)
  if drained then
    return true
  elseif why == "timeout" then
    return nil, "timeout: the peer does not read", "ETIMEOUT", {}
  end
  return closed(self)
end

--- Closes the connection gracefully: sends what is queued, then a close frame. In a task or the main chunk, waits for
--- the peer's close frame (limit `close`); in a callback, returns at once. Further calls have no effect.
---@param code integer? 1000 (default) to 1003, 1007 to 1014, 3000 to 4999
---@param reason string? UTF-8, at most 123 bytes
---@return true
function methods.close(self, code, reason)
  if code ~= nil and type(code) ~= "number" then
    error("close: a code expected, not " .. type(code), 2)
  elseif reason ~= nil and type(reason) ~= "string" then
    error("close: a reason expected, not " .. type(reason), 2)
  end
  conn.close(self, code or 1000, reason or "")
  local state = conn.state(self)
  local is_adopted = state.handlers ~= nil -- else it is an extension that closes, in the middle of a handshake
  if is_adopted and not self.closed and not (state.ending and state.ending.waiter) and task.can_wait() then
    state.ending = state.ending or {}
    task.wait(state.ending)
  end
  return true
end

--- The session of an extension at work on this connection, as its start() returned it.
---@param name string
---@return khp.ExtensionSession? session nil: not negotiated, or without an implementation here
function methods.extension(self, name)
  local pipe = conn.state(self).pipe
  return pipe and pipe:session(name)
end

--- Stops reading, so that TCP slows the peer down (backpressure). Messages that were already read may still arrive,
--- and do when the connection ends. Keepalive pings stop meanwhile.
function methods.pause(self)
  conn.state(self).held = true
  conn.pause(self)
end

--- Reads again after pause().
function methods.resume(self)
  local state = conn.state(self)
  state.held = nil
  if not state.full then
    conn.resume(self)
  end
end

return connection
