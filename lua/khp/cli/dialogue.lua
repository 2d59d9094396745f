-- One run of khp connect: the connection, or with --reconnect one after the other; what comes; and how it ends. This
-- file must not know options by how they are written, nor how anything is shown, nor where what is sent comes from.

local advice = require "khp.cli.advice"
local cli = require "khp.cli"
local console = require "khp.cli.console"
local khp = require "khp"
local limits = require "khp.limits"
local progress = require "khp.cli.progress"
local sending = require "khp.cli.sending"
local show = require "khp.cli.show"
local signals = require "khp.cli.signals"
local task = require "khp.task"
local terminal = require "khp.cli.terminal"
local tls = require "khp.tls"

local dialogue = {}

local EPIPE = 32

-- Close codes that are no failure: 1000, "going away", and none.
local GOOD = { [1000] = true, [1001] = true, [1005] = true }

-- After so many seconds of closing it is worth a word.
local LONG = 0.5

---@class khp.cli.Dialogue
---@field given table options of khp connect
---@field target khp.Uri
---@field show khp.cli.Show
---@field console khp.cli.Console? where somebody types
---@field conn khp.Connection? the present one
---@field known khp.Connection? the last one that was shown
---@field kept khp.Keep? with --reconnect
---@field arrival khp.Place where the first connection is awaited
---@field status integer? of the process, once it has ended
---@field problem string? an error in the program itself
---@field sent integer bytes
---@field received integer bytes
---@field all_sent boolean? false: something was not sent, or not yet
---@field lost boolean? the connection is gone, and what was to be sent is not sent
---@field heard number khp.now() of the last message
---@field leaving boolean? we are closing
---@field mute boolean? standard output takes nothing more
local methods = {}
local mt = { __index = methods }

-- A task of this run. An error in it is the end, not only its own.
local function spawn(self, f, ...)
  local arguments, n = { ... }, select("#", ...)
  task.spawn(function()
    local ok, problem = xpcall(function()
      return f(self, (table.unpack or unpack)(arguments, 1, n))
    end, debug.traceback)
    if not ok then
      self.problem, self.status = problem, cli.FAILED
    end
  end)
end

-- The end ------------------------------------------------------------------------------------------------------------

-- In words, where it was not as it should be.
local function complain(self, how)
  local who = "by " .. show.who(how) .. " "
  local reason = how.reason ~= "" and ": " .. terminal.harmless(how.reason) or ""
  local when = ""
  if self.all_sent == false then
    when = ", before everything was sent"
  elseif self.leaving and how.by == "local" then
    who, when = "", ", and the server did not answer"
  end
  cli.complain(("connect: closed %swith %d%s%s"):format(who, how.code, reason, when))
end

-- The connection has ended.
local function closed(self, conn)
  local how = conn.closed
  self.show:closed(how)
  self.conn = nil
  if self.leaving and how.clean then
    self.status = self.wanted
    return
  end
  local good = how.clean and GOOD[how.code] and self.all_sent ~= false
  if not good and not self.given.json and not self.console and not self.mute then
    complain(self, how)
  end
  self.status = good and cli.OK or cli.FAILED
end

-- Somebody waits for the server to close.
local function soothe(self)
  khp.sleep(LONG)
  if self.status or self.given.json or not self.console and not terminal.at(2) then
    return
  end
  self.show:note "closing; Ctrl-C ends at once"
end

--- Closes and ends with this status. Waits. Further calls do nothing.
---@param status integer
function methods:leave(status)
  if self.leaving then
    return
  end
  self.leaving, self.wanted = true, status
  if self.console then
    self.console:stop()
  end
  spawn(self, soothe)
  local conn, kept = self.conn, self.kept
  if kept then
    kept:close(1000)
    if conn and conn.closed then
      closed(self, conn)
    end
    self.status = self.status or status
  elseif conn then
    conn:close(1000) -- closed() does the rest
  else
    self.show:trouble("ECLOSED", "interrupted while connecting")
    self.status = status
  end
end

-- Somebody reads standard output no more, or it is full.
local function cannot_write(self, message, number)
  if self.mute then
    return
  end
  self.mute = true
  if number ~= EPIPE then
    cli.complain("connect: standard output: " .. tostring(message))
  end
  spawn(self, methods.leave, number == EPIPE and cli.OK or cli.FAILED)
end

--- The terminal as it was.
function methods:restore()
  if self.console then
    self.console:restore()
  end
  progress.finish(self)
end

-- A signal: closes, and the second time ends at once.
local function interrupted(self)
  return function(status)
    if self.leaving then
      self:restore()
      os.exit(status)
    end
    spawn(self, methods.leave, self.conn and cli.OK or status)
  end
end

-- The connection -----------------------------------------------------------------------------------------------------

-- What came with the end of the handshake may be here before it is told that it has ended.
local function opened(self, conn)
  if self.known ~= conn then
    self.known, self.conn = conn, conn
    self.show:open(conn)
    task.wake(self.arrival)
  end
end

--- An open connection, waited for; nil where there will be none.
---@return khp.Connection?
function methods:line()
  if self.kept then
    return (self.kept:wait_up())
  elseif not self.known then
    task.wait(self.arrival)
  end
  return self.conn
end

local function keep(self, options)
  options.on_close = nil
  function options.on_up(conn)
    opened(self, conn)
  end
  function options.on_down(message, code, detail)
    self.conn = nil
    if detail.again then
      self.show:down(message, code, detail)
    elseif not self.leaving then
      self.show:failed(code, detail, advice.connect(self.given, self.target, message, code, detail))
      self.status = cli.FAILED
    end
  end
  local message, code, detail
  self.kept, message, code, detail = khp.keep(self.target.url, options)
  return self.kept, message, code, detail
