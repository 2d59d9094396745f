-- Extensions of one's own over real sockets: both sides, negotiated in either handshake, and against peers that do not
-- keep to what was agreed.

local extension = require "khp.extension"
local hand = require "spec.support.hand"
local khp = require "khp"
local net = require "spec.support.net"

-- Adds a letter to what goes out, and takes it off what comes in.
local function letter(name, mark, more)
  local definition = {
    name = name,
    start = function()
      return {
        send = function(_, message, kind)
          return message .. mark, kind
        end,
        receive = function(_, message, kind)
          if message:sub(-1) ~= mark then
            return nil, "no " .. mark .. " at the end", 4001
          end
          return message:sub(1, -2), kind
        end,
      }
    end,
  }
  for key, value in pairs(more or {}) do
    definition[key] = value
  end
  return definition
end

describe("extensions", function()
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

  it("change messages in both directions, the first one nearest to the application [O6]", function()
    serve { extensions = { letter("x-a", "a"), letter("x-b", "b") } }
    local peer, response = plain_client "x-a, x-b"
    assert.equal("x-a, x-b", response.headers["sec-websocket-extensions"])
    peer:text "helloab"
    assert.equal("helloab", peer:frame().payload)
    peer:text "helloba"
    local code, reason = peer:closed()
    assert.same({ 4001, "no b at the end" }, { code, reason })
  end)

  it("are agreed in the client's order of preference", function()
    serve { extensions = { letter("x-a", "a"), letter("x-b", "b") } }
    local peer = plain_client "x-unknown, x-b, x-a"
    peer:text "helloba"
    assert.equal("helloba", peer:frame().payload)
  end)

  it("work between khp and khp, in the opening and in the extended handshake", function()
    for _, case in ipairs { { khp = false }, { khp = true }, { khp = true, handshake = "extended" },
      { khp = true, handshake = "opening" }, { khp = false, handshake = "extended" } } do
      local mark = letter("x-a", "a", { handshake = case.handshake })
      local stages = {}
      serve { extensions = { mark } }
      local conn = assert(khp.connect(url, {
        extensions = { mark }, khp = case.khp,
        trace = function(direction, stage, bytes)
          if direction == "receive" and bytes:find "Sec%-WebSocket%-Extensions: x%-a" then
            stages[#stages + 1] = stage
          end
        end,
      }))
      assert.same({ case.khp and case.handshake == "extended" and "extended" or "opening" }, stages)
      assert.equal("x-a", conn.extensions[1].name)
      assert(conn:send "hello")
      assert.equal("hello", (conn:receive(5)))
      conn:close()
      stop()
    end
  end)

  it("of the opening carry the extended handshake, too; its own are nearer to the application", function()
    serve {
      extensions = { letter("x-o", "o", { handshake = "opening" }), letter("x-e", "e", { handshake = "extended" }) },
    }
    local peer = hand.khp_client(select(2, server:address()), "/", "Sec-WebSocket-Extensions: x-o\r\n")
    peer:binary "GET / HTTP/1.1\r\nSec-WebSocket-Extensions: x-e\r\n\r\no"
    local answer = peer:frame()
    assert.matches("^HTTP/1.1 101 .*Sec%-WebSocket%-Extensions: x%-e\r\n.*\r\n\r\no$", answer.payload)
    peer:text "helloeo"
    assert.equal("helloeo", peer:frame().payload)
  end)

  it("may answer an offer with parameters, or decline it", function()
    local asked = {}
    serve {
      extensions = {
        letter("x-a", "a", {
          answer = function(parameters, offer)
            asked[#asked + 1] = offer
            if parameters.level == "2" then
              return { level = 2, note = "two" }
            end
          end,
        }),
      },
    }
    local _, response = plain_client 'x-a; level=9, x-a; level="2"'
    assert.same({ "x-a; level=9", "x-a; level=2" }, asked)
    assert.equal("x-a; level=2; note=two", response.headers["sec-websocket-extensions"])
    _, response = plain_client "x-a"
    assert.is_nil(response.headers["sec-websocket-extensions"])
  end)

  it("whose answer cannot be written cost a 500 and a line in the log", function()
    serve { extensions = { letter("x-a", "a", { answer = function() return { note = "two words" } end }) } }
    local _, response = plain_client "x-a"
    assert.equal(500, response.status)
    assert.matches("extension x%-a: its answer: .*note", table.concat(lines, "\n"))
  end)

  it("see what was agreed, and may refuse it", function()
    serve { extensions = { letter("x-a", "a", { answer = function() return { level = 7 } end }) } }
    local seen
    local conn, message, code, detail = khp.connect(url, {
      extensions = {
        { name = "x-a", offer = { "x-a; level=1", "x-a" }, start = function(link, parameters)
          seen = { link.role, parameters.level }
          return nil, "level 7 is too much"
        end },
      },
    })
    assert.same({ "client", "7" }, seen)
    assert.same({ nil, "level 7 is too much", "EEXTENSION", true }, { conn, message, code, detail.permanent })
  end)

  it("swallow, inject and deliver messages, and close", function()
    local session
    serve {
      on_message = function(conn, message)
        conn:send("echo " .. message)
      end,
      extensions = {
        { name = "x-a", start = function(link)
          session = {
            receive = function(_, message, kind)
              if message == "swallow" then
                return nil
              elseif message == "ask" then
                link:send("answer", "text")
                return nil
              elseif message == "deliver" then
                link:deliver("delivered", "text")
                return nil
              elseif message == "end" then
                link:close(4000, "enough")
                return message, kind
              end
              return message, kind
            end,
            send = function(_, message, kind)
              if message == "echo secret" then
                return nil
              end
              return message, kind
            end,
            open = function() session.opened = true end,
            closed = function(_, code) session.code = code end,
          }
          return session
        end },
      },
    }
    local peer = plain_client "x-a"
    net.await(function() return session end, "the session")
    assert.is_true(session.opened)
    for _, text in ipairs { "swallow", "secret", "ask", "deliver", "last" } do
      peer:text(text)
    end
    assert.equal("answer", peer:frame().payload)
    assert.equal("echo delivered", peer:frame().payload)
    assert.equal("echo last", peer:frame().payload)
    peer:text "end"
    assert.same({ 4000, "enough" }, { peer:closed() })
    peer:close(4000)
    net.await(function() return session.code end, "the end")
  end)

  it("hear native pings and pongs, and may swallow pongs", function()
    local heard = {}
    serve {
      extensions = {
        { name = "x-a", start = function(link)
          return {
            ping = function(_, payload)
              heard[#heard + 1] = "ping " .. payload
              link:ping "mine"
            end,
            pong = function(_, payload)
              heard[#heard + 1] = "pong " .. payload
              return true
            end,
          }
        end },
      },
    }
    local peer = plain_client "x-a"
    peer:write(net.frame(0x89, "one"))
    local pong, ping = peer:frame(), peer:frame()
    assert.same({ 10, "one", 9, "mine" }, { pong.opcode, pong.payload, ping.opcode, ping.payload })
    peer:write(net.frame(0x8A, "mine"))
    net.await(function() return heard[2] end, "the pong")
    assert.same({ "ping one", "pong mine" }, heard)
  end)

  it("have timers, which end with the connection", function()
    local fired, timers = 0, 0
    serve {
      extensions = {
        { name = "x-a", start = function(link)
          link:after(0.01, function()
            fired = fired + 1
            link:send("tick", "text")
          end)
          link:after(0.01, function() timers = timers + 1 end):cancel()
          link:after(60, function() timers = timers + 1 end)
          return {}
        end },
      },
    }
    local peer = plain_client "x-a"
    assert.equal("tick", peer:frame().payload)
    peer:close(1000)
    peer:await_end()
    stop()
    khp.run() -- returns, for no timer is left
    assert.same({ 1, 0 }, { fired, timers })
  end)

  it("mark messages with a reserved bit", function()
    serve {
      extensions = {
        { name = "x-a", rsv = 2, start = function()
          return {
            send = function(_, message, kind)
              return message, kind, #message > 3
            end,
            receive = function(_, message, kind, marked)
              return (marked and "marked " or "plain ") .. message, kind
            end,
          }
        end },
      },
    }
    local peer = plain_client "x-a"
    peer:write(net.frame(0x81 + 0x20, "a"))
    local frame = peer:frame()
    assert.same({ 2, "marked a" }, { frame.rsv, frame.payload })
    peer:text "b"
    assert.equal("plain b", peer:frame().payload)
    peer:write(net.frame(0x81 + 0x40, "c")) -- a bit that nobody uses
    assert.equal(1002, (peer:closed()))
  end)

  it("are never agreed together when they use the same bit or the same control bytes", function()
    local cases = {
      { { rsv = 1 }, { rsv = 1 } },
      { { control = "\1\1\1\2" }, { control = function() return "\1\1\1\2" end } },
    }
    for _, case in ipairs(cases) do
      serve { extensions = { letter("x-a", "a", case[1]), letter("x-b", "b", case[2]) } }
      local _, response = plain_client "x-b, x-a"
      assert.equal("x-b", response.headers["sec-websocket-extensions"])
      stop()
      -- nor by a policy
      serve {
        extensions = { letter("x-a", "a", case[1]), letter("x-b", "b", case[2]) },
        policy = { opening = function() return { "no" } end },
      }
      stop()
      -- nor with a server that does not mind
      local other = hand.server(function(peer)
        peer:agree("Sec-WebSocket-Extensions: x-a, x-b\r\n", false)
      end)
      local conn, message, code = khp.connect(other.url, {
        khp = false, extensions = { letter("x-a", "a", case[1]), letter("x-b", "b", case[2]) },
      })
      assert.is_nil(conn)
      assert.matches("x%-a and x%-b use the same", message)
      assert.equal("EEXTENSION", code)
      other:close()
    end
  end)

  it("that a policy may not put together cost a 500 and a line in the log", function()
    local decision = require "khp.policy.decision"
    serve {
      extensions = { letter("x-a", "a", { rsv = 3 }), letter("x-b", "b", { rsv = 3 }) },
      policy = { opening = function() return decision.accept { extensions = { "x-a", "x-b" } } end },
    }
    local _, response = plain_client "x-a, x-b"
    assert.equal(500, response.status)
    assert.matches("x%-a and x%-b use the same bit RSV3", table.concat(lines, "\n"))
  end)

  it("are a policy's choice where it makes one", function()
    local decision = require "khp.policy.decision"
    serve {
      extensions = { letter("x-a", "a") },
      policy = { opening = function(request)
        return decision.accept { extensions = request.query and { "x-a" } or {} }
      end },
    }
    local peer = hand.client(select(2, server:address()))
    peer:write(hand.opening("/?please", "Sec-WebSocket-Extensions: x-a\r\n"))
    assert.equal("x-a", peer:http().headers["sec-websocket-extensions"])
    peer:text "hia"
    assert.equal("hia", peer:frame().payload)
    local _, response = plain_client "x-a"
    assert.is_nil(response.headers["sec-websocket-extensions"])
  end)

  it("that make a text of something else than UTF-8 are found out", function()
    serve {
      extensions = {
        { name = "x-a", start = function()
          return {
            receive = function(_, message, kind)
              return message == "in" and "\255" or message, kind
            end,
            send = function(_, message, kind)
              return message == "out" and "\255" or message, kind
            end,
          }
        end },
      },
      on_message = function(conn, message)
        local _, text, code = conn:send(message)
        if code then
          conn:send(text .. " " .. code)
        end
      end,
    }
    local peer = plain_client "x-a"
    peer:text "out"
    assert.equal("an extension made a text message that is not UTF-8 EEXTENSION", peer:frame().payload)
    peer:text "in"
    assert.equal(1007, (peer:closed()))
  end)

  it("that refuse what another one has changed end the connection, which could not go on", function()
    local refused
    serve {
      extensions = {
        letter("x-a", "a"),
        { name = "x-b", start = function()
          return { send = function() return nil, "not today" end }
        end },
      },
      on_message = function(conn, message)
        refused = { conn:send(message) }
      end,
    }
    local peer = plain_client "x-a, x-b"
    peer:text "hia"
    assert.equal(1011, (peer:closed()))
    assert.same({ nil, "not today", "EEXTENSION", {} }, refused)
  end)

  it("that throw end their own connection", function()
    serve {
      extensions = {
        { name = "x-a", start = function()
          return {
            receive = function(_, message, kind)
              if message == "throw" then
                error "thrown"
              end
              return message, kind
            end,
          }
        end },
      },
    }
    local one, other = plain_client "x-a", plain_client "x-a"
    one:text "throw"
    assert.equal(1011, (one:closed()))
    assert.matches("extension x%-a: .*thrown.*traceback", table.concat(lines, "\n"))
    other:text "fine"
    assert.equal("fine", other:frame().payload)
  end)

  it("do not see a message that the queue has no room for", function()
    local seen, results = 0, nil
    serve {
      limits = { queue = 100000 },
      extensions = {
        { name = "x-a", start = function()
          return { send = function(_, message, kind)
            seen = seen + 1
            return message, kind
          end }
        end },
      },
      on_message = function(conn)
        local big, sent = ("x"):rep(40000), 0
        local ok, message, code = conn:send(big)
        while ok do
          sent = sent + 1
          ok, message, code = conn:send(big)
        end
        results = { sent, message, code }
      end,
    }
    local peer = plain_client "x-a"
    require("khp.core").conn.pause(peer.conn) -- what it does not read piles up
    peer:text "go"
    net.await(function() return results end, "a full queue")
    assert.same({ seen, "the send queue is full", "ELIMIT" }, results)
  end)

  it("refuse what is no definition, where the option stands", function()
    for given, expected in pairs {
      [{ name = "x a", start = print }] = "'x a' is no name of an extension",
      [{ name = "x-a" }] = "start",
      [{ name = "x-a", start = print, offer = "x-b" }] = "x-a: its offer names 'x-b'",
      [{ name = "x-a", start = print, rsv = 4 }] = "rsv",
      [{ name = "x-a", start = print, recieve = print }] = "recieve",
      ["x-a; ="] = "x-a; =",
      ["permessage-deflate; nonsense"] = "nonsense",
      ["x-kaazing-idle-timeout; timeout=soon"] = "timeout is in milliseconds",
      [1] = "a string or a table expected",
    } do
      for _, f in ipairs { function() khp.listen { port = 0, extensions = { given } } end,
        function() khp.connect("ws://127.0.0.1:1", { extensions = { given } }) end } do
        local ok, message = pcall(f)
        assert.is_false(ok)
        assert.matches("extension_spec.lua:%d+: .*" .. expected:gsub("%p", "%%%0"), message)
      end
    end
    assert.is_table(extension.ping_pong())
  end)
end)
