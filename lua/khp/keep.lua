-- A connection that comes back: khp.keep. When an attempt fails, or the connection ends, it is made again after a
-- while, with the whole handshake anew, until somebody closes it or trying again could not help. One task drives it;
-- nothing of it is left once it has ended. This file must not know the handshakes, nor how a connection is made.

local attempt = require "khp.attempt"
local client = require "khp.client"
local core = require "khp.core"
local crypto = require "khp.crypto"
local http = require "khp.http"
local limits = require "khp.limits"
local log = require "khp.log"
local options = require "khp.options"
local promise = require "khp.promise"
local task = require "khp.task"
local tls = require "khp.tls"
local uri = require "khp.uri"
local world = require "khp.policy.world"

local conn, loop = core.conn, core.loop
local max, min = math.max, math.min
local unpack = table.unpack or unpack

local keep = {}

-- Codes after which trying again does not help, whatever the detail says.
local PERMANENT = { EAUTH = true, EPOLICY = true, EREDIRECT = true }

-- RFC 6455 7.4.1: "you violate my rules" is the one close code of a peer that coming back does not mend.
local DO_NOT_COME_BACK = { [1008] = true }

-- A server may ask for patience, and for no more than this, in seconds.
local MOST_PATIENCE = 3600

-- Messages that are queued at most, however short they are.
local MOST_QUEUED = 65536

local declaration
do
  local entries = {
    delay = { type = "number", default = 0.5, min = 0.001 },
    longest = { type = "number", default = 30, min = 0.001 },
    jitter = { type = "number", default = 1, min = 0, max = 1 },
    stable = { type = "number", default = 10, min = 0 },
    attempts = { type = "integer", min = 1 },
    queue = { type = "integer", default = 1048576, min = 0 },
    on_up = { type = "function" },
    on_down = { type = "function" },
  }
  for name, option in pairs(client.declaration.entries) do
    if name ~= "on_close" then -- on_down says more
      entries[name] = option
    end
  end
  declaration = options.declare("khp.keep", entries)
end

--- All options of khp.connect() except on_close.
---@class khp.KeepOptions: khp.ConnectOptions
---@field delay number? seconds, at least 0.001: upper bound of the first wait before reconnecting; doubles with each
---  failure; default 0.5
---@field longest number? seconds, at least 0.001: upper bound of every wait, without the Retry-After of a 429 or 503;
---  default 30
---@field jitter number? 0 to 1: the random share of each wait; default 1: all of it
---@field stable number? seconds: a connection that lasted this long resets the waits; default 10
---@field attempts integer? number of failures in a row after which to give up; default: no maximum
---@field queue integer? bytes of messages, of which there may be 65536, to queue while there is no connection; 0: none;
---  default 1048576
---@field on_up fun(conn: khp.Connection)? runs in its own task for each connection. What it sends before it first waits
---  is sent before the queued messages
---@field on_down fun(message: string, code: string, detail: khp.Down)? runs in its own task after each failed attempt
---  and each closed connection, but not after close()

--- The detail of khp.connect(), or how the connection ended (khp.Closed), and:
---@class khp.Down
---@field again number? seconds until the next attempt; nil: it has given up
---@field permanent boolean? whether retrying cannot help

--- A connection that reconnects. As a to-be-closed variable (`local kept <close> = …`) it is closed at the end of its
--- scope.
---@class khp.Keep
---@field package options table
---@field package phase "connecting"|"up"|"waiting"|"closed"
---@field package conn khp.Connection?
---@field package attempting userdata? the connection that is being made
---@field package failures integer in a row
---@field package sources khp.Connection[] whose inboxes receive() reads: the last that ended, and the present one
---@field package queued table[] { message, kind } each, from index `first` to `last`
---@field package first integer
---@field package last integer
---@field package bytes integer of all that is queued
---@field package arrival khp.Promise of the next connection
---@field package place khp.Place where the task waits
---@field package task thread
---@field package why table? message, code, detail of the end
local methods = {}
local mt = { __index = methods, __name = "khp.keep" }

-- The one place where the phase changes.
local function become(self, phase)
  self.phase = phase
  log.debug("%s: %s", self.name, phase)
end

-- The end, of itself or not: whoever waits learns why.
local function finish(self, message, code, detail)
  self.why = { message, code, detail }
  self.queued, self.first, self.last, self.bytes = {}, 1, 0, 0
  become(self, "closed")
  self.arrival:reject(message, code, detail)
