-- Coroutines that wait. A task is a coroutine started by spawn(); inside one, waiting yields. In the main chunk,
-- outside of every callback, waiting turns the loop until what was awaited has come. Anywhere else it is refused.
-- This file must not know what is waited for: connections, timers and policies build on wait() and wake().

local core = require "khp.core"
local log = require "khp.log"

local loop, timer = core.loop, core.timer

local unpack = table.unpack or unpack

local task = {}

---@class khp.Place  where at most one waits; embed it in what is waited for
---@field waiter thread|true|nil
---@field timer userdata?
---@field cancelled (fun(place: khp.Place))? told when the task that waits here is cancelled

-- Every task that has not ended → the place where it waits, or true while it runs.
local tasks = setmetatable({}, { __mode = "k" })

-- The main chunk's turn: what it was woken with, by place.
local results = setmetatable({}, { __mode = "k" })

---@class khp.Bounded  a task under a budget
---@field co thread? nil when it has ended
---@field given khp.Budget
---@field done function
---@field ends function[]? to be called when it has ended
---@field worker khp.Worker

---@class khp.Worker  a coroutine that serves for many such tasks, one after the other, unless one fails
---@field co thread
---@field budget userdata
---@field bound khp.Bounded? whom it serves

-- The coroutines of workers → the worker.
local workers = setmetatable({}, { __mode = "k" })

local new_budget, fill_budget, bounded_resume = core.budget.new, core.budget.fill, core.budget.resume

-- Whether the one that has its turn runs under a budget.
local bounded_turn = false

-- Workers that wait for a task.
local idle, MOST_IDLE = {}, 16

-- What a worker yields first when a task has ended.
local DONE = {}

local STRAY = "a policy waits with khp.sleep, khp.connect and khp.promise, and yields in no other way"

local function work(f, ...)
  return work(coroutine.yield(DONE, f(...)))
end

