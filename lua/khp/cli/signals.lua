-- The signals with which somebody ends a program, and the status that shells give one that ended so. This file must not
-- know what ends.

local core = require "khp.core"

--- The status after Ctrl-\.
local signals = { QUIT = 128 + 3 }

local numbers = { HUP = 1, INT = 2, TERM = 15 }

--- Calls f(status) from the loop for each such signal, instead of ending the program at once: Ctrl-C, the terminal has
--- gone, somebody asks for it.
---@param f fun(status: integer)
---@return { close: fun() } watching
function signals.heed(f)
  local watches = {}
  for name, number in pairs(numbers) do
    watches[#watches + 1] = core.signal(name, function()
      f(128 + number)
    end)
  end
  return { close = function()
    for _, watch in ipairs(watches) do
      watch:close()
    end
  end }
end

return signals
