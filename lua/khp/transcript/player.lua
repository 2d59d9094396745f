-- Plays a transcript for one side: what the other side sends is given to a machine, and what the machine puts out must
-- be what stands there. Who answers the machine's questions is not decided here: the caller takes the events that are
-- questions, and adds steps of its own. This file must not know policies or decisions.

local compare = require "khp.transcript.compare"
local http = require "khp.http"

local player = {}

local concat, error, format, ipairs, pcall, remove, setmetatable, tostring, type =
  table.concat, error, string.format, ipairs, pcall, table.remove, setmetatable, tostring, type
local unpack = table.unpack or unpack

---@class khp.transcript.Failure
---@field line integer? of the transcript; nil: behind the last
---@field message string
---@field differences khp.transcript.Difference[]?

---@class khp.transcript.Player
---@field machine table? khp.extended.* or khp.opening.server: takes messages, puts out events
---@field role "client"|"server"
---@field steps khp.transcript.Step[]
---@field place integer index of the step that comes next
---@field opened boolean what follows is the application's
---@field take (fun(self: khp.transcript.Player, name: string, a: any, b: any, c: any): boolean?)? true: took the event
---@field own table<string, fun(self: khp.transcript.Player, step: khp.transcript.Step)>? more steps of this side
---@field theirs table<string, fun(self: khp.transcript.Player, step: khp.transcript.Step)>? more steps of the others
---@field turn (fun(self: khp.transcript.Player))? called after each step: what is due now may happen
---@field cut (fun(bytes: string): string[])? how the other side's messages come; default: whole
local methods = {}
local metatable = { __name = "khp.transcript.player", __index = methods }

--- Ends the play: not what stands there.
---@param line integer?
---@param message string
---@param differences khp.transcript.Difference[]?
function player.fail(line, message, differences)
  error({ failure = { line = line, message = message, differences = differences } }, 0)
end

local fail = player.fail

local function quote(value)
  return type(value) == "string" and '"' .. value .. '"' or tostring(value)
end

--- Fails unless the two are equal.
function player.expect(line, what, wanted, found)
  if wanted ~= found then
    fail(line, format("%s: %s expected, got %s", what, quote(wanted), quote(found)))
  end
end

local expect = player.expect

-- "name; parameter=value, …" of an array of parsed extensions; nil for none.
local function format_extensions(list)
  return list and #list > 0 and http.format_extensions(list) or nil
end

-- An event in words.
local describe = {}

function describe.send(_, kind)
  return "a message (" .. (kind or "http") .. ")"
end

function describe.open(result)
  local extensions = format_extensions(result.extensions)
  return "open" .. (result.protocol and ", protocol " .. result.protocol or "")
    .. (extensions and ", extensions " .. extensions or "")
end

function describe.failed(message, code)
  return format("failed: %s (%s)", message, code)
end

function describe.close(code, reason)
  return format("close %s %s", code or "", reason or "")
end

function describe.asks(method, url)
  return format("a question to another server: %s %s", method, url)
end

function describe.redirect(location)
  return "redirect to " .. tostring(location)
end

local function in_words(name, a, b)
  if not name then
    return "nothing"
  end
  return describe[name] and describe[name](a, b) or name
end

local function next_event(self)
  return unpack(remove(self.events, 1) or {}, 1, 4)
end

--- The next event, which must be of this name; else the play ends there.
---@param step khp.transcript.Step
---@param wanted string
---@return any a, any b, any c
function methods:await(step, wanted)
  local name, a, b, c = next_event(self)
  if name ~= wanted then
    local differences
    if wanted == "send" or name == "send" then
      differences = compare.message(step.parts or {}, name == "send" and a or nil)
    end
    fail(step.line, format("%s expected, got %s", wanted == "send" and "a message" or wanted, in_words(name, a, b)),
      differences)
  end
  return a, b, c
end

--- A message came that must be this one.
---@param step khp.transcript.Step
function methods:await_message(step)
  local bytes, kind = self:await(step, "send")
  local differences = step.bytes ~= bytes and compare.message(step.parts, bytes)
  if differences then
    fail(step.line, "the message differs from what is expected", differences)
  end
  expect(step.line, "kind of message", step.kind, kind)
end

-- Steps of this side -------------------------------------------------------------------------------------------------

local own = {}

own.message, own.http = methods.await_message, methods.await_message

function own.opens(self, step)
  local result = self:await(step, "open")
  expect(step.line, "protocol", step.protocol, result.protocol)
  expect(step.line, "extensions", step.extensions, format_extensions(result.extensions))
  self.opened = true
end

