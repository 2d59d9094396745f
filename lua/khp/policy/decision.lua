-- What a server's policy may answer: accept, challenge, redirect, reject. Each call makes a table that says what was
-- decided, and nothing is sent or checked: what the table has is looked at when a policy returns it
-- (khp.policy.contract), for a policy that ends with `return accept { … }` has no line of its own any more. This file
-- must not know who asked.

local decision = {}

local mt = { __name = "khp.decision" }

---@class khp.Decision  what accept(), challenge(), redirect() and reject() make; may be given again and again
---@field action "accept"|"challenge"|"redirect"|"reject" which of them made it
---@field subject any the challenge, the location or the status
---@field answer table what the machine's method takes besides

--- Makes one of its parts.
---@package
---@param action "accept"|"challenge"|"redirect"|"reject"
---@param subject any
---@param answer table
---@return khp.Decision
function decision.new(action, subject, answer)
  return setmetatable({ action = action, subject = subject, answer = answer }, mt)
end

-- Coroutines in which a policy's function runs → the last decision that it has made, or false.
local made = setmetatable({}, { __mode = "k" })

local function make(action, subject, answer)
  local decided = decision.new(action, subject, answer)
  local co = coroutine.running()
  if co and made[co] ~= nil then
    made[co] = decided
  end
  return decided
end

local function judge(co, value, ...)
  local last = made[co]
  made[co] = nil
  if value == nil and last then
    error(last.action .. "(…) was called, but not returned: a 'return' is missing", 0)
  end
  return value, ...
end

--- The same function, but that it may not make a decision and return nothing: forgetting to return a challenge would
--- let everybody in.
---@package
---@param f function
---@return function
function decision.returned(f)
  return function(...)
    local co = coroutine.running()
    if not co then -- the main chunk, in Lua 5.1
      return f(...)
    end
    made[co] = false
    return judge(co, f(...))
  end
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
  return make("accept", nil, given or {})
end

--- Asks for credentials: a 401 with this challenge ('Basic realm="members"'), or several.
---@param challenge string|string[]
---@param given { headers: table?, body: string? }?
---@return khp.Decision
function decision.challenge(challenge, given)
  return make("challenge", challenge, given or {})
end

--- Sends the client elsewhere.
---@param location string
---@param given { status: integer?, headers: table?, body: string? }? status: 302 (default), 300, 301, 303 or 307
---@return khp.Decision
function decision.redirect(location, given)
  return make("redirect", location, given or {})
end

--- Refuses; also what answers an ordinary HTTP request, perhaps with 200.
---@param status integer 200 to 599; none that completes an extended handshake
---@param given { reason: string?, headers: table?, body: string? }|string? or the body alone
---@return khp.Decision
function decision.reject(status, given)
  return make("reject", status, type(given) == "string" and { body = given } or given or {})
end

--- Whether a value is a decision.
---@param value any
---@return boolean
function decision.is(value)
  return getmetatable(value) == mt
end

return decision
