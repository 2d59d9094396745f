-- What a server's policy answers with: accept, challenge, redirect, reject. Each call returns a table that describes
-- the decision; khp checks and sends it when the policy returns it. Policy files have these functions as globals; a
-- policy given as a table needs the module. This file must not know who asked.
--
-- The check is khp.policy.contract's, since a policy that ends with `return accept { … }` has no line of its own to
-- blame any more.

local decision = {}

local mt = { __name = "khp.decision" }

--- What accept(), challenge(), redirect() and reject() return. It may be reused.
---@class khp.Decision
---@field action "accept"|"challenge"|"redirect"|"reject" the function that made it
---@field subject any the challenge, the location or the status
---@field answer table the other arguments

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
---@field protocol string? one of the subprotocols that the client offers
---@field extensions string[]? from those that the client offers: "name; parameter=value"
---@field headers table? further header fields, from name to value
---@field reason string? reason phrase
---@field khp boolean? opening only: false accepts without the extended handshake

--- Accepts the request: completes the handshake with 101.
---@param given khp.Accept?
---@return khp.Decision
function decision.accept(given)
  return make("accept", nil, given or {})
end

--- Asks for credentials with 401 and one or more challenges, such as 'Basic realm="members"'.
---@param challenge string|string[]
---@param given { headers: table?, body: string? }?
---@return khp.Decision
function decision.challenge(challenge, given)
  return make("challenge", challenge, given or {})
end

--- Redirects the client.
---@param location string a URL
---@param given { status: integer?, headers: table?, body: string? }? status: 302 (default), 300, 301, 303 or 307
---@return khp.Decision
function decision.redirect(location, given)
  return make("redirect", location, given or {})
end

--- Refuses the request. Also answers an ordinary HTTP request, with any status.
---@param status integer 200 to 599; in the extended handshake not one that completes it
---@param given { reason: string?, headers: table?, body: string? }|string? a string is the body
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
