-- One connection of a client on its way to being open: TCP, a proxy, TLS, the opening handshake, the extended
-- handshake. It runs where connect() was called and waits there for each event, so it reads from top to bottom. The
-- rules of the handshakes are the machines'. This file must not know what led here, nor what is tried after a failure.

local connection = require "khp.connection"
local core = require "khp.core"
local exchange = require "khp.exchange"
local opening = require "khp.opening.client"
local pipeline = require "khp.extension.pipeline"
local proxy = require "khp.opening.proxy"
local reader = require "khp.opening.reader"
local status = require "khp.status"
local task = require "khp.task"
local tls = require "khp.tls"
local uri = require "khp.uri"

local attempt = {}

--- What a call of connect() has to do with the world outside: the functions of connections, TLS and the clock. The
--- tests of policies bring others.
---@class khp.Wires
---@field key string? the next opening's Sec-WebSocket-Key; nil: random
attempt.wires = setmetatable({
  now = core.loop.clock, adopt = connection.adopt, attach = pipeline.attach, tls = tls.client,
}, {
  __index = core.conn,
})

local unpack = table.unpack or unpack

---@class khp.Attempt: khp.Place  the place where connect() waits; its events queue up in the array part
---@field call khp.Call
---@field wires khp.Wires
---@field target khp.Uri
---@field headers table of the opening request
---@field settings userdata? TLS
---@field server_name string?
---@field conn userdata
---@field extensions khp.Extensions as they are offered on this connection
---@field pipe khp.Pipeline? of the extensions that are at work
---@field claims table<string, string> what they have for themselves: see khp.extension
---@field wanted khp.Action? what the policy's `response` explicitly asked for
local methods = {}
local mt = { __index = methods, __name = "khp.attempt" }

