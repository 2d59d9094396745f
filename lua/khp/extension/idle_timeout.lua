-- x-kaazing-idle-timeout; timeout=<ms>: the server lets no such time pass without something that its client can see,
-- and the client closes when nothing came for so long. What clients see differs (Kaazing's JavaScript client no native
-- frames, its Java client no pongs), so the server sends an extended pong where x-kaazing-ping-pong is agreed, too, and
-- a native ping where not.

local core = require "khp.core"
local options = require "khp.options"

local idle_timeout = {}

local NAME = "x-kaazing-idle-timeout"
local max, min, now = math.max, math.min, core.loop.now

local declaration = options.declare(NAME, {
  timeout = { type = "number", min = 0.1, max = 2147483, default = 30 },
})

-- The parameter `timeout` of a header: seconds, or nil.
local function seconds_of(parameters)
  local text = parameters.timeout
  local ms = type(text) == "string" and text:match "^%d+$" and tonumber(text)
  return ms and ms >= 100 and ms < 2147483648 and ms / 1000 or nil
end

--- The options that the parameters of a header mean.
---@param parameters table
---@return table? options, string? message
function idle_timeout.parse(parameters)
  if parameters.timeout == nil then
    return {}
  end
  local seconds = seconds_of(parameters)
  if not seconds then
    return nil, "timeout is in milliseconds, from 100 to 2147483647"
  end
  return { timeout = seconds }
end

-- Server: what is sent is noted, and what would come too late is sent in time.
local Server = {}
Server.__index = Server

function Server:send(message, kind)
  self.sent = now()
  return message, kind
end

function Server:pong()
  self.asked_at = nil
end

local function beat(self)
  self.sent = now()
  local ping_pong = self.link:other "x-kaazing-ping-pong"
  if ping_pong then
    ping_pong:beat()
  else
    self.link:ping()
  end
end

-- Is it over? After a time in which the program itself did something else, what came meanwhile is still unread, so
-- there is a second look after the loop has turned.
local function is_over(self, over)
  if not over then
    self.doubted = false
  elseif self.doubted then
    return true
  else
    self.doubted = true
  end
  return false
end

-- Has the client been silent for too long? It answers a ping, for which it has half of the time; where the queue has no
-- room for one, it may have reasons of its own to be silent.
local function is_silent(self, time, silence)
  local half = self.timeout / 2
  if self.asked_at then
    return silence >= self.timeout and time - self.asked_at >= half
  end
  return silence >= 2 * self.timeout
end

local function watch(self)
  local time, silence, half = now(), self.link:silence(), self.timeout / 2
  if is_over(self, is_silent(self, time, silence)) then
    self.link:close(1001, NAME .. ": no sign of life")
    return
  elseif silence < half then
    self.asked_at = nil
  elseif not self.asked_at and self.link:ping() then
    self.asked_at = time
  end
  local patience = self.timeout * 3 / 4
  if time - self.sent >= patience then
    beat(self)
  end
  local look = half - silence -- at the client again
  if self.asked_at then
    look = max(self.timeout - silence, half - (time - self.asked_at))
  elseif silence >= half then
    look = half / 8
  end
  local due = min(self.sent + patience - time, look)
  self.link:after(max(due, 0.001), function()
    watch(self)
  end)
end

function Server:open()
  self.sent = now()
  watch(self)
end

-- Client: anything that comes is a sign of life.
local Client = {}
Client.__index = Client

local function wait(self)
  local silence = self.link:silence()
  if is_over(self, silence >= self.timeout) then
    self.link:close(1001, ("%s: nothing came for %g s"):format(NAME, self.timeout))
    return
  end
  self.link:after(max(self.timeout - silence, 0.001), function()
    wait(self)
  end)
end

function Client:open()
  self.link:after(self.timeout, function()
    wait(self)
  end)
end

--- The extension, as khp.extension.idle_timeout() makes it.
---@param given { timeout: number? }? timeout: seconds that a server announces, 0.1 to 2147483; default 30
---@return khp.Extension
function idle_timeout.new(given)
  local checked = options.check(declaration, given or {}, 2)
  return {
    name = NAME,
    handshake = "extended",
    answer = function()
      return { timeout = math.floor(checked.timeout * 1000 + 0.5) }
    end,
    start = function(link, parameters)
      local timeout = seconds_of(parameters)
      if not timeout then
        return nil, NAME .. " without a timeout in milliseconds"
      end
      return setmetatable({ link = link, timeout = timeout, sent = now(), asked_at = nil, doubted = false },
        link.role == "server" and Server or Client)
    end,
  }
end

return idle_timeout
