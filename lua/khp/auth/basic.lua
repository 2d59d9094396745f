-- Basic authentication (RFC 2617 2, RFC 7617): the password itself, readable by whoever reads the connection.
-- This file must not know where passwords are kept: khp.auth.users does.

local crypto = require "khp.crypto"
local http = require "khp.http"
local users = require "khp.auth.users"

---@class khp.auth.Basic: khp.auth.Scheme
local basic = { name = "Basic" }

local find, lower, sub = string.find, string.lower, string.sub

--- The least of all: the password travels as it is.
---@return number
function basic.strength()
  return 10
end

--- The value of Authorization.
---@param credentials khp.auth.Credentials
---@return string? authorization, string? message
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
---@param prefix "Application"|nil the form that keeps browsers from asking the user themselves
---@return string? challenge, string? message
function basic.challenge(realm, prefix)
  local quoted, message = http.quote(realm)
  if not quoted then
    return nil, message
  end
  return (prefix and prefix .. " " or "") .. "Basic realm=" .. quoted .. ', charset="UTF-8"'
end

--- Username and password in a value of Authorization.
---@param authorization string?
---@return string? username, string password_or_message
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

--- Who is it? The username, when the password is right.
---@param authorization string? value of Authorization
---@param who khp.auth.Users a function(username, password, realm) that says yes or no, a table from username to
---  password, or what khp.auth.htpasswd.load gives
---@param realm string? handed on to a function
---@return string? username, string? message
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
