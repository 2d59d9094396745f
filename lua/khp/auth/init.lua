-- From challenges to credentials: which of the offered schemes is answered, and with what. A scheme is a small
-- table of functions; those that khp brings are registered here, further ones can be added to an answerer.
-- This file must not know how any scheme works, or what message the answer travels in.

local bearer = require "khp.auth.bearer"

local auth = {}

local error, ipairs, lower, setmetatable, sort, type =
  error, ipairs, string.lower, setmetatable, table.sort, type

---@class khp.auth.Credentials
---@field username string?
---@field password string?
---@field token string?

---@class khp.auth.Challenge as khp.http.challenges gives it
---@field scheme string
---@field prefix string? "Application": the answer is the scheme's, without the prefix
---@field token68 string?
---@field parameters table

---@class khp.auth.Request what is being authorized
---@field method string? default "GET"
---@field target string? default "/"
---@field location string? URL of the connection

---@class khp.auth.Scheme
---@field name string as it stands in Authorization
---@field strength fun(challenge: khp.auth.Challenge): number? nil: this challenge cannot be answered
---@field answer fun(challenge: khp.auth.Challenge, ...: table): string?, string? value of Authorization, or nil and
---  what is missing; it is given the khp.auth.Credentials, the khp.auth.Request and a table of the answerer's own
---@field stale (fun(challenge: khp.auth.Challenge): boolean)? right credentials, only the nonce was too old

--- The schemes that khp brings. What a peer can do with an answer decides their order: a Digest (SHA-512-256,
--- SHA-256, MD5) shows that the password is known and does not give it away; a token gives itself away, but can be
--- withdrawn and opens one door; Basic gives away the password.
---@type khp.auth.Scheme[]
auth.schemes = {
  require "khp.auth.digest",
  bearer,
  bearer.token,
  (require "khp.auth.basic"), -- Lua 5.4 gives a second value
}

---@class khp.auth.Answerer
local methods = {}
local metatable = { __name = "khp.auth.answerer", __index = methods }

--- An answerer for one connection attempt, all its rounds and redirects together.
---@param credentials khp.auth.Credentials|(fun(realm: string?, ...: any): khp.auth.Credentials?) a function is given
---  the realm, the location, the scheme and the khp.auth.Challenge
---@param schemes khp.auth.Scheme[]? to use instead of auth.schemes, and no others. Without this a function is asked
---  about schemes that khp does not know, too, and what it gives is a `token`
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

--- The value of Authorization for the strongest challenge for which there are credentials. Credentials in a table
--- are tried once for each scheme and realm: asked again, they were wrong. A function is asked again.
---@param challenges khp.auth.Challenge[]
---@param request khp.auth.Request?
---@return string? authorization
---@return string scheme_or_message
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

--- An answer was accepted: asked again elsewhere, the same credentials are as good as new.
function methods:accepted()
  self.used = {}
end

return auth
