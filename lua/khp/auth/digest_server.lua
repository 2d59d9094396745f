-- The server's side of Digest authentication (RFC 7616): challenges with fresh nonces, and the check of answers. A
-- policy uses session:digest() instead.
-- This file must not know where passwords are kept: khp.auth.users does; nor what a nonce is made of: khp.auth.nonces.

local crypto = require "khp.crypto"
local digest = require "khp.auth.digest"
local http = require "khp.http"
local nonces = require "khp.auth.nonces"
local options = require "khp.options"
local users = require "khp.auth.users"

local server = {}

local concat, find, lower, match = table.concat, string.find, string.lower, string.match
local gsub, char, error, ipairs, setmetatable, tonumber, type =
  string.gsub, string.char, error, ipairs, setmetatable, tonumber, type

local declaration = options.declare("khp.auth.digest_server.new", {
  realm = { type = "string", required = true },
  users = { type = "table|function", required = true },
  algorithms = { type = "strings", default = { "SHA-256", "MD5" } },
  lifetime = { type = "number", default = 300, min = 1 },
  prefix = { type = "string" },
  now = { type = "function" },
  nonces = { type = "table" },
})

--- Checks the Digest credentials of one realm.
---@class khp.auth.DigestServer
local methods = {}
local metatable = { __name = "khp.auth.digest_server", __index = methods }

---@class khp.auth.DigestServerOptions
---@field realm string
---@field users khp.auth.Users
---@field algorithms string[]? in order of preference; default SHA-256, MD5
---@field lifetime number? seconds that a nonce is valid; default 300
---@field prefix string? "Application" for Kaazing's form of challenges
---@field now (fun(): number)? clock of its own nonces; default os.time
---@field nonces khp.auth.Nonces? nonces shared with others; default: its own

--- Creates a checker for one realm. It serves all connections, so that an answer used on one is not valid on another.
---@param given khp.auth.DigestServerOptions
---@param level integer? stack level to blame for a mistake, as in error(); default 1, the caller
---@return khp.auth.DigestServer
function server.new(given, level)
  level = (level or 1) + 1
  given = options.check(declaration, given, level)
  local list = {}
  for i, name in ipairs(given.algorithms) do
    list[i] = digest.algorithm(name)
    if not list[i] then
      error("khp.auth.digest_server.new: option 'algorithms': unknown algorithm '" .. name .. "'", level)
    end
  end
  local realm, message = http.quote(given.realm)
  if not realm then
    error("khp.auth.digest_server.new: option 'realm': " .. message, level)
  end
  return setmetatable({
    realm = given.realm,
    quoted_realm = realm,
    users = given.users,
    algorithms = list,
    lifetime = given.lifetime,
    prefix = given.prefix and given.prefix .. " " or "",
    nonces = given.nonces or nonces.new { now = given.now },
  }, metatable)
end

--- The values of WWW-Authenticate, one per algorithm, all with the same fresh nonce.
---@param stale boolean? the last answer was right except for its nonce
---@return string[]
function methods:challenge(stale)
  local nonce, list = self.nonces:make(), {}
  for i, algorithm in ipairs(self.algorithms) do
    list[i] = concat({
      self.prefix .. "Digest realm=" .. self.quoted_realm,
      'qop="auth"',
      "algorithm=" .. algorithm.name,
      'nonce="' .. nonce .. '"',
      "charset=UTF-8",
      stale and "stale=true" or nil,
    }, ", ")
  end
  return list
end

-- RFC 7616 3.4: username, or username* in the form of RFC 5987 for what a quoted string cannot hold.
local function read_username(p)
  if type(p.username) == "string" then
    return p.username
  end
  local extended = p["username*"]
  local encoded = type(extended) == "string" and match(extended, "^[Uu][Tt][Ff]%-8'[^']*'([^%c' ]*)$")
  return encoded and gsub(encoded, "%%(%x%x)", function(hex)
    return char(tonumber(hex, 16))
  end) or nil
end

-- The parameters of an answer that has all that it needs, or what is wrong with it.
local function read(authorization)
  local list = authorization and http.challenges(authorization)
  local given = list and #list == 1 and list[1] or nil
  if not given or lower(given.scheme) ~= "digest" then
    return nil, "no Digest credentials"
  end
  local p = given.parameters
  p.username = read_username(p)
  for _, name in ipairs { "username", "realm", "nonce", "uri", "response", "qop", "nc", "cnonce" } do
    if type(p[name]) ~= "string" or p[name] == "" then
      return nil, "Digest credentials without " .. name
    end
  end
  if #p.nc ~= 8 or find(p.nc, "%X") or lower(p.qop) ~= "auth" or #p.nonce > nonces.LONGEST then
    return nil, "Digest credentials that cannot be read"
  end
  return p
end

local function offered(self, name)
  local algorithm = digest.algorithm(name)
  for _, one in ipairs(self.algorithms) do
    if one == algorithm then
      return algorithm
    end
  end
  return nil
end

--- The username, if the answer proves the password for this request.
---@param authorization string? value of Authorization
---@param method string of the request
---@param target string of the request
---@return string? username
---@return string? message
---@return boolean? stale right except for the nonce: challenge(true) saves the client from asking its user again
function methods:check(authorization, method, target)
  local p, problem = read(authorization)
  if not p then
    return nil, problem
  end
  local algorithm = offered(self, p.algorithm)
  local old = self.nonces:age(p.nonce)
  if not algorithm or p.realm ~= self.realm or p.uri ~= target then -- RFC 7616 3.4.6
    return nil, "Digest credentials for something else"
  elseif not old then
    return nil, "a nonce that is not ours"
  end
  local secret = users.secret(self.users, p.username, self.realm, algorithm.hash)
  local right = digest.response(algorithm, secret or crypto.hex(crypto.random(16)), {
    nonce = p.nonce, cnonce = p.cnonce, nc = p.nc, qop = p.qop, method = method, uri = p.uri,
  })
  if not crypto.equal(right, lower(p.response)) or not secret then
    return nil, "wrong username or password"
  elseif old >= self.lifetime then
    return nil, "the nonce is too old", true
  end
  if not self.nonces:use(p.nonce, tonumber(p.nc, 16), self.lifetime) then
    return nil, "this answer was used before", true
  end
  return p.username
end

return server