end

-- How long to wait ---------------------------------------------------------------------------------------------------

-- From 0 up to, but not including, 1.
local function chance()
  local a, b, c = crypto.random(3):byte(1, 3)
  return (a * 65536 + b * 256 + c) / 16777216
end

-- "Full jitter" of Marc Brooker's "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015): anything up to a cap
-- that doubles with each failure, so that those whom a server lost together do not come back together.
local function backoff(self)
  local given = self.options
  local cap = min(given.longest, given.delay * 2 ^ min(max(self.failures - 1, 0), 60))
  return cap * (1 - given.jitter * chance())
end

-- RFC 7231 7.1.3: a number of seconds, or a date.
local function retry_after(detail)
  local value = (detail.status == 503 or detail.status == 429) and detail.headers and detail.headers["retry-after"]
  if not value then
    return 0
  end
  local date = not value:find "^%d+$" and http.parse_date(value)
  local seconds = date and date - os.time() or tonumber(value) or 0
  return max(0, min(seconds, MOST_PATIENCE))
end

-- Seconds until the next attempt, or nil where there is none.
local function patience(self, code, detail)
  local most = self.options.attempts
  if detail.permanent or PERMANENT[code] or most and self.failures >= most then
    return nil
  end
  return retry_after(detail) + backoff(self)
end

-- The task -----------------------------------------------------------------------------------------------------------

-- A connection, or nil, message, code, detail.
local function connect(self)
  become(self, "connecting")
  local call = self.call
  self.call = nil
  if not call then
    local message, code, detail
    call, message, code, detail = client.prepare("khp.keep", self.url, self.given, self.wires, self.world)
    if not call then
      return nil, message, code, detail
    end
  end
  return client.make(call)
end

-- The same, where the program's own function `trace` may throw: then nobody knows what trying again would do.
local function try(self)
  local ok, opened, message, code, detail = xpcall(connect, debug.traceback, self)
  self.attempting = nil
  if not ok then
    log.error("%s: %s", self.name, opened)
    return nil, opened:match "^[^\n]*", "EPOLICY", { permanent = true }
  end
  return opened, message, code, detail or {}
end

-- Sends what was kept, in order, as fast as the connection takes it.
local function flush(self, connection)
  while self.first <= self.last and not self.why do
    local entry = self.queued[self.first]
    local sent, message, code = connection:send(entry[1], entry[2])
    if code == "ECLOSED" then
      return
    elseif code == "ELIMIT" then
      task.wait(self.place) -- until it is drained or closed
    else
      self.queued[self.first] = nil
      self.first, self.bytes = self.first + 1, self.bytes - #entry[1]
      if not sent then
        log.error("%s: a message that was kept is refused: %s", self.name, message)
      end
    end
  end
end

