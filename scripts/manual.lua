-- Writes docs/khp.1, the manual page, from what the commands say of themselves, or holds what is there against it.
--
--   lua5.4 scripts/manual.lua [--check]
--
-- With --check nothing is written; the status is 1 when the page would be another one. This file knows how a manual
-- page is written, and nothing of what a command does.

local frame = require "khp.cli.frame"
local khp = require "khp"

local PAGE = "docs/khp.1"

local ESCAPES = { ["\\"] = "\\e", ["-"] = "\\-", ["…"] = "..." }

-- Text as it is, whatever signs of the formatter are in it.
local function plain(text)
  return (("\n" .. text):gsub("[\\%-]", ESCAPES):gsub("…", ESCAPES["…"]):gsub("\n(['.])", "\n\\&%1"):sub(2))
end

local WIDTH = 76

-- Text in lines that are short enough, each sentence on lines of its own, as formatters of manuals want it.
local function prose(text)
  local lines, now = {}, ""
  for word in text:gmatch "%S+" do
    if now ~= "" and (#now + 1 + #word > WIDTH or now:find "[.?]$") then
      lines[#lines + 1], now = now, ""
    end
    now = now == "" and word or now .. " " .. word
  end
  lines[#lines + 1] = now
  return plain(table.concat(lines, "\n"))
end

local out = {}

local function line(...)
  out[#out + 1] = table.concat { ... }
end

local function paragraphs(text)
  local between = nil
  for paragraph in (text .. "\n\n"):gmatch "(.-)\n\n+" do
    out[#out + 1] = between
    line(prose(paragraph))
    between = ".PP"
  end
end

-- Lines that stay as they are.
local function verbatim(text)
  line ".PP"
  line ".RS 4"
  line ".nf"
  line(plain(text))
  line ".fi"
  line ".RE"
end

local function entry(label, text)
  line ".TP"
  line(label)
  line(prose(text))
end

-- "-H HEADER, --header HEADER": names bold, what is to be put in italic.
local function label_of(option)
  local arguments = table.concat(option:_get_argument_list(), " ")
  local names = {}
  for i, name in ipairs(option._public_aliases) do
    names[i] = "\\fB" .. plain(name) .. "\\fR" .. (arguments ~= "" and " \\fI" .. plain(arguments) .. "\\fR" or "")
  end
  return table.concat(names, ", ")
end

local function options_of(parser, but)
  for _, option in ipairs(parser._options) do
    if option._public_aliases[1] ~= but then
      entry(label_of(option), option:_get_description())
    end
  end
end

-- "NAME   text" in each line.
local function variables(lines)
  for name, text in lines:gmatch "([^\n ]+) +([^\n]+)" do
    entry("\\fB" .. plain(name) .. "\\fR", text)
  end
end

-- Every command has --help: it is told once, above.
local function command_of(name, parser)
  local about = require("khp.cli." .. name)
  line('.SS "khp ', plain(name .. (about.usage ~= "" and " " .. about.usage or "")), '"')
  paragraphs(about.description)
  for _, argument in ipairs(parser._arguments) do
    entry("\\fI" .. plain(argument._name) .. "\\fR", argument:_get_description())
  end
  options_of(parser, "-h")
  if about.environment then
    line ".PP"
    line "Environment:"
    variables(about.environment)
  end
  line ".PP"
  line "Examples:"
  verbatim(about.examples)
end

local function page()
  local parser, commands = frame.parser()
  line '.\\" Written by `make manual` from lua/khp/cli.'
  line('.TH KHP 1 "" "khp ', khp._VERSION, '" "User Commands"')
  line ".SH NAME"
  line "khp \\- WebSocket client and server with programmable handshakes"
  line ".SH SYNOPSIS"
  for i, name in ipairs(frame.commands) do
    local usage = require("khp.cli." .. name).usage
    if i > 1 then
      line ".br"
    end
    line("\\fBkhp ", name, "\\fR", usage ~= "" and " " .. plain(usage) or "")
  end
  line ".SH DESCRIPTION"
  line(prose(parser._description))
  line(prose [[
The handshake is that of RFC 6455. If both sides know it, the Kaazing WebSocket Handshake Protocol follows: HTTP
messages inside the WebSocket, with which a server asks for credentials, redirects and negotiates extensions.]])
  line ".SH OPTIONS"
  options_of(parser)
  line ".SH COMMANDS"
  for _, name in ipairs(frame.commands) do
    command_of(name, commands[name])
  end
  line '.SH "EXIT STATUS"'
  entry("0", "All went well.")
  entry("1", "The peer, the network or a file failed.")
  entry("2", "khp was called wrongly.")
  entry("128+n", "Signal n ended it, where the command has no other use for it: 130 for Ctrl-C.")
  line '.SH "SEE ALSO"'
  line(prose [[
The guide, the policy cookbook and the reference of the Lua module are in the folder docs of khp's source.]])
  return table.concat(out, "\n") .. "\n"
end

local text = page()
local file = io.open(PAGE)
local now = file and file:read "a"
if file then
  file:close()
end
if arg[1] == "--check" then
  if now ~= text then
    io.stderr:write(PAGE, " is not as it should be: make manual\n")
  end
  os.exit(now == text)
end
file = assert(io.open(PAGE, "w"))
file:write(text)
file:close()