local function push(self, ...)
  self[#self + 1] = { ... }
  task.wake(self)
end

local events = {}

for _, name in ipairs { "open", "bytes", "closed" } do
  events[name] = function(_, self, ...)
    push(self, name, ...)
  end
end

local function opening_options(call, target, headers, extensions)
  return {
    host = uri.host(target),
    target = target.target,
    key = call.wires.key,
    protocols = call.options.protocols,
    extensions = extensions:for_opening(call.options.khp),
    headers = headers,
    origin = call.options.origin,
    khp = call.options.khp,
    limits = call.limits,
    now = call.wires.now(),
    timeout = call:left(call.limits.opening),
  }
end

--- What is wrong with the options of this call, as far as the opening request shows it.
---@param call khp.Call
---@return string?
function attempt.problem(call)
  local given = opening_options(call, call.first, call.secrets:headers(call.first), call.extensions)
  local ok, message = pcall(opening.new, given)
  return not ok and message:gsub("^khp%.opening%.client: ", "") or nil
end

--- Begins to connect.
---@param call khp.Call
---@param target khp.Uri
---@param headers table of the opening request
---@param settings userdata? TLS
---@param server_name string?
---@return khp.Attempt
function attempt.new(call, target, headers, settings, server_name)
  local timeout = call.due and call:left(math.huge) or call.limits.opening
  local wires = call.wires
  local self = setmetatable({
    call = call,
    wires = wires,
    target = target,
    headers = headers,
    settings = settings,
    server_name = server_name,
    extensions = call.extensions:renew(),
    claims = {},
    due = wires.now() + timeout,
  }, mt)
  local through = call.proxy
  self.conn = wires.connect({
    host = through and through.host or target.host,
    port = through and through.port or target.port,
    path = target.unix,
    tls = not through and settings or nil,
    server_name = server_name,
    timeout = timeout,
  }, events, self, call.limits)
  wires.on_message(self.conn, function(_, message, kind)
    push(self, "message", message, kind)
  end)
  task.at_end(function() -- a policy's decision that was ended: nobody wants the connection
    if not self.ended then
      wires.close(self.conn, 1011, "")
    end
  end)
  return self
end

--- Waits for the next event: its name and values; "deadline" when its time is up.
---@param deadline number?
---@return string name
---@return any ...
function methods:next_event(deadline)
  while not self[1] do
    local left = deadline and deadline - self.wires.now()
    if left and left <= 0 then
      return "deadline"
    end
    task.wait(self, left)
  end
  return unpack(table.remove(self, 1), 1, 7)
end

--- Shows bytes to the user's `trace`, if there is one.
---@param direction "send"|"receive"
---@param stage "proxy"|"opening"|"extended"
---@param bytes string
function methods:trace(direction, stage, bytes)
  if self.call.options.trace then
    self.call.options.trace(direction, stage, bytes)
  end
end

--- The four returns for a function of the policy that failed.
---@return nil, string message, string code, table detail
function methods:hook_failed()
  return nil, unpack(self.call.hooks.failure, 1, 3)
end

-- TCP, the proxy, TLS ------------------------------------------------------------------------------------------------

-- Waits for the stream to be open. In a proxy's stead nothing may speak before TLS does.
local function reach(self)
  local name, _, reason, _, _, net = self:next_event(self.due)
  if name == "open" then
    return true
  elseif name == "closed" then
    return nil, reason, net or "ECONNECT", {}
  elseif name == "bytes" then
    return nil, "the proxy sent bytes after its answer", "EPROTOCOL", {}
  end
  return nil, "connecting took too long", "ETIMEOUT", {}
end

-- Turns a machine that works on the stream's bytes until it has something to say: its next event.
local function drive(self, machine, stage)
  local why, net
  while true do
    local what, a, b, c = machine:poll()
    if what == "send" then
      self:trace("send", stage, a)
      self.head = a
      self.wires.write(self.conn, a)
    elseif what == "failed" and why then
      return what, a .. ": " .. why, net == "ETLS" and net or b, c
    elseif what then
      return what, a, b, c
    else
      local name, bytes, reason, _, by, code = self:next_event(machine:deadline())
      if name == "bytes" then
        self:trace("receive", stage, bytes)
        machine:feed(bytes)
      elseif name == "closed" then
        if by ~= "peer" then -- a reset, TLS: more than that the stream is over
          why, net = reason, code
        end
        machine:finish()
      elseif name == "deadline" then
        machine:tick(self.wires.now())
      end
    end
  end
end

local function go_through(self)
  local target = self.target
  local what, message, code, detail = drive(self, proxy.new {
    authority = uri.authority(target),
    authorization = self.call.proxy.asked and self.call.proxy.authorization or nil,
    limits = self.call.limits,
    now = self.wires.now(),
    timeout = math.max(self.due - self.wires.now(), 0),
  }, "proxy")
  if what ~= "open" then
    detail.action = detail.status == 407 and "ask proxy" or nil
    return nil, message, code, detail
  elseif not self.settings then
    return true
  end
  -- The certificate is the server's: of the proxy nothing is known but that it moves bytes.
  local begun
  begun, message, code = self.wires.start_tls(self.conn, self.settings, self.server_name or target.host)
  if not begun then
    return nil, message, code, {}
  end
  return reach(self)
end

local function connect(self)
  local through = self.call.proxy
  local reached, message, code, detail = reach(self)
  if through and not reached then
    message = "the proxy " .. through.url .. ": " .. message
  elseif through then
    reached, message, code, detail = go_through(self)
  end
  if not reached then
    detail.proxy = through and through.url
    return nil, message, code, detail
  end
  return true
end

-- The opening handshake ---------------------------------------------------------------------------------------------

-- What can be done about a response that refuses the opening.
local after_refusal = { redirect = true, authenticate = true, upgrade = true, proxy = true, close = true }

-- A lawful answer other than 101. What can be done about it stands in detail.action; the caller may do it.
local function refused(self, response)
  local action = status.action(response.status)
  if not after_refusal[action] then
    action = "close"
  end
  local wanted
  action, wanted = self.call.hooks:response(response, action, after_refusal)
  if not action then
    return self:hook_failed()
  end
  self.wanted = wanted and action or nil
  return nil, reader.describe("server", response), "EHANDSHAKE", {
    status = response.status,
    headers = response.headers,
    body = response.body,
    location = action == "redirect" and response.headers.location or nil,
    action = action,
    permanent = not status.is_temporary(response.status),
  }
end

local function open_websocket(self)
  local machine = opening.new(opening_options(self.call, self.target, self.headers, self.extensions))
  local what, a, b, c = drive(self, machine, "opening")
  if what == "open" then
    self.call.secrets:accepted()
    return a
  elseif what == "response" then
    return refused(self, a)
  end
  return nil, a, b, c
end

-- From bytes to messages. Returns the bytes that arrived behind the head of the 101: the first of them.
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
  for i, event in ipairs(others) do
    self[i] = event
  end
  self.wires.upgrade(self.conn, "client")
  return table.concat(parts)
end

local function feed(self, bytes)
  if bytes ~= "" then
    self.wires.feed(self.conn, bytes)
  end
end

-- Puts what was negotiated to work. false, message, code, detail: it cannot.
local function extend(self, negotiated, response)
  local agreed, message = self.extensions:agreed(negotiated, self.claims)
  if agreed and not agreed[1] then
    return true
  elseif agreed then
    self.pipe, message = self.wires.attach(self.conn, self.pipe, "client", agreed)
    if self.pipe then
      return true
    end
  end
  return false, message, "EEXTENSION", { status = response.status, headers = response.headers, permanent = true }
end

-- All of it ---------------------------------------------------------------------------------------------------------

-- The application's turn. What came with the end of the handshake are its first messages.
local function hand_over(self, opened, completed)
  local options = self.call.options
  local early = {}
  for i = 1, #self do
    early[i] = self[i]
  end
  self.wires.adopt(self.conn, {
    url = uri.format(self.target),
    khp = opened.khp,
    protocol = completed.protocol,
    extensions = connection.extensions(opened.extensions, opened.khp and completed.extensions or nil),
    response = opened.response,
    data = type(self.call.session.data) == "table" and self.call.session.data or nil,
  }, {
    on_message = options.on_message, on_close = options.on_close, on_drain = options.on_drain,
  }, self.head, nil, self.pipe, early)
end

local function run(self)
  local connected, message, code, detail = connect(self)
  if not connected then
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
  local bytes = upgrade(self, opened.rest)
  local ok
  ok, message, code, detail = extend(self, opened.extensions, opened.response)
  if not ok then
    return nil, message, code, detail
  elseif not opened.khp then
    hand_over(self, opened, opened)
    feed(self, bytes) -- the application's already, under its limits
    return self.conn
  end
  self.wires.stepwise(self.conn) -- what follows the response that completes is the application's as well
  feed(self, bytes)
  local completed
  completed, message, code, detail = exchange.run(self, opened)
  if not completed then
    return nil, message, code, detail
  end
  ok, message, code, detail = extend(self, completed.extensions, completed.response)
  if not ok then
    return nil, message, code, detail
  end
  hand_over(self, opened, completed)
  return self.conn
end

--- Goes all the way. On failure nothing is left of the connection.
---@return khp.Connection?
---@return string? message, string? code, table? detail
function methods:run()
  local ok, opened, message, code, detail = pcall(run, self)
  self.call.hooks.left, self.ended = nil, true
  if not ok or not opened then
    self.wires.close(self.conn, 1011, "")
    self.wires.on_event(self.conn, {}, nil)
    self.wires.on_message(self.conn, function() end)
  end
  if not ok then -- the caller's own function, `trace`
    error(opened, 0)
  end
  return opened, message, code, detail
end

return attempt
