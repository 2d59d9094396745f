-- Coroutines that wait. A task is a coroutine started by spawn(); inside one, waiting yields. In the main chunk,
-- outside of every callback, waiting turns the loop until what was awaited has come. Anywhere else it is refused.
-- This file must not know what is waited for: connections, timers and policies build on wait() and wake().

local core = require "khp.core"
local log = require "khp.log"

local loop, timer = core.loop, core.timer

local task = {}

---@class khp.Place  where at most one waits; embed it in what is waited for
---@field waiter thread|true|nil
---@field timer userdata?

-- Every task that has not ended → the place where it waits, or true while it runs.
local tasks = setmetatable({}, { __mode = "k" })

-- The main chunk's turn: what it was woken with, by place.
local results = setmetatable({}, { __mode = "k" })

-- Those of them that run under a budget → it, and who is told how they ended.
local budgets = setmetatable({}, { __mode = "k" })

-- Those of them that wait by another clock than the loop's → what makes their timers.
local clocks = setmetatable({}, { __mode = "k" })

local function ended(co, ok, ...)
  if coroutine.status(co) ~= "dead" then
    return
  end
  tasks[co] = nil
  local bounded = budgets[co]
  if bounded then
    budgets[co] = nil
    core.budget.release(co)
    bounded.done(ok, ok and ... or debug.traceback(co, tostring((...))))
  elseif not ok then
    log.traceback(co, (...))
  end
end

-- The one place where tasks are resumed.
local function resume(co, ...)
  local bounded = budgets[co]
  if bounded then
    ended(co, core.budget.resume(bounded.budget, co, ...))
  else
    ended(co, coroutine.resume(co, ...))
  end
end

--- Starts f(...) as a task; it runs until it first waits. An error in it is logged and ends only the task.
---@param f function
---@param ... any
---@return thread
function task.spawn(f, ...)
  if type(f) ~= "function" then
    error("spawn: a function expected, not " .. type(f), 2)
  end
  local co = coroutine.create(f)
  tasks[co] = true
  resume(co, ...)
  return co
end

---@class khp.Budget  of one task, all its turns together
---@field instructions integer
---@field memory number bytes
---@field time number seconds in which it holds the loop
---@field after (fun(seconds: number, f: function): { cancel: function })? makes its timers; nil: the loop's

--- Starts f(...) as a task under a budget. When it has ended, done(true, result) or done(false, error with traceback)
--- is called, unless it was cancelled.
---@param budget khp.Budget
---@param done fun(ok: boolean, result: any)
---@param f function
---@param ... any
---@return thread
function task.spawn_bounded(budget, done, f, ...)
  local co = coroutine.create(f)
  tasks[co], clocks[co] = true, budget.after
  budgets[co] = { budget = core.budget.new(co, budget.instructions, budget.memory, budget.time), done = done }
  resume(co, ...)
  return co
end

local function pack(...)
  return { n = select("#", ...), ... }
end

local unpack = table.unpack or unpack

-- Who is asking: a task's coroutine, true for the main chunk, or an error at the caller's line.
local function who(level)
  local co, main = coroutine.running()
  if co and tasks[co] then
    return co
  elseif loop.entered() then
    error("this call waits, and a callback must not: use khp.spawn(f)", level + 1)
  elseif co and not main then
    error("this call waits, and this coroutine is not khp's: start it with khp.spawn(f)", level + 1)
  end
  return true
end

--- Throws where a call that waits is not allowed.
---@param level integer whose line to blame, as error() counts from the function that calls this
function task.check_waiting(level)
  who(level + 1)
end

--- Whether a call that waits is allowed here.
---@return boolean
function task.can_wait()
  local co, main = coroutine.running()
  return (co and tasks[co] or (main or not co) and not loop.entered()) and true or false
end

local function expire(place)
  return function()
    place.timer = nil
    task.wake(place, nil, "timeout")
  end
end

local function turn(place)
  while place.waiter do
    loop.step()
  end
  local result = results[place]
  results[place] = nil
  return unpack(result, 1, result.n)
end

--- Waits until somebody wakes this place, and returns what it was woken with; nil, "timeout" when the time is up.
---@param place khp.Place
---@param seconds number? nil: as long as it takes
---@return any ...
function task.wait(place, seconds)
  local co = who(3)
  if seconds ~= nil and (type(seconds) ~= "number" or seconds ~= seconds) then
    error("a time in seconds expected, not " .. tostring(seconds), 3)
  end
  if place.waiter then
    error("somebody is waiting for this already", 3)
  end
  place.waiter = co
  if seconds then
    place.timer = (clocks[co] or timer)(seconds, expire(place))
  end
  if co == true then
    return turn(place)
  end
  tasks[co] = place
  return coroutine.yield()
end

--- Wakes who waits at this place, with these values. Nobody there: nothing happens.
---@param place khp.Place
---@param ... any
---@return boolean woken
function task.wake(place, ...)
  local co = place.waiter
  if not co then
    return false
  end
  place.waiter = nil
  if place.timer then
    place.timer:cancel()
    place.timer = nil
  end
  if co == true then
    results[place] = pack(...)
  else
    tasks[co] = true
    resume(co, ...)
  end
  return true
end

--- Ends a task that waits; its to-be-closed variables are closed (Lua 5.4). A task that runs or has ended: nothing.
---@param co thread
function task.cancel(co)
  local place = tasks[co]
  if type(place) ~= "table" then
    return
  end
  place.waiter = nil
  if place.timer then
    place.timer:cancel()
    place.timer = nil
  end
  tasks[co] = nil
  if coroutine.close then
    coroutine.close(co)
  end
  if budgets[co] then
    budgets[co] = nil
    core.budget.release(co)
  end
end

--- Waits so many seconds.
---@param seconds number
function task.sleep(seconds)
  if seconds == nil then
    error("sleep: seconds expected", 2)
  end
  task.wait({}, seconds)
end

return task
