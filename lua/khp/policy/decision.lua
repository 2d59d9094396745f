-- What a server's policy may answer: accept, challenge, redirect, reject. Each call makes a table that says what
-- was decided; nothing is sent here. A misspelt field is found at the line that has it; whether the values are right is
-- looked at when the decision is returned (khp.policy.contract). This file must not know who asked.

local options = require "khp.options"

local decision = {}

local mt = { __name = "khp.decision" }

---@class khp.Decision
---@field action "accept"|"challenge"|"redirect"|"reject"
---@field subject any the challenge, the location or the status
---@field answer table what the machine's method takes besides

local function make(action, subject, answer)
  return setmetatable({ action = action, subject = subject, answer = answer }, mt)
end

local any = { type = "any" }

local declarations = {
  accept = options.declare("accept", { protocol = any, extensions = any, headers = any, reason = any, khp = any }),
  challenge = options.declare("challenge", { headers = any, body = any }),
  redirect = options.declare("redirect", { status = any, headers = any, body = any }),
  reject = options.declare("reject", { headers = any, body = any, reason = any }),
}

-- Checked at the line of the policy that calls.
local function check(name, given)
  local checked = options.check(declarations[name], given, 3)
  return checked
end

---@class khp.Accept
---@field protocol string? one of those the client asked for
---@field extensions string[]? of those the client asked for: "name; parameter=value"
---@field headers table? further fields, name → value
---@field reason string? reason phrase
---@field khp boolean? opening only: false answers without the extended handshake

--- Goes on: the 101.
---@param given khp.Accept?
---@return khp.Decision
function decision.accept(given)
  return make("accept", nil, check("accept", given))
end

--- Asks for credentials: a 401 with this challenge ('Basic realm="members"'), or several.
---@param challenge string|string[]
---@param given { headers: table?, body: string? }?
---@return khp.Decision
function decision.challenge(challenge, given)
  if type(challenge) ~= "string" and type(challenge) ~= "table" then
    error("challenge: a challenge expected, not " .. type(challenge), 2)
  end
  return make("challenge", challenge, check("challenge", given))
end

--- Sends the client elsewhere.
---@param location string
---@param given { status: integer?, headers: table?, body: string? }? status: 302 (default), 300, 301, 303 or 307
---@return khp.Decision
function decision.redirect(location, given)
  if type(location) ~= "string" then
    error("redirect: a location expected, not " .. type(location), 2)
  end
  return make("redirect", location, check("redirect", given))
end

--- Refuses; also what answers an ordinary HTTP request, perhaps with 200.
---@param status integer 200 to 599; none that completes an extended handshake
---@param given { reason: string?, headers: table?, body: string? }|string? or the body alone
---@return khp.Decision
function decision.reject(status, given)
  if type(status) ~= "number" or status < 200 or status > 599 or status % 1 ~= 0 then
    error("reject: a status from 200 to 599 expected, not " .. tostring(status), 2)
  end
  return make("reject", status, check("reject", type(given) == "string" and { body = given } or given))
end

---@param value any
---@return boolean
function decision.is(value)
  return getmetatable(value) == mt
end

return decision
