-- A client's answer to challenges: which of the offered schemes to use, and with which credentials. A scheme is a small
-- table of functions; those that khp has are registered here, others can be passed to auth.new().
-- This file must not know how any scheme works, or what message the answer travels in.

local bearer = require "khp.auth.bearer"

local auth = {}

local error, ipairs, lower, setmetatable, sort, type =
  error, ipairs, string.lower, setmetatable, table.sort, type

--- User and password, or a token.
---@class khp.auth.Credentials
---@field username string?
---@field password string?
---@field token string?

--- As khp.http.challenges() returns it.
---@class khp.auth.Challenge
---@field scheme string
---@field prefix string? "Application" in Kaazing's challenges; the answer does not repeat it
---@field token68 string?
---@field parameters table

--- The request that needs credentials.
---@class khp.auth.Request
---@field method string? default "GET"
---@field target string? default "/"
---@field location string? URL of the connection

---@class khp.auth.Scheme
---@field name string as in Authorization
---@field strength fun(challenge: khp.auth.Challenge): number? the strongest scheme is used; nil: cannot answer this
---  challenge
---@field answer fun(challenge: khp.auth.Challenge, ...: table): string?, string? called with the challenge, the
---  khp.auth.Credentials, the khp.auth.Request and a table for its own use; returns the value of Authorization, or nil
---  and what is missing
---@field stale (fun(challenge: khp.auth.Challenge): boolean)? whether the credentials were right and only the nonce was
---  too old

--- The schemes that khp has. They are ranked by what a peer could do with the answer. Digest (SHA-512-256, SHA-256,
--- MD5) proves that the password is known without revealing it. A token is revealed, but can be revoked and is limited
--- in use. Basic reveals the password.
---@type khp.auth.Scheme[]
auth.schemes = {
  require "khp.auth.digest",
  bearer,
  bearer.token,
  (require "khp.auth.basic"), -- Lua 5.4 gives a second value
}

--- Answers the challenges of one connection attempt.
---@class khp.auth.Answerer
local methods = {}
local metatable = { __name = "khp.auth.answerer", __index = methods }

--- Creates an answerer for one connection attempt, with all its handshakes and redirects.
---@param credentials khp.auth.Credentials|(fun(realm: string?, ...: any): khp.auth.Credentials?) a function is called
---  with realm, location, scheme and the khp.auth.Challenge
---@param schemes khp.auth.Scheme[]? the only ones to use; default: auth.schemes, and a function is also asked for a
---  token for schemes that are not among them, such as Negotiate
---@return khp.auth.Answerer
function auth.new(credentials, schemes)
  if type(credentials) ~= "table" and type(credentials) ~= "function" then
    error("credentials are a table or a function, not " .. type(credentials), 2)
  end
  local by_name = {}
  for _, scheme in ipairs(schemes or auth.schemes) do
    by_name[lower(scheme.name)] = scheme
  end
  return setmetatable({ credentials = credentials, by_name = by_name, asks = schemes == nil, used = {}, memory = {} },
    metatable)
end

-- A function may know what to make of a challenge of which khp knows nothing.
local function scheme_of(self, challenge)
  return self.by_name[lower(challenge.scheme)]
    or self.asks and type(self.credentials) == "function" and bearer.unknown(challenge.scheme)
end

-- The challenges that can be answered, the strongest first, the server's order among equals.
local function candidates(self, challenges)
  local list = {}
  for i, challenge in ipairs(challenges) do
    local scheme = scheme_of(self, challenge)
    local strength = scheme and scheme.strength(challenge)
    if strength then
      list[#list + 1] = { scheme = scheme, challenge = challenge, strength = strength, place = i }
    end
  end
  sort(list, function(a, b)
    if a.strength ~= b.strength then
      return a.strength > b.strength
    end
    return a.place < b.place
  end)
  return list
end

--- The value of Authorization for the strongest challenge for which there are credentials. Credentials in a table are
--- tried once per scheme and realm: if the server asks again, they were wrong. A function is called again.
---@param challenges khp.auth.Challenge[]
---@param request khp.auth.Request?
---@return string? authorization
---@return string scheme the scheme used; on failure the error message
---@return string? code EAUTH
function methods:answer(challenges, request)
  request = request or {}
  local why = "no challenge of a known scheme"
  for _, candidate in ipairs(candidates(self, challenges)) do
    local challenge, scheme = candidate.challenge, candidate.scheme
    local realm = challenge.parameters.realm
    local key = scheme.name .. " " .. (type(realm) == "string" and realm or "")
    local credentials = self.credentials
    if type(credentials) == "function" then
      credentials, why = credentials(realm, request.location, scheme.name, challenge), "no credentials"
    elseif self.used[key] and not (scheme.stale and scheme.stale(challenge)) then
      why, credentials = "the credentials were refused", nil
    end
    if credentials then
      local value, message = scheme.answer(challenge, credentials, request, self.memory)
      if value then
        self.used[key] = true
        return value, scheme.name
      end
      why = message or why
    end
  end
  return nil, why, "EAUTH"
end

--- Call this when an answer was accepted: the same credentials may then be used again, as after a redirect.
function methods:accepted()
  self.used = {}
end

return auth
