-- One connection of a client on its way to being open: TCP and TLS, the opening handshake, the extended handshake.
-- It runs where connect() was called and waits there for each event, so it reads from top to bottom. The rules of
-- both handshakes are the machines'. This file must not know what led here, nor what is tried after a failure.

local conn = require("khp.core").conn
local connection = require "khp.connection"
local extended = require "khp.extended.client"
local loop = require("khp.core").loop
local opening = require "khp.opening.client"
local status = require "khp.status"
local task = require "khp.task"
local uri = require "khp.uri"

local attempt = {}

local unpack = table.unpack or unpack

---@class khp.Call  what connect() was asked for, checked; shared by its attempts
---@field options table
---@field limits table
---@field policy khp.ClientPolicy
---@field trace fun(direction: string, stage: string, bytes: string)?

---@class khp.Attempt: khp.Place  the place where connect() waits; its events queue up in the array part
---@field call khp.Call
---@field target khp.Uri
---@field conn userdata
---@field wanted string? what the policy's `response` explicitly asked for
local methods = {}
local mt = { __index = methods, __name = "khp.attempt" }

local function push(self, ...)
  self[#self + 1] = { ... }
  task.wake(self)
end

local function on_event(raw, ...)
  push(conn.state(raw), ...)
end

local function on_message(raw, message, kind)
  push(conn.state(raw), "message", message, kind)
end

--- Begins to connect.
---@param call khp.Call
---@param target khp.Uri
---@param headers table? of the opening request
---@param settings userdata? TLS
---@param server_name string?
---@return khp.Attempt
function attempt.new(call, target, headers, settings, server_name)
  local timeout = call.options.timeout or call.limits.opening
  local self = setmetatable({
    call = call,
    target = target,
    headers = headers,
    due = loop.now() + timeout,
  }, mt)
  self.conn = conn.connect({
    host = target.host,
    port = target.port,
    path = target.unix,
    tls = settings,
    server_name = server_name,
    timeout = timeout,
  }, on_event, call.limits)
  conn.state(self.conn, self)
  conn.on_message(self.conn, on_message)
  return self
end

-- The next event's name and values; "deadline" when its time is up.
local function next_event(self, deadline)
  while not self[1] do
    local left = deadline and deadline - loop.now()
    if left and left <= 0 then
      return "deadline"
    end
    task.wait(self, left)
  end
  return unpack(table.remove(self, 1), 1, 7)
end

local function trace(self, direction, stage, bytes)
  if self.call.options.trace then
    self.call.options.trace(direction, stage, bytes)
  end
end

-- Asks a function of the policy: true and its answer, or false and the four returns' message.
local function ask(self, name, ...)
  local f = self.call.policy[name]
  if not f then
    return true, nil
  end
  local ok, answer = xpcall(f, debug.traceback, ...)
  if not ok then
    return false, ("policy: %s: %s"):format(name, answer)
  end
  return true, answer
end

-- TCP and TLS -------------------------------------------------------------------------------------------------------

local function reach(self)
  local name, _, reason, _, _, net = next_event(self, self.due)
  if name == "open" then
    return true
  elseif name == "closed" then
    return nil, reason, net or "ECONNECT", {}
  end
  return nil, "connecting took too long", "ETIMEOUT", {}
end

-- The opening handshake ---------------------------------------------------------------------------------------------

-- A lawful answer other than 101. What can be done about it stands in detail.action; the caller may do it.
local function refused(self, response)
  local action = status.action(response.status)
  local ok, wanted = ask(self, "response", response, action)
  if not ok then
    return nil, wanted, "EPOLICY", {}
  end
  self.wanted = wanted
  action = wanted or action
  return nil, ("the server answered %d %s"):format(response.status, response.reason), "EHANDSHAKE", {
    status = response.status,
    headers = response.headers,
    body = response.body,
    location = action == "redirect" and response.headers.location or nil,
    action = action,
    permanent = not status.is_temporary(response.status),
  }
end

local function open_websocket(self)
  local call, target = self.call, self.target
  local machine = opening.new {
    host = uri.host(target),
    target = target.target,
    protocols = call.options.protocols,
    extensions = call.options.extensions,
    headers = self.headers,
    origin = call.options.origin,
    khp = call.options.khp,
    limits = call.limits,
    now = loop.now(),
    timeout = call.limits.opening,
  }
  while true do
    local what, a, b, c = machine:poll()
    if what == "send" then
      trace(self, "send", "opening", a)
      conn.write(self.conn, a)
    elseif what == "open" then
      return a
    elseif what == "response" then
      return refused(self, a)
    elseif what == "failed" then
      return nil, a, b, c
    elseif not what then
      local name, bytes = next_event(self, machine:deadline())
      if name == "bytes" then
        trace(self, "receive", "opening", bytes)
        machine:feed(bytes)
      elseif name == "closed" then
        machine:finish()
      elseif name == "deadline" then
        machine:tick(loop.now())
      end
    end
  end
end

-- From bytes to messages: what arrived behind the head of the 101 is the first of them.
local function upgrade(self, rest)
  local parts, others = { rest }, {}
  for i = 1, #self do
    local event = self[i]
    self[i] = nil
    if event[1] == "bytes" then
      parts[#parts + 1] = event[2]
    else
      others[#others + 1] = event
    end
  end
  conn.upgrade(self.conn, "client")
  conn.stepwise(self.conn) -- what follows the 101 is the application's, under other limits
  local bytes = table.concat(parts)
  if bytes ~= "" then
    conn.feed(self.conn, bytes)
  end
  for _, event in ipairs(others) do
    self[#self + 1] = event
  end
end

-- The extended handshake --------------------------------------------------------------------------------------------

-- KHP E5: the extensions that the opening asked for and did not get.
local function not_negotiated(asked, negotiated)
  local taken, left = {}, {}
  for _, one in ipairs(negotiated) do
    taken[one.name] = true
  end
  for _, text in ipairs(asked) do
    if not taken[text:match "^[^;%s]+"] then
      left[#left + 1] = text
    end
  end
  return left
end

-- What to do with each thing that the machine says. A handler returns nil to go on, or false, message, code, detail.
local on = {}

function on.send(self, _, bytes, kind)
  trace(self, "send", "extended", bytes)
  conn.send(self.conn, bytes, kind)
end

function on.response(self, machine, response, action)
  local ok, wanted = ask(self, "response", response, action)
  if not ok then
    return false, wanted, "EPOLICY", {}
  end
  self.wanted = wanted
  local acted, message, code = machine:act(wanted or action)
  if not acted then
    return false, "policy: response: " .. message, code, {}
  end
end

function on.challenge(self, machine, challenges, _, count)
  local answer, message, code = self.call:authorize(challenges, self.target, count)
  if not answer and code == "EPOLICY" then
    return false, message, code, {}
  elseif answer then
    local ok, wrong, why = machine:authorize(answer)
    if not ok then
      return false, wrong, why, {}
    end
  else
    machine:give_up(message)
  end
end

function on.redirect(self, _, location, response)
  self.failure = {
    "redirected to " .. location, "EREDIRECT",
    {
      status = response.status,
      headers = response.headers,
      body = response.body,
      location = location,
      action = "redirect",
    },
  }
end

function on.open(self, _, result)
  self.completed = result
end

-- Came behind the response that opened: the application's.
function on.message(self, _, message, kind)
  self.early = (self.early or 0) + 1
  table.insert(self, self.early, { "message", message, kind })
end

function on.failed(self, _, message, code, detail)
  self.failure = { message, code, detail }
end

function on.close(self, _, code, reason)
  conn.close(self.conn, code, reason)
end

local function take_event(self, machine)
  conn.next(self.conn)
  local name, a, b = next_event(self, machine:deadline())
  if name == "message" then
    trace(self, "receive", "extended", a)
    machine:tick(loop.now())
    machine:message(a, b)
  elseif name == "closed" then
    machine:finish(a, b)
  elseif name == "deadline" then
    machine:tick(loop.now())
  end
end

local function extended_handshake(self, opened)
  local call, target = self.call, self.target
  local machine = extended.new {
    target = target.target,
    protocols = call.options.protocols,
    extensions = not_negotiated(call.options.extensions, opened.extensions),
    accept = opened.accept,
    limits = call.limits,
    now = loop.now(),
    timeout = call.limits.extended,
  }
  local ok, headers = ask(self, "request", { method = "GET", target = target.target, path = target.path }, 1)
  if not ok then
    return nil, headers, "EPOLICY", {}
  end
  local started, wrong, why = machine:start { headers = headers }
  if not started then
    return nil, "policy: request: " .. wrong, why, {}
  end
  while true do
    local what, a, b, c = machine:poll()
    if what then
      local stop, message, code, detail = on[what](self, machine, a, b, c)
      if stop == false then
        return nil, message, code, detail
      end
    elseif self.completed then
      return self.completed
    elseif self.failure then
      return nil, unpack(self.failure, 1, 3)
    else
      take_event(self, machine)
    end
  end
end

-- All of it ---------------------------------------------------------------------------------------------------------

-- The application's turn. What came with the end of the handshake are its first messages.
local function hand_over(self, opened, completed)
  local options = self.call.options
  connection.adopt(self.conn, {
    url = uri.format(self.target),
    khp = opened.khp,
    protocol = completed.protocol,
    extensions = completed.extensions,
    response = opened.response,
  }, { on_message = options.on_message, on_close = options.on_close, on_drain = options.on_drain })
  for i = 1, #self do
    connection.replay(self.conn, unpack(self[i], 1, 7))
  end
  return self.conn
end

local function run(self)
  local reached, message, code, detail = reach(self)
  if not reached then
    return nil, message, code, detail
  end
  local opened
  opened, message, code, detail = open_websocket(self)
  if not opened then
    return nil, message, code, detail
  end
  if not opened.khp and self.call.options.require_khp then -- KHP O5
    return nil, "the server does not speak x-kaazing-handshake", "EHANDSHAKE",
      { status = 101, headers = opened.response.headers, permanent = true }
  end
  upgrade(self, opened.rest)
  local completed = opened
  if opened.khp then
    completed, message, code, detail = extended_handshake(self, opened)
    if not completed then
      return nil, message, code, detail
    end
  end
  return hand_over(self, opened, completed)
end

--- Goes all the way. On failure nothing is left of the connection.
---@return khp.Connection?
---@return string? message, string? code, table? detail
function methods:run()
  local opened, message, code, detail = run(self)
  if not opened then
    conn.close(self.conn, 1011, "")
    conn.on_event(self.conn, function() end)
    conn.on_message(self.conn, function() end)
  end
  return opened, message, code, detail
end

return attempt
