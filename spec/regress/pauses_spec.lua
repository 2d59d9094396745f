-- What came behind a pause, where extensions may make much of a few bytes: it was dropped when it had been read before
-- the pause, or when the connection ended first.

local core = require "khp.core"
local khp = require "khp"
local net = require "spec.support.net"

describe("behind a pause", function()
  local server

  after_each(function()
    server:close(1)
  end)

  it("nothing is lost where another connection's message has made it", function()
    local conns, heard = {}, 0
    local url
    server, url = net.serve {
      extensions = { "permessage-deflate" },
      on_message = function(conn, message)
        if message == "I am A" or message == "I am C" then
          conns[message:sub(-1)] = conn
        elseif message == "pause" then
          local paused = conns.A
          if paused then
            paused:pause()
            khp.spawn(function()
              khp.sleep(0.01)
              paused:resume()
            end)
          end
        else
          heard = heard + 1
        end
      end,
    }
    for _, order in ipairs { { "C", "A" }, { "A", "C" } } do
      heard = 0
      local ours = {}
      for _, name in ipairs(order) do
        ours[name] = assert(khp.connect(url, { extensions = { "permessage-deflate" } }))
        ours[name]:send("I am " .. name)
      end
      net.await(function()
        return conns.A and conns.C
      end, "both")
      for i = 1, 20 do
        ours.C:send "pause"
        ours.A:send "a message"
        net.await(function()
          return heard == i
        end, "message " .. i)
      end
      ours.A:close()
      ours.C:close()
      conns = {}
    end
  end)

  it("nothing is lost where the peer ends the connection", function()
    local received, ended, url = 0, nil
    server, url = net.serve {
      extensions = { "permessage-deflate" },
      on_open = function(conn)
        for _ in conn:each() do
          received = received + 1
          if received % 100 == 0 then
            khp.sleep(0.001)
          end
        end
        ended = conn.closed
      end,
    }
    local conn = assert(khp.connect(url, { extensions = { "permessage-deflate" } }))
    for i = 1, 3000 do
      assert(conn:send("message " .. i))
    end
    conn:close(1000)
    net.await(function()
      return ended
    end, "the end")
    assert.same({ 3000, 1000, "peer", true }, { received, ended.code, ended.by, ended.clean })
  end)

  it("there is a bound to what a connection brings at its end", function()
    local url, theirs
    server, url = net.serve {
      extensions = { "permessage-deflate" },
      on_open = function(conn)
        theirs = conn
        khp.sleep(60)
      end,
    }
    local conn = assert(khp.connect(url, { extensions = { "permessage-deflate" } }))
    for _ = 1, 60 do -- about 1000 bytes each on the wire
      assert(conn:send(("\0"):rep(1000000), "binary"))
    end
    net.await(function()
      return conn:queued() == 0 and theirs
    end, "the messages to go")
    core.conn.abort(conn)
    net.await(function()
      return server:stats().messages_in > 0
    end, "some")
    local count = 0
    while theirs:receive(0.5) do
      count = count + 1
    end
    assert.is_true(count >= 2, tostring(count))
    assert.is_true(server:stats().messages_in <= 60)
  end)

  it("no extension makes more of what has come, with a reserved bit or without", function()
    local url, theirs
    server, url = net.serve {
      extensions = { { name = "x-a", handshake = "extended", start = function()
        return { receive = function(_, message, kind)
          return message:rep(1000000), kind
        end }
      end } },
      on_open = function(conn)
        theirs = conn
        khp.sleep(60)
      end,
    }
    local conn = assert(khp.connect(url, { extensions = { "x-a" } }))
    for _ = 1, 100 do
      conn:send "x"
    end
    net.await(function()
      return theirs and conn:queued() == 0 and server:stats().messages_in > 0
    end, "the first")
    khp.sleep(0.05)
    assert.is_true(server:stats().messages_in <= 3, tostring(server:stats().messages_in))
    for _ = 1, 100 do
      assert.equal(1000000, #theirs:receive(5))
    end
    conn:close()
  end)

  it("not even one message comes that arrived together with the opening", function()
    local paused, heard, url = nil, 0
    server, url = net.serve {
      extensions = { "permessage-deflate" },
      on_message = function()
        heard = heard + 1
      end,
      on_open = function(conn)
        paused = conn
        conn:pause()
        khp.sleep(60)
      end,
    }
    local peer = net.peer(tonumber(url:match ":(%d+)"))
    peer:send("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
      .. "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
      .. "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n" .. net.frame(0x81, "one") .. net.frame(0x81, "two"))
    peer:await "\r\n\r\n"
    khp.sleep(0.02)
    assert.equal(0, heard)
    paused:resume()
    net.await(function()
      return heard == 2
    end, "both")
    peer:close()
  end)
end)

describe("an extension whose start ended the connection", function()
  it("hears that it is closed", function()
    local heard
    local server, url = net.serve { on_message = net.echo, extensions = { "x-a" } }
    assert.is_nil((khp.connect(url, { extensions = { { name = "x-a", start = function(link)
      link:close(1008, "no")
      return { closed = function(_, code)
        heard = code
      end }
    end } } })))
    net.await(function()
      return heard
    end, "closed()")
    assert.equal(1008, heard)
    server:close(1)
  end)
end)
