-- A server and a client of ours, talking over loopback.

local khp = require "khp"
local net = require "spec.support.net"

describe("a server and a client", function()
  local server, url

  after_each(function()
    server:close(1)
    assert.equal(0, server:stats().connections)
  end)

  local function serve(options)
    server, url = net.serve(options)
  end

  it("echo text and binary messages through coroutines [O2 O4 E1 E17]", function()
    serve {
      on_open = function(conn)
        assert.is_true(conn.khp)
        for message, kind in conn:each() do
          conn:send(message, kind)
        end
      end,
    }
    local conn = assert(khp.connect(url .. "echo"))
    assert.is_true(conn.khp)
    assert.equal("open", conn.state)
    for _, size in ipairs { 0, 1, 125, 126, 127, 65535, 65536, 1000000 } do
      local message = ("x"):rep(size)
      assert.is_true(conn:send(message))
      local received, kind = conn:receive(5)
      assert.is_true(received == message)
      assert.equal("text", kind)
      assert.is_true(conn:send("\255" .. message, "binary"))
      received, kind = conn:receive(5)
      assert.is_true(received == "\255" .. message)
      assert.equal("binary", kind)
    end
    conn:close(4000, "that's all")
    assert.same({ code = 4000, reason = "that's all", clean = true, by = "local" }, conn.closed)
    assert.same({ nil, "closed", "ECLOSED", conn.closed }, { conn:send("x") })
    assert.same({ nil, "closed", "ECLOSED", conn.closed }, { conn:receive() })
  end)

  it("echo through callbacks, without KHP on either side [O3 O5]", function()
    local closed
    serve {
      on_message = net.echo,
      on_close = function(_, code, reason)
        closed = { code, reason }
      end,
    }
    local conn = assert(khp.connect(url, { khp = false }))
    assert.is_false(conn.khp)
    assert.is_nil(conn.protocol)
    for i = 1, 1000 do
      assert(conn:send("message " .. i))
    end
    for i = 1, 1000 do
      assert.equal("message " .. i, (conn:receive(5)))
    end
    conn:close(1001, "tschüß")
    net.await(function()
      return closed
    end)
    assert.same({ 1001, "tschüß" }, closed)
  end)

  it("choose among subprotocols [O1 E4 E20]", function()
    serve { protocols = { "b", "c" }, on_message = net.echo }
    local conn = assert(khp.connect(url, { protocols = { "a", "b", "c" } }))
    assert.equal("b", conn.protocol)
    conn:close()
    conn = assert(khp.connect(url, { protocols = { "c", "b" }, khp = false }))
    assert.equal("c", conn.protocol)
    conn:close()
    conn = assert(khp.connect(url, { protocols = { "z" } }))
    assert.is_nil(conn.protocol)
    conn:close()
  end)

  it("know each other", function()
    local server_side
    serve {
      on_message = net.echo,
      on_open = function(conn)
        server_side = conn
        conn.data.colour = "red"
      end,
    }
    local conn = assert(khp.connect(url .. "path?query", { headers = { ["X-Extra"] = "yes" } }))
    net.await(function()
      return server_side
    end)
    assert.equal(url .. "path?query", conn.url)
    assert.equal("127.0.0.1", conn.peer.host)
    assert.equal("127.0.0.1", server_side.peer.host)
    assert.equal("/path?query", server_side.request.target)
    assert.equal("/path", server_side.request.path)
    assert.equal("yes", server_side.request.headers["x-extra"])
    assert.equal("red", server_side.data.colour)
    assert.equal(101, conn.response.status)
    assert.same({ server_side }, server:connections())
    conn.mine = 1
    assert.equal(1, conn.mine)
    assert.truthy(tostring(conn):match "^khp.conn: open")
    conn:close()
    assert.equal("closed", conn.state)
  end)

  it("wait with a timeout, and go on after it", function()
    serve { on_message = net.echo }
    local conn = assert(khp.connect(url))
    local message, text, code = conn:receive(0.01)
    assert.is_nil(message)
    assert.truthy(text:match "timeout")
    assert.equal("ETIMEOUT", code)
    conn:send("still there?")
    assert.equal("still there?", (conn:receive(5)))
    conn:close()
  end)

  it("measure a round trip", function()
    serve { on_message = net.echo }
    local conn = assert(khp.connect(url))
    local seconds = assert(conn:ping(5))
    assert.is_true(seconds > 0 and seconds < 5)
    conn:close()
  end)

  it("run as tasks beside one another", function()
    serve {
      on_open = function(conn)
        for message, kind in conn:each() do
          khp.sleep(0.01)
          conn:send(message, kind)
        end
      end,
    }
    local finished = 0
    for i = 1, 20 do
      khp.spawn(function()
        local conn = assert(khp.connect(url))
        for j = 1, 5 do
          conn:send(i .. "." .. j)
          assert(conn:receive(5) == i .. "." .. j)
        end
        conn:close()
        finished = finished + 1
      end)
    end
    net.await(function()
      return finished == 20
    end)
  end)

  it("speak IPv6", function()
    serve { host = "::1", on_message = net.echo }
    local conn = assert(khp.connect(url))
    conn:send("sechs")
    assert.equal("sechs", (conn:receive(5)))
    conn:close()
  end)

  it("speak over a unix socket", function()
    local path = os.tmpname()
    os.remove(path)
    server = assert(khp.listen { path = path, on_message = net.echo })
    assert.equal(path, (server:address()))
    local conn = assert(khp.connect("ws+unix://" .. path .. ":/echo"))
    conn:send("near")
    assert.equal("near", (conn:receive(5)))
    conn:close()
  end)
end)

describe("waiting", function()
  it("is refused in callbacks and in other people's coroutines, with a sentence that says so", function()
    local server, url = net.serve {
      on_message = function(conn)
        local ok, message = pcall(conn.receive, conn, 1)
        conn:send(tostring(ok) .. " " .. message)
      end,
    }
    local conn = assert(khp.connect(url))
    conn:send("x")
    assert.truthy(conn:receive(5):match "^false .*on_message")
    local co = coroutine.create(function()
      conn:receive(1)
    end)
    local ok, message = coroutine.resume(co)
    assert.is_false(ok)
    assert.truthy(message:match "echo_spec.lua:%d+: this call waits, and this coroutine is not khp's")
    conn:close()
    server:close()
  end)
end)
