-- An echo server with a custom extension: lua5.4 examples/extensions/server.lua [PORT]

local khp = require "khp"
local folder = arg[0]:match "^(.*/)" or ""
local run_length = dofile(folder .. "run_length.lua")

local server = assert(khp.listen {
  host = "127.0.0.1",
  port = tonumber(arg[1]) or 8000,
  extensions = { run_length, "permessage-deflate" }, -- what is asked for first is agreed first
  on_message = function(conn, message, kind)
    conn:send(message, kind)
  end,
})
print(("ws://%s:%d/"):format(server:address()))
io.stdout:flush()
khp.run()
