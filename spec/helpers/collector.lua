-- A helper for busted (make check-gc): the collector never rests, and whatever a test dropped is finalised before the
-- next one begins. What only works because something was not collected yet fails here.

local busted = require "busted"

-- A cycle begins as soon as one has ended, in steps of 256 allocated bytes. (A pause of 0 would be a whole cycle at
-- each allocation, and a suite of hours.)
collectgarbage("incremental", 100, 400, 8)

busted.subscribe({ "test", "end" }, function()
  collectgarbage()
  collectgarbage()
  return nil, true
end)
