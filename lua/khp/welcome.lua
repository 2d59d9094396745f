-- What a server does for each connection that it accepts: drives it through the opening and the extended handshake,
-- asks the policy, and hands the open connection to the application. The rules of both handshakes are the machines';
-- here are only the order of things, the clock and the wires. This file must not know HTTP's or WebSocket's rules, nor
-- who listens.

local answer = require "khp.policy.answer"
local common = require "khp.opening.common"
local connection = require "khp.connection"
local core = require "khp.core"
local decision = require "khp.policy.decision"
local delivery = require "khp.delivery"
local extension = require "khp.extension"
local kaazing = require "khp.kaazing"
local log = require "khp.log"
local opening = require "khp.opening.server"
local pipeline = require "khp.extension.pipeline"
local reception = require "khp.reception"
local session = require "khp.policy.session"
local task = require "khp.task"

local conn, loop = core.conn, core.loop
local max, sub = math.max, string.sub

local welcome = {}

local KHP = common.KHP

-- A connection's state during the handshakes (conn.state):
--   server      its server
--   place       where it belongs (khp.routes), once that is known
--   functions   of the policy that it began with
--   captures    of the route's pattern
--   cors        headers that tell the page's browser that it may connect
--   machine     the one that has the word
--   step        "opening" or "extended"
--   head        of the opening request, from which the field `request` is made: all bytes received so far
--   negotiated  in the opening: extensions, parsed
--   extensions  what is agreed to without a policy's word; nil: nobody said
--   chosen      which definition gave each answer, where the policy said nothing
--   claims      what extensions that are at work have for themselves: nil or as khp.extension says
--   pipe        of these
--   leads       where a client of Kaazing is to be led, as the opening was decided
--   session     what the policy sees, made when it is asked
--   deciding    the task in which the policy is being asked
--   attempt     the number of the extended request
--   decided     the last decision; unlawful: it became a 500
--   began, by, asked, told     khp.account's

local function finish(self, state, message, code, detail)
  state.told = true
  state.server.account:fail(self, state, state.machine, message, code, detail and detail.status)
end

-- What the policy sees; `request` is the opening's, or one of the extended handshake.
local function session_of(self, state, request)
  if not state.session then
    local opened = state.machine.opened
    state.session = session.new(self, state.server.world, opened and opened.request or request)
  end
  return state.session
end

-- Runs in a task of its own.
local function serve(self, place)
  local ok, message = xpcall(place.on_open, debug.traceback, self)
  if not ok then
    log.error("on_open: %s", message)
    conn.close(self, 1011, "internal error")
  elseif self.state == "open" and not place.handlers.on_message then
    conn.close(self, 1000, "")
  end
end

local function complain(state, message)
  local name = state.place and state.place.policy.name or "policy"
  log.error("%s: %s: %s", name, state.step, log.lines(message))
end

-- Puts what was negotiated to work. false: it cannot be, and that is the end.
local function extend(self, state, negotiated)
  if not negotiated[1] then
    return true
  end
  state.claims = state.claims or {}
  local agreed, message = (state.extensions or extension.none):agreed(negotiated, state.claims, state.chosen)
  if agreed and agreed[1] then
    state.pipe, message = pipeline.attach(self, state.pipe, "server", agreed)
  end
  if message then
    complain(state, message)
    finish(self, state, message, "EEXTENSION")
    state.machine = nil
    conn.close(self, 1011, "internal error")
  end
  return not message
end

-- The application's turn: the connection is open.
local function open(self, state, protocol, extensions, khp)
  local owner, machine, current = state.server, state.machine, state.session
  local data = current and type(current.data) == "table" and current.data or nil
  local place, fields = state.place, {
    protocol = protocol, extensions = extensions, khp = khp, data = data, captures = state.captures,
  }
  state.machine = nil
  owner.account:open(self, state, machine, protocol, khp)
  connection.adopt(self, fields, place.handlers, state.head, owner.on_gone, state.pipe)
  if place.on_open then
    task.spawn(serve, self, place)
  end
end

local pump

