-- What users require: a server, a client, and the loop and tasks to run them in. One loop per Lua state, made on
-- first use. Everything is documented where it is made; this file only gathers it.

local client = require "khp.client"
local core = require "khp.core"
local keep = require "khp.keep"
local log = require "khp.log"
local promise = require "khp.promise"
local server = require "khp.server"
local task = require "khp.task"

local loop = core.loop

local khp = { _VERSION = "0.1.0" }

--- Loads a part only when it is asked for: khp.http, khp.log, khp.uri, …
local parts = {
  http = "khp.http",
  crypto = "khp.crypto",
  uri = "khp.uri",
  limits = "khp.limits",
  errors = "khp.errors",
  origin = "khp.origin",
  extension = "khp.extension",
}

khp.log = log
khp.listen = server.listen
khp.connect = client.connect
khp.keep = keep.new
khp.spawn = task.spawn
khp.sleep = task.sleep
khp.promise = promise.new

--- Seconds of a monotonic clock, read once a turn of the loop.
---@type fun(): number
khp.now = loop.now

--- A descriptor that polls readable when step(0) has work; nil where libwebsockets polls for itself.
---@type fun(): integer?
khp.fd = loop.fd

--- Seconds until step(0) must be called even if the descriptor is silent; nil: no need.
---@type fun(): number?
khp.timeout = loop.timeout

--- Makes a waiting step() return; may be called in a signal handler.
---@type fun()
khp.wake = loop.wake

--- For C hosts with threads: two light userdata, a function `void (*)(void *)` and its argument. Calling it from any
--- thread makes a waiting step() return, as long as this Lua state is open.
---@type fun(): lightuserdata, lightuserdata
khp.waker = loop.waker

--- "libuv", or "poll" where libwebsockets' plugin for libuv is missing.
---@type fun(): string
khp.backend = loop.backend

local stopped = false

--- Does what is ready. 0 and less never wait, a number waits at most so many seconds for something to do, nil waits for
--- it, but no longer than half a second, so that the interpreter can heed an interrupt.
---@param seconds number?
function khp.step(seconds)
  if seconds ~= nil and (type(seconds) ~= "number" or seconds ~= seconds) then
    error("step: seconds expected, not " .. tostring(seconds), 2)
  end
  seconds = seconds and math.max(seconds, 0)
  if not loop.step(seconds) then
    error("khp.step inside a callback or task: the loop is turning already", 2)
  end
end

--- Turns the loop until stop() is called, or until no connection, server or timer is left.
function khp.run()
  if loop.entered() then
    error("khp.run inside a callback or task: the loop is turning already", 2)
  end
  stopped = false
  while not stopped and loop.alive() > 0 do
    khp.step()
  end
end

--- Makes run() return after the current turn.
function khp.stop()
  stopped = true
  loop.wake()
end

-- Errors in callbacks, and the few lines that the loop itself has to say.
loop.report(function(text, level)
  log[level or "error"](text)
end)

return setmetatable(khp, {
  __index = function(self, name)
    local part = parts[name] and require(parts[name])
    if part then
      rawset(self, name, part)
    end
    return part
  end,
})
