-- khp as a process among others: pipes that nobody reads any more, descriptors that are closed, Ctrl-C.

local command = require "spec.support.command"
local khp = require "khp"
local net = require "spec.support.net"
local served = require "spec.support.served"

local LUA = os.getenv "LUA" or "lua5.4"

-- What a shell prints for this.
local function shell(script)
  local pipe = assert(io.popen(script))
  local output = pipe:read "*a"
  pipe:close()
  return output
end

-- Ends the process whose number is in this file, and waits for that.
local function end_process(path)
  local pid = served.read(path):match "%d+"
  assert(os.execute("kill -TERM " .. pid))
  net.await(function()
    return not os.execute(("kill -0 %s 2>/dev/null"):format(pid))
  end, "its end")
  os.remove(path)
end

describe("khp", function()

  it("ends well where its output is not read to the end, and the server learns it", function()
    local closed
    local server, url = net.serve {
      on_message = net.echo,
      on_close = function(_, code)
        closed = code
      end,
    }
    local path = os.tmpname()
    assert(os.execute(("{ { seq 200000 | %s bin/khp connect %s; echo $? >%s; } | head -1 >/dev/null; } &"):format(LUA,
      url, path)))
    net.await(function()
      return closed and served.read(path) ~= ""
    end, "the end")
    assert.same({ 1000, "0\n" }, { closed, served.read(path) })
    os.remove(path)
    server:close()
  end)

  it("serves on where nobody reads its log", function()
    local path = os.tmpname()
    assert(os.execute(("{ %s bin/khp serve --port 0 2>&1 & echo $! >%s.pid; wait; } | head -1 >%s &"):format(LUA, path,
      path)))
    local url = net.await(function()
      return served.read(path):match "^ws:[^\n]*"
    end, "the server")
    for _ = 1, 3 do
      assert.is_true((served.echoes(url)))
    end
    end_process(path .. ".pid")
    os.remove(path)
  end)

  it("shows what is read of captured bytes and no more", function()
    local path = command.file(("\129\5hello"):rep(20000))
    assert.equal("0\n", shell(("{ { %s bin/khp decode %s; echo $? >&3; } | head -1 >/dev/null; } 3>&1"):format(LUA,
      path)))
    os.remove(path)
  end)

  it("runs without standard input, output and error", function()
    local listener = net.serve {}
    local _, port = listener:address()
    listener:close()
    local path = os.tmpname()
    assert(os.execute(("{ %s bin/khp serve --port %d & echo $! >%s.pid; wait $!; echo $? >%s; } <&- >&- 2>&- &"):format(
      LUA, port, path, path)))
    local url = ("ws://127.0.0.1:%d/"):format(port)
    net.await(function()
      local conn = khp.connect(url)
      return conn and (conn:close() or true)
    end, "the server")
    assert.is_true((served.echoes(url)))
    local output, errors, status = command.khp("connect " .. url .. " <&-")
    assert.same({ "", "", 0 }, { output, errors, status })
    assert.equal(0, select(3, command.khp("connect --send x " .. url .. " <&- >&-")))
    end_process(path .. ".pid")
    net.await(function()
      return served.read(path) ~= ""
    end, "its end")
    assert.equal("0\n", served.read(path))
    os.remove(path)
  end)

  it("ends quietly on Ctrl-C, where a command does not listen to it", function()
    local fifo = os.tmpname()
    os.remove(fifo)
    assert(os.execute("mkfifo " .. fifo))
    for _, arguments in ipairs { "decode " .. fifo, "check " .. fifo } do
      local process = command.begin(arguments)
      local writer = assert(io.open(fifo, "w")) -- waits until it is open for reading
      process:signal "INT"
      local output, errors, status = process:finish()
      writer:close()
      assert.same({ "", "", 130 }, { output, errors, status }, arguments)
    end
    os.remove(fifo)
  end)
end)
