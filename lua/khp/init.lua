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

---@class khp
---@field _VERSION string the version of khp: "0.1.0"
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

--- Time of a monotonic clock in seconds, read once per turn of the event loop.
---@type fun(): number
khp.now = loop.now

--- A file descriptor for another event loop: when it polls readable, call khp.step(0). nil where libwebsockets does its
--- own polling; then call khp.step(0) regularly.
---@type fun(): integer?
khp.fd = loop.fd

--- Seconds until khp.step(0) has to be called even if the descriptor does not become readable; nil: no deadline.
---@type fun(): number?
khp.timeout = loop.timeout

--- Makes a waiting khp.step() return. Safe in a signal handler.
---@type fun()
khp.wake = loop.wake

--- For C hosts with threads: returns two light userdata, a function `void (*)(void *)` and its argument. Calling that
--- function from any thread, while this Lua state is open, makes a waiting khp.step() return.
---@type fun(): callback: lightuserdata, argument: lightuserdata
khp.waker = loop.waker

--- What runs the event loop: "libuv", or "poll" where libwebsockets was built without its libuv plugin. The environment
--- variable `KHP_BACKEND` chooses one: `poll` or `uv`.
---@type fun(): string
khp.backend = loop.backend

local stopped = false

--- Runs one turn of the event loop. Throws while the loop is already running, as in a callback.
---@param seconds number? how long to wait for something to do: 0 and less do not wait; nil waits up to half a second,
---  so that the interpreter can react to an interrupt
function khp.step(seconds)
  if seconds ~= nil and (type(seconds) ~= "number" or seconds ~= seconds) then
    error("step: seconds expected, not " .. tostring(seconds), 2)
  end
  seconds = seconds and math.max(seconds, 0)
  if not loop.step(seconds) then
    error("khp.step inside a callback or task: the loop is turning already", 2)
  end
end

--- Runs the event loop until khp.stop() is called, or until no connection, server or timer is left. Throws while the
--- loop is already running, as in a callback.
function khp.run()
  if loop.entered() then
    error("khp.run inside a callback or task: the loop is turning already", 2)
  end
  stopped = false
  while not stopped and loop.alive() > 0 do
    khp.step()
  end
end

--- Makes khp.run() return after the current turn.
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
