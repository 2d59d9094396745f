-- Nonces for challenges. Each contains its time and a seal, so that nothing is stored for clients that never answer.
-- For each nonce in use the last count is stored while it is valid, so that no answer is accepted twice. One object
-- serves all connections of a server. This file must not know what a nonce is used for.

local crypto = require "khp.crypto"
local options = require "khp.options"

local nonces = {}

local floor, format, match, max, sub = math.floor, string.format, string.match, math.max, string.sub
local setmetatable, time, tonumber = setmetatable, os.time, tonumber

local declaration = options.declare("khp.auth.nonces.new", {
  now = { type = "function", default = time },
  random = { type = "function", default = crypto.random },
})

--- The nonces of one server.
---@class khp.auth.Nonces
local methods = {}
local metatable = { __name = "khp.auth.nonces", __index = methods }

--- Length of the longest possible nonce.
---@type integer
nonces.LONGEST = 128

--- Creates a source of nonces.
---@param given { now: (fun(): number)?, random: (fun(n: integer): string)? }? now: a clock in seconds, default os.time;
---  random: default khp.crypto.random
---@return khp.auth.Nonces
function nonces.new(given)
  given = options.check(declaration, given)
  return setmetatable({
    now = given.now,
    random = given.random,
    key = given.random(32),
    counts = {}, -- of nonces used since `since`
    earlier = {}, -- of those used one lifetime before
    since = given.now(),
    lifetime = 0, -- the longest that was asked for
  }, metatable)
end

local function seal(self, text)
  return sub(crypto.hex(crypto.hmac("sha256", self.key, text)), 1, 32)
end

--- Makes a fresh nonce.
---@return string
function methods:make()
  local text = format("%x-%s", floor(self.now()), crypto.hex(self.random(12)))
  return text .. "-" .. seal(self, text)
end

--- Seconds since a nonce was made here; nil if it was not.
---@param nonce string
---@return number?
function methods:age(nonce)
  local stamp, given = match(nonce, "^(%x+)%-%x+%-(%x+)$")
  if not stamp or #stamp > 12 or #nonce > nonces.LONGEST then
    return nil
  end
  local text = sub(nonce, 1, #nonce - #given - 1)
  if not crypto.equal(seal(self, text), given) then
    return nil
  end
  return self.now() - tonumber(stamp, 16)
end

-- Two generations: what is older than both belongs to nonces that have expired.
local function rotate(self, lifetime)
  local now = self.now()
  self.lifetime = max(self.lifetime, lifetime)
  if now - self.since >= self.lifetime then
    self.earlier = now - self.since < 2 * self.lifetime and self.counts or {}
    self.counts, self.since = {}, now
  end
end

--- Whether a nonce was made here, is still valid, and has not been used with this count or a higher one (RFC 7616
--- 3.4.5). Records the use.
---@param nonce string
---@param count integer from 1
---@param lifetime number seconds that a nonce is valid
---@return boolean
function methods:use(nonce, count, lifetime)
  rotate(self, lifetime)
  if count <= (self.counts[nonce] or self.earlier[nonce] or 0) then
    return false
  end
  self.counts[nonce] = count
  return true
end

return nonces
