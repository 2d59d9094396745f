-- Connections that ended though they should not have, and others that did not though they should.

local core = require "khp.core"
local hand = require "spec.support.hand"
local khp = require "khp"
local net = require "spec.support.net"
local uri = require "khp.uri"

-- Tools that watch over memory take their time.
local SLOWER = os.getenv "KHP_SPEC_TOOL" and 5 or 1

describe("x-kaazing-idle-timeout", function()
  it("asks again where the queue had no room for its ping", function()
    local server, url = net.serve {
      extensions = { khp.extension.idle_timeout { timeout = 0.6 * SLOWER } },
      limits = { queue = 100000, ping = 3600 },
      on_open = function(conn)
        local full = khp.now() + 0.45 * SLOWER
        while khp.now() < full do -- not even a ping finds room
          for _, size in ipairs { 99000, 1000, 0 } do
            while conn:send(("x"):rep(size)) do end
          end
          khp.sleep(0.002)
        end
        while conn:drain(5) and conn.state == "open" do -- so that it has no reason to ping for the client's sake
          conn:send "tick"
          khp.sleep(0.02)
        end
      end,
    }
    -- One that answers pings, and lets the server think that it knows the extension.
    local conn = assert(khp.connect(url, {
      on_message = function() end,
      extensions = { { name = "x-kaazing-idle-timeout", handshake = "extended", start = function()
        return {}
      end } },
    }))
    conn:pause()
    khp.sleep(0.45 * SLOWER)
    conn:resume()
    khp.sleep(1.2 * SLOWER)
    assert.equal("open", conn.state)
    conn:close()
    server:close(1)
  end)
end)

describe("a server that was closed", function()
  it("does not serve who was still in the handshake of TLS", function()
    local folder = os.getenv "KHP_TEST_CERTS" or os.tmpname()
    if not os.getenv "KHP_TEST_CERTS" then
      os.remove(folder)
      assert(os.execute("spec/support/certs.sh " .. folder .. " >/dev/null 2>&1"))
    end
    local served = false
    local server, _, port = net.serve {
      tls = { cert = folder .. "/localhost.pem", key = folder .. "/localhost.key" },
      on_open = function()
        served = true
      end,
    }
    local peer = net.peer(port) -- TCP alone; the server awaits a ClientHello
    server:close(1)
    local settings = assert(core.tls.new { role = "client", verify = "none" })
    assert(core.conn.start_tls(peer.conn, settings, "localhost"))
    peer:await_end()
    assert.is_false(served)
    assert.equal(0, server:stats().opened)
    if not os.getenv "KHP_TEST_CERTS" then
      os.execute("rm -r " .. folder)
    end
  end)
end)

describe("a connection that is kept", function()
  local LONG = 65536

  it("queues so many messages and no more, even where they are empty", function()
    local kept = assert(khp.keep("ws://127.0.0.1:1/", { delay = 100 }))
    for _ = 1, LONG do
      assert(kept:send "")
    end
    assert.same({ nil, "no more messages are kept: there are 65536", "ELIMIT", {} }, { kept:send "" })
    kept:close()
  end)

  it("shows no query in the log", function()
    local level, sink, lines = khp.log.level, khp.log.sink, {}
    khp.log.level = "debug"
    khp.log.sink = function(_, text)
      lines[#lines + 1] = text
    end
    local kept = assert(khp.keep("ws://joe:sesame@127.0.0.1:1/a?token=secret", { attempts = 1, delay = 0.001 }))
    net.await(function()
      return kept:state() == "closed"
    end, "its end")
    khp.log.level, khp.log.sink = level, sink
    local all = table.concat(lines, "\n")
    assert.matches("ws://127.0.0.1:1/a%?…: ", all)
    assert.is_nil(all:find "sesame" or all:find "secret")
    assert.equal("ws://h/a", uri.show(assert(uri.parse "ws://h/a")))
  end)
end)

describe("a directive of a balancer", function()
  it("that leads to what is no URL is a violation, and no line of a log", function()
    for _, location in ipairs { "ws://a/\27[2J", "ws://a/\nb", "ws://a/ b", "ws://a/\194\155" } do
      local stand_in = hand.server(function(peer)
        peer:agree()
        peer:binary("\239\131\191R" .. location)
        peer:closed()
      end)
      local _, message, code = khp.connect(stand_in.url)
      assert.same({ "a directive that leads to what is no URL", "EPROTOCOL" }, { message, code })
      stand_in:close()
    end
  end)
end)

describe("the time that a call is given", function()
  it("begins with the call, though the program itself was busy before", function()
    local server, url = net.serve { on_message = net.echo }
    local done = core.loop.clock() + 0.4
    while core.loop.clock() < done do end -- and the loop's own time stands still
    local conn = assert(khp.connect(url, { timeout = 0.3 }))
    conn:close()
    server:close(1)
  end)
end)
