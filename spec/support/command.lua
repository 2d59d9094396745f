-- For specs of the command line: runs khp as a process of its own, while this one waits for its end, or while it turns
-- its loop and is the server that the other talks to.

local khp = require "khp"

local command = { PATIENCE = 30 }

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "*a"
  file:close()
  os.remove(path)
  return text
end

--- A file with this text; the caller removes it.
---@param text string
---@return string path
function command.file(text)
  local path = os.tmpname()
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
  return path
end

--- What the words of a shell's command line mean: nothing but themselves.
---@param word string
---@return string
function command.quote(word)
  return "'" .. word:gsub("'", "'\\''") .. "'"
end

--- Runs khp with these arguments, as a shell reads them.
---@param arguments string may redirect standard input
---@param before string? stands before the program: settings of the environment
---@return string output, string errors, integer status
function command.khp(arguments, before)
  local errors = os.tmpname()
  local pipe = assert(io.popen(("%s %s bin/khp %s 2>%s"):format(before or "", os.getenv "LUA" or "lua5.4", arguments,
    errors)))
  local output = pipe:read "*a"
  local _, _, status = pipe:close()
  return output, read(errors), status
end

---@class Command  a process that runs beside this one
---@field folder string
local process = {}
process.__index = process

local function exists(path)
  local file = io.open(path)
  return file and file:close() and true
end

--- Begins to run khp with these arguments, as a shell reads them. Its standard input is empty unless they say more.
---@param arguments string
---@param before string? stands before the program
---@return Command
function command.begin(arguments, before)
  local folder = os.tmpname()
  os.remove(folder)
  assert(os.execute("mkdir " .. folder))
  local program = ("%s %s bin/khp %s"):format(before or "", os.getenv "LUA" or "lua5.4", arguments)
  assert(os.execute(([[
    { sh -c 'echo $$ >%s/pid; exec "$@"' sh env %s; echo $? >%s/over; mv %s/over %s/status; } \
      </dev/null >%s/output 2>%s/errors &]]):format(folder, program, folder, folder, folder, folder, folder)))
  return setmetatable({ folder = folder }, process)
end

--- What it has written so far, to "output" or "errors".
function process:written(name)
  local file = io.open(self.folder .. "/" .. name, "rb")
  local text = file and file:read "*a" or ""
  if file then
    file:close()
  end
  return text
end

--- Turns the loop until f() gives a true value, and returns it.
function process:await(f, what)
  local deadline = khp.now() + command.PATIENCE
  while true do
    local value = f()
    if value then
      return value
    elseif khp.now() > deadline then
      error(("waited in vain for %s; errors: %s"):format(what or "it", self:written "errors"), 2)
    end
    khp.step(0.01)
  end
end

--- Waits until it has written this text (plain) to "output" or "errors".
function process:await_text(name, text)
  return self:await(function()
    return self:written(name):find(text, 1, true)
  end, ("%q"):format(text))
end

--- Sends it a signal.
function process:signal(name)
  assert(os.execute(("kill -%s %s"):format(name, self:written("pid"):match "%d+")))
end

--- Waits for its end.
---@return string output, string errors, integer status
function process:finish()
  self:await(function()
    return exists(self.folder .. "/status")
  end, "its end")
  local output, errors, status = self:written "output", self:written "errors", tonumber(self:written "status")
  os.execute("rm -r " .. self.folder)
  return output, errors, status
end

return command
