-- Talks to server.lua with a custom extension: lua5.4 examples/extensions/client.lua [URL]

local khp = require "khp"
local folder = arg[0]:match "^(.*/)" or ""
local run_length = dofile(folder .. "run_length.lua")

local conn, message = khp.connect(arg[1] or "ws://127.0.0.1:8000/", { extensions = { run_length } })
if not conn then
  io.stderr:write(message, "\n")
  os.exit(1)
end
for _, one in ipairs(conn.extensions) do
  print(khp.http.format_extensions { one })
end
assert(conn:send(("-"):rep(1000) .. "hello" .. ("-"):rep(1000)))
local echo = assert(conn:receive(5))
print(#echo, (echo:gsub("%-+", " ")))
conn:close()
