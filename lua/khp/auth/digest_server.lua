-- The server's side of Digest authentication (RFC 7616): challenges with fresh nonces, and the check of answers.
-- A nonce carries its own time and seal, so that nothing is kept for those who never answer; of each nonce in use
-- the last count is kept for as long as it lives, so that no answer counts twice.
-- This file must not know where passwords are kept: khp.auth.users does.

local crypto = require "khp.crypto"
local digest = require "khp.auth.digest"
local http = require "khp.http"
local options = require "khp.options"
local users = require "khp.auth.users"

local server = {}

local concat, find, floor, format, lower, match, sub =
  table.concat, string.find, math.floor, string.format, string.lower, string.match, string.sub
local gsub, char, error, ipairs, setmetatable, time, tonumber, type =
  string.gsub, string.char, error, ipairs, setmetatable, os.time, tonumber, type

local declaration = options.declare("khp.auth.digest_server.new", {
  realm = { type = "string", required = true },
  users = { type = "table|function", required = true },
  algorithms = { type = "strings", default = { "SHA-256", "MD5" } },
  lifetime = { type = "number", default = 300, min = 1 },
  prefix = { type = "string" },
  now = { type = "function", default = time },
})

---@class khp.auth.DigestServer
local methods = {}
local metatable = { __name = "khp.auth.digest_server", __index = methods }

---@class khp.auth.DigestServerOptions
---@field realm string
---@field users khp.auth.Users
---@field algorithms string[]? in order of preference; default SHA-256, MD5
---@field lifetime number? seconds that a nonce can be used; default 300
---@field prefix string? "Application", for Kaazing's form of challenges
---@field now (fun(): number)? default os.time

--- A checker for one realm; it serves all connections, so that an answer that was seen on one is known on all.
---@param given khp.auth.DigestServerOptions
---@return khp.auth.DigestServer
function server.new(given)
  given = options.check(declaration, given)
  local list = {}
  for i, name in ipairs(given.algorithms) do
    list[i] = digest.algorithm(name)
    if not list[i] then
      error("khp.auth.digest_server.new: option 'algorithms': unknown algorithm '" .. name .. "'", 2)
    end
  end
  local realm, message = http.quote(given.realm)
  if not realm then
    error("khp.auth.digest_server.new: option 'realm': " .. message, 2)
  end
  return setmetatable({
    realm = given.realm,
    quoted_realm = realm,
    users = given.users,
    algorithms = list,
    lifetime = given.lifetime,
    prefix = given.prefix and given.prefix .. " " or "",
    now = given.now,
    key = crypto.random(32),
    counts = {}, -- of nonces used since `since`
    earlier = {}, -- of those used one lifetime before
    since = given.now(),
  }, metatable)
end

local function seal(self, text)
  return sub(crypto.hex(crypto.hmac("sha256", self.key, text)), 1, 32)
end

local function new_nonce(self)
  local text = format("%x-%s", floor(self.now()), crypto.hex(crypto.random(12)))
  return text .. "-" .. seal(self, text)
end

-- Seconds since we made this nonce; nil: we did not.
local function age(self, nonce)
  local stamp, given = match(nonce, "^(%x+)%-%x+%-(%x+)$")
  if not stamp or #stamp > 12 then
    return nil
  end
  local text = sub(nonce, 1, #nonce - #given - 1)
  if not crypto.equal(seal(self, text), given) then
    return nil
  end
  return self.now() - tonumber(stamp, 16)
end

-- Two generations: what is older than both belongs to nonces that have expired.
local function rotate(self)
  local now = self.now()
  if now - self.since >= self.lifetime then
    self.earlier = now - self.since < 2 * self.lifetime and self.counts or {}
    self.counts, self.since = {}, now
  end
end

--- The values of WWW-Authenticate, one for each algorithm, all with one fresh nonce.
---@param stale boolean? the last answer was right but for its nonce
---@return string[]
function methods:challenge(stale)
  local nonce, list = new_nonce(self), {}
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
  if #p.nc ~= 8 or find(p.nc, "%X") or lower(p.qop) ~= "auth" or #p.nonce > 128 then
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

--- Who is it? The username, when the answer proves the password for this request.
---@param authorization string? value of Authorization
---@param method string of the request
---@param target string of the request
---@return string? username, string? message
---@return boolean? stale right but for the nonce: challenge(true) spares the client asking its user again
function methods:check(authorization, method, target)
  local p, problem = read(authorization)
  if not p then
    return nil, problem
  end
  local algorithm = offered(self, p.algorithm)
  local old = age(self, p.nonce)
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
  rotate(self)
  local count = tonumber(p.nc, 16)
  if count <= (self.counts[p.nonce] or self.earlier[p.nonce] or 0) then -- RFC 7616 3.4.5
    return nil, "this answer was used before", true
  end
  self.counts[p.nonce] = count
  return p.username
end

return server