local function conclude(state, decided, wrong)
  local place = state.place
  if decided == answer.ORDINARY and place and place.files then
    decided, state.by = place.files:answer(state.machine.request), nil
  end
  state.decided = decided
  if state.step == "opening" then
    if state.cors then
      decided = reception.tell(decided, state.cors)
    end
    decided, state.leads = kaazing.translate(decided, state.machine.request, state.server.tls ~= nil)
  end
  local unlawful = answer.carry_out(state.machine, decided, state)
  if wrong or unlawful then
    state.unlawful = true
    complain(state, wrong or unlawful)
  end
end

-- What becomes of a decision once the policy's function has ended, of itself or not. Where that took a while, nobody
-- waits for what the machine will say.
local function decider(self, state)
  return function(ok, decided, more)
    local waited = state.deciding ~= nil
    state.deciding = nil
    state.server.account:decided(state)
    if state.machine == nil or self.state == "closed" then
      return
    elseif not ok then
      decided, more = decision.reject(500), more and decided .. "\n" .. more or decided
    end
    conclude(state, decided, more)
    if waited then
      pump(self, state)
    end
  end
end

-- Asks the policy, in a task of its own, so that it may wait.
local function ask(self, state, decide, request, attempt)
  local owner, current = state.server, session_of(self, state, request)
  current.attempt, current.captures = attempt, state.captures
  owner.account:asked(state)
  local deciding = task.spawn_bounded(state.place.policy.budget, decider(self, state), answer.ask, decide, state.step,
    request, current, owner.protocols, owner.limits)
  if deciding.co then
    state.deciding = deciding
  end
end

local function on_request(self, state, request, attempt)
  state.attempt = attempt
  if state.step == "opening" and (state.server.selective or kaazing.asks_for_cookies(request)) then
    local refused = reception.admit(state, request)
    if refused then
      return conclude(state, refused)
    end
  end
  local files = state.place and state.place.files
  if files and files.alone and state.step == "opening" then -- a place that has nothing else, and no policy
    return conclude(state, files:answer(request))
  end
  local decide = state.functions[state.step]
  if decide then
    ask(self, state, decide, request, attempt)
  else
    conclude(state, answer.complete(state.step, nil, request, state.server.protocols))
  end
end

local function extended_message(self, message, kind)
  local state = conn.state(self)
  local machine = state.machine
  if state.server.trace then
    state.server.trace("receive", "extended", message)
  end
  machine:message(message, kind)
  pump(self, state)
end

-- Keeps the connection's timer in step with what the machine awaits.
local function schedule(self, machine, now)
  local due = machine:deadline()
  conn.deadline(self, due and max(due - now, 0.001))
end

local function begin_extended(self, state, result)
  local now = loop.now()
  local machine = kaazing.server(state.server.extended, result, now, state.server.tls ~= nil, state.leads)
  state.step, state.machine, state.negotiated = "extended", machine, result.extensions
  state.extensions = kaazing.extensions(result.request, state.extensions)
  schedule(self, machine, now)
  conn.on_message(self, extended_message)
  pump(self, state)
end

-- What to do with each thing that the machine of a step says.
local carry_out = {
  opening = { request = on_request, failed = finish },
  extended = { request = on_request, failed = finish },
}

function carry_out.opening.send(self, state, bytes)
  if state.server.trace then
    state.server.trace("send", "opening", bytes)
  end
  conn.write(self, bytes)
end

-- The machine's last word was an answer, unless it has failed.
local function answered(self, state)
  if not state.told then
    state.server.account:answer(self, state, state.machine)
  end
  state.machine = nil
end

function carry_out.opening.body(self, state, body)
  answered(self, state)
  delivery.begin(self, body, state.server.limits.stall, state.server.on_gone)
end

function carry_out.opening.close(self, state)
  answered(self, state)
  conn.close(self)
end