function own.fails(self, step)
  local message, code, detail = self:await(step, "failed")
  expect(step.line, "code (" .. tostring(message) .. ")", step.code, code)
  for _, field in ipairs { "status", "attempts", "permanent" } do
    if step[field] ~= nil then
      expect(step.line, field, step[field], detail[field])
    end
  end
end

function own.redirects(self, step)
  expect(step.line, "location", step.location, (self:await(step, "redirect")))
end

function own.close(self, step)
  local code, reason = self:await(step, "close")
  expect(step.line, "close code", step.code, code)
  expect(step.line, "close reason", step.reason, reason)
end

-- Steps of the others ------------------------------------------------------------------------------------------------

local theirs = {}

-- What is sent to us: a machine that cannot take it has ended, or has not begun what it belongs to.
local function bytes_for(self, step, method)
  if not step.bytes then
    fail(step.line, "what is sent to us has no gaps")
  elseif not (self.machine and self.machine[method]) then
    local name, bytes = unpack(self.events[1] or {}, 1, 2)
    fail(step.line, "nobody waits for this message" .. (name and " after " .. in_words(name, bytes) or ""),
      name == "send" and compare.message({}, bytes) or nil)
  end
  return step.bytes
end

--- Gives bytes of the stream to the machine.
---@param step khp.transcript.Step
function methods:feed(step)
  self.machine:feed(bytes_for(self, step, "feed"))
end

theirs.http = methods.feed

function theirs.message(self, step)
  bytes_for(self, step, "message")
  for _, piece in ipairs(self.cut(step.bytes)) do
    self.machine:message(piece, step.kind)
  end
end

function theirs.close(self, step)
  self.machine:finish(step.code, step.reason)
end

function theirs.wait(self, step)
  self.now = self.now + step.seconds
  self.machine:tick(self.now)
end

-- What the other side decides, or comes to, is its own matter.
for _, verb in ipairs { "decides", "cannot", "opens", "fails", "redirects", "asks" } do
  theirs[verb] = function() end
end

--- Takes all events that there are; those that are questions go to `take`.
function methods:pump()
  while self.machine do
    local name, a, b, c = self.machine:poll()
    if not name then
      return
    elseif not (self.take and self:take(name, a, b, c)) then
      self:put(name, a, b, c)
    end
  end
end

--- Adds an event for the steps to come.
function methods:put(name, a, b, c)
  self.events[#self.events + 1] = { name, a, b, c }
end

local after_open = { message = true, close = true, opens = true, wait = true }

local function take_step(self, step)
  if self.opened then
    return after_open[step.verb] or fail(step.line, "nothing else after the handshake")
  end
  local ours = step.who == self.letter
  local act = (ours and self.own or self.theirs)[step.verb]
  if not act then
    fail(step.line, format("'%s' means nothing here", step.verb))
  end
  act(self, step)
end

local function play(self)
  self:pump() -- some machines speak first
  for place, step in ipairs(self.steps) do
    self.place = place + 1
    take_step(self, step)
    self:pump()
    if self.turn then
      self:turn()
    end
  end
  local name, a, b = next_event(self)
  if name then
    fail(nil, "after the last line: an event " .. in_words(name, a, b),
      name == "send" and compare.message({}, a) or nil)
  end
end

--- A player of one exchange for one side.
---@param self table fields of khp.transcript.Player: role, steps, machine, now; take, own, theirs, cut
---@return khp.transcript.Player
function player.new(self)
  self.letter = self.role == "client" and "C" or "S"
  self.events, self.place, self.now = {}, 1, self.now or 0
  self.own = setmetatable(self.own or {}, { __index = own })
  self.theirs = setmetatable(self.theirs or {}, { __index = theirs })
  self.cut = self.cut or function(bytes)
    return { bytes }
  end
  return setmetatable(self, metatable)
end

--- Plays it.
---@return khp.transcript.Failure? failure nil: all was as it stands there
function methods:play()
  local ok, problem = pcall(play, self)
  if ok then
    return nil
  elseif type(problem) == "table" and problem.failure then
    return problem.failure
  end
  local step = self.steps[self.place - 1]
  return { line = step and step.line, message = tostring(problem) }
end

--- A failure as text: a line that says what is wrong, and the lines that differ.
---@param failure khp.transcript.Failure
---@param path string of the transcript
---@return string
function player.show(failure, path)
  local lines = { format("%s:%s %s", path, failure.line and format("%d:", failure.line) or "", failure.message) }
  for _, line in ipairs(failure.differences and compare.show(failure.differences, path) or {}) do
    lines[#lines + 1] = line
  end
  return concat(lines, "\n")
end

return player
