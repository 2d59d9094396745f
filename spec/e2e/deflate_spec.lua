-- permessage-deflate over real sockets: khp with khp, and against peers played by hand that send compressed frames of
-- any kind, bombs among them.

local codec = require("khp.core").deflate
local decision = require "khp.policy.decision"
local deflate = require("khp.extension").permessage_deflate
local hand = require "spec.support.hand"
local http = require "khp.http"
local khp = require "khp"
local net = require "spec.support.net"

local HELLO = "\xf2\x48\xcd\xc9\xc9\x07\x00"
local AGAIN = "\xf2\x00\x11\x00\x00"
local TEXT, BINARY = 0xc1, 0xc2 -- first bytes of a compressed message of one frame
local OFFER = "Sec-WebSocket-Extensions: permessage-deflate\r\n"

-- What large messages are made of: text that compresses, and bytes that do not.
local WORDS = ("The quick brown fox jumps over %d lazy dogs. "):rep(25000):gsub("%%d", tostring)
local function noise(n)
  local parts, seed = {}, 1
  for i = 1, n / 4 do
    seed = (seed * 1103515245 + 12345) % 4294967296
    parts[i] = string.pack("<I4", seed)
  end
  return table.concat(parts)
end

describe("permessage-deflate", function()
  local server, url, port

  local function serve(options)
    options.on_message = options.on_message or net.echo
    options.extensions = options.extensions or { "permessage-deflate" }
    server, url, port = net.serve(options)
  end

  local function stop()
    hand.drop()
    if server then
      server:close(1)
      server = nil
    end
  end

  after_each(stop)

  -- A client by hand that has made this offer, and the header of the answer.
  local function offer(text)
    local peer = hand.client(port)
    peer:write(hand.opening("/", "Sec-WebSocket-Extensions: " .. text .. "\r\n"))
    local response = peer:http()
    assert.equal(101, response.status)
    return peer, response.headers["sec-websocket-extensions"]
  end

  it("carries messages of every size between khp and khp, whatever was agreed", function()
    local messages = { "", "x", ("short "):rep(20), noise(3000), WORDS, noise(300000) }
    for _, case in ipairs {
      { "permessage-deflate", "permessage-deflate", "" },
      { "permessage-deflate; client_max_window_bits", deflate { client_max_window_bits = 10 },
        "; client_max_window_bits=10" },
      { deflate(), deflate { server_max_window_bits = 9, client_max_window_bits = 9, memory_level = 1 },
        "; client_max_window_bits=9; server_max_window_bits=9" },
      { deflate { threshold = 0, level = 9 },
        deflate { threshold = 0, server_no_context_takeover = true, client_no_context_takeover = true },
        "; client_no_context_takeover; server_no_context_takeover" },
      { deflate { client_no_context_takeover = true }, deflate(), "; client_no_context_takeover" },
      { deflate { server_no_context_takeover = true, server_max_window_bits = 12 }, "permessage-deflate",
        "; server_max_window_bits=12; server_no_context_takeover" },
    } do
      for _, with_khp in ipairs { false, true } do
        serve { extensions = { case[2] } }
        local conn = assert(khp.connect(url, { extensions = { case[1] }, khp = with_khp }))
        assert.equal("permessage-deflate" .. case[3], http.format_extensions(conn.extensions))
        for _ = 1, 2 do
          for _, message in ipairs(messages) do
            assert(conn:send(message, "binary"))
            local received, kind = conn:receive(10)
            assert.is_true(received == message, #message .. " bytes came back otherwise")
            assert.equal("binary", kind)
          end
        end
        assert(conn:send(WORDS))
        assert.is_true(conn:receive(10) == WORDS)
        assert(conn:close())
        stop()
      end
    end
  end)

  it("marks compressed messages with the first reserved bit, and leaves short ones", function()
    serve { extensions = { deflate { threshold = 5 } } }
    local peer, agreed = offer "permessage-deflate"
    assert.equal("permessage-deflate", agreed)
    for _, case in ipairs { { TEXT, HELLO, 4, HELLO }, { BINARY, AGAIN, 4, AGAIN }, { 0x81, "Hell", 0, "Hell" } } do
      peer:write(peer:bytes_of(case[1], case[2]))
      local frame = peer:frame()
      assert.same({ case[1] % 16, true, case[3], case[4] }, { frame.opcode, frame.fin, frame.rsv, frame.payload })
    end
  end)

  it("understands compressed messages in fragments, and the final blocks of others (RFC 7692 7.2.3)", function()
    serve {}
    local peer = offer "permessage-deflate"
    peer:write(peer:bytes_of(0x41, HELLO:sub(1, 3)) .. peer:bytes_of(0x89, "ping") .. peer:bytes_of(0x80, HELLO:sub(4)))
    assert.same({ 10, "ping" }, { (function(f) return f.opcode, f.payload end)(peer:frame()) })
    assert.equal("Hello", peer:frame().payload)
    for _, payload in ipairs {
      AGAIN, "\0\5\0\xfa\xffHello\0", "\xf3\x48\xcd\xc9\xc9\x07\0\0",
      "\xf2\x48\5\0\0\0\xff\xff\xca\xc9\xc9\x07\0", AGAIN,
    } do
      peer:write(peer:bytes_of(TEXT, payload))
      assert.equal("Hello", peer:frame().payload)
    end
    peer:write(peer:bytes_of(TEXT, "\0"))
    assert.equal("", peer:frame().payload)
  end)

  it("is declined where the offer cannot be, and answered where another can (RFC 7692 7.1)", function()
    serve {}
    for _, case in ipairs {
      { "permessage-deflate; unknown", nil },
      { "permessage-deflate; server_max_window_bits=8", nil },
      { "permessage-deflate; server_no_context_takeover; server_no_context_takeover", nil },
      { "permessage-deflate; unknown, permessage-deflate; server_max_window_bits=10",
        "permessage-deflate; server_max_window_bits=10" },
    } do
      local peer, agreed = offer(case[1])
      assert.equal(case[2], agreed)
      peer:text(("x"):rep(100))
      assert.equal(agreed and 4 or 0, peer:frame().rsv)
    end
    local peer = offer "permessage-deflate; unknown"
    peer:write(peer:bytes_of(TEXT, HELLO))
    assert.equal(1002, (peer:closed()))
  end)

  it("closes with 1002 where the bit may not be (RFC 7692 6.1)", function()
    serve {}
    for _, frames in ipairs {
      { { 0xc9, "" } }, { { 0x41, HELLO }, { 0xc0, "" } }, { { 0xc8, "" } }, { { 0xa1, HELLO } },
    } do
      local peer = offer "permessage-deflate"
      for _, frame in ipairs(frames) do
        peer:write(peer:bytes_of(frame[1], frame[2]))
      end
      assert.equal(1002, (peer:closed()))
    end
  end)

  it("closes with 1007 what is corrupt or no text", function()
    serve {}
    local not_text = codec.deflater({}):message(("\xff"):rep(100))
    for _, payload in ipairs { "Hello", "", HELLO:sub(1, 6), AGAIN, not_text } do
      local peer = offer "permessage-deflate"
      peer:write(peer:bytes_of(TEXT, payload))
      assert.equal(1007, (peer:closed()))
    end
    local peer = offer "permessage-deflate"
    peer:write(peer:bytes_of(BINARY, not_text))
    local frame = peer:frame()
    assert.equal(("\xff"):rep(100), codec.inflater({}):message(frame.payload, 100))
  end)

  it("closes with 1009 what becomes larger than a message may be, and holds no more than that", function()
    local heard = 0
    serve {
      limits = { message = 100000 },
      on_message = function(_, message) heard = heard + #message end,
    }
    local bomb = codec.deflater({ level = 9 }):message(("\0"):rep(50000000))
    assert.is_true(#bomb < 100000)
    local one_more = codec.deflater({}):message(("x"):rep(100001))
    for _, payload in ipairs { bomb, one_more } do
      local peer = offer "permessage-deflate"
      peer:write(peer:bytes_of(BINARY, payload))
      local code, reason = peer:closed()
      assert.same({ 1009, "the message is too big once it is inflated" }, { code, reason })
    end
    assert.equal(0, heard)
    local peer = offer "permessage-deflate"
    peer:write(peer:bytes_of(BINARY, codec.deflater({}):message(("x"):rep(100000))))
    net.await(function() return heard > 0 end, "the message")
    assert.equal(100000, heard)
  end)

  it("carries the messages of the extended handshake, too, under its limits [E14]", function()
    serve { limits = { extended_message = 1000, message = 100000 } }
    local deflater, inflater = codec.deflater {}, codec.inflater {}
    local peer = hand.khp_client(port, "/", OFFER)
    peer:write(peer:bytes_of(BINARY, deflater:message "GET / HTTP/1.1\r\n\r\n"))
    local frame = peer:frame()
    assert.same({ 2, 4 }, { frame.opcode, frame.rsv })
    local response = assert(http.parse_response(assert(inflater:message(frame.payload, 10000))))
    assert.equal(101, response.status)
    peer:write(peer:bytes_of(TEXT, deflater:message(("x"):rep(50000)))) -- open, it may be so long
    assert.equal(("x"):rep(50000), inflater:message(peer:frame().payload, 50000))

    peer = hand.khp_client(port, "/", OFFER)
    local large = "GET / HTTP/1.1\r\nA: " .. ("x"):rep(2000) .. "\r\n\r\n"
    peer:write(peer:bytes_of(BINARY, codec.deflater({}):message(large)))
    assert.equal(1009, (peer:closed()))
  end)

  it("may be a policy's choice", function()
    serve {
      extensions = {},
      policy = {
        opening = function()
          return decision.accept { extensions = { "permessage-deflate; server_no_context_takeover" } }
        end,
      },
    }
    local peer, agreed = offer "permessage-deflate"
    assert.equal("permessage-deflate; server_no_context_takeover", agreed)
    for _ = 1, 2 do
      peer:text(("Hello, "):rep(20))
      assert.equal(codec.deflater({}):message(("Hello, "):rep(20)), peer:frame().payload)
    end
  end)

  it("fails the client where the server's answer is not to what it offered (RFC 7692 7.1)", function()
    for _, case in ipairs {
      { "permessage-deflate", "; unknown", "it has no parameter 'unknown'" },
      { "permessage-deflate", "; client_max_window_bits=10", "client_max_window_bits was not offered" },
      { "permessage-deflate; server_max_window_bits=10", "; server_max_window_bits=11", "10 was asked for" },
      { deflate(), "; server_max_window_bits=7", "is a number from 8 to 15" },
      { deflate(), "; server_no_context_takeover; server_no_context_takeover", "stands twice" },
    } do
      local gateway = hand.server(function(peer)
        peer:agree("Sec-WebSocket-Extensions: permessage-deflate" .. case[2] .. "\r\n", false)
      end)
      local conn, message, code = khp.connect(gateway.url, { extensions = { case[1] } })
      assert.same({ nil, "EEXTENSION" }, { conn, code })
      assert.matches(case[3], message, 1, true)
      gateway:close()
    end
  end)

  it("may be offered in alternatives, of which the answer has to be to one (RFC 7692 5.1)", function()
    local small = "permessage-deflate; server_max_window_bits=10"
    for _, given in ipairs {
      { small .. ", permessage-deflate" }, { small, "permessage-deflate" },
      { deflate { server_max_window_bits = 10 }, "permessage-deflate" },
    } do
      for answer, expected in pairs {
        ["permessage-deflate"] = "hello", [small] = "hello", ["permessage-deflate; client_max_window_bits=9"] = false,
      } do
        local offered
        local other = hand.server(function(peer)
          offered = peer:agree("Sec-WebSocket-Extensions: " .. answer .. "\r\n", false).headers
          peer:write(net.frame(TEXT, "\xca\x48\xcd\xc9\xc9\x07\x00", { unmasked = true }))
        end)
        local conn, _, code = khp.connect(other.url, { khp = false, extensions = given })
        assert.same({ expected and "hello" or nil, not expected and "EEXTENSION" or nil },
          { conn and conn:receive(5) or nil, code })
        assert.matches("^" .. small:gsub("%p", "%%%0") .. ".*, permessage%-deflate$",
          offered["sec-websocket-extensions"])
        other:close()
      end
    end
  end)

  it("is the client's, too: compressed messages of a server, bombs among them", function()
    local bomb = codec.deflater({ level = 9 }):message(("\0"):rep(5000000))
    local gateway = hand.server(function(peer)
      peer:agree("Sec-WebSocket-Extensions: permessage-deflate\r\n", false)
      peer:write(peer:bytes_of(TEXT, HELLO) .. peer:bytes_of(TEXT, AGAIN))
      local frame = peer:frame()
      assert.same({ 4, ("x"):rep(100) }, { frame.rsv, codec.inflater({}):message(frame.payload, 100) })
      peer:write(peer:bytes_of(BINARY, bomb))
      assert.equal(1009, (peer:closed()))
    end)
    local conn = assert(khp.connect(gateway.url, { extensions = { deflate() }, limits = { message = 1000 } }))
    assert.same({ "Hello", "text" }, { conn:receive(10) })
    assert.same({ "Hello", "text" }, { conn:receive(10) })
    assert(conn:send(("x"):rep(100)))
    local message, _, code, detail = conn:receive(10)
    assert.same({ nil, "ECLOSED", 1009 }, { message, code, detail.code })
    gateway:close()
  end)
end)
