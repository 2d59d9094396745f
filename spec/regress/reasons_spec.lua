-- What is known of an end is told: by the network, by TLS, in the log.

local khp = require "khp"
local net = require "spec.support.net"

describe("the reason", function()
  it("of a refused client certificate is TLS's own, though it comes after the handshake", function()
    local folder = os.getenv "KHP_TEST_CERTS" or os.tmpname()
    if not os.getenv "KHP_TEST_CERTS" then
      os.remove(folder)
      assert(os.execute("spec/support/certs.sh " .. folder .. " >/dev/null 2>&1"))
    end
    local server, url = net.serve {
      tls = { cert = folder .. "/localhost.pem", key = folder .. "/localhost.key", ca = folder .. "/ca.pem",
        verify = "required" },
      on_message = net.echo,
    }
    local conn, message, code = khp.connect(url, { tls = { ca = folder .. "/ca.pem" } })
    assert.is_nil(conn)
    assert.equal("ETLS", code)
    assert.truthy(message:match "certificate required", message)
    server:close()
    if not os.getenv "KHP_TEST_CERTS" then
      os.execute("rm -r " .. folder)
    end
  end)

  it("of an open connection's bad end stands in the log", function()
    local level, sink, lines = khp.log.level, khp.log.sink, {}
    khp.log.level = "info"
    khp.log.sink = function(at, text)
      lines[#lines + 1] = at .. ": " .. text
    end
    local server, _, port = net.serve { on_message = net.echo }
    local peer = net.peer(port)
    peer:upgrade()
    peer:send(net.frame(0xC1, "x"))
    peer:await_end()
    khp.log.level, khp.log.sink = level, sink
    assert.truthy(table.concat(lines, "\n"):match "info: 127%.0%.0%.1:%d+: ended with 1002 by local: [^\n]*reserved",
      table.concat(lines, "\n"))
    server:close()
  end)

  it("is known to a client that asks what it sent", function()
    local server, url = net.serve { on_message = net.echo }
    local conn = assert(khp.connect(url .. "path?a=b", { headers = { ["X-Mine"] = "1" } }))
    assert.equal("/path?a=b", conn.request.target)
    assert.equal("1", conn.request.headers["x-mine"])
    conn:close()
    server:close()
  end)
end)

describe("a peer that talks and never reads", function()
  it("is given up in time", function()
    local ended
    local server, _, port = net.serve {
      limits = { ping = 0.2, pong = 0.2, close = 0.2, queue = 200000 },
      on_open = function(conn)
        while conn:send(("x"):rep(100000), "binary") or conn:drain() do -- luacheck: ignore
        end
      end,
      on_close = function(conn)
        ended = conn.closed
      end,
    }
    local peer = net.peer(port)
    peer:upgrade()
    require("khp.core").conn.pause(peer.conn)
    local deadline = khp.now() + net.PATIENCE
    while not ended and khp.now() < deadline do
      peer:send(net.frame(0x82, "still here"))
      khp.step(0.05)
    end
    assert.equal("timeout", ended and ended.by)
    assert.equal("the peer does not read", ended.reason)
    peer:close()
    server:close()
  end)
end)
