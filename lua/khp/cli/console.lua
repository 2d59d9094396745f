-- A terminal with somebody at its keys: its modes, the line that is edited, the keys that stop and end the program, the
-- file that keeps what was typed, and questions whose answer is not shown. This file must not know what lines mean, nor
-- what is printed above them.

local cli = require "khp.cli"
local core = require "khp.core"
local edit = require "khp.cli.edit"
local input = require "khp.cli.input"
local signals = require "khp.cli.signals"
local terminal = require "khp.cli.terminal"

local console = {}

---@class khp.cli.Console
---@field terminal userdata
---@field editor khp.cli.Edit
---@field input khp.cli.Input?
---@field width integer? of the terminal, when it was last asked
local methods = {}
local mt = { __index = methods, __name = "khp.cli.console" }

-- The history ---------------------------------------------------------------------------------------------------------

-- KHP_HISTORY names the file that keeps what was typed; without it, it is forgotten. The file is made so that nobody
-- else may read it: who types says more than he would to everybody.
local function history()
  local path, list = os.getenv "KHP_HISTORY", {}
  if not path or path == "" then
    return list
  end
  local file, problem = core.descriptor.keep_private(path)
  file, problem = file and io.open(path), problem
  local text
  if file then
    text, problem = file:read "*a"
    file:close()
  end
  if not text then
    cli.complain(("connect: KHP_HISTORY: %s: %s"):format(path, problem or "it cannot be read"),
      "What you type will not be kept: KHP_HISTORY is the path of a file, which is made if there is none.")
  end
  for line in (text or ""):gmatch "[^\n]+" do
    list[#list + 1] = line
  end
  return list
end

local function remember(text)
  local path = os.getenv "KHP_HISTORY"
  local file = path and path ~= "" and text ~= "" and io.open(path, "a")
  if file then
    file:write(text, "\n")
    file:close()
  end
end

-- Keys ----------------------------------------------------------------------------------------------------------------

--- Takes the terminal at standard input; restore() gives it back.
---@param write fun(text: string) to the terminal
---@return khp.cli.Console
function console.new(write)
  local at = terminal.at(0)
  local self = setmetatable({ terminal = at, width = at:columns() }, mt)
  self.editor = edit.new {
    prompt = "> ", put = write, history = history(),
    columns = function()
      return at:columns()
    end,
  }
  at:raw()
  return self
end

-- Stops the program until the shell continues it.
local function suspend(self)
  self.editor:hide()
  self.terminal:suspend()
  self:look()
end

--- The next lines that were typed. Waits for keys.
---@return string[] lines
---@return boolean ended the end was typed, or the terminal has gone
---@return boolean quit the program is to end at once
function methods:read()
  self.input = self.input or input.new(self.terminal:fd())
  local keys, all = self.input:read(), {}
  if not keys then
    return all, true, false
  end
  local lines, ended, wish
  repeat
    lines, ended, wish = self.editor:feed(keys)
    for _, text in ipairs(lines) do
      remember(text)
      all[#all + 1] = text
    end
    if wish == "suspend" then
      suspend(self)
    end
    keys = ""
  until wish ~= "suspend"
  return all, ended, wish == "quit"
end

--- Puts right what changed without us: the terminal's modes, after a shell has continued the program, and its width. To
--- be called often.
function methods:look()
  local width = self.terminal:columns()
  if self.terminal:keep() then
    self.width = width
    self.editor:show()
  elseif width ~= self.width then
    self.width = width
    self.editor:resized()
  end
end

--- Shows no prompt any more.
function methods:stop()
  self.editor:stop()
end

--- The terminal as it was.
function methods:restore()
  self.editor:hide()
  self.terminal:restore()
end

-- Questions -----------------------------------------------------------------------------------------------------------

-- The first line that is typed; nil where there is none, and whether the program is to end.
local function answer_to(at, from, question, put)
  local editor = edit.new { prompt = "", put = function() end, columns = function() end }
  local keys = from:read()
  while keys do
    local lines, ended, wish = editor:feed(keys)
    if lines[1] or ended or wish == "quit" then
      return lines[1], wish == "quit"
    elseif wish == "suspend" then
      at:suspend()
      at:keep()
      put(question)
      keys = ""
    else
      keys = from:read()
    end
  end
  return nil
end

--- Asks on the terminal for something that is not to be seen there.
---@param question string
---@return string? answer
---@return string? problem there is no terminal, or nothing was typed
---@return integer? status a signal has ended it, and the program ends with this
function console.ask(question)
  local at = terminal.at(0) or terminal.at()
  local out = at and io.open("/dev/tty", "w")
  if not out then
    return nil, "there is no terminal to ask for it"
  end
  local function put(text)
    out:write(text)
    out:flush()
  end
  local from, status = input.new(at:fd()), nil
  local heeding = signals.heed(function(number)
    status = number
    from:stop()
  end)
  at:raw(true)
  put(question)
  local ok, answer, quit = pcall(answer_to, at, from, question, put)
  at:restore()
  put "\n"
  heeding.close()
  from:close()
  out:close()
  if not ok then
    error(answer, 0)
  end
  return answer, not answer and "nothing was typed" or nil, quit and signals.QUIT or status
end

return console
