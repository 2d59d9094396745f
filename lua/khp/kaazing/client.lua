-- The client's side of the extended handshake for any server, Kaazing's gateway and its balancer among them: the
-- machine of khp.extended.client, and around it what a gateway sends besides. Its directives and empty messages are
-- understood from whoever sends them; where the URL asks for them, the connection is open only after the last of them.
-- This file must not know sockets, clocks, policies, or where a redirect may lead.

local common = require "khp.opening.common"
local dialect = require "khp.kaazing.dialect"
local extended = require "khp.extended.client"
local reason = require "khp.extended.reason"

local client = {}

local find, match, sub = string.find, string.match, string.sub
local error, ipairs, setmetatable = error, ipairs, setmetatable
local push = common.push
local GO_ON, MARK = dialect.GO_ON, dialect.MARK

-- States of its own; before them, those of the inner machine are the states.
local COMPLETED, OPEN, CLOSED = "completed", "open", "closed"

---@class khp.kaazing.Client: khp.extended.Client
---@field state "ready"|"waiting"|"judging"|"challenged"|"completed"|"open"|"closed" completed: something is still due
---@field machine khp.extended.Client
local methods = {}

local metatable = { __name = "khp.kaazing.client" }

function metatable.__index(self, name)
  if name == "state" then
    return self.own or self.machine.state
  end
  return methods[name]
end

--- A machine for one connection, whose opening handshake has chosen KHP (KHP E1).
---@param given khp.extended.ClientOptions
---@return khp.kaazing.Client
function client.new(given)
  local machine = extended.new(given)
  local query, due, what = match(given.target, "%?(.*)$"), false, nil
  if dialect.has_directives(query) then
    due, what = GO_ON, "the second directive"
  elseif dialect.has_ends(query) then
    due, what = "", "the response's end"
  end
  return setmetatable({
    machine = machine,
    due = due, -- the message after the response that completes with which the connection is open, if any
    what = what,
    expires = machine:deadline(),
    own = false, -- the state, once it is none of the inner machine's
    result = false, -- of the handshake, until what is due has come
    closed_with = false, -- code and reason, when the WebSocket is closed
    held = false, -- messages and their kinds that came while a response was being judged
    held_size = 0,
    first = 0,
    last = 0,
  }, metatable)
end

--- As khp.extended.client. A directive that leads elsewhere is a "redirect", whose response is an empty table.
methods.poll = common.poll

-- What the inner machine says; that it is open may be too early.
local function relay(self)
  local machine = self.machine
  local name, a, b, c = machine:poll()
  while name do
    if name == "open" and self.due then
      self.own, self.result = COMPLETED, a
    else
      push(self, name, a, b, c)
    end
    name, a, b, c = machine:poll()
  end
end

local function close(self, code, message)
  self.own, self.held = CLOSED, false
  if not self.closed_with then
    push(self, "close", code, reason(message))
  end
end

-- Ends the handshake without success. permanent: the same again cannot help.
local function fail(self, message, code, permanent)
  local machine, closed = self.machine, self.closed_with
  local response = machine.response
  push(self, "failed", message, code, {
    status = response and response.status,
    headers = response and response.headers,
    body = response and response.body,
    attempts = machine.attempt,
    permanent = permanent,
    code = closed and closed[1] or nil,
    reason = closed and closed[2] or nil,
  })
  close(self, 1011, message) -- KHP E10, E16
end

-- Messages ---------------------------------------------------------------------------------------------------------

-- Messages that come while a response is being judged are kept; so many of them and no more.
local MOST_HELD = 256

local function hold(self, bytes, kind)
  local held = self.held or {}
  self.held, self.held_size = held, self.held_size + #bytes
  held[#held + 1], held[#held + 2] = bytes, kind or "binary"
  if #held > 2 * MOST_HELD or self.held_size > self.machine.limits.extended_message then
    fail(self, "too many messages after a response", "ELIMIT", false)
  end
end

local function lead(self, location)
  if location == "" then -- a balancer that has nobody to lead to
    return fail(self, "the balancer knows no server that could take the connection", "EHANDSHAKE", false)
  elseif find(location, "[^\33-\126]") then -- RFC 3986 2: as in Location, no blanks and no controls
    return fail(self, "a directive that leads to what is no URL", "EPROTOCOL", true)
  end
  push(self, "redirect", location, {}) -- KHP E12
  close(self, 1000, "")
end

--- A WebSocket message came. After a "close" it is ignored; after "open" it is the application's, and an error here.
---@param bytes string
---@param kind "text"|"binary"|nil both are understood (KHP E3)
function methods:message(bytes, kind)
  local state, machine = self.state, self.machine
  if state == OPEN then
    error("the extended handshake is completed: messages are the application's now", 2)
  elseif state == CLOSED then
    return
  elseif state == "judging" then
    hold(self, bytes, kind)
  elseif state == COMPLETED and bytes == self.due then
    self.own = OPEN
    push(self, "open", self.result)
  elseif bytes == "" then -- the end of a response, which has ended by itself
    return
  elseif machine.assembly then -- it goes on with a response, whatever it looks like
    machine:message(bytes, kind)
    relay(self)
  elseif bytes == GO_ON then
    return
  elseif sub(bytes, 1, #MARK + 1) == MARK .. "R" then
    lead(self, sub(bytes, #MARK + 2))
  elseif state == COMPLETED then -- KHP E2
    fail(self, "a message where " .. self.what .. " is due", "EPROTOCOL", true)
  else
    machine:message(bytes, kind)
    relay(self)
  end
end

-- What came while a response was being judged.
local function resume(self)
  local held = self.held
  self.held, self.held_size = false, 0
  for i = 1, held and #held or 0, 2 do
    if self.state == OPEN then
      push(self, "message", held[i], held[i + 1])
    else
      self:message(held[i], held[i + 1])
    end
  end
end

-- Calls ------------------------------------------------------------------------------------------------------------

for _, name in ipairs { "start", "act", "authorize", "give_up" } do
  methods[name] = function(self, ...)
    if self.own == CLOSED then
      return nil, "the extended handshake is over", "ECLOSED"
    end
    local machine = self.machine
    local ok, message, code = machine[name](machine, ...)
    relay(self)
    if name == "act" and ok then
      resume(self)
    end
    return ok, message, code
  end
end

--- When tick has to be called, in the driver's seconds; nil: never.
---@return number?
function methods:deadline()
  local own = self.own
  if not own then
    return self.machine:deadline()
  end
  return own == COMPLETED and self.expires or nil
end

--- Tells the time; also before a message is fed, so that the wait after a 202 is counted from then.
---@param now number seconds
function methods:tick(now)
  if not self.own then
    self.machine:tick(now)
    relay(self)
  elseif self.own == COMPLETED and self.expires and now >= self.expires then
    fail(self, self.what .. " did not come in time", "ETIMEOUT", false)
  end
end

--- The WebSocket is closed (KHP E16): nothing can be sent any more. A response that was complete before is still
--- acted on.
---@param code integer? of the peer's close
---@param text string? likewise
function methods:finish(code, text)
  if self.own == OPEN or self.own == CLOSED then
    return
  end
  self.closed_with = { code, text }
  if self.own == COMPLETED then
    fail(self, "the server closed before " .. self.what, "ECLOSED", false)
  else
    self.machine:finish(code, text)
    relay(self)
  end
end

return client
