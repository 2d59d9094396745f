-- x-kaazing-idle-timeout and x-kaazing-ping-pong over real sockets: server and client, alone and together.

local core = require "khp.core"
local extension = require "khp.extension"
local hand = require "spec.support.hand"
local khp = require "khp"
local net = require "spec.support.net"

local CONTROL, PING, PONG = "\1\1\1\2", "\1\1\1\2\9\0", "\1\1\1\2\10\0"
local REQUEST = "GET / HTTP/1.1\r\nSec-WebSocket-Extensions: "

describe("Kaazing's extensions", function()
  local server, url, received

  local function serve(extensions, options)
    options = options or {}
    received = {}
    options.extensions = extensions
    options.on_message = options.on_message or function(conn, message, kind)
      received[#received + 1] = message
      conn:send(message, kind)
    end
    server, url = net.serve(options)
  end

  local function stop()
    hand.drop()
    if server then
      server:close(1)
      server = nil
    end
  end

  after_each(function()
    stop()
  end)

  -- A client by hand that has asked for these in the extended handshake, and what it got.
  local function client(offer)
    local peer = hand.khp_client(select(2, server:address()), "/")
    peer:binary(REQUEST .. offer .. "\r\n\r\n")
    return peer, peer:extended().headers["sec-websocket-extensions"]
  end

  -- A server by hand that agrees to these in the extended handshake, and then does as the script says.
  local function other(extensions, script)
    return hand.server(function(peer)
      peer:agree()
      peer:extended()
      peer:binary("HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Extensions: " .. extensions .. "\r\n\r\n")
      script(peer)
    end)
  end

  it("are agreed without an option with a client of Kaazing's, and with nobody else", function()
    server, url = net.serve { on_message = net.echo }
    local path = "/echo?.kl=Y"
    local peer = hand.khp_client(select(2, server:address()), path)
    assert.equal("\u{F0FF}N", peer:frame().payload)
    peer:text("GET /echo HTTP/1.1\r\nSec-WebSocket-Extensions: x-kaazing-idle-timeout,x-kaazing-ping-pong,x-a\r\n\r\n")
    assert.equal("x-kaazing-idle-timeout; timeout=30000, x-kaazing-ping-pong; 01010102",
      peer:extended().headers["sec-websocket-extensions"])
    assert.equal("", peer:frame().payload)
    assert.equal("\u{F0FF}N", peer:frame().payload)
    peer:text(PING)
    assert.equal(PONG, peer:frame().payload)
    local _, agreed = client "x-kaazing-idle-timeout, x-kaazing-ping-pong"
    assert.is_nil(agreed)
  end)

  describe("x-kaazing-ping-pong", function()
    it("is agreed with the control bytes 01010102", function()
      serve { "x-kaazing-ping-pong" }
      local _, agreed = client "x-kaazing-ping-pong"
      assert.equal("x-kaazing-ping-pong; 01010102", agreed)
      stop()
      serve { "x-kaazing-ping-pong; 02020203" }
      _, agreed = client "x-kaazing-ping-pong"
      assert.equal("x-kaazing-ping-pong; 02020203", agreed)
    end)

    it("answers an extended ping with an extended pong; a native one with a native one", function()
      serve { "x-kaazing-ping-pong" }
      local peer = client "x-kaazing-ping-pong"
      peer:text(PING)
      local frame = peer:frame()
      assert.same({ 1, PONG }, { frame.opcode, frame.payload })
      peer:write(net.frame(0x89, "p"))
      frame = peer:frame()
      assert.same({ 10, "p" }, { frame.opcode, frame.payload })
      peer:text(PONG)
      peer:text "hello"
      assert.equal("hello", peer:frame().payload)
      assert.same({ "hello" }, received)
    end)

    it("escapes texts that begin with the control bytes, in both directions, and leaves binary alone", function()
      serve { "x-kaazing-ping-pong" }
      local peer = client "x-kaazing-ping-pong"
      peer:text(CONTROL)
      peer:text(PING)
      assert.equal(CONTROL, peer:frame().payload)
      assert.equal(PING, peer:frame().payload)
      peer:binary(PING)
      local frame = peer:frame()
      assert.same({ 2, PING }, { frame.opcode, frame.payload })
      assert.same({ PING, PING }, received)
    end)

    it("takes anything else behind the control bytes for a violation", function()
      for _, script in ipairs {
        { CONTROL .. "x" }, { CONTROL .. "\9" }, { CONTROL .. "\9\0\0" }, { CONTROL, "no escape was needed" },
      } do
        serve { "x-kaazing-ping-pong" }
        local peer = client "x-kaazing-ping-pong"
        for _, text in ipairs(script) do
          peer:text(text)
        end
        assert.equal(1002, (peer:closed()))
        assert.same({}, received)
        stop()
      end
    end)

    it("works between khp and khp", function()
      serve { "x-kaazing-ping-pong" }
      local conn = assert(khp.connect(url, { extensions = { "x-kaazing-ping-pong" } }))
      for _, text in ipairs { "hello", CONTROL, CONTROL .. "more", PING, "" } do
        assert(conn:send(text))
        assert.equal(text, (conn:receive(5)))
      end
      assert.is_number(conn:ping(5))
      conn:close()
    end)

    it("of a client answers pings, and wants control bytes that can be a text", function()
      local got
      local stand_in = other("x-kaazing-ping-pong; 01010102", function(peer)
        peer:text(PING)
        got = peer:frame().payload
      end)
      local conn = assert(khp.connect(stand_in.url, { extensions = { "x-kaazing-ping-pong" } }))
      net.await(function() return got end, "a pong")
      assert.equal(PONG, got)
      conn:close()
      stand_in:close()
      for _, bad in ipairs { "x-kaazing-ping-pong", "x-kaazing-ping-pong; 010101", "x-kaazing-ping-pong; ff010102" } do
        stand_in = other(bad, function() end)
        local none, _, code = khp.connect(stand_in.url, { extensions = { "x-kaazing-ping-pong" } })
        assert.is_nil(none)
        assert.equal("EEXTENSION", code)
        stand_in:close()
      end
    end)
  end)

  describe("x-kaazing-idle-timeout", function()
    it("announces its timeout in milliseconds", function()
      serve { "x-kaazing-idle-timeout; timeout=12000" }
      local _, agreed = client "x-kaazing-idle-timeout"
      assert.equal("x-kaazing-idle-timeout; timeout=12000", agreed)
    end)

    it("of a server sends a native ping in time", function()
      serve { extension.idle_timeout { timeout = 0.4 } }
      local peer = client "x-kaazing-idle-timeout"
      local begin = core.loop.clock()
      for _ = 1, 3 do
        local frame = peer:frame()
        assert.equal(9, frame.opcode)
        peer:write(net.frame(0x8A, frame.payload))
      end
      assert.is_true(core.loop.clock() - begin <= 3 * 0.4)
    end)

    it("with ping-pong sends an extended pong in time, whichever is named first", function()
      for _, offer in ipairs {
        "x-kaazing-idle-timeout, x-kaazing-ping-pong", "x-kaazing-ping-pong, x-kaazing-idle-timeout",
      } do
        serve { extension.idle_timeout { timeout = 0.4 }, "x-kaazing-ping-pong" }
        local peer = client(offer)
        local texts = 0
        while texts < 2 do
          local frame = peer:frame()
          if frame.opcode == 9 then
            peer:write(net.frame(0x8A, frame.payload))
          else
            assert.same({ 1, PONG }, { frame.opcode, frame.payload })
            texts = texts + 1
          end
        end
        stop()
      end
    end)

    it("of a server gives up a client that shows no sign of life", function()
      serve { extension.idle_timeout { timeout = 0.2 } }
      local peer = client "x-kaazing-idle-timeout"
      local frame
      repeat
        frame = peer:frame()
      until frame.opcode == 8
      assert.equal(1001, frame.code)
    end)

    it("of a client closes when nothing came for so long", function()
      local stand_in = other("x-kaazing-idle-timeout; timeout=200", function(peer)
        peer:text "one"
      end)
      local conn = assert(khp.connect(stand_in.url, { extensions = { "x-kaazing-idle-timeout" } }))
      assert.equal("one", (conn:receive(5)))
      local _, _, code, closed = conn:receive(5)
      assert.same({ "ECLOSED", 1001, "local" }, { code, closed.code, closed.by })
      stand_in:close()
    end)

    it("of a client is content with a native ping or pong, and does not count while reading rests", function()
      serve { extension.idle_timeout { timeout = 0.3 } }
      local conn = assert(khp.connect(url, { extensions = { "x-kaazing-idle-timeout" } }))
      local _, _, code = conn:receive(0.9)
      assert.equal("ETIMEOUT", code)
      conn:close()
      stop()
      local stand_in = other("x-kaazing-idle-timeout; timeout=100", function() end)
      conn = assert(khp.connect(stand_in.url, { extensions = { "x-kaazing-idle-timeout" } }))
      conn:pause()
      khp.sleep(0.3)
      assert.equal("open", conn.state)
      conn:resume()
      _, _, code = conn:receive(5)
      assert.equal("ECLOSED", code)
      stand_in:close()
    end)

    it("of a client is not over because the program itself was busy", function()
      local stand_in = other("x-kaazing-idle-timeout; timeout=200", function(peer)
        peer:text "one"
      end)
      local conn = assert(khp.connect(stand_in.url, { extensions = { "x-kaazing-idle-timeout" } }))
      assert.equal("one", (conn:receive(5)))
      stand_in.peers[1]:text "two"
      local done = core.loop.clock() + 0.3
      while core.loop.clock() < done do end -- as a game does that loads a level
      assert.equal("two", (conn:receive(5)))
      conn:close()
      stand_in:close()
    end)

    it("of a client refuses an answer without a timeout", function()
      for _, bad in ipairs { "x-kaazing-idle-timeout", "x-kaazing-idle-timeout; timeout=soon" } do
        local stand_in = other(bad, function() end)
        local conn, _, code = khp.connect(stand_in.url, { extensions = { "x-kaazing-idle-timeout" } })
        assert.is_nil(conn)
        assert.equal("EEXTENSION", code)
        stand_in:close()
      end
    end)

    it("works with ping-pong between khp and khp, for longer than the timeout", function()
      serve { extension.idle_timeout { timeout = 0.3 }, "x-kaazing-ping-pong" }
      local conn = assert(khp.connect(url, {
        extensions = { "x-kaazing-idle-timeout", "x-kaazing-ping-pong" },
      }))
      local message, _, code = conn:receive(1)
      assert.same({ nil, "ETIMEOUT" }, { message, code })
      assert(conn:send "still there")
      assert.equal("still there", (conn:receive(5)))
      conn:close()
    end)
  end)
end)
