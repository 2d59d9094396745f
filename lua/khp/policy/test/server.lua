-- Plays a transcript against a server's policy: both handshakes are the real machines', the answers are the policy's,
-- and what comes of them must be what stands in the transcript. This file must not know where transcripts come from.

local answer = require "khp.policy.answer"
local common = require "khp.opening.common"
local decision = require "khp.policy.decision"
local extended = require "khp.extended.server"
local http = require "khp.http"
local kaazing = require "khp.kaazing"
local opening = require "khp.opening.server"
local player = require "khp.transcript.player"
local session = require "khp.policy.session"
local steps = require "khp.policy.test.steps"
local task = require "khp.task"

local server = {}

local concat, floor, format, ipairs = table.concat, math.floor, string.format, ipairs

-- Asking the policy -------------------------------------------------------------------------------------------------

local function conclude(self, decided, wrong)
  if self.step == "opening" then
    decided, self.leads = kaazing.translate(decided, self.machine.request, false)
  end
  local unlawful = answer.carry_out(self.machine, decided, self)
  if wrong or unlawful then
    self.notes[#self.notes + 1] = format("policy: %s: %s", self.step, wrong or unlawful)
  end
end

local function ask(self, request, attempt)
  local decide = self.policy[self.step]
  if not decide then
    return conclude(self, answer.complete(self.step, nil, request))
  end
  if not self.session then
    local opened = self.machine.opened
    self.session = session.new(self.world.connection, self.world, opened and opened.request or request)
  end
  self.session.attempt = attempt
  local done = false
  local deciding = task.spawn_bounded(self.budget, function(ok, decided, more)
    done, self.deciding = true, nil
    if not ok then
      decided, more = decision.reject(500), more and decided .. "\n" .. more or decided
    end
    conclude(self, decided, more)
  end, answer.ask, decide, self.step, request, self.session, nil, self.settings.limits)
  self.deciding = not done and deciding or nil
end

-- Events -------------------------------------------------------------------------------------------------------------

local function begin_extended(self, result)
  self.step = "extended"
  self.machine = kaazing.server(extended.settings(self.settings), result, self.world.now(), false, self.leads)
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

-- The connection begins with its first bytes.
function theirs.http(self, step)
  if not self.machine then
    self.machine = opening.new(opening.settings(self.settings), self.world.now())
  end
  self:feed(step)
end

function theirs.wait(self, step)
  self.world:advance(step.seconds, function()
    return self.machine and self.machine:deadline()
  end, function(now)
    local due = self.machine and self.machine:deadline()
    if self.deciding and due and due <= now then
      task.cancel(self.deciding)
      self.deciding = nil
    end
    if self.machine then
      self.machine:tick(now)
      self:pump()
    end
  end)
end

--- Plays one exchange: one connection.
---@param exchange khp.transcript.Exchange
---@param policy khp.ServerPolicy
---@param world khp.test.World
---@param budget khp.Budget
---@param limits table?
---@return khp.transcript.Failure? failure
---@return string[] notes what khp would have written to the log
function server.play(exchange, policy, world, budget, limits)
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
    take = take,
    own = own,
    turn = steps.turn,
    theirs = theirs,
    policy = policy,
    world = world,
    budget = budget,
    settings = { date = date, limits = limits },
    quiet = quiet,
    step = "opening",
    held = {},
    notes = {},
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
