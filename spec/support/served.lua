-- khp serve as a process of its own, for specs: what it says, where it listens, and signals to it.

local core = require "khp.core"
local khp = require "khp"
local net = require "spec.support.net"

local served = {}

local lua = os.getenv "LUA" or "lua5.4"

function served.write(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
end

function served.read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "*a"
  file:close()
  return text
end

local process = {}
process.__index = process

local running = {}

--- Starts it with these arguments and waits until it listens; `urls` are the lines that it wrote, the first is `url`.
--- lines: how many of them there are; default 1.
function served.start(arguments, lines)
  local self = setmetatable({ file = os.tmpname(), urls = {} }, process)
  self.pipe = assert(io.popen(("echo $$; exec %s bin/khp serve %s 2>%s"):format(lua, arguments, self.file)))
  self.pid = self.pipe:read "*l"
  for i = 1, lines or 1 do
    self.urls[i] = self.pipe:read "*l" or error("it does not listen: " .. self:log())
  end
  self.url = self.urls[1]
  running[self] = true
  return self
end

--- On a free port.
function served.anywhere(arguments, lines)
  return served.start("--port 0 " .. (arguments or ""), lines)
end

function process:signal(name)
  assert(os.execute(("kill -%s %s"):format(name, self.pid)))
end

--- What it has written to its log.
function process:log()
  return served.read(self.file)
end

--- Waits until the log has this.
function process:await(pattern)
  net.await(function()
    return self:log():find(pattern)
  end, ("%q in: %s"):format(pattern, self:log()))
end

--- Waits for its end; returns the log and the exit status.
function process:finish()
  net.await(function() -- it waits for us, too
    return core.loop.alive() == 0
  end, "our own connections")
  local _, _, status = self.pipe:close()
  running[self] = nil
  local text = self:log()
  os.remove(self.file)
  return text, status
end

--- Ends whatever a failed test left behind.
function served.stop()
  for self in pairs(running) do
    os.execute(("kill -KILL %s 2>/dev/null"):format(self.pid))
    self.pipe:close()
    os.remove(self.file)
  end
  running = {}
end

--- Echoes it what it is sent? false and the status where it does not let us in.
function served.echoes(url, options)
  local conn, message, _, detail = khp.connect(url, options)
  if not conn then
    return false, detail.status or message
  end
  conn:send "echo"
  local answer = conn:receive(5)
  conn:close()
  return answer == "echo", answer
end

return served
