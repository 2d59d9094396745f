-- What a policy sees of the connection whose handshake it decides. This file must not know the driver or the wire.

local basic = require "khp.auth.basic"

local session = {}

---@class khp.Session
---@field path string the opening request's path
---@field peer table? { host =, port = } or { path = }
---@field attempt integer? extended: the number of this request, from 1
---@field opening table the opening request
---@field data table the policy's and the application's own, as long as the connection lives (conn.data)
local methods = {}

local lazy = {}

function lazy.peer(self)
  return self.connection.peer
end

function lazy.now(self)
  return self.clock()
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

---@param connection userdata
---@param clock fun(): number
---@return khp.Session
function session.new(connection, _, clock)
  return setmetatable({ connection = connection, clock = clock, data = {} }, mt)
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
