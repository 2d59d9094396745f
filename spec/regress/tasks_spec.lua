-- Coroutines that somebody else closes or resumes, and calls that may not wait.

local core = require "khp.core"
local khp = require "khp"
local net = require "spec.support.net"

describe("a task", function()
  local server, url

  before_each(function()
    server, url = net.serve { on_message = net.echo }
  end)

  after_each(function()
    server:close()
  end)

  it("that is closed from outside loses no message", function()
    local conn = assert(khp.connect(url))
    local co = khp.spawn(function()
      conn:receive()
    end)
    coroutine.close(co)
    conn:send "one"
    conn:send "two"
    assert.equal("one", (conn:receive(5)))
    assert.equal("two", (conn:receive(5)))
    conn:close()
  end)

  it("that is resumed from outside goes on waiting", function()
    local conn = assert(khp.connect(url))
    local got
    local co = khp.spawn(function()
      got = conn:receive()
    end)
    coroutine.resume(co, "forged", "text")
    assert.is_nil(got)
    conn:send "real"
    net.await(function()
      return got
    end)
    assert.equal("real", got)
    conn:close()
  end)

  it("is needed to ping: a ping that may not wait is not sent, and leaves nothing", function()
    local refused
    local other, its_url = net.serve {
      on_message = function(conn, message)
        local ok, why = pcall(conn.ping, conn)
        refused = { ok, why, core.conn.state(conn).pings }
        conn:send(message)
      end,
    }
    local conn = assert(khp.connect(its_url))
    conn:send "x"
    conn:receive(5)
    assert.is_false(refused[1])
    assert.truthy(refused[2]:match "this call waits")
    assert.is_nil(refused[3])
    conn:close()
    other:close()
  end)
end)

describe("an interrupt", function()
  it("reaches who turns the loop, and no connection's callback", function()
    local program = os.tmpname()
    local file = assert(io.open(program, "w"))
    file:write [[
      local khp = require "khp"
      local server = khp.listen { host = "127.0.0.1", port = 0, on_message = function(c, m) c:send(m) end }
      print((select(2, server:address())))
      io.stdout:flush()
      local ok, message = pcall(khp.run)
      print(ok, message, server:stats().connections)
    ]]
    file:close()
    local pipe = io.popen(("echo $$; exec %s %s 2>&1"):format(os.getenv "LUA" or "lua5.4", program))
    local pid, port = pipe:read "*l", pipe:read "*l"
    local conn = assert(khp.connect(("ws://127.0.0.1:%d/"):format(port)))
    os.execute("kill -INT " .. pid)
    conn:send "in the middle of it"
    local message = conn:receive(5)
    local rest = pipe:read "*a"
    pipe:close()
    os.remove(program)
    assert.truthy(rest:match "^false\t[^\n]*interrupted!\t1\n$", rest)
    assert.truthy(message == "in the middle of it" or conn.closed.by ~= "local")
  end)
end)
