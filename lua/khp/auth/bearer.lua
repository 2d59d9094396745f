-- Bearer tokens (RFC 6750), and the Token scheme of Kaazing servers, which differs only in its name.
-- This file must not know what a token means: a function of the user's does.

local http = require "khp.http"

---@class khp.auth.Bearer: khp.auth.Scheme
---@field token khp.auth.Scheme the scheme "Token"
local bearer = { name = "Bearer" }

local find, lower, sub = string.find, string.lower, string.sub
local ipairs, type = ipairs, type

--- Between Basic and Digest.
---@return number
function bearer.strength()
  return 20
end

local function answer(name, credentials)
  local token = credentials.token
  if not token then
    return nil, name .. " needs a token"
  elseif type(token) ~= "string" or token == "" or find(token, "[^\33-\126]") then
    return nil, "a token has visible characters only"
  end
  return name .. " " .. token
end

--- The value of Authorization.
---@param _ khp.auth.Challenge the challenge, which is not needed
---@param credentials khp.auth.Credentials
---@return string? authorization
---@return string? message
function bearer.answer(_, credentials)
  return answer("Bearer", credentials)
end

bearer.token = {
  name = "Token",
  strength = bearer.strength,
  answer = function(_, credentials)
    return answer("Token", credentials)
  end,
}

--- A scheme of which nothing is known but its name, as it stands in a challenge: Negotiate, or one that a server has
--- made up. Its credentials are a token, which a function has to make for it. The weakest of all.
---@param name string
---@return khp.auth.Scheme
function bearer.unknown(name)
  return {
    name = name,
    strength = function()
      return 0
    end,
    answer = function(_, credentials)
      return answer(name, credentials)
    end,
  }
end

--- The value of WWW-Authenticate.
---@param realm string?
---@param problem string? "invalid_token" or another error of RFC 6750 3.1
---@return string? challenge
---@return string? message
function bearer.challenge(realm, problem)
  local parameters = ""
  for _, pair in ipairs({ { "realm", realm }, { "error", problem } }) do
    if pair[2] then
      local quoted, message = http.quote(pair[2])
      if not quoted then
        return nil, message
      end
      parameters = parameters .. (parameters == "" and " " or ", ") .. pair[1] .. "=" .. quoted
    end
  end
  return "Bearer" .. parameters
end

--- The token of a value of Authorization. Any characters are accepted, since tokens in use do not follow the grammar.
---@param authorization string?
---@param scheme string? "Bearer" or "Token"; default "Bearer"
---@return string? token
---@return string? message
function bearer.parse(authorization, scheme)
  scheme = scheme or bearer.name
  local blank = authorization and find(authorization, " ", 1, true)
  if not blank or lower(sub(authorization, 1, blank - 1)) ~= lower(scheme) then
    return nil, "no " .. scheme .. " credentials"
  end
  local start = find(authorization, "[^ ]", blank)
  local token = start and sub(authorization, start)
  if not token or find(token, "[^\33-\126]") then
    return nil, scheme .. " credentials that cannot be read"
  end
  return token
end

--- Checks the token with a function, and returns what that returns, if it is neither false nor nil.
---@param authorization string? value of Authorization
---@param verify fun(token: string): any
---@param scheme string? "Bearer" or "Token"; default "Bearer"
---@return any? result
---@return string? message
function bearer.check(authorization, verify, scheme)
  local token, message = bearer.parse(authorization, scheme)
  if not token then
    return nil, message
  end
  local result = verify(token)
  if not result then
    return nil, "wrong token"
  end
  return result
end

return bearer
