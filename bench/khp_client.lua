-- One connection to an echo server with a number of messages in flight.
--   lua khp_client.lua PORT BYTES IN_FLIGHT SECONDS        prints this process's CPU ns per message, and messages
local khp = require "khp"

local port, size, in_flight, seconds = tonumber(arg[1]), tonumber(arg[2]), tonumber(arg[3]), tonumber(arg[4])
local clock = os.clock -- CPU seconds of the process
local warm = khp.now() + seconds / 4
local finish = warm + seconds
local received = 0
local counted_from, cpu_from

local function report(conn)
  local counted = received - counted_from
  print(("%.1f %d"):format((clock() - cpu_from) * 1e9 / counted, counted))
  conn:close()
end

local conn = assert(khp.connect(("ws://127.0.0.1:%d/"):format(port), {
  khp = false,
  on_message = function(conn, message)
    received = received + 1
    if received % 32 == 0 then -- now and then, for the clock has its price, too
      local now = khp.now()
      if not counted_from and now > warm then
        counted_from, cpu_from = received, clock()
      elseif counted_from and now > finish then
        return report(conn)
      end
    end
    conn:send(message, "binary")
  end,
}))

local message = ("x"):rep(size)
for _ = 1, in_flight do conn:send(message, "binary") end
khp.run()
