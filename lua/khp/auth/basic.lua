-- Basic authentication (RFC 2617 2, RFC 7617): sends the password itself, readable for anybody who can read the
-- connection. This file must not know where passwords are kept: khp.auth.users does.

local crypto = require "khp.crypto"
local http = require "khp.http"
local users = require "khp.auth.users"

---@class khp.auth.Basic: khp.auth.Scheme
local basic = { name = "Basic" }

local find, lower, sub = string.find, string.lower, string.sub

--- The weakest scheme: the password is sent as it is.
---@return number
function basic.strength()
  return 10
end

--- The value of Authorization.
---@param _ khp.auth.Challenge the challenge, which is not needed
---@param credentials khp.auth.Credentials
---@return string? authorization
---@return string? message
function basic.answer(_, credentials)
  local name, password = credentials.username, credentials.password
  if not name or not password then
    return nil, "Basic needs a username and a password"
  elseif find(name, ":", 1, true) or find(name, "%c") or find(password, "%c") then -- RFC 7617 2
    return nil, "Basic cannot carry a ':' in a username, or controls"
  end
  return "Basic " .. crypto.base64(name .. ":" .. password)
end

--- The value of WWW-Authenticate.
---@param realm string
---@param prefix "Application"|nil Kaazing's form, for which browsers do not show a login dialog
---@return string? challenge
---@return string? message
function basic.challenge(realm, prefix)
  local quoted, message = http.quote(realm)
  if not quoted then
    return nil, message
  end
  return (prefix and prefix .. " " or "") .. "Basic realm=" .. quoted .. ', charset="UTF-8"'
end

--- Username and password of a value of Authorization.
---@param authorization string?
---@return string? username
---@return string password on failure the error message
function basic.parse(authorization)
  local list = authorization and http.challenges(authorization)
  local given = list and #list == 1 and list[1] or nil
  if not given or lower(given.scheme) ~= "basic" then
    return nil, "no Basic credentials"
  end
  local text = given.token68 and crypto.unbase64(given.token68)
  local colon = text and find(text, ":", 1, true)
  if not colon or find(text, "%c") then
    return nil, "Basic credentials that cannot be read"
  end
  return sub(text, 1, colon - 1), sub(text, colon + 1)
end

--- The username, if the password is right.
---@param authorization string? value of Authorization
---@param who khp.auth.Users function(username, password, realm) → boolean, a table from username to password, or what
---  khp.auth.htpasswd.load() returns
---@param realm string? passed to a function
---@return string? username
---@return string? message
function basic.check(authorization, who, realm)
  local name, password = basic.parse(authorization)
  if not name then
    return nil, password
  elseif not users.verify(who, name, password, realm) then
    return nil, "wrong username or password"
  end
  return name
end

return basic
