-- The line on a terminal that tells how far a transfer is, while standard input and output are files or pipes. This
-- file must not know what is transferred.

local core = require "khp.core"
local khp = require "khp"
local task = require "khp.task"
local terminal = require "khp.cli.terminal"

local progress = {}

local EVERY = 0.5

local UNITS = { "kB", "MB", "GB", "TB" }

--- A number of bytes for people: "12.3 MB".
---@param bytes number
---@return string
function progress.amount(bytes)
  if bytes < 1000 then
    return ("%d bytes"):format(bytes)
  end
  local unit = 0
  repeat
    bytes, unit = bytes / 1000, unit + 1
  until bytes < 999.95 or unit == #UNITS
  return ("%.1f %s"):format(bytes, UNITS[unit])
end

local function line(state)
  local now, counts = core.loop.clock(), state.counts
  local of = state.size and (" of %s (%d %%)"):format(progress.amount(state.size),
    state.size > 0 and math.min(100, math.floor(counts.sent / state.size * 100)) or 100) or ""
  local moved = counts.sent + counts.received
  local rate = (moved - state.before) / math.max(now - state.since, 0.001)
  state.before, state.since = moved, now
  return ("sent %s%s, received %s, %s/s"):format(progress.amount(counts.sent), of, progress.amount(counts.received),
    progress.amount(rate))
end

--- Begins to tell, if there is a terminal at standard error and none at standard input and output.
---@param counts { sent: integer, received: integer, progress: table? }
---@param from khp.cli.Input
function progress.begin(counts, from)
  if not terminal.at(2) or terminal.at(0) or terminal.at(1) then
    return
  end
  local state = { counts = counts, size = from:size(), before = 0, since = core.loop.clock() }
  counts.progress = state
  task.spawn(function()
    while not state.over do
      khp.sleep(EVERY)
      if not state.over then
        io.stderr:write("\r", line(state), "\27[K")
      end
    end
  end)
end

--- Takes the line away.
---@param counts table
function progress.finish(counts)
  local state = counts.progress
  if state and not state.over then
    state.over = true
    io.stderr:write "\r\27[K"
  end
end

return progress
