-- What the command line knows of terminals: whether there is one, colours, and what of a peer's bytes may be shown
-- there. This file must not know what is shown.

local core = require "khp.core"
local log = require "khp.log"

local terminal = {}

--- The terminal behind a descriptor (0: standard input, 1: standard output, 2: standard error), or nil.
---@param fd integer? default: the terminal that the process belongs to, wherever its descriptors lead
---@return userdata? with raw() keep() suspend() restore() columns() fd(): csrc/lua/descriptor.c
function terminal.at(fd)
  return core.descriptor.terminal(fd)
end

--- Is colour welcome there? Not without a terminal, nor where NO_COLOR is set (no-color.org).
---@param fd integer
---@return boolean
function terminal.has_colour(fd)
  return (os.getenv "NO_COLOR" or "") == "" and os.getenv "TERM" ~= "dumb" and terminal.at(fd) ~= nil
end

local codes = { bold = "1", dim = "2", red = "31", green = "32", yellow = "33", cyan = "36" }

---@alias khp.cli.Paint fun(colour: "bold"|"dim"|"red"|"green"|"yellow"|"cyan", text: string): string

--- The function that paints for this descriptor; it returns the text as it is where there is no colour.
---@param fd integer
---@return khp.cli.Paint
function terminal.painter(fd)
  local has_colour = terminal.has_colour(fd)
  return function(colour, text)
    return has_colour and ("\27[%sm%s\27[0m"):format(codes[colour], text) or text
  end
end

--- A peer's text without anything that a terminal would obey. Lines and tabs stay.
---@param text string
---@return string
function terminal.harmless(text)
  return log.lines(text, math.huge)
end

return terminal
