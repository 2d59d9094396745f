-- A helper for busted (make check-gc): the collector never rests, and whatever a test dropped is finalised before the
-- next one begins. What only works because something was not collected yet fails here.

local busted = require "busted"

collectgarbage "incremental"
collectgarbage("setpause", 0)
collectgarbage("setstepmul", 1000)

busted.subscribe({ "test", "end" }, function()
  collectgarbage()
  collectgarbage()
  return nil, true
end)
