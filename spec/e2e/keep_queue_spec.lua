-- Messages of connections that come back: what is kept while there is none, and what is received across several.

local core = require "khp.core"
local khp = require "khp"
local net = require "spec.support.net"

local loop = core.loop

-- A port of this machine on which nobody listens.
local function free_port()
  local probe, url, port = net.serve {}
  probe:close()
  return port, url
end

describe("khp.keep", function()
  local level, kept, server

  before_each(function()
    level, khp.log.level = khp.log.level, "off"
  end)

  after_each(function()
    if kept then
      kept:close()
    end
    if server then
      server:close(1)
    end
    kept, server = nil, nil
    khp.log.level = level
    net.await(function()
      return loop.alive() == 0
    end, "a loop with nothing to do")
  end)

  describe("without a connection", function()
    it("keeps as many bytes as it may, and says so when there are more", function()
      local port, url = free_port()
      kept = assert(khp.keep(url, { delay = 0.01, longest = 0.01, queue = 10 }))
      assert.is_true(kept:send "12345")
      assert.is_true(kept:send("1234", "binary"))
      local sent, message, code = kept:send "12"
      assert.same({ nil, "no more messages are kept: they have 9 bytes", "ELIMIT" }, { sent, message, code })
      assert.is_true(kept:send "1")
      assert.same({ nil, 'a text message must be UTF-8; send it as "binary"', "EPROTOCOL", {} }, { kept:send "\255" })
      server = net.serve { port = port, on_message = net.echo }
      assert.same({ "12345", "text" }, { kept:receive(5) })
      assert.same({ "1234", "binary" }, { kept:receive(5) })
      assert.same({ "1", "text" }, { kept:receive(5) })
      assert.is_true(kept:send "much more than ten bytes")
      assert.equal("much more than ten bytes", (kept:receive(5)))
    end)

    it("keeps nothing where that is wanted", function()
      local _, url = free_port()
      kept = assert(khp.keep(url, { queue = 0 }))
      assert.same({ nil, "there is no connection", "ECLOSED", {} }, { kept:send "x" })
    end)

    it("refuses what no connection will take", function()
      local _, url = free_port()
      kept = assert(khp.keep(url, { limits = { queue = 100 } }))
      assert.same({ nil, "the message is larger than the send queue may be", "ELIMIT", {} },
        { kept:send(("x"):rep(87)) })
      assert.is_true(kept:send(("x"):rep(86)))
    end)

    it("sends more than the connection's queue holds, in order", function()
      local port, url = free_port()
      kept = assert(khp.keep(url, { delay = 0.01, longest = 0.01, limits = { queue = 4096 } }))
      for i = 1, 500 do
        assert.is_true(kept:send(("%04d"):format(i) .. ("x"):rep(1000)))
      end
      local got, late = {}, false
      server = net.serve {
        port = port,
        on_message = function(_, message)
          got[#got + 1] = tonumber(message:sub(1, 4))
          if not late then
            late = kept:send "0501"
          end
        end,
      }
      net.await(function()
        return #got == 501
      end, "all messages")
      for i = 1, 501 do
        assert.equal(i, got[i])
      end
    end)
  end)

  it("gives out what had come before the connection ended, then what the next one brings", function()
    local port, url = free_port()
    local function start(name)
      server = net.serve {
        port = port,
        on_open = function(conn)
          conn:send(name .. " 1")
          conn:send(name .. " 2")
          conn:receive()
        end,
      }
    end
    start "a"
    local ups = 0
    kept = assert(khp.keep(url, {
      delay = 0.01,
      longest = 0.01,
      on_up = function()
        ups = ups + 1
      end,
    }))
    assert.equal("a 1", (kept:receive(5)))
    server:close()
    start "b"
    net.await(function()
      return ups == 2
    end)
    local got = {}
    for message, kind in kept:each() do
      assert.equal("text", kind)
      got[#got + 1] = message
      if message == "b 2" then
        kept:close()
      end
    end
    assert.same({ "a 2", "b 1", "b 2" }, got)
  end)
end)
