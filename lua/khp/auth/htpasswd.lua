-- Password files as made by htpasswd (name:hash) and htdigest (name:realm:hash). {SHA} and $apr1$ are built in; other
-- hashes (bcrypt's $2y$, $6$ and so on) need crypt(3), and loading a file with them fails if khp was built without it.
-- Plain text and DES, which ignores all but the first eight characters, are not supported.
-- This file must not know schemes or headers.

local crypto = require "khp.crypto"

local htpasswd = {}

local byte, concat, find, floor = string.byte, table.concat, string.find, math.floor
local format, gmatch, gsub, lower, match, min, sub =
  string.format, string.gmatch, string.gsub, string.lower, string.match, math.min, string.sub
local io_open, setmetatable = io.open, setmetatable

-- A longer password is nobody's, and its hash would cost thousands of rounds over all of it.
local LONGEST = 512

local ALPHABET = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

-- Three bytes as four characters of the alphabet, least significant bits first.
local function encode(high, middle, low, count)
  local value, out = (high * 256 + middle) * 256 + low, {}
  for i = 1, count do
    local digit = value % 64
    out[i] = sub(ALPHABET, digit + 1, digit + 1)
    value = floor(value / 64)
  end
  return concat(out)
end

-- The MD5 scheme of Apache: crypt(3)'s, under a name of its own.
local function apr1(password, salt)
  local function md5(text)
    return crypto.digest("md5", text)
  end
  local inner = md5(password .. salt .. password)
  local text = { password, "$apr1$", salt }
  for left = #password, 1, -16 do
    text[#text + 1] = sub(inner, 1, min(16, left))
  end
  local bits = #password
  while bits > 0 do
    text[#text + 1] = bits % 2 == 1 and "\0" or sub(password, 1, 1)
    bits = floor(bits / 2)
  end
  local hash = md5(concat(text))
  for round = 0, 999 do
    local odd = round % 2 == 1
    hash = md5((odd and password or hash) .. (round % 3 ~= 0 and salt or "") .. (round % 7 ~= 0 and password or "")
      .. (odd and hash or password))
  end
  local b = { byte(hash, 1, 16) }
  return "$apr1$" .. salt .. "$" .. encode(b[1], b[7], b[13], 4) .. encode(b[2], b[8], b[14], 4)
    .. encode(b[3], b[9], b[15], 4) .. encode(b[4], b[10], b[16], 4) .. encode(b[5], b[11], b[6], 4)
    .. encode(0, 0, b[12], 2)
end

-- The hash of this password as the given one was made; nil when it cannot be made.
local function like(hash, password, crypt)
  if sub(hash, 1, 5) == "{SHA}" then
    return "{SHA}" .. crypto.base64(crypto.digest("sha1", password))
  end
  local salt = match(hash, "^%$apr1%$([^$]*)%$")
  if salt then
    return apr1(password, sub(salt, 1, 8))
  end
  return crypt and crypt(password, hash)
end

--- A loaded password file.
---@class khp.auth.Htpasswd
---@field hashes table<string, string> by name
---@field digests table<string, string> by name, ":" and realm
---@field example string? a hash to check for unknown users, so that they take as long as known ones
---@field crypt (fun(password: string, hash: string): string?)|false|nil
local methods = {}
local metatable = { __name = "khp.auth.htpasswd", __index = methods }

--- Whether this is the user's password. Hashes of crypt(3) take as long as their cost says, and block the event loop
--- meanwhile: about a quarter of a second for bcrypt with cost 12.
---@param name string
---@param password string
---@return boolean
function methods:verify(name, password)
  local hash = self.hashes[name]
  local model = hash or self.example
  if not model or #password > LONGEST or find(password, "\0", 1, true) then
    return false
  end
  local made = like(model, password, self.crypt)
  return made ~= nil and made ~= false and crypto.equal(made, model) and hash ~= nil
end

--- H(username:realm:password) of an htdigest line.
---@param name string
---@param realm string
---@param hash string "md5": the only hash that htdigest files have
---@return string? secret
function methods:secret(name, realm, hash)
  return hash == "md5" and self.digests[name .. ":" .. realm] or nil
end

-- Reads one line into self; returns what is wrong with it.
local function read_line(self, line)
  local name, realm, digest = match(line, "^([^:]+):([^:]*):(%x+)$")
  if digest and #digest == 32 then
    self.digests[name .. ":" .. realm] = lower(digest)
    return nil
  end
  local hash
  name, hash = match(line, "^([^:]+):([^:]+)$")
  if not name then
    return "neither name:hash nor name:realm:hash"
  elseif not (sub(hash, 1, 5) == "{SHA}" or find(hash, "^%$apr1%$[^$]*%$")) then
    local kind = match(hash, "^%$[%w-]+%$")
    if not kind then
      return "plain text, or a hash of an old kind: make it anew with htpasswd -B"
    elseif not self.crypt then
      return "a hash (" .. kind .. ") that needs crypt(3), and khp was built without it"
    end
  end
  self.hashes[name] = hash
  self.example = self.example or hash
  return nil
end

--- Parses the text of a password file.
---@param text string
---@param given { crypt: (fun(password: string, hash: string): string?)|false|nil }? crypt: hashes a password like an
---  existing hash; default: crypt(3); false: not supported
---@return khp.auth.Htpasswd? users
---@return string? message
function htpasswd.parse(text, given)
  local crypt = given and given.crypt
  if crypt == nil then
    crypt = crypto.crypt
  end
  local self = setmetatable({ hashes = {}, digests = {}, crypt = crypt }, metatable)
  local number = 0
  for line in gmatch(text .. "\n", "([^\n]*)\n") do
    number = number + 1
    line = gsub(line, "\r$", "")
    if line ~= "" and byte(line) ~= 35 then -- "#": a comment
      local problem = read_line(self, line)
      if problem then
        return nil, format("line %d: %s", number, problem)
      end
    end
  end
  return self
end

--- Loads a password file.
---@param path string
---@param given { crypt: (fun(password: string, hash: string): string?)|false|nil }? as for htpasswd.parse()
---@return khp.auth.Htpasswd? users
---@return string? message
function htpasswd.load(path, given)
  local file, message = io_open(path, "rb")
  if not file then
    return nil, message
  end
  local text = file:read("*a")
  file:close()
  if not text then
    return nil, path .. ": cannot be read"
  end
  local found, problem = htpasswd.parse(text, given)
  if not found then
    return nil, path .. ": " .. problem
  end
  return found
end

return htpasswd