-- A task under a budget has ended. Where that was not of itself, what still waits or has failed is closed.
local function finish(bound, failed)
  local worker, ends = bound.worker, bound.ends
  worker.bound, bound.co = nil, nil
  if failed then
    tasks[worker.co], workers[worker.co] = nil, nil
    core.budget.close(worker.budget, worker.co)
  elseif #idle < MOST_IDLE then
    idle[#idle + 1] = worker
  end
  for i = 1, ends and #ends or 0 do
    ends[i]()
  end
end

local function bounded_ended(co, bound, ok, what, ...)
  if not ok then
    finish(bound, true)
    bound.done(false, what, ...)
  elseif what == DONE then
    finish(bound)
    bound.done(true, ...)
  elseif tasks[co] == true then
    local traceback = debug.traceback(co)
    finish(bound, true)
    bound.done(false, STRAY, traceback)
  end
end

local function ended(co, ok, ...)
  local worker = workers[co]
  if worker then
    return bounded_ended(co, worker.bound, ok, ...)
  elseif coroutine.status(co) == "dead" then
    tasks[co] = nil
    if not ok then
      log.traceback(co, (...))
      if coroutine.close then
        coroutine.close(co)
      end
    end
  end
end

local function after_turn(co, before, ...)
  bounded_turn = before
  return ended(co, ...)
end

-- The one place where tasks are resumed.
local function resume(co, ...)
  local worker = workers[co]
  if worker or bounded_turn then
    local before = bounded_turn
    bounded_turn = worker ~= nil
    return after_turn(co, before, bounded_resume(worker and worker.budget, co, ...))
  end
  return ended(co, coroutine.resume(co, ...))
end

--- Starts f(...) as a task, which runs at once until it first waits. An error in it is logged and ends only that task.
---@param f function
---@param ... any
---@return thread task
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
---@field guarded boolean? whether strings have the methods that core.budget.guard() was given
---@field after (fun(seconds: number, f: function): { cancel: function })? makes its timers; nil: the loop's
---@field world khp.World? what is around it

--- Starts f(...) as a task under a budget. When it has ended, done(true, results…) or done(false, message, traceback)
--- is called, unless it was cancelled.
---@param given khp.Budget
---@param done fun(ok: boolean, ...: any)
---@param f function
---@param ... any
---@return khp.Bounded
function task.spawn_bounded(given, done, f, ...)
  local worker = idle[#idle]
  if worker then
    idle[#idle] = nil
  else
    worker = { co = coroutine.create(work), budget = new_budget(), bound = nil }
    tasks[worker.co], workers[worker.co] = true, worker
  end
  fill_budget(worker.budget, given.instructions, given.memory, given.time, given.guarded)
  local bound = { co = worker.co, given = given, done = done, ends = nil, worker = worker }
  worker.bound = bound
  resume(worker.co, f, ...)
  return bound
end

local function when_called(bound, ok, ...)
  if ok == nil then
    task.cancel(bound)
    return nil, "it took too long"
  end
  return ok, ...
end

--- Runs f(...) under a budget, here and now: it cannot wait.
---@param given khp.Budget
---@param f function
---@param ... any
---@return boolean ok, any ... results, or message and traceback
function task.run_bounded(given, f, ...)
  local ended_with
  local bound = task.spawn_bounded(given, function(...)
    ended_with = { n = select("#", ...), ... }
  end, f, ...)
  if not ended_with then
    local traceback = debug.traceback(bound.co)
    task.cancel(bound)
    return false, "nothing may wait here", traceback
  end
  return unpack(ended_with, 1, ended_with.n)
end

--- Runs f(...) under a budget and waits for its end, so it may wait, too.
---@param given khp.Budget
---@param seconds number? how long it may take, waiting included; nil: as long as it takes
---@param f function
---@param ... any
---@return boolean? ok nil: it was ended for its time was up
---@return any ... results, or message and traceback
function task.call_bounded(given, seconds, f, ...)
  local place, ended_with = {}, nil
  local bound = task.spawn_bounded(given, function(...)
    if not task.wake(place, ...) then
      ended_with = { n = select("#", ...), ... }
    end
  end, f, ...)
  if ended_with then
    return unpack(ended_with, 1, ended_with.n)
  end
  place.cancelled = function()
    task.cancel(bound)
  end
  return when_called(bound, task.wait(place, seconds))
end

--- Has f called when the running task, which is one under a budget, has ended.
---@param f function
---@return boolean done whether there is such a task
function task.at_end(f)
  local co = coroutine.running()
  local worker = co and workers[co]
  local bound = worker and worker.bound
  if bound then
    bound.ends = bound.ends or {}
    bound.ends[#bound.ends + 1] = f
  end
  return bound and true or false
end

--- The world of the running task, where it is one under a budget and has one.
---@return khp.World?
function task.world()
  local co = coroutine.running()
  local worker = co and workers[co]
  local bound = worker and worker.bound
  return bound and bound.given.world
end

local function pack(...)
  return { n = select("#", ...), ... }
end

-- The coroutine in which a callback runs outside of the loop's turn.
local called_back

local function after_call(before, ...)
  called_back = before
  return ...
end

--- Calls f(...) as a callback, wherever that is: nothing in it may wait.
---@param f function
---@param ... any
---@return boolean ok
---@return any ... results, or the error with its traceback
function task.call_back(f, ...)
  local before = called_back
  called_back = coroutine.running() or true -- LuaJIT's and Lua 5.1's main chunk is no coroutine
  return after_call(before, xpcall(f, debug.traceback, ...))
end

-- Who is asking: a task's coroutine, true for the main chunk, or an error at the caller's line.
local function who(level)
  local co, main = coroutine.running()
  local is_callback = (co or true) == called_back
  if co and tasks[co] and not is_callback then
    return co
  elseif is_callback or loop.entered() then
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
  if (co or true) == called_back then
    return false
  end
  return (co and tasks[co] or (main or not co) and not loop.entered()) and true or false
end

-- Whoever has closed a coroutine from outside has taken it away from its place.
local function is_waiting(co)
  return co == true or coroutine.status(co) == "suspended"
end

local function clear(place)
  place.waiter = nil
  if place.timer then
    place.timer:cancel()
    place.timer = nil
  end
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

-- Somebody else's coroutine.resume() is not what was awaited.
local function awaited(place, co, ...)
  if place.waiter == co then
    return awaited(place, co, coroutine.yield())
  end
  return ...
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
  if place.waiter and is_waiting(place.waiter) then
    error("somebody is waiting for this already", 3)
  end
  clear(place)
  place.waiter = co
  if seconds then
    local worker = workers[co]
    place.timer = (worker and worker.bound.given.after or timer)(seconds, expire(place))
  end
  if co == true then
    return turn(place)
  end
  tasks[co] = place
  return awaited(place, co, coroutine.yield())
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
  clear(place)
  if not is_waiting(co) then
    return false
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
---@param which thread|khp.Bounded
function task.cancel(which)
  local bound = type(which) == "table" and which or nil
  local co = bound and bound.co or not bound and which
  local place = co and tasks[co]
  if type(place) ~= "table" then
    return
  end
  clear(place)
  tasks[co] = nil
  if bound then
    finish(bound, true)
  elseif coroutine.close then
    coroutine.close(co)
  end
  if place.cancelled then
    place:cancelled()
  end
end

--- Waits for the given time.
---@param seconds number
function task.sleep(seconds)
  if seconds == nil then
    error("sleep: seconds expected", 2)
  end
  task.wait({}, seconds)
end

return task
