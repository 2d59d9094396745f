-- What a policy sees of the connection whose handshake it decides, and of the world around it: times, random bytes and
-- numbers come from here and from nowhere else. This file must not know the driver or the wire.

local basic = require "khp.auth.basic"
local bearer = require "khp.auth.bearer"
local contract = require "khp.policy.contract"
local digest_server = require "khp.auth.digest_server"
local nonces = require "khp.auth.nonces"

local charge = require("khp.core").budget.charge

local session = {}

---@class khp.Session
---@field path string? server: the opening request's path
---@field peer table? { host =, port = } or { path = }
---@field attempt integer? extended: the number of this request, from 1
---@field opening khp.PolicyRequest? server: the opening request
---@field data table the policy's and the application's own, as long as the connection lives (conn.data)
---@field now number seconds since 1970
---@field sequence integer the number of this connection at its server, from 1
---@field env table<string, string> the environment's variables, by name
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

--- Random bytes, fit for secrets.
---@param n integer how many
---@return string
function methods:random(n)
  return getmetatable(self).world.random(n)
end

-- In instructions, so that a decision asks only so many others.
local QUESTION_COSTS = 100000

--- Asks another server by HTTP, and waits for its answer; a redirect is an answer, too.
---@param url string http:// or https://; the server's certificate must be one that the system trusts
---@param given khp.FetchOptions? method, headers, body, timeout in seconds (5)
---@return { status: integer, reason: string, headers: table, body: string }? response nil: there is none
---@return string? message, string? code, table? detail
function methods:fetch(url, given)
  charge(QUESTION_COSTS)
  local response, message, code, detail = getmetatable(self).world.fetch(url, given, 3)
  return response, message, code, detail
end

--- Checks the request's Basic credentials.
---@param request table
---@param users khp.auth.Users user → password, or function(user, password) → boolean, or a password file
---@return string? user who it is; nil: no credentials, or wrong ones
---@return string? message
function methods:basic(request, users) -- luacheck: no self
  return basic.check(request.headers.authorization, users)
end

--- Checks the request's Digest credentials. The nonces are the server's: an answer counts once, on whatever connection
--- it comes, and one whose nonce is too old gets a challenge that says no more than that (stale).
---
---     local user, asked = session:digest(request, members, { realm = "members" })
---     if not user then return challenge(asked) end
---@param request table
---@param users khp.auth.Users user → password, function(user, nil, realm) → password, or a file of htdigest
---@param options { realm: string, algorithms: string[]?, lifetime: number?, prefix: string? } algorithms in order of
---  preference, default SHA-256, MD5; lifetime of a nonce in seconds, default 300; prefix "Application"
---@return string? user who it is; nil: no credentials, or wrong ones
---@return string[]? challenges for challenge(…): one for each algorithm
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
  if user then
    return user
  end
  return nil, checker:challenge(stale), message
end

--- What a function says of the request's token: of Bearer, or of Token, as Kaazing's clients send it. Whatever it
--- returns is returned, so that it may tell more than yes or no.
---@param request table
---@param check fun(token: string): ...
---@return any ... nil and a message where there is no token
function methods:bearer(request, check) -- luacheck: no self
  local authorization = request.headers.authorization
  local token, message = bearer.parse(authorization)
  token = token or bearer.parse(authorization, "Token")
  if not token then
    return nil, message
  end
  return check(token)
end

return session
