-- The extended handshake of a client's attempt: what its machine says is done on the wires, and what it asks is asked
-- of the policy and of the credentials. It runs where connect() was called and waits there for each event. The rules of
-- the handshake are the machine's. This file must not know what came before it, nor what a failure leads to.

local http = require "khp.http"
local kaazing = require "khp.kaazing"
local uri = require "khp.uri"

local exchange = {}

local unpack = table.unpack or unpack

-- What to do with each thing that the machine says. `completed` or `failure` is how it ended.
local on = {}

function on.send(self, _, bytes, kind)
  self:trace("send", "extended", bytes)
  local sent, message, code, detail = self.wires.send_handshake(self.conn, bytes, kind)
  if not sent and code ~= "ECLOSED" then -- an extension has refused
    self.failure = { message, code, detail }
  end
end

function on.response(self, machine, response, action)
  local wanted
  action, wanted = self.call.hooks:response(response, action)
  if not action then
    self.failure = self.call.hooks.failure
    return
  end
  self.wanted = wanted and action or nil
  machine:act(action)
end

local function copy(list)
  local result = {}
  for i = 1, #list do
    result[i] = list[i]
  end
  return result
end

-- What the policy adds to the next request.
local function additions(self, count)
  local target, asked = self.target, self.call.options
  return self.call.hooks:request({
    method = "GET",
    target = target.target,
    path = target.path,
    query = target.query,
    version = "1.1",
    url = uri.format(target),
    protocols = copy(asked.protocols),
    extensions = copy(self.asked),
  }, count)
end

-- KHP E13: the same request once more, with credentials.
function on.challenge(self, machine, challenges, _, count)
  local answer, message, code = self.call.secrets:authorize(challenges, self.target, count)
  if not answer and code == "EAUTH" then
    machine:give_up(message)
    return
  end
  local given = answer and additions(self, count + 1)
  if not given then
    self.failure = self.call.hooks.failure
    return
  end
  local ok, wrong = machine:authorize(answer, given)
  if not ok then
    self.call.hooks:fail("request", wrong)
    self.failure = self.call.hooks.failure
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
  self.wires.close(self.conn, code, reason)
end

-- What was wrong with the server's frames, by the code of the close frame that told it so.
local violations = { [1002] = "EPROTOCOL", [1007] = "EPROTOCOL", [1009] = "ELIMIT" }

local function take_event(self, machine)
  if not self[1] then
    self.wires.next(self.conn)
  end
  local name, a, b, _, by = self:next_event(machine:deadline())
  if name == "message" then
    self:trace("receive", "extended", a)
    machine:tick(self.wires.now())
    machine:message(a, b)
  elseif name == "closed" and by == "local" and violations[a] then
    self.failure = { b, violations[a], { code = a, reason = b, permanent = true } }
  elseif name == "closed" and by == "local" then
    local reason = b ~= "" and b or "closed with " .. a
    self.failure = { "an extension ended the connection: " .. reason, "EEXTENSION", { code = a, reason = b } }
  elseif name == "closed" then
    machine:finish(a, b)
  elseif name == "deadline" then
    machine:tick(self.wires.now())
  end
end

--- Makes the extended handshake on a connection whose opening has chosen it. Waits.
---@param self khp.Attempt
---@param opened table what the opening's machine said
---@return table? completed protocol, extensions, response
---@return string? message, string? code, table? detail
function exchange.run(self, opened)
  local call, target = self.call, self.target
  local patience = call:left(call.limits.extended)
  local due = self.wires.now() + patience
  function call.hooks.left()
    return math.max(due - self.wires.now(), 0)
  end
  local extensions = self.extensions:for_extended(opened.extensions)
  local machine = kaazing.client {
    target = target.target,
    protocols = call.options.protocols,
    extensions = extensions,
    accept = opened.accept,
    kind = call.options.extended_kind,
    limits = call.limits,
    now = self.wires.now(),
    timeout = patience,
  }
  self.asked = http.extensions(table.concat(extensions, ", "))
  local given = additions(self, 1)
  if not given then
    return self:hook_failed()
  end
  while self[1] and not self.failure do -- KHP E2: what is here already came before the request, and answers nothing
    take_event(self, machine)
  end
  if machine.state == "ready" and not self.failure then
    local started, wrong = machine:start(given)
    if not started then
      call.hooks:fail("request", wrong)
      return self:hook_failed()
    end
  end
  while true do
    local what, a, b, c = machine:poll()
    if what then
      on[what](self, machine, a, b, c)
    elseif self.completed then
      return self.completed
    elseif self.failure then
      return nil, unpack(self.failure, 1, 3)
    else
      take_event(self, machine)
    end
  end
end

return exchange
