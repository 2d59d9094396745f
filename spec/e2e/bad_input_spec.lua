-- What peers must not do. Each does it on a connection of its own, beside a well-behaved one that must not notice.

local core = require "khp.core"
local hand = require "spec.support.hand"
local khp = require "khp"
local net = require "spec.support.net"

describe("bad input", function()
  local server, port, witness, lines
  local level, sink

  setup(function()
    level, sink = khp.log.level, khp.log.sink
    khp.log.level = "info"
    khp.log.sink = function(at, text)
      lines[#lines + 1] = at .. ": " .. text
    end
    lines = {}
    local url
    server, url, port = net.serve {
      on_message = net.echo,
      limits = { opening = 0.3, message = 1000, fragments = 10, queue = 100000, close = 0.3 },
    }
    witness = assert(khp.connect(url))
  end)

  teardown(function()
    khp.log.level, khp.log.sink = level, sink
    witness:close()
    server:close()
  end)

  before_each(function()
    lines = {}
  end)

  -- The others go on, nothing is left of the bad one, and there is a line about it.
  after_each(function()
    witness:send("still here")
    assert.equal("still here", (witness:receive(5)))
    net.await(function()
      return server:stats().connections == 1
    end, "the bad connection to go")
  end)

  local function logged(pattern)
    for _, line in ipairs(lines) do
      if line:match(pattern) then
        return true
      end
    end
    error("no log line matches " .. pattern .. ":\n" .. table.concat(lines, "\n"))
  end

  it("garbage instead of HTTP gets 400", function()
    local peer = net.peer(port)
    peer:send("\22\3\1\2\0\1\0\1\252\3\3\r\n\r\n")
    assert.truthy(peer:await_end():match "^HTTP/1.1 400 ")
    logged "^info: 127.0.0.1:%d+: opening handshake failed with 400: "
  end)

  it("an opening that never ends gets 408 in time", function()
    local peer = net.peer(port)
    peer:send("GET / HTTP/1.1\r\nHost: x\r\n")
    local before = khp.now()
    assert.truthy(peer:await_end():match "^HTTP/1.1 408 ")
    assert.is_true(khp.now() - before < 2)
    logged "ETIMEOUT"
  end)

  it("a connection that says nothing is not kept", function()
    local peer = net.peer(port)
    peer:await_end()
    logged "ETIMEOUT"
  end)

  it("a head of 1 MiB gets 431 before it has been sent", function()
    local peer = net.peer(port)
    peer:send("GET / HTTP/1.1\r\nHost: x\r\n" .. ("X-Long: " .. ("y"):rep(1000) .. "\r\n"):rep(1024))
    assert.truthy(peer:await_end():match "^HTTP/1.1 431 ")
    logged "ELIMIT"
  end)

  it("10,000 headers get 431", function()
    local peer = net.peer(port)
    peer:send("GET / HTTP/1.1\r\n" .. ("a:b\r\n"):rep(10000) .. "\r\n")
    assert.truthy(peer:await_end():match "^HTTP/1.1 431 ")
    logged "ELIMIT"
  end)

  it("an endless line gets 414", function()
    local peer = net.peer(port)
    peer:send("GET /" .. ("a"):rep(100000))
    assert.truthy(peer:await_end():match "^HTTP/1.1 414 ")
  end)

  local function closes_with(code, bytes)
    local peer = net.peer(port)
    peer:upgrade()
    peer:send(bytes)
    local received = peer:await_end()
    assert.equal(code, (net.close_frame(received)))
  end

  it("a frame with reserved bits closes with 1002", function()
    closes_with(1002, net.frame(0xC1, "x"))
  end)

  it("an unknown opcode closes with 1002", function()
    closes_with(1002, net.frame(0x83, "x"))
  end)

  it("an unmasked frame closes with 1002", function()
    closes_with(1002, net.frame(0x81, "x", { unmasked = true }))
  end)

  it("a fragmented ping closes with 1002", function()
    closes_with(1002, net.frame(0x09, "x"))
  end)

  it("a continuation of nothing closes with 1002", function()
    closes_with(1002, net.frame(0x80, "x"))
  end)

  it("a length of 2^63 closes with 1002", function()
    closes_with(1002, "\129\255\128\0\0\0\0\0\0\0\0\0\0\0")
  end)

  it("a length of 2^62 closes with 1009, long before it has come", function()
    closes_with(1009, "\130\255\64\0\0\0\0\0\0\0\0\0\0\0")
  end)

  it("a message over the limit closes with 1009", function()
    closes_with(1009, net.frame(0x82, ("x"):rep(1001)))
    closes_with(1009, net.frame(0x02, ("x"):rep(600)) .. net.frame(0x80, ("x"):rep(401)))
  end)

  it("too many fragments close with 1009", function()
    closes_with(1009, net.frame(0x02, "") .. net.frame(0x00, ""):rep(10))
  end)

  it("text that is not UTF-8 closes with 1007, as soon as it is seen", function()
    closes_with(1007, net.frame(0x81, "\192\128"))
    closes_with(1007, net.frame(0x01, "\240\144") .. net.frame(0x00, "x"))
  end)

  it("a close frame that is none closes with 1002, or 1007", function()
    closes_with(1002, net.frame(0x88, "x"))
    closes_with(1002, net.frame(0x88, "\3\237")) -- 1005
    closes_with(1002, net.frame(0x88, "\255\255"))
    closes_with(1007, net.frame(0x88, "\3\232\255"))
  end)

  it("a close frame is answered, with its code", function()
    closes_with(1000, net.frame(0x88, "\3\232bye"))
    closes_with(4999, net.frame(0x88, "\19\135"))
    closes_with(1005, net.frame(0x88, ""))
  end)

  it("a reset ends it", function()
    local peer = net.peer(port)
    peer:upgrade()
    core.conn.abort(peer.conn)
  end)

  it("a peer that goes without a word ends it", function()
    local peer = net.peer(port)
    peer:upgrade()
    core.conn.close(peer.conn)
    peer:await_end()
  end)

  it("a peer that stops reading fills its queue and no more, and is dropped when it does not answer", function()
    local victim
    local pusher, _, its_port = net.serve {
      limits = { queue = 100000, close = 0.2 },
      on_message = function(conn)
        victim = conn
      end,
    }
    local peer = net.peer(its_port)
    peer:upgrade()
    peer:send(net.frame(0x82, "hello"))
    net.await(function()
      return victim
    end)
    core.conn.pause(peer.conn)
    local code, sent
    for i = 1, 10000 do
      local ok
      ok, _, code = victim:send(("x"):rep(10000), "binary")
      if not ok then
        sent = i - 1
        break
      end
      khp.step(0)
    end
    assert.equal("ELIMIT", code)
    assert.is_true(sent > 10)
    assert.is_true(victim:queued() <= 100000)
    victim:close(1001)
    net.await(function()
      return pusher:stats().connections == 0
    end, "the peer that does not read to be dropped")
    peer:close()
    pusher:close()
  end)

  it("a flood of pings whose pongs are not read ends with 1008", function()
    local peer = net.peer(port)
    peer:upgrade()
    core.conn.pause(peer.conn)
    local ping = net.frame(0x89, ("x"):rep(125)):rep(100)
    for _ = 1, 2000 do
      if peer.ended or server:stats().connections == 1 or not peer:send(ping) then
        break
      end
      khp.step(0)
    end
    net.await(function()
      return server:stats().connections == 1
    end, "the flood to end")
    peer:close()
  end)
end)

describe("a server's bad frames during the extended handshake", function()
  for what, case in pairs {
    ["a masked one"] = { net.frame(0x82, "HTTP/1.1 101 x\r\n\r\n"), "EPROTOCOL", 1002 },
    ["text that is not UTF-8"] = { "\x81\x01\xFF", "EPROTOCOL", 1007 },
    ["a message beyond the limit"] = { "\x82\x7F\0\0\0\0\0\1\0\1", "ELIMIT", 1009 },
  } do
    it("are told as what they are: " .. what, function()
      local server = hand.server(function(peer)
        peer:agree()
        peer:extended()
        peer:write(case[1])
      end)
      local conn, _, code, detail = khp.connect(server.url, { limits = { close = 0.2 } })
      assert.same({ nil, case[2], case[3] }, { conn, code, detail.code })
      server:close()
    end)
  end
end)
