-- What a policy sees of the connection whose handshake it decides, and of the world around it: times, random bytes and
-- numbers come from here and from nowhere else. This file must not know the driver or the wire.

local basic = require "khp.auth.basic"
local bearer = require "khp.auth.bearer"
local contract = require "khp.policy.contract"
local digest_server = require "khp.auth.digest_server"
local nonces = require "khp.auth.nonces"

local charge = require("khp.core").budget.charge

local session = {}

--- What a policy knows of its connection, and its source of time and random bytes.
---@class khp.Session
---@field path string? server: path of the opening request
---@field peer table? the peer's address: { host =, port = } or { path = }
---@field attempt integer? extended handshake: number of this request, from 1
---@field opening khp.PolicyRequest? server: the opening request
---@field data table free for use by the policy and the application, while the connection exists (conn.data)
---@field now number seconds since 1970
---@field sequence integer number of this connection at its server, from 1
---@field env table<string, string> environment variables by name, read-only
---@field captures string[]? server: what the route's pattern captured
local methods = {}

local lazy = {}

function lazy.peer(self)
  return getmetatable(self).connection.peer
end

function lazy.now(self)
  return getmetatable(self).world.now()
end

function lazy.path(self)
  local request = getmetatable(self).request
  return request and request.path
end

function lazy.opening(self)
  local request = getmetatable(self).request
  local view = request and contract.request(request)
  rawset(self, "opening", view)
  return view
end

function lazy.env(self)
  local world = getmetatable(self).world
  local env = setmetatable({}, {
    __index = function(_, name)
      return world.getenv(name)
    end,
    __newindex = function()
      error("the environment is read-only in a policy", 2)
    end,
    __metatable = false,
  })
  rawset(self, "env", env)
  return env
end

local function index(self, name)
  local method = methods[name]
  if method then
    return method
  end
  local make = lazy[name]
  return make and make(self)
end

--- The connection and the world are in the metatable, out of a policy's reach.
---@param connection userdata|table whose handshake it is: its field `peer`
---@param world khp.World
---@param request table? server: the opening request
---@return khp.Session
function session.new(connection, world, request)
  return setmetatable({ sequence = world.sequence(), data = {} },
    { __name = "khp.session", __index = index, connection = connection, world = world, request = request })
end

--- Random bytes, suitable for secrets.
---@param n integer how many
---@return string bytes
function methods:random(n)
  return getmetatable(self).world.random(n)
end

-- In instructions, so that a decision asks only so many others.
local QUESTION_COSTS = 100000

--- Sends an HTTP request to another server and waits for the response. Redirects are not followed but returned.
---@param url string http:// or https://; the server's certificate is verified against the system's authorities
---@param given khp.FetchOptions?
---@return { status: integer, reason: string, headers: table, body: string }? response
---@return string? message
---@return string? code
---@return table? detail
function methods:fetch(url, given)
  charge(QUESTION_COSTS)
  local response, message, code, detail = getmetatable(self).world.fetch(url, given, 3)
  return response, message, code, detail
end

-- Whoever a policy has found out, for the log; nobody where it has looked in vain. A token is a secret and no name.
local function note(self, user, token)
  local about = getmetatable(self)
  if about and about.world then
    about.user = type(user) == "string" and user ~= token and user or nil
  end
end

--- Whose credentials the policy has accepted last.
---@package
---@param self khp.Session
---@return string?
function session.user(self)
  return getmetatable(self).user
end

--- Checks the Basic credentials of a request.
---@param request table
---@param users khp.auth.Users a table from user to password, function(user, password) → boolean, or a password file
---@return string? user nil: no credentials, or wrong ones
---@return string? message
function methods:basic(request, users)
  local user, message = basic.check(request.headers.authorization, users)
  note(self, user)
  return user, message
end

--- Checks the Digest credentials of a request. Nonces belong to the server: a response is valid once, on any
--- connection. If only its nonce was too old, the new challenge says so (stale), and the client need not ask its user
--- again.
---
---     local user, challenges = session:digest(request, members, { realm = "members" })
---     if not user then return challenge(challenges) end
---@param request table
---@param users khp.auth.Users a table from user to password, function(user, nil, realm) → password, or an htdigest file
---@param options { realm: string, algorithms: string[]?, lifetime: number?, prefix: string? } algorithms in order of
---  preference, default SHA-256, MD5; lifetime of a nonce in seconds, default 300; prefix: "Application" or none
---@return string? user nil: no credentials, or wrong ones
---@return string[]? challenges for challenge(…): one per algorithm
---@return string? message
function methods:digest(request, users, options)
  local world = getmetatable(self).world
  world.nonces = world.nonces or nonces.new { now = world.now, random = world.random }
  local given = { users = users, nonces = world.nonces }
  for name, value in pairs(options or {}) do
    given[name] = value
  end
  local checker = digest_server.new(given, 2)
  local user, message, stale = checker:check(request.headers.authorization, request.method, request.target)
  note(self, user)
  if user then
    return user
  end
  return nil, checker:challenge(stale), message
end

local function noted(self, token, user, ...)
  note(self, user, token)
  return user, ...
end

--- Checks the token of a request, of the scheme Bearer or of Kaazing's Token, with a function.
---@param request table
---@param check fun(token: string): ...
---@return any ... what the function returns; nil and a message if there is no token
function methods:bearer(request, check)
  local authorization = request.headers.authorization
  local token, message = bearer.parse(authorization)
  token = token or bearer.parse(authorization, "Token")
  if not token then
    note(self, nil)
    return nil, message
  end
  return noted(self, token, check(token))
end

return session
