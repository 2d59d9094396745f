-- Plays a transcript against a client's policy: the call of connect() is the real one, redirects and repeated openings
-- included; only its wires end in the transcript. This file must not know where transcripts come from.

local client = require "khp.client"
local common = require "khp.opening.common"
local http = require "khp.http"
local player = require "khp.transcript.player"
local steps = require "khp.policy.test.steps"
local task = require "khp.task"
local uri = require "khp.uri"

local test = {}

local concat, format, gmatch, ipairs, lower, match =
  table.concat, string.format, string.gmatch, ipairs, string.lower, string.match

-- What connect() is asked for ------------------------------------------------------------------------------------

-- A request as far as it stands in the transcript.
local function read_request(step)
  local texts = {}
  for _, part in ipairs(step.parts) do
    texts[#texts + 1] = part.text
  end
  local request, message = http.parse_request(concat(texts) .. "\r\n") -- the gap may have the empty line
  return request or player.fail(step.line, "the opening request is malformed: " .. (message or "it is not complete"))
end

-- What the handshake itself puts into an opening, or the policy.
local known = {
  host = true, upgrade = true, connection = true, origin = true, authorization = true,
}

local function options_for(request, policy, limits)
  local headers = request.headers
  local protocols, extensions, others, khp = {}, {}, {}, false
  for _, name in ipairs(http.tokens(headers["sec-websocket-protocol"] or "")) do
    khp = khp or name == common.KHP
    protocols[#protocols + 1] = name ~= common.KHP and name or nil
  end
  for text in gmatch(headers["sec-websocket-extensions"] or "", "[^,]+") do
    extensions[#extensions + 1] = match(text, "^%s*(.-)%s*$")
  end
  for i = 1, #headers, 2 do
    local name = lower(headers[i])
    if not known[name] and not match(name, "^sec%-websocket%-") then
      others[#others + 1] = { headers[i], headers[i + 1] }
    end
  end
  return {
    policy = policy, protocols = protocols, extensions = extensions, headers = others, khp = khp,
    origin = headers.origin, limits = limits,
  }
end

-- Wires ------------------------------------------------------------------------------------------------------------

-- The next opening that the transcript has, if any.
local function next_opening(self)
  for i = self.place - 1, #self.steps do
    local step = self.steps[i]
    if step.who == "C" and step.verb == "http" and step ~= self.taken then
      return step
    end
  end
  return nil
end

-- The close frame is told after what caused it.
local function put_close(self)
  local closing = self.closing
  self.closing = nil
  if closing then
    self:put("close", closing[1], closing[2])
  end
end

local function nothing() end

local function tell(raw, name, ...)
  local hear = raw.events[name]
  if hear then
    hear(raw, raw.state, ...)
  end
end

-- What the machine of a player does, while the stream is one of bytes, and once it is one of messages.
local function bytes_to(raw)
  return {
    poll = nothing,
    feed = function(_, bytes)
      tell(raw, "bytes", bytes)
    end,
  }
end

local function messages_to(raw)
  return {
    poll = nothing,
    message = function(_, bytes, kind)
      raw.on_message(raw, bytes, kind)
    end,
    finish = function(_, code, reason)
      tell(raw, "closed", code, reason)
    end,
  }
end

local function new_wires(self)
  local wires = {
    now = self.world.now,
    next = nothing,
    stepwise = nothing,
  }
  function wires.attach() -- what extensions do to messages is not played
    return { open = nothing }
  end
  function wires.tls()
    return true
  end
  function wires.connect(_, events, tried)
    local raw = { events = events, state = tried, on_message = nothing }
    local url = uri.format(tried.target)
    if self.url and url ~= self.url then
      self:put("redirect", url)
    end
    put_close(self)
    self.url = url
    local step = next_opening(self)
    if step then -- else the transcript ends before it
      self.taken = step
      self.machine = bytes_to(raw)
      wires.key = step.request.headers["sec-websocket-key"]
      tell(raw, "open")
    end
    return raw
  end
  function wires.on_event(raw, events, state)
    raw.events, raw.state = events, state
  end
  function wires.on_message(raw, f)
    raw.on_message = f
  end
  function wires.write(_, bytes)
    self:put("send", bytes, "http")
  end
  function wires.upgrade(raw)
    self.machine = messages_to(raw)
  end
  function wires.feed()
    player.fail(nil, "there are bytes behind the opening response")
  end
  function wires.send_handshake(_, bytes, kind)
    self:put("send", bytes, kind)
    return true
  end
  function wires.close(raw, code, reason)
    if not raw.closed and self.machine and self.machine.message then
      self.closing = { code, reason }
    end
    raw.closed = true
  end
  function wires.adopt(_, fields)
    self:put("open", fields)
  end
  return wires
end

-- Steps --------------------------------------------------------------------------------------------------------------

local own, theirs = { asks = steps.asks }, { given = steps.given }

local function start(self, step)
  for _, one in ipairs(self.steps) do
    if one.who == "C" and one.verb == "http" then
      one.request = read_request(one)
    end
  end
  local request = step.request
  local url = self.world.url or format("ws://%s%s", request.headers.host or "example.com", request.target)
  self.call = task.spawn_bounded(self.budget, function(ok, opened, message, code, detail)
    self.call = nil
    if not ok then
      self.notes[#self.notes + 1] = tostring(message or opened)
      self:put("failed", opened, "EPOLICY", {})
    elseif not opened then
      self.notes[#self.notes + 1] = detail.traceback
      self:put("failed", message, code, detail)
    end
    put_close(self)
  end, client.rehearse, url, options_for(request, self.policy, self.limits), new_wires(self), self.world)
end

function own.http(self, step)
  if not self.url then
    start(self, step)
  end
  if step.usual then
    self:await(step, "send")
  else
    self:await_message(step)
  end
end

function theirs.wait(self, step)
  self.world:advance(step.seconds, nothing, nothing)
end

--- Plays one exchange: one call of connect().
---@param exchange khp.transcript.Exchange
---@param policy khp.ClientPolicy
---@param world khp.test.World
---@param budget khp.Budget
---@param limits table?
---@return khp.transcript.Failure? failure
---@return string[] notes what explains it
function test.play(exchange, policy, world, budget, limits)
  local self = player.new {
    role = "client",
    steps = steps.of(exchange, true),
    own = own,
    turn = steps.turn,
    theirs = theirs,
    policy = policy,
    world = world,
    budget = budget,
    limits = limits,
    notes = {},
  }
  function world.on_ask(method, url)
    self:put("asks", method, url)
  end
  local failure = self:play()
  if self.call then
    task.cancel(self.call)
  end
  return failure, self.notes
end

return test
