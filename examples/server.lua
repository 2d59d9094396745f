-- An echo server with a policy: lua5.4 examples/server.lua [POLICY [PORT]]
-- It prints its URL. "x-echo-pace" is a custom extension that only delays the echo: on_open does that.

local khp = require "khp"

local policy, port = arg[1], tonumber(arg[2] or "0")

local function pace(conn)
  for _, extension in ipairs(conn.extensions) do
    if extension.name == "x-echo-pace" then
      return tonumber(extension.parameters.ms) / 1000
    end
  end
  return 0
end

local server, message = khp.listen {
  host = "127.0.0.1",
  port = port,
  policy = policy,
  on_open = function(conn)
    local seconds = pace(conn)
    for text, kind in conn:each() do
      khp.sleep(seconds)
      assert(conn:send(text, kind))
    end
  end,
}
if not server then
  io.stderr:write(message, "\n")
  os.exit(1)
end
local host, bound = server:address()
print(("ws://%s:%d/"):format(host, bound))
io.stdout:flush()
khp.run()
