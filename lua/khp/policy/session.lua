-- What a policy sees of the connection whose handshake it decides, and of the world around it: times, random bytes and
-- numbers come from here and from nowhere else. This file must not know the driver or the wire.

local basic = require "khp.auth.basic"

local session = {}

---@class khp.Session
---@field path string the opening request's path
---@field peer table? { host =, port = } or { path = }
---@field attempt integer? extended: the number of this request, from 1
---@field opening table the opening request
---@field data table the policy's and the application's own, as long as the connection lives (conn.data)
---@field now number seconds since 1970
---@field sequence integer the number of this connection at its server, from 1
---@field env table<string, string> the environment's variables, by name
local methods = {}

local lazy = {}

function lazy.peer(self)
  return self.connection.peer
end

function lazy.now(self)
  return self.world.now()
end

function lazy.env(self)
  local env = setmetatable({}, {
    __index = function(_, name)
      return self.world.getenv(name)
    end,
    __newindex = function()
      error("the environment is read-only in a policy", 2)
    end,
    __metatable = false,
  })
  rawset(self, "env", env)
  return env
end

local mt = {
  __name = "khp.session",
  __index = function(self, name)
    local method = methods[name]
    if method then
      return method
    end
    local make = lazy[name]
    return make and make(self)
  end,
}

---@param connection userdata|table whose handshake it is: its field `peer`
---@param world khp.World
---@return khp.Session
function session.new(connection, world)
  return setmetatable({ connection = connection, world = world, sequence = world.sequence(), data = {} }, mt)
end

--- Random bytes, fit for secrets.
---@param n integer how many
---@return string
function methods:random(n)
  return self.world.random(n)
end

--- Checks the request's Basic credentials.
---@param request table
---@param users khp.auth.Users user → password, or function(user, password) → boolean, or a password file
---@return string? user who it is; nil: no credentials, or wrong ones
---@return string? message
function methods:basic(request, users) -- luacheck: no self
  return basic.check(request.headers.authorization, users)
end

return session
