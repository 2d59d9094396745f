-- The client: connects, drives the opening and the extended handshake, asks the policy, and hands over the open
-- connection. It runs where connect() was called and waits there for each event, so it reads from top to bottom.
-- The rules of both handshakes are the machines'. This file must not know HTTP's or WebSocket's rules.

local connection = require "khp.connection"
local core = require "khp.core"
local errors = require "khp.errors"
local extended = require "khp.extended.client"
local limits = require "khp.limits"
local opening = require "khp.opening.client"
local options = require "khp.options"
local policies = require "khp.policy"
local task = require "khp.task"
local tls = require "khp.tls"
local uri = require "khp.uri"

local conn, loop = core.conn, core.loop

local client = {}

local declaration = options.declare("khp.connect", {
  protocols = { type = "strings", default = {} },
  extensions = { type = "strings", default = {} },
  headers = { type = "table" },
  origin = { type = "string" },
  policy = { type = "string|table" },
  khp = { type = "boolean", default = true },
  require_khp = { type = "boolean", default = false },
  tls = { type = "table" },
  timeout = { type = "number", min = 0 },
  on_message = { type = "function" },
  on_close = { type = "function" },
  on_drain = { type = "function" },
  limits = { type = "table" },
  trace = { type = "function" },
})

-- An attempt is one connection on its way to being open. It is the place (khp.task) where connect() waits for its
-- events, which queue up in it.

