-- How extensions of one's own begin and end with their connections: what may be done in which moment, what becomes of
-- the others when one cannot start, and that nothing is left behind.

local hand = require "spec.support.hand"
local khp = require "khp"
local net = require "spec.support.net"

describe("an extension", function()
  local server, url
  local lines, sink

  local function serve(options)
    options.on_message = options.on_message or net.echo
    server, url = net.serve(options)
  end

  before_each(function()
    sink, lines = khp.log.sink, {}
    khp.log.sink = function(level, text)
      lines[#lines + 1] = level .. ": " .. text
    end
  end)

  local function stop()
    hand.drop()
    if server then
      server:close(1)
      server = nil
    end
  end

  after_each(function()
    khp.log.sink = sink
    stop()
  end)

  local function plain_client(offer)
    local peer = hand.client(select(2, server:address()))
    peer:write(hand.opening("/", "Sec-WebSocket-Extensions: " .. offer .. "\r\n"))
    return peer, peer:http()
  end

  local handshakes = { "opening", "extended" }

  it("may send and deliver as soon as it is open, on both sides", function()
    local greeting = { name = "x-a", start = function(link)
      return {
        open = function()
          link:deliver("delivered", "text")
          link:send("sent", "text")
        end,
      }
    end }
    for _, handshake in ipairs(handshakes) do
      local got = {}
      greeting.handshake = handshake
      serve {
        extensions = { greeting },
        on_message = function(conn, message)
          got[#got + 1] = message .. ", " .. conn.extensions[1].name
        end,
      }
      local conn = assert(khp.connect(url, { extensions = { greeting }, khp = handshake == "extended" }))
      assert.same({ "delivered", "sent" }, { (conn:receive(5)), (conn:receive(5)) })
      net.await(function() return got[2] end, "both messages")
      assert.same({ "delivered, x-a", "sent, x-a" }, got)
      conn:close()
      stop()
    end
  end)

  -- Two that a connection has; the first cannot start, after the second has.
  local function pair(log, handshake, failing)
    return {
      { name = "x-a", handshake = handshake, start = failing },
      { name = "x-b", handshake = handshake, start = function(link)
        link:after(60, function() end)
        return {
          open = function() log[#log + 1] = "open" end,
          closed = function() log[#log + 1] = "closed" end,
        }
      end },
    }
  end

  local function refuses(link)
    link:after(60, function() end)
    return nil, "this cannot be"
  end

  local function throws()
    error "thrown at the start"
  end

  it("that cannot start ends the connection of a server, and its application never hears of it", function()
    for _, handshake in ipairs(handshakes) do
      for _, failing in ipairs { refuses, throws } do
        local log, opened = {}, 0
        serve {
          extensions = pair(log, handshake, failing),
          on_open = function() opened = opened + 1 end,
        }
        local conn = assert(khp.connect(url, { extensions = { "x-a", "x-b" }, khp = handshake == "extended" }))
        assert.is_nil((conn:receive(5)))
        assert.equal(1011, conn.closed.code)
        net.await(function() return log[1] end, "the end of the other one")
        assert.same({ "closed" }, log)
        local stats = server:stats()
        assert.same({ 0, 0, 1 }, { opened, stats.opened, stats.failed })
        stop()
        khp.run() -- returns, for no timer is left
      end
    end
    assert.matches("thrown at the start.*traceback", table.concat(lines, "\n"))
  end)

  it("that cannot start fails a client, whether it says so or throws", function()
    for _, handshake in ipairs(handshakes) do
      for failing, expected in pairs { [refuses] = "this cannot be", [throws] = "an extension failed" } do
        local log = {}
        serve { extensions = { "x-a", "x-b" } }
        local conn, message, code = khp.connect(url, {
          extensions = pair(log, handshake, failing), khp = handshake == "extended",
        })
        assert.same({ nil, expected, "EEXTENSION" }, { conn, message, code })
        net.await(function() return log[1] end, "the end of the other one")
        assert.same({ "closed" }, log)
        stop()
        khp.run()
      end
    end
    assert.matches("thrown at the start.*traceback", table.concat(lines, "\n"))
  end)

  it("that aborts the connection has the last word: nothing goes in or out any more", function()
    local sent, got, ended = nil, 0, nil
    serve {
      extensions = { { name = "x-a", start = function(link)
        return {
          receive = function(_, message, kind)
            if message == "abort" then
              link:abort()
              sent = { link:send("more", "text") }
            end
            return message, kind
          end,
        }
      end } },
      on_message = function() got = got + 1 end,
      on_close = function(_, code) ended = code end,
    }
    local peer = plain_client "x-a"
    peer:text "abort"
    assert.equal("", peer:await_end())
    net.await(function() return ended end, "the end")
    assert.same({ nil, "closed", "ECLOSED" }, { sent[1], sent[2], sent[3] })
    assert.same({ 0, 1006 }, { got, ended })
  end)

  it("may deliver instead of passing on, and what follows the handshake still meets all that was agreed", function()
    local other = hand.server(function(peer)
      peer:agree "Sec-WebSocket-Extensions: x-o\r\n"
      peer:frame()
      peer:write(peer:bytes_of(0x82, "HTTP/1.1 202 Accepted\r\n\r\n|HTTP/1.1 101 Switching Protocols\r\n"
        .. "Sec-WebSocket-Extensions: x-e\r\n\r\n") .. peer:bytes_of(0x81, "one|") .. peer:bytes_of(0x81, "two|three"))
    end)
    local conn = assert(khp.connect(other.url, {
      extensions = {
        { name = "x-o", handshake = "opening", start = function(link)
          return { receive = function(_, message, kind)
            for part in message:gmatch "[^|]+" do
              link:deliver(part, kind)
            end
          end }
        end },
        { name = "x-e", handshake = "extended", start = function()
          return { receive = function(_, message, kind) return message:upper(), kind end }
        end },
      },
    }))
    assert.same({ "ONE", "TWO", "THREE" }, { (conn:receive(5)), (conn:receive(5)), (conn:receive(5)) })
    conn:close()
    other:close()
  end)

  it("that delivers a text that is not UTF-8 is found out", function()
    serve { extensions = { { name = "x-a", start = function(link)
      return {
        receive = function(_, message)
          link:deliver(message == "bad" and "\255" or message, "text")
        end,
      }
    end } } }
    local peer = plain_client "x-a"
    peer:binary "good"
    assert.equal("good", peer:frame().payload)
    peer:text "bad"
    assert.equal(1007, (peer:closed()))
  end)

  it("that announces a message ends the connection where the next one refuses it", function()
    local refused
    serve {
      extensions = {
        { name = "x-a", start = function(link)
          return { send = function(_, message, kind)
            link:send("now comes", kind)
            return message, kind
          end }
        end },
        { name = "x-b", start = function()
          return { send = function(_, message, kind)
            if message == "secret" then
              return nil, "not this"
            end
            return message, kind
          end }
        end },
      },
      on_message = function(conn, message) refused = { conn:send(message) } end,
    }
    local peer = plain_client "x-a, x-b"
    peer:text "secret"
    assert.equal("now comes", peer:frame().payload)
    assert.equal(1011, (peer:closed()))
    assert.same({ nil, "not this", "EEXTENSION", {} }, refused)
  end)

  it("that takes something else for a message ends its connection before the application sees it", function()
    local given, got = nil, 0
    serve {
      extensions = { { name = "x-a", start = function()
        return { receive = function(_, _, kind) return given[1], given[2] or kind end }
      end } },
      on_message = function() got = got + 1 end,
    }
    for _, case in ipairs { { true }, { {} }, { "text", "bogus" } } do
      given = case
      local peer = plain_client "x-a"
      peer:binary "go"
      assert.equal(1011, (peer:closed()))
    end
    assert.equal(0, got)
  end)

  it("leaves nothing behind of a timer that it cancels", function()
    local link
    serve { extensions = { { name = "x-a", start = function(given)
      link = given
      return {}
    end } } }
    plain_client "x-a"
    local kept = setmetatable({}, { __mode = "k" })
    for _ = 1, 10 do
      local function later()
        return kept
      end
      kept[later] = true
      link:after(60, later):cancel()
    end
    collectgarbage()
    collectgarbage()
    assert.is_nil(next(kept))
  end)

  it("may leave out the kind of a message, which stays what it was", function()
    local kinds = {}
    serve {
      on_message = function(conn, message, kind)
        kinds[#kinds + 1] = kind
        conn:send(message, kind)
      end,
      extensions = { { name = "x-a", start = function()
        return {
          send = function(_, message) return message .. "\255" end,
          receive = function(_, message) return message end,
        }
      end } },
    }
    local peer = plain_client "x-a"
    peer:binary "\254"
    local frame = peer:frame()
    assert.same({ 2, "\254\255" }, { frame.opcode, frame.payload })
    assert.same({ "binary" }, kinds)
  end)
end)
