-- One run of khp connect: the connection, or with --reconnect one after the other; what is sent, from options, standard
-- input or a person; what comes; and how it ends. This file must not know options by how they are written, nor how
-- anything is shown.

local advice = require "khp.cli.advice"
local cli = require "khp.cli"
local core = require "khp.core"
local edit = require "khp.cli.edit"
local input = require "khp.cli.input"
local khp = require "khp"
local limits = require "khp.limits"
local progress = require "khp.cli.progress"
local show = require "khp.cli.show"
local task = require "khp.task"
local terminal = require "khp.cli.terminal"

local dialogue = {}

local EPIPE = 32

-- Close codes that are no failure: 1000, "going away", and none.
local IN_ORDER = { [1000] = true, [1001] = true, [1005] = true }

--- RFC 6455 5.2: what a frame needs beside the message, at most.
dialogue.FRAME = 14

---@class khp.cli.Dialogue
---@field given table options of khp connect
---@field target khp.Uri
---@field show khp.cli.Show
---@field conn khp.Connection? the present one
---@field kept khp.Keep? with --reconnect
---@field status integer? of the process, once it has ended
---@field sent integer bytes
---@field received integer bytes
---@field heard number khp.now() of the last message
---@field leaving boolean? we are closing
local methods = {}
local mt = { __index = methods }

-- The end ------------------------------------------------------------------------------------------------------------

--- Ends with this status, in order. Further calls do nothing.
---@param status integer
function methods:leave(status)
  if self.leaving then
    return
  end
  self.leaving, self.wanted = true, status
  local conn = self.conn
  if self.kept then
    self.kept:close(1000)
    if conn and conn.closed then
      self.show:closed(conn.closed)
    end
    self.status = self.status or status
  elseif conn then
    conn:close(1000) -- closed() does the rest
  else
    self.status = self.status or status
  end
end

-- The connection has ended.
local function closed(self, conn)
  local how = conn.closed
  self.show:closed(how)
  self.conn = nil
  if self.leaving then
    self.status = how.clean and self.wanted or cli.FAILED
    return
  end
  local good = how.clean and IN_ORDER[how.code] and self.all_sent ~= false
  if not good and not self.given.json and not self.editor then
    local who = how.by == "peer" and "the server" or "the " .. how.by
    local reason = how.reason ~= "" and ": " .. terminal.harmless(how.reason) or ""
    local when = self.all_sent == false and ", before everything was sent" or ""
    cli.complain(("connect: closed by %s with %d%s%s"):format(who, how.code, reason, when))
  end
  self.status = good and cli.OK or cli.FAILED
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
  task.spawn(methods.leave, self, number == EPIPE and cli.OK or cli.FAILED)
end

-- Sending ------------------------------------------------------------------------------------------------------------

-- An open connection, waited for with --reconnect; nil where there will be none.
local function line(self)
  if self.kept then
    return (self.kept:wait_up())
  end
  return self.conn
end

