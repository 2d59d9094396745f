-- A promise: values that come later, from whoever has them to whoever waits for them. It is how a task waits for
-- something that knows nothing of khp's tasks: a callback of the host, an event of another library. This file must not
-- know what is promised.

local task = require "khp.task"

local unpack = table.unpack or unpack

local promise = {}

--- A value that arrives later: how a task waits for a callback of another library.
---@class khp.Promise
local methods = {}
local mt = { __name = "khp.promise", __index = methods }

--- Creates a promise that is not settled yet.
---@return khp.Promise promise
function promise.new()
  return setmetatable({}, mt)
end

local function settle(self, ...)
  if self.values then
    return false
  end
  self.values = { n = select("#", ...), ... }
  local waiting = self.waiting or {}
  self.waiting = nil
  for i = 1, #waiting do
    task.wake(waiting[i])
  end
  return true
end

--- Settles the promise with values, which every wait() returns from now on. Only the first settlement counts.
---@param ... any
---@return boolean first whether this call settled it
function methods:resolve(...)
  return settle(self, ...)
end

--- Settles the promise with an error: every wait() returns nil, message, code, detail.
---@param message string
---@param code string?
---@param detail table?
---@return boolean first whether this call settled it
function methods:reject(message, code, detail)
  return settle(self, nil, message, code, detail)
end

local function forget(self, place)
  for i, one in ipairs(self.waiting or {}) do
    if one == place then
      table.remove(self.waiting, i)
      return
    end
  end
end

--- Waits for the promise to be settled and returns its values. Any number of tasks may wait.
---@param timeout number? seconds; nil: no timeout
---@return any ... the values of resolve(); or nil, message, code, detail, with code ETIMEOUT after the timeout
function methods:wait(timeout)
  if timeout ~= nil and (type(timeout) ~= "number" or timeout ~= timeout) then
    error("wait: a time in seconds expected, not " .. tostring(timeout), 2)
  end
  if not self.values then
    local place = {
      cancelled = function(place)
        forget(self, place)
      end,
    }
    task.check_waiting(2)
    self.waiting = self.waiting or {}
    self.waiting[#self.waiting + 1] = place
    task.wait(place, timeout)
    forget(self, place)
  end
  local values = self.values
  if not values then
    return nil, "timeout: nothing came in " .. tostring(timeout) .. " s", "ETIMEOUT", {}
  end
  return unpack(values, 1, values.n)
end

return promise
