-- The server: what it is made of, and what may be asked of it. What it does for a connection is in khp.welcome. This
-- file must not know how a handshake is made.

local account = require "khp.account"
local core = require "khp.core"
local errors = require "khp.errors"
local extended = require "khp.extended.server"
local extension = require "khp.extension"
local listening = require "khp.listening"
local metrics = require "khp.metrics"
local opening = require "khp.opening.server"
local routes = require "khp.routes"
local task = require "khp.task"
local tls = require "khp.tls"
local welcome = require "khp.welcome"
local world = require "khp.policy.world"

local conn = core.conn

local server = {}

--- What khp.listen() returns. As a to-be-closed variable (`local server <close> = …`) it is closed at the end of its
--- scope.
---@class khp.Server
---@field package listener userdata?
local methods = {}
local mt = { __index = methods, __name = "khp.server" }

--- Starts listening. Connections are served while the event loop runs.
---@param given khp.ListenOptions
---@return khp.Server? server
---@return string? message
---@return string? code ECONNECT: cannot bind the address, or `root` is not a folder; ETLS: cannot use a certificate;
---  EPOLICY: a policy does not load, or its tests fail
---@return table? detail host, port, path; traceback of an error in a policy
function server.listen(given)
  local checked = listening.check(given, 3)
  local bounds = checked.limits
  local around = world.new()
  local owner = setmetatable({
    limits = bounds,
    opening = opening.settings { limits = bounds, server = checked.server_header },
    extended = extended.settings { limits = bounds, server = checked.server_header },
    protocols = checked.protocols,
    extensions = checked.extensions and extension.list(checked.extensions, "khp.listen", 2),
    world = around,
    trace = checked.trace,
    live = {},
    account = account.new(),
  }, mt)
  local problem, kind, more
  owner.places, problem, kind, more = routes.new(checked, bounds, around, 2)
  if not owner.places then
    return nil, problem, kind, more
  end
  owner.selective = not owner.places.only or owner.places.only.origins ~= nil
  if checked.tls then
    local message, code, detail
    owner.tls, message, code, detail = tls.server(checked.tls, 2)
    if not owner.tls then
      return nil, message, code, detail
    end
  end
  function owner.on_gone(self)
    owner.live[self] = nil
    if owner.closing and not next(owner.live) then
      task.wake(owner.closing)
    end
  end
  local listener, message, code = core.listener.listen({
    host = checked.host,
    port = checked.port,
    path = checked.path,
    fd = checked.fd,
    reuse_port = checked.reuse_port,
    backlog = checked.backlog,
    connections = owner.limits.connections,
    tls = owner.tls,
    tls_timeout = owner.limits.opening,
  }, welcome.events, owner, owner.limits)
  if not listener then
    return errors.fail(message, code, { host = checked.host, port = checked.port, path = checked.path })
  end
  owner.listener, owner.source = listener, listener
  return owner
end

--- The address it listens on: host and port, or the path of a Unix socket. Returns nothing after close().
---@return string? host or path
---@return integer? port
function methods:address()
  if self.listener then
    return core.listener.address(self.listener)
  end
  return nil
end

--- Reloads policy files and certificates. Everything is loaded and checked first, and the policies' own tests are run;
--- on any error the old ones stay in force. Existing connections keep the policy they started with. A policy given as a
--- table is not reloaded.
---@return true? ok
---@return string? message
---@return string? code EPOLICY, ETLS
---@return table? detail
function methods:reload()
  local commit, problem, kind, detail = self.places:load(true)
  if not commit then
    return nil, problem, kind, detail
  end
  if self.tls then
    local ok, message, code = core.tls.reload(self.tls)
    if not ok then
      return errors.fail(message, code)
    end
  end
  commit()
  return true
end

--- Counters since the server started.
---@return khp.Stats stats
function methods:stats()
  return metrics.stats(self)
end

--- The same counters as OpenMetrics text, for a monitoring system.
---@return string text
---@return string type the media type of the text
function methods:metrics()
  return metrics.text(metrics.stats(self)), metrics.TYPE
end

--- All open connections.
---@return khp.Connection[] list
function methods:connections()
  local list = {}
  for one in pairs(self.live) do
    if one.khp ~= nil and one.state == "open" then
      list[#list + 1] = one
    end
  end
  return list
end

--- Stops listening and closes every connection with code 1001. In a task or the main chunk, waits until they are closed
--- and drops those that are still there after the timeout; in a callback, returns at once.
---@param timeout number? seconds; default 5
function methods:close(timeout)
  if timeout ~= nil and type(timeout) ~= "number" then
    error("close: a timeout in seconds expected, not " .. type(timeout), 2)
  end
  if self.listener then
    core.listener.close(self.listener)
    self.listener = nil
  end
  for one in pairs(self.live) do
    local state = conn.state(one)
    if one.state == "opening" then
      if not state.body then -- what is being delivered has its time
        conn.abort(one)
      end
    else
      if one.khp == nil then
        welcome.give_up(one, state, "the server closes")
      end
      conn.close(one, 1001, "")
    end
  end
  if next(self.live) and not self.closing and task.can_wait() then
    self.closing = {}
    task.wait(self.closing, timeout or 5)
    for one in pairs(self.live) do
      conn.abort(one)
    end
  end
end

mt.__close = function(self)
  self:close()
end

function mt:__tostring()
  local host, port = self:address()
  if not host then
    return "khp.server: closed"
  end
  host = host:find(":", 1, true) and "[" .. host .. "]" or host
  return "khp.server: " .. host .. (port and ":" .. port or "")
end

return server