end

-- The files of the options are read even where the URL needs none of them: they were meant to be used.
local function check_files(self, options)
  if options.tls and not self.target.secure then
    return tls.client(options.tls, 2)
  end
  return true
end

local function connect(self, options)
  local ok, message, code, detail = check_files(self, options)
  if not ok then
    return nil, message, code, detail
  elseif self.given.reconnect then
    return keep(self, options)
  end
  ok, message, code, detail = khp.connect(self.target.url, options)
  if ok then
    opened(self, ok)
  end
  return ok, message, code, detail
end

-- What is said -------------------------------------------------------------------------------------------------------

-- How long a pong may take once the system has everything: as long as what was sent may be on its way at 100 kB/s, and
-- not so long that a server that answers no ping is noticed.
local function patience(self)
  return math.min(2 + self.sent / 100000, 20)
end

-- After the last message: until the server has everything, and then until nothing has come for --wait seconds. A person
-- has seen what came.
local function linger(self)
  local since, wait = khp.now(), self.given.wait
  local arrived, code, _
  repeat
    local conn = self.conn
    local begun = khp.now()
    if conn and not self.leaving and not self.console then
      arrived, _, code = conn:ping(patience(self))
      since = arrived and khp.now() or begun
    end
    -- One that answers no ping has nothing to wait for, once everything is with the system.
  until arrived or code ~= "ETIMEOUT" or not conn or self.leaving or conn:queued() == 0
  while (self.conn or self.kept) and not self.leaving do
    local left = math.max(since, self.heard) + wait - khp.now()
    if left <= 0 then
      return
    end
    task.wait(self.quiet, left < math.huge and left or nil)
  end
end

-- Once there is a connection: all that is to be sent and is not typed.
local function talk(self)
  self.all_sent = false
  if not self:line() then
    return
  end
  local good = sending.all(self)
  self.all_sent = good
  if good then
    linger(self)
  end
  progress.finish(self)
  if not self.lost and (self.conn or self.kept) then
    self:leave(good and cli.OK or cli.FAILED)
  end
end

-- From the beginning: what is typed.
local function listen(self)
  if sending.typed(self) then
    self:restore()
    os.exit(signals.QUIT)
  elseif self.lost then
    return
  end
  self.console:stop()
  if self.conn then
    linger(self)
  end
  self:leave(self.conn and cli.OK or cli.FAILED)
end

-- --ping SECONDS: how long the way there and back takes.
local function measure(self)
  while not self.status do
    khp.sleep(self.given.ping)
    local conn = self.conn
    local seconds, problem, code = nil, nil, nil
    if conn then
      seconds, problem, code = conn:ping()
    end
    if seconds then
      self.show:note(("pong after %.1f ms"):format(seconds * 1000))
    elseif code == "ETIMEOUT" then
      self.show:note(problem)
    end
  end
end

-- All of it ----------------------------------------------------------------------------------------------------------

local function begin(self, options)
  local connected, message, code, detail = connect(self, options)
  if self.leaving then
    return
  elseif not connected then
    detail = detail or {}
    self.show:failed(code, detail, advice.connect(self.given, self.target, message, code, detail))
    self.status = cli.FAILED
  elseif not self.console then
    talk(self)
  end
end

local function turn(self)
  while not self.status do
    khp.step()
    if self.console then
      self.console:look()
    end
    if not self.mute then
      local ok, message, number = io.stdout:flush()
      if not ok then
        cannot_write(self, message, number)
      end
    end
  end
  if self.problem then
    error(self.problem, 0)
  end
  return self.status
end

local function run(self, options)
  function options.on_message(conn, message, kind)
    opened(self, conn)
    self.received = self.received + #message
    self.heard = khp.now()
    self.show:message(message, kind)
  end
  function options.on_close(conn)
    opened(self, conn)
    closed(self, conn)
    task.wake(self.quiet)
  end
  signals.heed(interrupted(self))
  spawn(self, begin, options)
  if self.console then
    spawn(self, listen)
  end
  if self.given.ping then
    spawn(self, measure)
  end
  return turn(self)
end

local function is_for_a_person(given)
  return not given.sends[1] and not given.bytes and not given.json and terminal.at(0) and terminal.at(1) and
    os.getenv "TERM" ~= "dumb"
end

local function choose_show(self, write)
  if self.given.json then
    return show.json(write)
  elseif self.given.bytes then
    return show.bytes(write)
  elseif not is_for_a_person(self.given) then
    return show.lines(write)
  end
  self.console = console.new(write)
  return show.talk(write, self.console.editor)
end

--- Connects and talks until it is over.
---@param given table options of khp connect
---@param target { url: string, host: string, port: integer?, unix: string?, target: string, secure: boolean }
---@param options khp.ConnectOptions
---@return integer status
function dialogue.run(given, target, options)
  local self = setmetatable({
    given = given, target = target, sent = 0, received = 0, heard = khp.now(), quiet = {}, arrival = {},
    bounds = limits.resolve(options.limits, 2),
  }, mt)
  self.show = choose_show(self, function(...)
    if not self.mute then
      local ok, message, number = io.stdout:write(...)
      if not ok then
        cannot_write(self, message, number)
      end
    end
  end)
  io.stdout:setvbuf(self.console and "no" or "full")
  local ok, status = xpcall(run, debug.traceback, self, options)
  self:restore()
  if not ok then
    error(status, 0)
  end
  return status
end

return dialogue