local function push(attempt, name, ...)
  attempt[#attempt + 1] = { name, ... }
  task.wake(attempt)
end

local function on_event(self, name, ...)
  push(conn.state(self), name, ...)
end

local function on_message(self, message, kind)
  push(conn.state(self), "message", message, kind)
end

-- The next event; waits for it until the machine's deadline.
local function next_event(attempt, machine)
  while not attempt[1] do
    local deadline = machine and machine:deadline()
    local left = deadline and deadline - loop.now()
    if left and left <= 0 then
      return "deadline"
    end
    task.wait(attempt, left)
  end
  local event = table.remove(attempt, 1)
  return event[1], event[2], event[3], event[4], event[5], event[6]
end

local function trace(attempt, direction, stage, bytes)
  if attempt.options.trace then
    attempt.options.trace(direction, stage, bytes)
  end
end

-- Waits for the TCP connection, and TLS.
local function reach(attempt, target, deadline)
  local clock = { deadline = function() return deadline end }
  local name, code, reason, _, _, net = next_event(attempt, clock)
  if name == "open" then
    return true
  elseif name == "closed" then
    return nil, reason, net or "ECONNECT", { url = target.text, code = code }
  end
  return nil, "connecting took too long", "ETIMEOUT", { url = target.text }
end

---@return table? result of the opening; nil and the four returns otherwise, "response" with a lawful other answer
local function open_websocket(attempt, target)
  local given = attempt.options
  local machine = opening.new {
    host = uri.host(target),
    target = target.target,
    protocols = given.protocols,
    extensions = given.extensions,
    headers = given.headers,
    origin = given.origin,
    khp = given.khp,
    limits = attempt.limits,
    now = loop.now(),
    timeout = attempt.limits.opening,
  }
  while true do
    local what, a, b, c = machine:poll()
    if what == "send" then
      trace(attempt, "send", "opening", a)
      conn.write(attempt.conn, a)
    elseif what == "open" then
      return a
    elseif what == "response" then
      return nil, ("the server answered %d %s"):format(a.status, a.reason), "EHANDSHAKE",
        { status = a.status, headers = a.headers, body = a.body }
    elseif what == "failed" then
      return nil, a, b, c
    elseif not what then
      local name, bytes, reason = next_event(attempt, machine)
      if name == "bytes" then
        trace(attempt, "receive", "opening", bytes)
        machine:feed(bytes)
      elseif name == "closed" then
        attempt.closed = { code = bytes, reason = reason }
        machine:finish()
      elseif name == "deadline" then
        machine:tick(loop.now())
      end
    end
  end
end

-- From bytes to messages: what arrived behind the head of the 101 is the first of them.
local function upgrade(attempt, result)
  local rest = { result.rest }
  for i = #attempt, 1, -1 do
    if attempt[i][1] == "bytes" then
      table.insert(rest, 2, table.remove(attempt, i)[2])
    end
  end
  conn.upgrade(attempt.conn, "client")
  local bytes = table.concat(rest)
  if bytes ~= "" then
    conn.feed(attempt.conn, bytes)
  end
end

local function missing(requested, negotiated)
  local taken, left = {}, {}
  for _, one in ipairs(negotiated) do
    taken[one.name] = true
  end
  for _, text in ipairs(requested) do
    if not taken[text:match "^[^;%s]+"] then
      left[#left + 1] = text
    end
  end
  return left
end

-- Calls a function of the client's policy. An error in it fails this handshake and nothing else.
local function ask(attempt, name, ...)
  local f = attempt.policy[name]
  if not f then
    return true, nil
  end
  return xpcall(f, debug.traceback, ...)
end

local function policy_failed(attempt, name, message)
  return nil, ("policy: %s: %s"):format(name, message), "EPOLICY", { path = attempt.options.policy }
end

local function start(attempt, machine)
  local ok, headers = ask(attempt, "request", { target = attempt.target.target, headers = {} }, 1)
  if not ok then
    return policy_failed(attempt, "request", headers)
  end
  local started, message, code = machine:start { headers = headers }
  if not started then
    return nil, message, code, {}
  end
  return true
end

local function answer_challenge(attempt, machine, challenges, response, count)
  local authorization
  for _, challenge in ipairs(challenges) do
    local ok, credentials = ask(attempt, "challenge", challenge, count, response)
    if not ok then
      return policy_failed(attempt, "challenge", credentials)
    end
    authorization = authorization or credentials and attempt.authorize(challenge, credentials)
  end
  if authorization then
    machine:authorize(authorization)
  else
    machine:give_up()
  end
  return true
end

local function extended_handshake(attempt, target, result)
  local machine = extended.new {
    target = target.target,
    protocols = attempt.options.protocols,
    extensions = missing(attempt.options.extensions, result.extensions),
    accept = result.accept,
    limits = attempt.limits,
    now = loop.now(),
    timeout = attempt.limits.extended,
  }
  local ok, message, code, detail = start(attempt, machine)
  if not ok then
    return nil, message, code, detail
  end
  local failure, completed
  local early = 0
  while true do
    local what, a, b, c = machine:poll()
    if what == "send" then
      trace(attempt, "send", "extended", a)
      conn.send(attempt.conn, a, b)
    elseif what == "response" then
      local decided, action = ask(attempt, "response", a, b)
      if not decided then
        return policy_failed(attempt, "response", action)
      end
      local acted, wrong, why = machine:act(action or b)
      if not acted then
        return nil, wrong, why, {}
      end
    elseif what == "challenge" then
      ok, message, code, detail = answer_challenge(attempt, machine, a, b, c)
      if not ok then
        return nil, message, code, detail
      end
    elseif what == "redirect" then
      failure = { "redirected to " .. a, "EREDIRECT", { location = a, status = b.status } }
    elseif what == "open" then
      completed = a
    elseif what == "message" then
      early = early + 1
      table.insert(attempt, early, { "message", a, b })
    elseif completed then
      return completed
    elseif what == "failed" then
      failure = { a, b, c }
    elseif what == "close" then
      conn.close(attempt.conn, a, b)
      return nil, failure[1], failure[2], failure[3]
    elseif failure then
      return nil, failure[1], failure[2], failure[3]
    else
      local name, x, y = next_event(attempt, machine)
      if name == "message" then
        trace(attempt, "receive", "extended", x)
        machine:tick(loop.now())
        machine:message(x, y)
      elseif name == "closed" then
        machine:finish(x, y)
      elseif name == "deadline" then
        machine:tick(loop.now())
      end
    end
  end
end

-- The application's turn. Messages that came with the end of the handshake are its first.
local function adopt(attempt, target, opened, completed)
  local self, given = attempt.conn, attempt.options
  local fields = {
    url = target.text,
    khp = opened.khp,
    protocol = completed.protocol,
    extensions = completed.extensions,
    response = opened.response,
  }
  local handlers = { on_message = given.on_message, on_close = given.on_close, on_drain = given.on_drain }
  connection.adopt(self, fields, handlers)
  for _, event in ipairs(attempt) do
    connection.replay(self, (table.unpack or unpack)(event))
  end
  return self
end

local function run(attempt, target)
  local reached, message, code, detail = reach(attempt, target, attempt.deadline)
  if not reached then
    return nil, message, code, detail
  end
  local opened
  opened, message, code, detail = open_websocket(attempt, target)
  if not opened then
    return nil, message, code, detail
  end
  if not opened.khp and attempt.options.require_khp then
    return errors.fail("the server does not speak x-kaazing-handshake", "EHANDSHAKE", { response = opened.response })
  end
  upgrade(attempt, opened)
  local completed = opened
  if opened.khp then
    completed, message, code, detail = extended_handshake(attempt, target, opened)
    if not completed then
      return nil, message, code, detail
    end
  end
  return adopt(attempt, target, opened, completed)
end

--- Connects and makes the handshakes. Waits: in a task it yields, in the main chunk it turns the loop.
---@param url string ws://, wss://, ws+unix:///path.sock:/resource
---@param given table?
---@return khp.Connection?
---@return string? message
---@return string? code
---@return table? detail { status, headers, body, url, attempts, permanent, … }
function client.connect(url, given)
  local checked = options.check(declaration, given, 2)
  task.check_waiting(2)
  local target, message, code, detail = uri.parse(url)
  if not target then
    error("khp.connect: " .. message, 2)
  end
  target = uri.websocket(target) or target
  target.text = uri.format(target)
  local attempt = {
    options = checked,
    limits = limits.resolve(checked.limits, 2),
    target = target,
    policy = {},
  }
  attempt.deadline = loop.now() + (checked.timeout or attempt.limits.opening)
  if checked.policy then
    attempt.policy, message, code, detail = policies.load(checked.policy, "client")
    if not attempt.policy then
      return nil, message, code, detail
    end
  end
  local settings, server_name
  if target.secure then
    settings, server_name, code, detail = tls.client(checked.tls, 2)
    if not settings then
      return nil, server_name, code, detail
    end
  end
  attempt.conn = conn.connect({
    host = target.host,
    port = target.port,
    path = target.unix,
    tls = settings,
    server_name = server_name,
    timeout = checked.timeout or attempt.limits.opening,
  }, on_event, attempt.limits)
  conn.state(attempt.conn, attempt)
  conn.on_message(attempt.conn, on_message)
  local opened
  opened, message, code, detail = run(attempt, target)
  if not opened then
    conn.close(attempt.conn, 1011, "")
    detail = detail or {}
    detail.url = detail.url or target.text
    return nil, message, code, detail
  end
  return opened
end

return client
