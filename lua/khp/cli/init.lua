-- The command line: finds the command and gives it its arguments. What a command does stands in the file of its name.
-- This file must not know any command's options.

local cli = {}

local commands = {
  { name = "check", what = "loads policies and runs their own tests" },
  { name = "limits", what = "lists every limit, with its default" },
  { name = "serve", what = "serves an echo, under a policy or none" },
}

--- Exit statuses.
cli.OK, cli.FAILED, cli.MISUSE = 0, 1, 2

local function help()
  local lines = {
    "khp - WebSocket whose handshake is a program",
    "",
    "usage: khp COMMAND [ARGUMENT …]",
    "       khp --help | --version",
    "",
  }
  for _, command in ipairs(commands) do
    lines[#lines + 1] = ("  %-10s%s"):format(command.name, command.what)
  end
  lines[#lines + 1] = ""
  lines[#lines + 1] = "khp COMMAND --help tells more."
  return table.concat(lines, "\n") .. "\n"
end

--- Says what is wrong with the way a command was called.
---@param message string
---@return integer status
function cli.misuse(message)
  io.stderr:write("khp: ", message, "\n")
  return cli.MISUSE
end

--- Runs a command.
---@param arguments string[]
---@return integer status of the process
function cli.run(arguments)
  local name = arguments[1]
  if name == "--help" or name == "-h" or name == "help" then
    io.stdout:write(help())
    return cli.OK
  elseif name == "--version" then
    io.stdout:write("khp ", require("khp")._VERSION, "\n")
    return cli.OK
  elseif not name then
    io.stderr:write(help())
    return cli.MISUSE
  end
  for _, command in ipairs(commands) do
    if command.name == name then
      local rest = {}
      for i = 2, #arguments do
        rest[#rest + 1] = arguments[i]
      end
      return require("khp.cli." .. name).run(rest)
    end
  end
  return cli.misuse(("there is no command '%s'; khp --help lists them"):format(name))
end

return cli
