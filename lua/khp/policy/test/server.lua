-- Plays a transcript against a server's policy: both handshakes are the real machines', the answers are the policy's,
-- and what comes of them must be what stands in the transcript. This file must not know where transcripts come from.

local answer = require "khp.policy.answer"
local common = require "khp.opening.common"
local decision = require "khp.policy.decision"
local extended = require "khp.extended.server"
local http = require "khp.http"
local opening = require "khp.opening.server"
local player = require "khp.transcript.player"
local session = require "khp.policy.session"
local steps = require "khp.policy.test.steps"
local task = require "khp.task"

local server = {}

local concat, floor, format, ipairs = table.concat, math.floor, string.format, ipairs

-- Asking the policy -------------------------------------------------------------------------------------------------

local function complain(self, message)
  self.notes[#self.notes + 1] = format("policy: %s: %s", self.step, message)
end

local function apply(self, returned, request)
  local decided, wrong = answer.complete(self.step, returned, request, nil)
  local unlawful = answer.carry_out(self.machine, decided)
  if wrong or unlawful then
    complain(self, wrong or unlawful)
  end
end

local function ask(self, request, attempt)
  local decide = self.policy[self.step]
  if not decide then
    return apply(self, nil, request)
  end
  local current, done = self.session, false
  current.attempt = attempt
  if self.step == "opening" then
    current.opening, current.path = request, request.path
  end
  local deciding = task.spawn_bounded(self.budget, function(ok, returned, traceback)
    done, self.deciding = true, nil
    if not ok then
      complain(self, traceback and returned .. "\n" .. traceback or returned)
      returned = decision.reject(500)
    end
    apply(self, returned, request)
  end, decide, request, current)
  self.deciding = not done and deciding or nil
end

-- Events -------------------------------------------------------------------------------------------------------------

local function begin_extended(self, result)
  self.step = "extended"
  self.machine = extended.new(extended.settings { date = self.date }, result, self.world.now())
end

-- Where the transcript does not show the opening's answer, it must be one that opens.
local function take_opening(self, name, a)
  if name == "send" then
    self.held[#self.held + 1] = a
    return true
  elseif self.held[1] and not (self.quiet and name == "open") then
    self:put("send", concat(self.held), "http")
  end
  self.held = {}
  if name == "open" and a.protocol == common.KHP then
    begin_extended(self, a)
    return true
  end
  return name == "close"
end

local function take(self, name, a, b)
  if name == "request" then
    ask(self, a, b)
    return true
  end
  return self.step == "opening" and take_opening(self, name, a)
end

-- Steps --------------------------------------------------------------------------------------------------------------

local own, theirs = { asks = steps.asks }, { given = steps.given }

function theirs.wait(self, step)
  self.world:advance(step.seconds, function()
    return self.machine:deadline()
  end, function(now)
    local due = self.machine:deadline()
    if self.deciding and due and due <= now then
      task.cancel(self.deciding)
      self.deciding = nil
    end
    self.machine:tick(now)
    self:pump()
  end)
end

--- Plays one exchange: one connection.
---@param exchange khp.transcript.Exchange
---@param policy khp.ServerPolicy
---@param world khp.test.World
---@param budget khp.Budget
---@return khp.transcript.Failure? failure
---@return string[] notes what khp would have written to the log
function server.play(exchange, policy, world, budget)
  local list, quiet = steps.of(exchange, false), true
  for _, step in ipairs(list) do
    quiet = quiet and not (step.who == "S" and step.verb == "http")
  end
  local function date()
    return http.date(floor(world.now()))
  end
  local self = player.new {
    role = "server",
    steps = list,
    machine = opening.new(opening.settings { date = date }, world.now()),
    take = take,
    own = own,
    theirs = theirs,
    policy = policy,
    world = world,
    budget = budget,
    date = date,
    quiet = quiet,
    step = "opening",
    held = {},
    notes = {},
    session = session.new(world.connection, world),
  }
  function world.on_ask(method, url)
    self:put("asks", method, url)
  end
  local failure = self:play()
  if self.deciding then
    task.cancel(self.deciding)
  end
  return failure, self.notes
end

return server
