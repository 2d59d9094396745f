-- The world of a policy's test: its clock stands until the test lets time pass, its random bytes count, its
-- environment and its peers are what the test gives, and other servers answer what the test says. Nothing here touches
-- the real world. This file must not know handshakes.

local fetch = require "khp.fetch"
local http = require "khp.http"
local task = require "khp.task"

local world = {}

-- When a test begins, unless it gives another time.
world.BEGIN = "Sun, 22 Nov 2026 12:00:00 GMT"

local char, concat, find, gsub, match, remove, sub =
  string.char, table.concat, string.find, string.gsub, string.match, table.remove, string.sub
local error, ipairs, pairs, pcall, setmetatable, tonumber = error, ipairs, pairs, pcall, setmetatable, tonumber

---@class khp.test.World: khp.World
---@field connection { peer: table } what a session takes for its connection
---@field lines string[] that policies wrote to the log
---@field url string? of a client's call; nil: as the opening says
---@field on_ask fun(method: string, url: string) told when a policy asks another server
local methods = {}
local metatable = { __name = "khp.test.world", __index = methods }

---@return khp.test.World
function world.new()
  local self = setmetatable({
    time = http.parse_date(world.BEGIN),
    timers = {},
    bytes = nil, -- given random bytes, which repeat
    used = 0, -- of them, or of those that count
    count = 0,
    env = {},
    lines = {},
    connection = { peer = { host = "192.0.2.1", port = 50000 } },
    asking = {}, -- places where a policy waits for another server, in order
  }, metatable)
  function self.now()
    return self.time
  end
  function self.sequence()
    self.count = self.count + 1
    return self.count
  end
  function self.getenv(name)
    return self.env[name]
  end
  function self.random(n)
    return self:next_bytes(n)
  end
  function self.after(seconds, f)
    return self:start_timer(seconds, f)
  end
  function self.fetch(url, given, level)
    local _, _, checked = fetch.prepare(url, given, level + 1)
    return self:ask(url, checked)
  end
  function self.connect(url)
    return nil, "there is no network in a test: session:fetch asks whom the test lets answer", "ECONNECT", { url = url }
  end
  function self.log(level, text)
    self.lines[#self.lines + 1] = level .. ": " .. text
  end
  return self
end

-- Random bytes ---------------------------------------------------------------------------------------------------

---@package
function methods:next_bytes(n)
  local out, given = {}, self.bytes
  for i = 1, n do
    if given then
      local at = self.used % #given + 1
      out[i] = sub(given, at, at)
    else
      out[i] = char(self.used % 256)
    end
    self.used = self.used + 1
  end
  return concat(out)
end

-- Time ---------------------------------------------------------------------------------------------------------------

local timer = {}
timer.__index = timer

function timer:cancel()
  self.timers[self] = nil
end

---@package
function methods:start_timer(seconds, f)
  self.started = (self.started or 0) + 1
  local one = setmetatable({ due = self.time + seconds, order = self.started, f = f, timers = self.timers }, timer)
  self.timers[one] = true
  return one
end

-- The timer that rings first, if it does so by then.
local function next_timer(self, by)
  local first
  for one in pairs(self.timers) do
    if one.due <= by and (not first or one.due < first.due or one.due == first.due and one.order < first.order) then
      first = one
    end
  end
  return first
end

--- Lets time pass, up to a moment at which something else is due.
---@param seconds number
---@param deadline fun(): number? when somebody else wants to be told
---@param tick fun(now: number) tells them
function methods:advance(seconds, deadline, tick)
  local target = self.time + seconds
  while true do
    local due = deadline()
    local first = next_timer(self, due and due < target and due or target)
    if first then
      self.time = first.due > self.time and first.due or self.time
      self.timers[first] = nil
      first.f()
      tick(self.time)
    elseif due and due <= target then
      self.time = due > self.time and due or self.time
      tick(self.time)
      if deadline() == due then
        break
      end
    else
      break
    end
  end
  self.time = target
  tick(target)
end

-- Other servers ------------------------------------------------------------------------------------------------------

--- As session:fetch: waits until the test says what the answer is. An answer that comes too late is nobody's.
---@package
function methods:ask(url, given)
  local place = { url = url, method = given.method }
  self.asking[#self.asking + 1] = place
  self.on_ask(place.method, url)
  local response, message, code, detail = task.wait(place, given.timeout)
  if message == "timeout" then
    return nil, "no answer in time", "ETIMEOUT", { url = url }
  end
  return response, message, code, detail
end

--- Another server's answer to the question that has waited longest.
---@param bytes string "": it cannot be reached
---@return string? message what is wrong with the answer
function methods:answer(bytes)
  local place = remove(self.asking, 1)
  if bytes == "" then
    task.wake(place, nil, "Connection refused", "ECONNECT", { url = place.url })
    return nil
  end
  local response, message = http.parse_response(bytes)
  if not response then
    return "the answer is no HTTP response: " .. (message or "it is not complete")
  end
  task.wake(place, response)
  return nil
end

-- What a test gives --------------------------------------------------------------------------------------------------

local setters = {}

function setters.now(self, value)
  self.time = tonumber(value) or http.parse_date(value) or error("neither seconds nor a date: " .. value, 0)
end

function setters.random(self, value)
  if #value % 2 == 1 or value == "" or find(value, "%X") then
    error("random bytes are given in hexadecimal: " .. value, 0)
  end
  self.used = 0
  self.bytes = gsub(value, "%x%x", function(hex)
    return char(tonumber(hex, 16))
  end)
end

function setters.peer(self, value)
  local host, port = match(value, "^%[?([^%]]-)%]?:(%d+)$")
  if sub(value, 1, 1) == "/" then
    self.connection.peer = { path = value }
  elseif host and (sub(value, 1, 1) == "[" or not find(host, ":", 1, true)) then
    self.connection.peer = { host = host, port = tonumber(port) }
  else
    self.connection.peer = { host = value, port = 50000 }
  end
end

function setters.url(self, value)
  self.url = value
end

function setters.sequence(self, value)
  self.count = (tonumber(value) or error("a number expected: " .. value, 0)) - 1
end

--- What the test gives, for all that follows in it.
---@param values string[][] name and value each: now, random, peer, sequence, url, env.NAME
---@return string? message
function methods:give(values)
  for _, pair in ipairs(values) do
    local name, value = pair[1], pair[2]
    local variable = match(name, "^env%.(.+)$")
    if variable then
      self.env[variable] = value
    elseif setters[name] then
      local ok, message = pcall(setters[name], self, value)
      if not ok then
        return message
      end
    else
      return "a test can give now, random, peer, sequence, url and env.NAME, not " .. name
    end
  end
  return nil
end

return world