function carry_out.opening.open(self, state, result)
  local rest, protocol = result.rest, result.protocol
  if rest ~= "" then
    state.head = sub(state.head, 1, #state.head - #rest)
  end
  conn.upgrade(self, "server")
  if not extend(self, state, result.extensions) then
    return
  end
  if protocol == KHP then
    begin_extended(self, state, result)
  else
    open(self, state, protocol, result.extensions, false)
  end
  if rest ~= "" then
    conn.feed(self, rest)
  end
end

function carry_out.extended.send(self, state, bytes, kind)
  if state.server.trace then
    state.server.trace("send", "extended", bytes)
  end
  local sent, message, code = conn.send_handshake(self, bytes, kind)
  if not sent and code ~= "ECLOSED" and state.machine then -- an extension has refused
    complain(state, message)
    finish(self, state, message, code)
    state.machine = nil
    conn.close(self, 1011, "internal error")
  end
end

function carry_out.extended.close(self, state, code, reason)
  answered(self, state)
  conn.close(self, code, reason)
end

function carry_out.extended.open(self, state, result)
  if extend(self, state, result.extensions) then
    open(self, state, result.protocol, connection.extensions(state.negotiated, result.extensions), true)
  end
end

-- Goes on until the machine wants nothing more or gives way to another.
function pump(self, state)
  local machine, says = state.machine, carry_out[state.step]
  local poll = machine.poll
  local what, a, b, c = poll(machine)
  while what do
    says[what](self, state, a, b, c)
    if state.machine ~= machine then
      return
    end
    what, a, b, c = poll(machine)
  end
end

local events = {}

function events.bytes(self, state, bytes)
  local machine = state.machine
  if not machine then
    return
  end
  if state.server.trace then
    state.server.trace("receive", "opening", bytes)
  end
  state.head = state.head and state.head .. bytes or bytes
  machine:feed(bytes)
  pump(self, state)
end

-- Nobody decides any more.
local function decide_no_more(state)
  if state.deciding then
    task.cancel(state.deciding)
    state.deciding = nil
    state.server.account:decided(state)
  end
end

function events.deadline(self, state)
  if state.machine then
    decide_no_more(state)
    state.machine:tick(loop.now())
    pump(self, state)
    if state.machine then
      schedule(self, state.machine, loop.now())
    end
  end
end

-- Was the last word a 401, to which no further request came? Then leaving is the client's answer to it.
local function is_challenged(state)
  return not state.deciding and state.decided and state.decided.action == "challenge"
end

--- Ends the handshake of a connection, if it is going on, on our side.
---@param self userdata
---@param state table
---@param reason string for the log
function welcome.give_up(self, state, reason)
  local code, detail = "ECLOSED", nil
  if is_challenged(state) then
    code, detail = "EAUTH", { status = 401 }
  end
  decide_no_more(state)
  if state.machine then
    finish(self, state, reason, code, detail)
    state.machine = nil
  end
end

function events.closed(self, state, code, reason, _, by)
  if by == "peer" then
    reason = ("the client closed with %d%s"):format(code, reason ~= "" and " " .. log.quoted(reason) or "")
  end
  welcome.give_up(self, state, reason == "" and "closed with " .. code or reason)
end

function events.gone(self, state)
  state.server.on_gone(self)
end

--- What is heard of an accepted connection before it is open: TCP, and TLS where the server has it.
welcome.events = {}

local accepted = welcome.events

function accepted.open(self, owner)
  if not owner.listener then -- it was still in the handshake of TLS when the server was closed
    return conn.abort(self)
  end
  local now, place = loop.now(), owner.places.only
  local state = {
    server = owner,
    place = place,
    functions = place and place.policy.functions,
    step = "opening",
    machine = opening.new(owner.opening, now),
    head = nil,
    negotiated = nil,
    extensions = owner.extensions,
    claims = nil,
    pipe = nil,
    leads = nil,
    session = nil,
    deciding = nil,
    captures = nil,
    cors = nil,
    began = loop.clock(),
    by = nil,
    asked = nil,
    decided = nil,
  }
  owner.live[self] = true
  owner.account.accepted = owner.account.accepted + 1
  conn.on_event(self, events, state)
  schedule(self, state.machine, now)
end

function accepted.closed(self, owner, _, reason, _, _, code)
  owner.account:miss(self, reason, code)
end

return welcome
