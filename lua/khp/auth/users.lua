-- Usernames and passwords from a function, a table, or a password file loaded with htpasswd.load(). Comparisons take a
-- time that does not reveal the secret, and an unknown user takes as long as a known one. This file must not know
-- schemes or headers.

local crypto = require "khp.crypto"

local users = {}

local type, error = type, error

--- A function, a table from username to password, or a password file.
---@alias khp.auth.Users
---| fun(username: string, password: string?, realm: string?): any
---| table<string, string>
---| khp.auth.Htpasswd

-- Equal, told without telling where they differ, or how long either is.
local function same(a, b)
  return crypto.equal(crypto.digest("sha256", a), crypto.digest("sha256", b))
end

--- Whether this is the user's password.
---@param who khp.auth.Users a function is called with username, password and realm
---@param name string
---@param password string
---@param realm string?
---@return boolean
function users.verify(who, name, password, realm)
  if type(who) == "function" then
    return who(name, password, realm) and true or false
  elseif type(who) ~= "table" then
    error("users are a function, a table or a password file, not " .. type(who), 3)
  elseif type(who.verify) == "function" then
    return who:verify(name, password)
  end
  local right = who[name]
  local equal = same(password, type(right) == "string" and right or "")
  return equal and type(right) == "string"
end

--- H(username:realm:password) in hexadecimal, for Digest; nil for an unknown user.
---@param who khp.auth.Users a function is called with username, nil and realm, and returns the password or nil
---@param name string
---@param realm string
---@param hash string "md5", "sha256" or "sha512-256"
---@return string? secret
function users.secret(who, name, realm, hash)
  local password
  if type(who) == "function" then
    password = who(name, nil, realm)
  elseif type(who) ~= "table" then
    error("users are a function, a table or a password file, not " .. type(who), 3)
  elseif type(who.secret) == "function" then
    return who:secret(name, realm, hash)
  else
    password = who[name]
  end
  if type(password) ~= "string" then
    return nil
  end
  return crypto.hex(crypto.digest(hash, name .. ":" .. realm .. ":" .. password))
end

return users
