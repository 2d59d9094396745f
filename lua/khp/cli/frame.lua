-- The command line as argparse knows it: all commands with their options, --help, --version, and what is said to who
-- asks for what is not there. The same parsers make the help, the completions and the man page. This file must not
-- know what a command does.

local argparse = require "argparse"
local cli = require "khp.cli"
local core = require "khp.core"
local khp = require "khp"

local unpack = table.unpack or unpack

local frame = {}

--- In the order in which --help lists them.
frame.commands = { "serve", "connect", "check", "decode", "limits", "completion" }

local WIDTH, MARGIN = 80, 26

-- What an option without an upper bound takes at most: longer than any timer runs, and no infinity.
local MOST = 1e9

local ENDING = [[
Examples:
   khp serve                    an echo server on ws://127.0.0.1:8000/
   khp serve members.lua        the same, under a policy
   khp connect ws://127.0.0.1:8000/
   khp check members.lua        is the policy right? needs no server

khp COMMAND --help tells more, with examples. Exit status: 0 when all went well,
1 when the peer, the network or a file failed, 2 when khp was called wrongly,
128+n when signal n ended it (130: Ctrl-C).]]

local function version()
  local versions = core.versions()
  local lines = { "khp " .. khp._VERSION }
  for _, name in ipairs { "libwebsockets", "OpenSSL", "libuv", "zlib" } do
    lines[#lines + 1] = name .. " " .. versions[name:lower()]
  end
  lines[#lines + 1] = jit and jit.version or "Lua " .. versions.lua
  return table.concat(lines, "\n") .. "\n"
end

-- A flag that says something instead of running a command.
local function flag_that_says(parser, names, description, text)
  parser:flag(names):description(description):action(function()
    cli.write(text())
    cli.flush()
    cli.finish(cli.OK)
  end)
end

-- argparse moves a short name to the right where the long one gets a line of its own.
local function align(help)
  return (help:gsub("\n   ( +)(%-%a %u+,)", "\n   %2%1"))
end

local function add_help(parser)
  flag_that_says(parser, "-h --help", "Show this help.", function()
    return align(parser:get_help()) .. "\n"
  end)
end

-- Paragraphs whose lines argparse may break anew.
local function flow(text)
  return (text:gsub("\n+", function(ends)
    return ends == "\n" and " " or ends
  end))
end

local function indent(lines)
  return (("\n" .. lines):gsub("\n([^\n])", "\n   %1"):sub(2))
end

-- What stands below the options.
local function epilog(about)
  local parts = {}
  if about.environment then
    parts[1] = "Environment:\n" .. indent(about.environment) .. "\n"
  end
  parts[#parts + 1] = "Examples:\n" .. indent(about.examples)
  return table.concat(parts, "\n")
end

local function add_command(parser, name)
  local about = require("khp.cli." .. name)
  local command = parser:command(name)
    :add_help(false)
    :summary(about.summary)
    :usage("usage: khp " .. name .. (about.usage ~= "" and " " .. about.usage or ""))
    :description(flow(about.description))
    :epilog(epilog(about))
  if about.describe then
    about.describe(command)
  end
  add_help(command)
  return command
end

--- The parser, and each command's own by name.
---@return table parser argparse's
---@return table<string, table> commands
function frame.parser()
  local parser = argparse "khp"
    :usage "usage: khp COMMAND [ARGUMENT …]"
    :description "A WebSocket server and client with programmable handshakes, and tools for both."
    :epilog(ENDING)
    :add_help(false)
    :command_target "command"
    :help_max_width(WIDTH)
    :help_description_margin(MARGIN)
  add_help(parser)
  flag_that_says(parser, "--version", "Show the versions of khp and of its libraries.", version)
  local commands = {}
  for _, name in ipairs(frame.commands) do
    commands[name] = add_command(parser, name)
  end
  return parser, commands
end

-- What is wrong, how it is called, where more is told.
local function refuse(name, usage, message)
  local what, tip = message:match "^(.-)\n(.*)$"
  local lines = { tip or usage, tip and usage or nil }
  lines[#lines + 1] = ("khp%s --help tells more."):format(name and " " .. name or "")
  cli.finish(cli.misuse((name and name .. ": " or "") .. (what or message), unpack(lines)))
end

-- Thrown to parse other arguments instead.
local Again = {}

-- A negative number after an option is its argument, which argparse takes for an option: "--port", "-1" → "--port=-1".
local function attach(arguments, message)
  if not message:find "^unknown option '%-[%d.]'" then
    return nil
  end
  for i = 2, #arguments do
    if arguments[i]:find "^%-%.?%d" and arguments[i - 1]:find "^%-%-%a[%w-]*$" then
      local attached = { unpack(arguments) }
      attached[i - 1] = attached[i - 1] .. "=" .. table.remove(attached, i)
      return attached
    end
  end
  return nil
end

--- What was asked for. Ends with a message where that is nothing lawful.
---@param arguments string[]
---@return khp.cli.Command command
---@return table given
function frame.parse(arguments)
  local parser, commands = frame.parser()
  if arguments[1] == "help" then -- as git, cargo and others have it
    local name = arguments[2] ~= "help" and arguments[2] or nil
    arguments = { name or "--help", name and "--help" or nil }
  elseif not arguments[1] then
    io.stderr:write(parser:get_help(), "\n")
    cli.finish(cli.MISUSE)
  end
  function parser.error(at, message)
    local attached = attach(arguments, message)
    if attached then
      error(setmetatable({ attached }, Again), 0)
    end
    for name, command in pairs(commands) do
      if at == command then
        refuse(name, at:get_usage(), message)
      end
    end
    refuse(nil, at:get_usage(), message)
  end
  local ok, given = pcall(parser.parse, parser, arguments)
  if ok then
    return require("khp.cli." .. given.command), given
  elseif getmetatable(given) == Again then
    return frame.parse(given[1])
  end
  error(given, 0)
end

-- In decimal digits: not "0x10", "nan" or "inf".
local function decimal(text)
  return text:find "^[+-]?[%d.]+$" and tonumber(text) or text:find "^[+-]?[%d.]+[eE][+-]?%d+$" and tonumber(text) or nil
end

--- For convert(): a number from `least` to `most`, whole where `whole` says so.
---@param name string of the option, for the message
---@param least number
---@param most number? default: no bound
---@param whole boolean?
---@return fun(text: string): number?, string?
function frame.number(name, least, most, whole)
  local range = most and ("from %.14g to %.14g"):format(least, most) or ("from %.14g on"):format(least)
  local kind = whole and "a whole number " or "a number "
  return function(text)
    local value = decimal(text)
    if not value or value < least or value > (most or MOST) or whole and value % 1 ~= 0 then
      return nil, ("%s wants %s%s, not '%s'"):format(name, kind, range, text)
    end
    return value
  end
end

--- For convert(): any text but the empty one, which a variable of the shell leaves that is not set.
---@param name string of the option or argument, for the message
---@param what string "a file", …
---@return fun(text: string): string?, string?
function frame.filled(name, what)
  return function(text)
    if text == "" then
      return nil, ("%s wants %s, not ''"):format(name, what)
    end
    return text
  end
end

return frame
