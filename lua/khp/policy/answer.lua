-- From what a server's policy returned to what its peer is told: nothing returned leaves the choice to khp, nonsense
-- becomes a 500, and each decision is a call of the machine that asked. The server answers so, and so do the tests of
-- policies. This file must not know connections, nor how a policy is run.

local common = require "khp.opening.common"
local contract = require "khp.policy.contract"
local decision = require "khp.policy.decision"
local extension = require "khp.extension"
local limits = require "khp.limits"

local answer = {}

local KHP = common.KHP

local function anything()
  return false
end

-- A copy of an answer, which the policy may use again, with one more header, of one value or several.
local function with_header(given, name, values)
  local headers = {}
  for i, value in ipairs(type(values) == "table" and values or { values }) do
    headers[2 * i - 1], headers[2 * i] = name, value
  end
  local problem = common.add_headers(headers, given.headers, anything)
  return { headers = headers, body = given.body, reason = given.reason }, problem
end

-- The first of the offered protocols that the server's option `protocols` names.
local function choose(offered, known)
  for _, one in ipairs(offered) do
    if common.index(known, one) then
      return one
    end
  end
  return nil
end

-- Decisions stay as they are, so those that are always the same are made once.
local ACCEPT, ACCEPT_KHP = decision.accept(), decision.accept { protocol = KHP }

--- What khp answers to an ordinary request where nobody else does.
answer.ORDINARY = decision.reject(426)

local defaults = {}

function defaults.extended(request, known)
  local protocol = known and choose(request.protocols, known)
  return protocol and decision.accept { protocol = protocol } or ACCEPT
end

function defaults.opening(request, known)
  if not request.upgrade then
    return answer.ORDINARY
  elseif common.index(request.protocols, KHP) then -- KHP O2
    return ACCEPT_KHP
  end
  return defaults.extended(request, known)
end

-- A policy's accept{} of the opening names an application's protocol, or none, where the client may have asked for
-- KHP: then KHP it is, unless the policy said no (O3). The policy may give the same decision again, so it stays as it
-- is.
local function complete_opening(decided, request)
  local given = decided.answer
  local protocol = given.protocol
  if given.khp ~= false and protocol == nil and common.index(request.protocols, KHP) then
    protocol = KHP
  elseif given.khp == nil then
    return decided
  end
  return decision.accept {
    protocol = protocol, extensions = given.extensions, headers = given.headers, reason = given.reason,
  }
end

--- The decision that is to be carried out for what a policy returned.
---@param step "opening"|"extended"
---@param returned any
---@param request table
---@param known string[]? protocols among which khp chooses where the policy does not
---@param bounds table? limits
---@return khp.Decision decided
---@return string? message what was wrong with it, for the log
function answer.complete(step, returned, request, known, bounds)
  if returned == nil then
    return defaults[step](request, known)
  elseif not decision.is(returned) then
    return decision.reject(500), "accept, challenge, redirect or reject expected, got " .. type(returned)
  end
  local checked, message = contract.check(returned, request, bounds or limits.defaults)
  if not checked then
    return decision.reject(500), message
  elseif step == "opening" and checked.action == "accept" then
    return complete_opening(checked, request)
  end
  return checked
end

-- A tail call, so that a traceback names the function by its place and not by what it is called here.
local function named(f, ...)
  return f(...)
end

--- Asks a function of the policy, and completes its answer. What the policy may make of either is made here, so this is
--- what runs under its budget. The machine of the extended handshake keeps for itself what it goes by, so the policy
--- may have its request; that of the opening does not.
---@param decide fun(request: khp.PolicyRequest, session: khp.Session): any
---@param step "opening"|"extended"
---@param request table
---@param session khp.Session
---@param known string[]?
---@param bounds table?
---@return khp.Decision decided
---@return string? message as complete()
function answer.ask(decide, step, request, session, known, bounds)
  local view = step == "opening" and contract.request(request) or request
  return answer.complete(step, (named(decide, view, session)), request, known, bounds)
end

-- What each decision means to a machine. The opening knows no challenges and redirects: there they are plain HTTP.
local carry_out = {}

function carry_out.accept(machine, decided)
  return machine:accept(decided.answer)
end

function carry_out.challenge(machine, decided)
  if machine.challenge then
    return machine:challenge(decided.subject, decided.answer)
  end
  local given, problem = with_header(decided.answer, "WWW-Authenticate", decided.subject)
  if problem then
    return nil, problem, "EPOLICY"
  end
  return machine:reject(401, given)
end

function carry_out.redirect(machine, decided)
  if machine.redirect then
    return machine:redirect(decided.subject, decided.answer)
  end
  local given, problem = with_header(decided.answer, "Location", decided.subject)
  if problem then
    return nil, problem, "EPOLICY"
  end
  return machine:reject(decided.answer.status or 302, given)
end

function carry_out.reject(machine, decided)
  return machine:reject(decided.subject, decided.answer)
end

local NONE = {}

-- An acceptance with the extensions that the server's option names, where the policy has not chosen itself. nil and
-- what is wrong: its choice cannot be.
local function with_extensions(decided, request, where)
  local list, claims, given = where.extensions or extension.none, where.claims or NONE, decided.answer
  where.chosen = nil
  if given.extensions then
    local problem = list:problem(given.extensions, claims)
    return not problem and decided or nil, problem
  end
  local khp = where.step == "extended" or given.protocol == KHP
  local texts, chosen = list:choose(request, where.step, khp, claims)
  where.chosen = chosen
  if not texts[1] then
    return decided
  end
  return decision.new("accept", nil, {
    protocol = given.protocol, extensions = texts, headers = given.headers, reason = given.reason,
  })
end

---@class khp.Negotiation  where an answer is given
---@field step "opening"|"extended"
---@field extensions khp.Extensions? what the server agrees to of its own
---@field claims table<string, string>? what extensions that are at work have for themselves
---@field chosen table? whose answers those are that the server gave for itself; set here

--- Tells the machine what was decided. What it finds unlawful becomes a 500; what comes too late is nothing.
---@param machine khp.opening.Server|khp.extended.Server
---@param decided khp.Decision
---@param where khp.Negotiation
---@return string? message what was unlawful, for the log
function answer.carry_out(machine, decided, where)
  local ok, message, code
  local request = machine.request
  if decided.action == "accept" and request and request.extensions[1] then
    ok, decided, message = pcall(with_extensions, decided, request, where) -- what extensions answer is the user's
    if not ok or not decided then
      machine:reject(500)
      return ok and message or decided
    end
  end
  ok, message, code = carry_out[decided.action](machine, decided)
  if not ok and code == "EPOLICY" then
    machine:reject(500)
    return message
  end
  return nil
end

return answer
