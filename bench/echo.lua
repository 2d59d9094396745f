-- The echo server that the benchmarks measure: what a user would write. Prints its port.
--   lua echo.lua [POLICY]
local khp = require "khp"

local server = assert(khp.listen {
  host = "127.0.0.1",
  port = 0,
  policy = arg[1],
  on_message = function(conn, message, kind) conn:send(message, kind) end,
})

local _, port = server:address()
io.stdout:write(("%d\n"):format(port))
io.stdout:flush()
khp.run()
