-- Digest authentication (RFC 2617 3, RFC 7616): proves that the password is known without sending it. This is the
-- arithmetic and the client's side; the server's side is khp.auth.digest_server. Algorithms: MD5, SHA-256, SHA-512-256
-- and their -sess forms; quality of protection: auth, or none (RFC 2069).
-- This file must not know where passwords are kept.

local crypto = require "khp.crypto"
local http = require "khp.http"

---@class khp.auth.Digest: khp.auth.Scheme
local digest = { name = "Digest" }

local concat, find, format, gmatch, lower, upper =
  table.concat, string.find, string.format, string.gmatch, string.lower, string.upper
local ipairs, type = ipairs, type

---@class khp.auth.Algorithm
---@field name string as in headers
---@field hash string its name in khp.crypto.digest()
---@field session boolean whether it is a -sess form
---@field strength number the larger, the better

--- The supported algorithms, by name in upper case.
---@type table<string, khp.auth.Algorithm>
digest.algorithms = {}
for _, row in ipairs { { "MD5", "md5", 30 }, { "SHA-256", "sha256", 40 }, { "SHA-512-256", "sha512-256", 50 } } do
  digest.algorithms[row[1]] = { name = row[1], hash = row[2], session = false, strength = row[3] }
  digest.algorithms[row[1] .. "-SESS"] = { name = row[1] .. "-sess", hash = row[2], session = true, strength = row[3] }
end

--- The algorithm with this name; MD5 for nil (RFC 2617 3.2.1).
---@param name string?
---@return khp.auth.Algorithm? algorithm nil: not supported
function digest.algorithm(name)
  if name == nil then
    return digest.algorithms.MD5
  end
  return type(name) == "string" and digest.algorithms[upper(name)] or nil
end

local function hex(hash, text)
  return crypto.hex(crypto.digest(hash, text))
end

--- H(username:realm:password) in hexadecimal.
---@param algorithm khp.auth.Algorithm
---@param username string
---@param realm string
---@param password string
---@return string
function digest.secret(algorithm, username, realm, password)
  return hex(algorithm.hash, username .. ":" .. realm .. ":" .. password)
end

--- The value of `response` (RFC 7616 3.4.1).
---@param algorithm khp.auth.Algorithm
---@param secret string as digest.secret() returns it
---@param p { nonce: string, cnonce: string?, nc: string?, qop: string?, method: string, uri: string }
---@return string
function digest.response(algorithm, secret, p)
  local hash = algorithm.hash
  if algorithm.session then -- RFC 7616 3.4.2
    secret = hex(hash, secret .. ":" .. p.nonce .. ":" .. p.cnonce)
  end
  local request = hex(hash, p.method .. ":" .. p.uri)
  if not p.qop then -- RFC 2617 3.2.2.1
    return hex(hash, secret .. ":" .. p.nonce .. ":" .. request)
  end
  return hex(hash, concat({ secret, p.nonce, p.nc, p.cnonce, p.qop, request }, ":"))
end

-- Is "auth" among the qualities that are offered? nil where none is.
local function offers_auth(qop)
  if qop == nil then
    return nil
  end
  for word in gmatch(lower(type(qop) == "string" and qop or ""), "[^, \t]+") do
    if word == "auth" then
      return true
    end
  end
  return false
end

--- The strength of the challenge's algorithm; nil if it cannot be answered.
---@param challenge khp.auth.Challenge
---@return number?
function digest.strength(challenge)
  local p = challenge.parameters
  local algorithm = digest.algorithm(p.algorithm)
  if not algorithm or type(p.nonce) ~= "string" or type(p.realm) ~= "string" or offers_auth(p.qop) == false then
    return nil
  end
  return algorithm.strength
end

--- Whether only the nonce was too old.
---@param challenge khp.auth.Challenge
---@return boolean
function digest.stale(challenge)
  local stale = challenge.parameters.stale
  return type(stale) == "string" and lower(stale) == "true"
end

-- How often this nonce has been used, and our own nonce with it: one for the life of the server's, so that a
-- -sess secret is the same however the server counts sessions.
local function use(memory, nonce)
  local entry = memory[nonce]
  if not entry then
    entry = { count = 0, cnonce = crypto.base64(crypto.random(18)) }
    memory[nonce] = entry
  end
  entry.count = entry.count + 1
  return format("%08x", entry.count), entry.cnonce
end

-- RFC 7616 3.4: what is quoted, and what is not.
local function parameter(out, name, value)
  if value == nil then
    return true
  end
  local quoted = http.quote(value)
  if not quoted then
    return false
  end
  out[#out + 1] = name .. "=" .. quoted
  return true
end

--- The value of Authorization.
---@param challenge khp.auth.Challenge
---@param credentials khp.auth.Credentials
---@param request khp.auth.Request
---@param memory table stores the nonces in use: memory[nonce] = { count, cnonce }
---@return string? authorization
---@return string? message
function digest.answer(challenge, credentials, request, memory)
  local username, password = credentials.username, credentials.password
  if not username or not password then
    return nil, "Digest needs a username and a password"
  elseif find(username, "%c") then
    return nil, "Digest cannot carry controls in a username"
  end
  local p = challenge.parameters
  local algorithm = digest.algorithm(p.algorithm)
  local qop = offers_auth(p.qop) and "auth" or nil
  local nc, cnonce
  if qop or algorithm.session then
    nc, cnonce = use(memory, p.nonce)
  end
  local uri = request.target or "/"
  local response = digest.response(algorithm, digest.secret(algorithm, username, p.realm, password), {
    nonce = p.nonce, cnonce = cnonce, nc = nc, qop = qop, method = request.method or "GET", uri = uri,
  })
  local userhash = type(p.userhash) == "string" and lower(p.userhash) == "true" -- RFC 7616 3.4.4
  if userhash then
    username = hex(algorithm.hash, username .. ":" .. p.realm)
  end
  local out = {}
  local ok = parameter(out, "username", username) and parameter(out, "realm", p.realm)
    and parameter(out, "nonce", p.nonce) and parameter(out, "uri", uri)
  if p.algorithm then
    out[#out + 1] = "algorithm=" .. algorithm.name
  end
  out[#out + 1] = 'response="' .. response .. '"'
  if qop then
    out[#out + 1] = "qop=" .. qop
    out[#out + 1] = "nc=" .. nc
  end
  ok = ok and parameter(out, "cnonce", cnonce)
    and parameter(out, "opaque", type(p.opaque) == "string" and p.opaque or nil)
  if userhash then
    out[#out + 1] = "userhash=true"
  end
  if not ok then
    return nil, "a challenge whose parameters cannot be written back"
  end
  return "Digest " .. concat(out, ", ")
end

return digest
