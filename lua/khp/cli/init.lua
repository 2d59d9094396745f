-- The command line: finds the command, gives it what was asked for, and ends with its status. What a command does and
-- which options it has stands in the file of its name. This file must not know any of them.

local cli = {}

--- Exit statuses: all went well; the peer, the network or a file failed; the command was called in a wrong way; Ctrl-C
--- was pressed (as shells tell it: 128 and the signal's number).
cli.OK, cli.FAILED, cli.MISUSE, cli.INTERRUPTED = 0, 1, 2, 130

---@class khp.cli.Command  what the file of a command returns
---@field summary string one line for the list of commands
---@field usage string what follows its name
---@field description string paragraphs; their lines are joined
---@field examples string lines as they are to be shown
---@field environment string? the variables that it heeds, likewise
---@field describe (fun(command: table))? says to argparse's command what it takes
---@field run fun(given: table): integer does it, and returns the exit status

-- What is thrown to end with a status from wherever it is known.
local Ending = {}

--- Ends the command here and now.
---@param status integer
function cli.finish(status)
  error(setmetatable({ status = status }, Ending), 0)
end

--- Says on standard error what happened and, line by line, what to try.
---@param message string
---@param ... string? nil is no line
function cli.complain(message, ...)
  io.stderr:write("khp: ", message, "\n")
  for i = 1, select("#", ...) do
    local hint = select(i, ...)
    if hint then
      io.stderr:write(hint, "\n")
    end
  end
end

--- What the peer, the network or a file did: says so, for `return cli.fail(…)`.
---@param message string begins with the command: "serve: …"
---@param ... string? what to try
---@return integer status
function cli.fail(message, ...)
  cli.complain(message, ...)
  return cli.FAILED
end

--- What the caller did: likewise.
---@param message string
---@param ... string?
---@return integer status
function cli.misuse(message, ...)
  cli.complain(message, ...)
  return cli.MISUSE
end

local EPIPE = 32

local function check_written(ok, message, number)
  if not ok then
    if number ~= EPIPE then
      cli.complain("standard output: " .. tostring(message))
    end
    cli.finish(number == EPIPE and cli.OK or cli.FAILED)
  end
end

--- Writes to standard output. Where nobody reads it any more there is nothing left to do: ends quietly.
---@param ... string
function cli.write(...)
  check_written(io.stdout:write(...))
end

--- Writes what is still in the buffer.
function cli.flush()
  check_written(io.stdout:flush())
end

-- Where a program is started without standard input, output or error, what it opens next would take their numbers, and
-- would be written to by mistake: they become /dev/null.
local EBADF = 9

local function complete_descriptors()
  local nulls = {}
  for _, file in ipairs { io.stdin, io.stdout, io.stderr } do
    local _, _, number = file:seek "cur"
    if number == EBADF then
      nulls[#nulls + 1] = io.open("/dev/null", "r+") -- gets the lowest number that is free: this one
    end
  end
  return nulls
end

local function run(arguments)
  local found, frame = pcall(require, "khp.cli.frame")
  if not found then
    local missing = tostring(frame):match "module '(%S+)' not found"
    if missing == "argparse" then
      return cli.misuse("the command line needs the Lua module argparse, which is not installed",
        "Install it: apt-get install lua-argparse, or luarocks --lua-version=5.4 install argparse")
    elseif missing == "khp.core" then
      return cli.misuse("Lua does not find the module khp.core, which is written in C",
        'In a checkout, run: make && eval "$(make -s env)"',
        "Elsewhere, LUA_CPATH must name the folder in which khp was installed.")
    end
    error(frame, 0)
  end
  require("khp.core").signal("PIPE", "ignore") -- a write that nobody reads fails instead, with EPIPE
  local command, given = frame.parse(arguments)
  local status = command.run(given)
  cli.flush()
  return status
end

-- What the Lua interpreter throws on Ctrl-C, where no command listens to it.
local function is_interruption(problem)
  return type(problem) == "string" and (problem:find "interrupted!$" or problem:find "interrupted!\nstack traceback:")
end

local function explain(problem)
  if is_interruption(problem) then
    return setmetatable({ status = cli.INTERRUPTED }, Ending)
  end
  return getmetatable(problem) == Ending and problem or debug.traceback(tostring(problem), 2)
end

--- Runs a command.
---@param arguments string[]
---@return integer status of the process
function cli.run(arguments)
  local nulls = complete_descriptors()
  local ok, result = xpcall(run, explain, arguments)
  for _, file in ipairs(nulls) do
    file:close()
  end
  if ok then
    return result
  elseif getmetatable(result) == Ending then
    return result.status
  end
  return cli.fail("this should not happen: " .. result)
end

return cli