-- One message. Waits for room; so nothing piles up here, and nothing is read before it has a place to go.
local function send(self, message, kind, what)
  local most = self.bounds.queue - dialogue.FRAME
  if #message > most then
    cli.complain(("connect: %s has %d bytes, and a message may have %d"):format(what, #message, most),
      "--bytes sends standard input in pieces: khp connect --bytes URL < FILE")
    return false
  end
  while not self.leaving do
    local conn = line(self)
    if not conn then
      return false
    end
    local sent, problem, code = conn:send(message, kind)
    if sent then
      self.sent = self.sent + #message
      return true
    elseif code == "ELIMIT" then
      conn:drain()
    elseif code ~= "ECLOSED" then
      cli.complain(("connect: %s: %s"):format(what, problem),
        code == "EPROTOCOL" and "--bytes sends standard input as it is, --binary FILE a file." or nil)
      return false
    elseif not self.kept then
      return false
    end
  end
  return false
end

-- What --send and --binary say.
local function send_given(self)
  for _, one in ipairs(self.given.sends) do
    if not send(self, one.message, one.kind, one.what) then
      return false
    end
  end
  return true
end

local function send_lines(self, from)
  local count = 0
  local next_line = from:lines(self.bounds.queue)
  while true do
    local text, problem = next_line()
    if problem then
      cli.complain("connect: standard input: " .. problem, "--bytes sends standard input as it is, in pieces.")
    end
    if not text then
      return not problem
    end
    count = count + 1
    if not send(self, text, "text", ("line %d of standard input"):format(count)) then
      return false
    end
  end
end

local function send_bytes(self, from)
  while true do
    local piece, problem = from:read()
    if not piece then
      if problem then
        cli.complain("connect: standard input: " .. problem)
      end
      return not problem
    elseif not send(self, piece, "binary", "standard input") then
      return false
    end
  end
end

-- A person types. Ctrl-D ends.
local function send_typed(self, from)
  while true do
    local keys = from:read()
    if not keys then
      return true
    end
    local lines, ended = self.editor:feed(keys)
    for _, text in ipairs(lines) do
      dialogue.remember(text)
      if not send(self, text, "text", "this line") and (self.leaving or not self.conn and not self.kept) then
        return false
      end
    end
    if ended then
      return true
    end
  end
end

-- After the last message: until the server has everything, and then until nothing has come for --wait seconds.
local function linger(self)
  local arrived, code, _
  repeat
    local conn = self.conn
    if conn and not self.leaving then
      arrived, _, code = conn:ping()
    end
    -- One that answers no ping has nothing to wait for, once everything is with the system.
  until arrived or code ~= "ETIMEOUT" or not conn or self.leaving or conn:queued() == 0
  local since = khp.now()
  local wait = self.given.wait
  while (self.conn or self.kept) and not self.leaving do
    local left = math.max(since, self.heard) + wait - khp.now()
    if left <= 0 then
      return
    end
    task.wait(self.quiet, left < math.huge and left or nil)
  end
end

local function talk(self)
  if not line(self) then
    return
  end
  local from, good
  if self.given.sends[1] then
    good = send_given(self)
  else
    from = input.new(0)
    self.all_sent = false
    progress.begin(self, from)
    good = (self.editor and send_typed or self.given.bytes and send_bytes or send_lines)(self, from)
    from:close()
    self.all_sent = good
  end
  if good then
    linger(self)
  end
  progress.finish(self)
  if self.conn or self.kept then
    self:leave(good and cli.OK or cli.FAILED)
  end
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

-- A terminal with somebody who types ---------------------------------------------------------------------------------

-- KHP_HISTORY names the file that keeps what was typed; without it, it is forgotten.
local function history()
  local path = os.getenv "KHP_HISTORY"
  local file = path and io.open(path)
  local list = {}
  if file then
    for text in file:lines() do
      list[#list + 1] = text
    end
    file:close()
  end
  return list
end

--- Adds a line to the history's file.
---@param text string
function dialogue.remember(text)
  local path = os.getenv "KHP_HISTORY"
  local file = path and text ~= "" and io.open(path, "a")
  if file then
    file:write(text, "\n")
    file:close()
  end
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
  self.terminal = terminal.at(0)
  self.editor = edit.new {
    prompt = "> ", put = write, history = history(),
    columns = function()
      return self.terminal:columns()
    end,
  }
  self.terminal:raw()
  return show.talk(write, self.editor)
end

-- All of it ----------------------------------------------------------------------------------------------------------

local function opened(self, conn)
  self.conn = conn
  self.show:open(conn)
end

local function connect(self, options)
  if not self.given.reconnect then
    local conn, message, code, detail = khp.connect(self.target.url, options)
    if conn then
      opened(self, conn)
    end
    return conn, message, code, detail
  end
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

-- Ctrl-C, or the terminal has gone: in order, and the second time at once.
local function heed_signals(self)
  for _, name in ipairs { "INT", "TERM", "HUP" } do
    core.signal(name, function()
      if self.leaving then
        self:restore()
        os.exit(cli.FAILED)
      end
      task.spawn(methods.leave, self, cli.OK)
    end)
  end
end

--- The terminal as it was.
function methods:restore()
  if self.editor then
    self.editor:hide()
    self.terminal:restore()
  end
  progress.finish(self)
end

local function turn(self)
  while not self.status do
    khp.step()
    if not self.mute then
      local ok, message, number = io.stdout:flush()
      if not ok then
        cannot_write(self, message, number)
      end
    end
  end
  return self.status
end

local function run(self, options)
  function options.on_message(_, message, kind)
    self.received = self.received + #message
    self.heard = khp.now()
    self.show:message(message, kind)
  end
  function options.on_close(conn)
    closed(self, conn)
    task.wake(self.quiet)
  end
  local connected, message, code, detail = connect(self, options)
  if not connected then
    detail = detail or {}
    self.show:failed(code, detail, advice.connect(self.given, self.target, message, code, detail))
    return cli.FAILED
  end
  heed_signals(self)
  task.spawn(talk, self)
  if self.given.ping then
    task.spawn(measure, self)
  end
  return turn(self)
end

--- Connects and talks until it is over.
---@param given table options of khp connect
---@param target { url: string, host: string, port: integer?, unix: string?, target: string }
---@param options khp.ConnectOptions
---@return integer status
function dialogue.run(given, target, options)
  local self = setmetatable({
    given = given, target = target, sent = 0, received = 0, heard = khp.now(), quiet = {},
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
  io.stdout:setvbuf(self.editor and "no" or "full")
  local ok, status = xpcall(run, debug.traceback, self, options)
  self:restore()
  if not ok then
    error(status, 0)
  end
  return status
end

return dialogue
