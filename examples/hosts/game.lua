-- A program with its own loop, like a game: it draws a frame every 16 ms and calls khp.step(0), which never blocks, in
-- each frame. Ten times a second, it sends the player's position to all connected clients.
--
--   lua5.4 examples/hosts/game.lua [PORT [FRAMES]]

local khp = require "khp"

local watchers = {}
local server = assert(khp.listen {
  host = "127.0.0.1",
  port = tonumber(arg[1]) or 8000,
  on_open = function(conn)
    watchers[conn] = true
    for message in conn:each() do
      print("a watcher says " .. message)
    end
    watchers[conn] = nil
  end,
})
print(("ws://%s:%d/"):format(server:address()))
io.stdout:flush()

local frames, x = tonumber(arg[2]) or math.huge, 0
local frame = 0
while frame < frames do
  frame = frame + 1
  khp.step(0)
  x = (x + 1) % 640 -- the game itself
  if frame % 6 == 0 then
    for conn in pairs(watchers) do
      conn:send(("x=%d"):format(x))
    end
  end
  -- Instead of the display, which makes a game wait for its next frame. Meanwhile there is time for network events.
  local next_frame = khp.now() + 0.016
  repeat
    khp.step(math.max(next_frame - khp.now(), 0))
  until khp.now() >= next_frame
end
server:close(1)