-- As long as the connection lasts. Returns message, code, detail of its end.
local function stand(self, connection)
  local since, arrived = loop.clock(), self.arrival
  self.conn, self.arrival = connection, promise.new()
  self.sources[#self.sources + 1] = connection
  if self.sources[3] then -- what nobody received of a connection before the last is lost
    table.remove(self.sources, 1)
  end
  become(self, "up")
  if self.options.on_up then
    task.spawn(self.options.on_up, connection)
  end
  arrived:resolve(connection)
  flush(self, connection)
  while not connection.closed do
    task.wait(self.place)
  end
  self.conn = nil
  local closed = connection.closed
  self.failures = loop.clock() - since >= self.options.stable and 0 or self.failures + 1
  local says_it = closed.reason == "" or closed.reason == "closed by the peer"
  local reason = says_it and "" or ": " .. log.quote(closed.reason)
  return ("closed with %d by %s%s"):format(closed.code, closed.by, reason), "ECLOSED", {
    code = closed.code,
    reason = closed.reason,
    clean = closed.clean,
    by = closed.by,
    permanent = closed.by == "peer" and DO_NOT_COME_BACK[closed.code] or nil,
  }
end

local function run(self)
  self.task = coroutine.running()
  while true do
    local connection, message, code, detail = try(self)
    if connection and not self.why then
      message, code, detail = stand(self, connection)
    elseif connection then
      connection:close(1001)
    else
      self.failures = self.failures + 1
    end
    if self.why then
      return
    end
    local seconds = patience(self, code, detail)
    detail.again, detail.permanent = seconds, detail.permanent or PERMANENT[code]
    log.info("%s: %s (%s), %s", self.name, message, code,
      seconds and ("again in %.1f s"):format(seconds) or "no further attempt")
    if seconds then
      become(self, "waiting")
    else
      finish(self, message, code, detail)
    end
    if self.options.on_down then
      task.spawn(self.options.on_down, message, code, detail)
    end
    if self.why then
      return
    end
    task.wait(self.place, seconds)
  end
end

-- The options of each connection.
local function for_each(self, checked)
  local given = {}
  for name in pairs(client.declaration.entries) do
    given[name] = checked[name]
  end
  given.limits = self.bounds
  function given.on_close()
    task.wake(self.place)
  end
  function given.on_drain(connection)
    task.wake(self.place)
    if checked.on_drain then
      checked.on_drain(connection)
    end
  end
  return given
end

--- Starts to connect, and reconnects whenever the connection is lost. Returns at once. What makes every attempt fail (a
--- policy that does not load, a missing certificate) is returned as an error.
---@param url string as for khp.connect()
---@param given khp.KeepOptions?
---@return khp.Keep? kept
---@return string? message
---@return string? code EPOLICY, ETLS
---@return table? detail
function keep.new(url, given)
  local checked = options.check(declaration, given, 2)
  local self = setmetatable({
    options = checked,
    bounds = limits.resolve(checked.limits, 2),
    phase = "connecting",
    url = url,
    world = world.new(),
    failures = 0,
    sources = {},
    queued = {},
    first = 1,
    last = 0,
    bytes = 0,
    arrival = promise.new(),
    place = {},
  }, mt)
  self.given = for_each(self, checked)
  self.wires = setmetatable({
    connect = function(...)
      self.attempting = attempt.wires.connect(...)
      return self.attempting
    end,
  }, { __index = attempt.wires })
  local message, code, detail
  self.call, message, code, detail = client.prepare("khp.keep", url, self.given, self.wires, self.world)
  if not self.call then
    return nil, message, code, detail
  elseif checked.tls then
    local settings
    settings, message, code, detail = tls.client(checked.tls, 2)
    if not settings then
      return nil, message, code, detail
    end
  end
  self.name = uri.show(self.call.first)
  task.spawn(run, self)
  return self
end

-- What the application does ------------------------------------------------------------------------------------------

-- nil, "closed", "ECLOSED", detail: no more of it after the end.
local function ended(self)
  return nil, "closed", "ECLOSED", self.why[3]
end

local function store(self, message, kind)
  if not kind or kind == "text" then
    if not conn.utf8(message) then
      return nil, "a text message must be UTF-8; send it as \"binary\"", "EPROTOCOL", {}
    end
  elseif kind ~= "binary" then
    error("send: \"text\" or \"binary\" expected, not " .. tostring(kind), 3)
  end
  local most = self.options.queue
  if most == 0 then
    return nil, "there is no connection", "ECLOSED", {}
  elseif #message + core.frame.HEADER_MAX > self.bounds.queue then
    return nil, "the message is larger than the send queue may be", "ELIMIT", {}
  elseif self.bytes + #message > most then
    return nil, "no more messages are kept: they have " .. self.bytes .. " bytes", "ELIMIT", {}
  elseif self.last - self.first + 1 >= MOST_QUEUED then
    return nil, ("no more messages are kept: there are %d"):format(MOST_QUEUED), "ELIMIT", {}
  end
  self.last, self.bytes = self.last + 1, self.bytes + #message
  self.queued[self.last] = { message, kind }
  return true
end

--- Sends a message, or queues it until there is a connection; messages keep their order. Never waits. Each message is
--- sent at most once: it is lost without notice if the connection breaks while it is on its way.
---@param message string must be UTF-8 if it is text
---@param kind "text"|"binary"|nil default "text"
---@return true? sent
---@return string? message
---@return string? code ELIMIT: the queue (option `queue`), or the connection's own, is full. ECLOSED: it has ended, or
---  `queue` is 0. EPROTOCOL: the text is not UTF-8
---@return table? detail
function methods:send(message, kind)
  if type(message) ~= "string" then
    error("send: a message expected, not " .. type(message), 2)
  elseif self.why then
    return ended(self)
  end
  local connection = self.conn
  if connection and self.first > self.last and connection.state == "open" then
    return connection:send(message, kind)
  end
  local kept, why, code, detail = store(self, message, kind)
  return kept, why, code, detail
end

--- Returns the next message; messages left from the last lost connection come first. Waits, also while reconnecting.
--- Only one task may receive at a time. Throws if there is an on_message callback.
---@param timeout number? seconds; nil: no timeout
---@return string? message
---@return string kind "text" or "binary"; on failure the error message
---@return string? code ETIMEOUT; ECLOSED or another: why it has ended
---@return table? detail
function methods:receive(timeout)
  if self.options.on_message then
    error("receive: on_message hears the messages of this connection", 2)
  elseif timeout ~= nil and (type(timeout) ~= "number" or timeout ~= timeout) then
    error("receive: a time in seconds expected, not " .. tostring(timeout), 2)
  end
  task.check_waiting(2)
  local due = timeout and loop.clock() + timeout
  while true do
    local source, left = self.sources[1], due and max(due - loop.clock(), 0)
    local is_late
    if source then
      local message, kind, code = source:receive(left)
      if message then
        return message, kind
      elseif code == "ECLOSED" and self.sources[1] == source then
        table.remove(self.sources, 1)
      end
      is_late = code == "ETIMEOUT"
    elseif self.why then
      return nil, unpack(self.why, 1, 3)
    else
      local _, _, code = self.arrival:wait(left)
      is_late = code == "ETIMEOUT" and not self.why
    end
    if is_late then
      return nil, "timeout: no message in " .. tostring(timeout) .. " s", "ETIMEOUT", {}
    end
  end
end

local function next_message(self)
  return methods.receive(self)
end

--- Iterates over the messages until it has ended: `for message, kind in kept:each() do … end`. Waits, as receive()
--- does.
---@return fun(kept: khp.Keep): string?, string?
---@return khp.Keep
function methods:each()
  return next_message, self
end

--- What it is doing: "connecting", "up", "waiting" for the next attempt, or "closed".
---@return "connecting"|"up"|"waiting"|"closed" state
---@return khp.Connection? conn the connection when "up"
function methods:state()
  return self.phase, self.phase == "up" and self.conn or nil
end

--- Waits until there is a connection, and returns it. Any number of tasks may wait.
---@param timeout number? seconds; nil: no timeout
---@return khp.Connection? conn
---@return string? message
---@return string? code ETIMEOUT; ECLOSED or another: why it has ended
---@return table? detail
function methods:wait_up(timeout)
  if timeout ~= nil and (type(timeout) ~= "number" or timeout ~= timeout) then
    error("wait_up: a time in seconds expected, not " .. tostring(timeout), 2)
  elseif self.conn and self.conn.state == "open" then
    return self.conn
  elseif self.why then
    return nil, unpack(self.why, 1, 3)
  end
  task.check_waiting(2)
  local connection, message, code, detail = self.arrival:wait(timeout)
  return connection, message, code, detail
end

-- Takes away what is being made. In the middle of the extended handshake the server is told.
local function abandon(half)
  conn.on_event(half, {}, nil)
  conn.on_message(half, function() end)
  if half.state == "open" then
    conn.close(half, 1001, "")
  else
    conn.abort(half)
  end
end

--- Ends it for good and drops queued messages. Closes the connection, if there is one, as conn:close() does. Further
--- calls have no effect.
---@param code integer? as for conn:close()
---@param reason string? as for conn:close()
---@return true
function methods:close(code, reason)
  if code ~= nil and type(code) ~= "number" then
    error("close: a code expected, not " .. type(code), 2)
  elseif reason ~= nil and type(reason) ~= "string" then
    error("close: a reason expected, not " .. type(reason), 2)
  end
  local connection, half = self.conn, self.attempting
  if not self.why then
    finish(self, "closed", "ECLOSED", {})
    if coroutine.status(self.task) == "suspended" then
      task.cancel(self.task)
      if half then
        abandon(half)
      end
    elseif half then -- it is a function of the program that closes, and the attempt goes on when that returns
      conn.abort(half)
    end
  end
  if connection then
    connection:close(code, reason)
  end
  return true
end

mt.__close = function(self)
  self:close()
end

function mt:__tostring()
  return "khp.keep: " .. self.name .. " (" .. self.phase .. ")"
end

return keep
