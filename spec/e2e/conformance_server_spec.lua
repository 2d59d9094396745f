-- The server's rows over real sockets, against clients played by hand: what the driver (khp.listen) makes of them,
-- beside what the machines' own specs prove.

local core = require "khp.core"
local decision = require "khp.policy.decision"
local hand = require "spec.support.hand"
local khp = require "khp"
local net = require "spec.support.net"

local accept, challenge, redirect, reject = decision.accept, decision.challenge, decision.redirect, decision.reject

describe("the server's driver", function()
  local server, port, log
  local sink

  setup(function()
    sink = khp.log.sink
    khp.log.sink = function(at, text)
      log[#log + 1] = at .. ": " .. text
    end
  end)

  teardown(function()
    khp.log.sink = sink
  end)

  local function serve(options)
    local _
    log = {}
    server, _, port = net.serve(options or {})
  end

  local function stop()
    hand.drop()
    if server then
      server:close(1)
      server = nil
    end
  end

  after_each(stop)

  -- Sends an extended request as one binary message; the response and the peer.
  local function extended(request, more)
    local peer = hand.khp_client(port, "/", more)
    peer:binary(request)
    return peer:extended(), peer
  end

  local REQUEST = "GET / HTTP/1.1\r\n\r\n"

  describe("before the handshake is completed", function()
    it("sends nothing of the application's, and hears nothing [O4 E2 E11 E17]", function()
      local early, late, opened
      serve {
        policy = {
          extended = function(_, session)
            local _, message, code = getmetatable(session).connection:send "too early"
            early = { message, code }
          end,
        },
        on_open = function(conn)
          opened = conn
          assert.is_true(conn:send "welcome")
          late = conn:receive(5)
        end,
      }
      local peer = hand.khp_client(port)
      assert.is_nil(opened)
      assert.same({}, server:connections())
      peer:write(peer:bytes_of(0x89, "ping"))
      assert.equal(10, peer:frame().opcode) -- so there is nothing before it
      peer:binary(REQUEST)
      local response = peer:extended()
      assert.same({ 101, "websocket", "Upgrade", hand.ACCEPT }, { response.status, response.headers.upgrade,
        response.headers.connection, response.headers["sec-websocket-accept"] })
      assert.equal("welcome", peer:frame().payload)
      assert.same({ "the handshake is not completed", "EHANDSHAKE" }, early)
      peer:text "first"
      net.await(function()
        return late
      end)
      assert.equal("first", late)
      assert.is_true(opened.khp)
    end)

    it("answers what is no request with 400 and closes, and the application never hears of it [E2 E8 E19]", function()
      local heard = false
      serve {
        on_open = function()
          heard = true
        end,
        on_message = function()
          heard = true
        end,
      }
      for _, first in ipairs { 0x81, 0x82 } do
        local peer = hand.khp_client(port)
        peer:write(peer:bytes_of(first, "hello"))
        assert.equal(400, peer:extended().status)
        assert.equal(1000, (peer:closed()))
        peer:text "more"
        peer:close(1000)
        assert.equal("", peer:await_end())
      end
      local peer = hand.khp_client(port)
      peer:write(peer:bytes_of(0x82, REQUEST .. "not an application's message yet"))
      assert.equal(400, peer:extended().status)
      assert.equal(1011, (peer:closed()))
      assert.is_false(heard)
      local stats = server:stats()
      assert.same({ 0, 3 }, { stats.opened, stats.failed })
    end)

    it("takes what comes behind the opening's head, and behind the request's, in order [E2 E17]", function()
      local heard = {}
      serve { on_message = function(_, message)
        heard[#heard + 1] = message
      end }
      local peer = hand.client(port)
      peer:write(hand.opening("/", "Sec-WebSocket-Protocol: x-kaazing-handshake\r\n") .. peer:bytes_of(0x82, REQUEST))
      peer:http()
      assert.equal(101, peer:extended().status)
      peer:write(peer:bytes_of(0x81, "one") .. peer:bytes_of(0x81, "two"))
      net.await(function()
        return heard[2]
      end)
      assert.same({ "one", "two" }, heard)
      local stats = server:stats()
      assert.same({ 1, 1, 0 }, { stats.connections, stats.opened, stats.failed })
    end)

    it("makes no extended handshake where KHP was not chosen [E1]", function()
      local heard
      serve { on_message = function(_, message)
        heard = message
      end }
      local peer = hand.client(port)
      peer:write(hand.opening())
      peer:http()
      peer:text(REQUEST)
      net.await(function()
        return heard
      end)
      assert.equal(REQUEST, heard)
      assert.equal("", peer.received)
    end)
  end)

  describe("in the extended handshake", function()
    it("understands text and binary, in any pieces and frames, and answers binary [E3 E8 H10]", function()
      serve()
      local peer = hand.khp_client(port)
      peer:text(REQUEST)
      assert.equal(101, peer:extended().status) -- which asserts that it is binary
      peer = hand.khp_client(port)
      peer:text "GE"
      peer:binary "T / HT"
      peer:write(peer:bytes_of(0x01, "TP/1.") .. peer:bytes_of(0x89, "between") .. peer:bytes_of(0x00, "")
        .. peer:bytes_of(0x80, "1\r"))
      peer:binary "\nX-Y: z\r\n\r"
      peer:binary ""
      peer:binary "\n"
      assert.equal("between", peer:frame().payload)
      assert.equal(101, peer:extended().status)
    end)

    it("refuses an extension that the opening negotiated, and closes with 1011 [E9 E8]", function()
      local policy = {
        opening = function()
          return accept { extensions = { "x-one; a=1" } }
        end,
        extended = function(request)
          return accept { extensions = request.extensions[1] and { request.extensions[1].name } }
        end,
      }
      serve { policy = policy }
      local more = "Sec-WebSocket-Extensions: x-one, x-two\r\n"
      local response, peer = extended("GET / HTTP/1.1\r\nSec-WebSocket-Extensions: x-two, x-one\r\n\r\n", more)
      assert.equal(400, response.status)
      local code, reason = peer:closed()
      assert.equal(1011, code)
      assert.equal("the opening handshake has negotiated extension 'x-one' already", reason)
      local other, opening = hand.khp_client(port, "/", more)
      assert.equal("x-one; a=1", opening.headers["sec-websocket-extensions"])
      other:abort()
      response, peer = extended("GET / HTTP/1.1\r\nSec-WebSocket-Extensions: x-two\r\n\r\n", more)
      assert.equal(101, response.status)
      assert.equal("x-two", response.headers["sec-websocket-extensions"])
      local names = {}
      for i, one in ipairs(server:connections()[1].extensions) do
        names[i] = one.name
      end
      assert.same({ "x-one", "x-two" }, names) -- both apply
      peer:abort()
    end)

    it("sends no extension or protocol that was not asked for, whatever the policy returns [E14 E20]", function()
      local answer
      serve { policy = {
        extended = function()
          return answer
        end,
      } }
      for _, wrong in ipairs {
        accept { extensions = { "y" } }, accept { extensions = { "x", "x" } }, accept { protocol = "p" },
        accept { extensions = { "" } }, accept { headers = { ["Sec-WebSocket-Extensions"] = "x" } },
      } do
        answer = wrong
        local response, peer = extended "GET / HTTP/1.1\r\nSec-WebSocket-Extensions: x\r\n\r\n"
        assert.equal(500, response.status)
        assert.is_nil(response.headers["sec-websocket-extensions"])
        peer:closed()
        peer:abort()
      end
      answer = accept {}
      local response = extended "GET / HTTP/1.1\r\nSec-WebSocket-Extensions: x\r\n\r\n"
      assert.equal(101, response.status)
      assert.is_nil(response.headers["sec-websocket-extensions"])
    end)

    it("offers the protocols of the opening and of the request together [E20 E15]", function()
      serve { protocols = { "late", "early" } }
      for request, chosen in pairs {
        [REQUEST] = "early", ["GET / HTTP/1.1\r\nSec-WebSocket-Protocol: late\r\n\r\n"] = "early",
      } do
        local peer = hand.client(port)
        peer:write(hand.opening("/", "Sec-WebSocket-Protocol: x-kaazing-handshake, early\r\n"))
        peer:http()
        peer:binary(request)
        local response = peer:extended()
        assert.equal(chosen, response.headers["sec-websocket-protocol"])
        assert.equal("khp", response.headers.server)
        assert.truthy(response.headers.date)
        peer:abort()
      end
      local response = extended "GET / HTTP/1.1\r\nSec-WebSocket-Protocol: late\r\n\r\n"
      assert.equal("late", response.headers["sec-websocket-protocol"])
    end)

    it("asks for credentials until they are good, and tells the policy where it stands [E13 E8]", function()
      local seen, traced = {}, {}
      serve {
        trace = function(direction, stage, bytes)
          traced[#traced + 1] = direction .. " " .. stage .. " " .. bytes:match "^[^\r\n]*"
        end,
        policy = {
          extended = function(request, session)
            seen[#seen + 1] = { session.attempt, session.path, session.opening.path, request.path }
            if request.headers.authorization ~= "Token 2" then
              return challenge({ "Token", 'Basic realm="r"' }, { body = "?" })
            end
          end,
        },
      }
      local peer = hand.khp_client(port, "/opened")
      for attempt, value in ipairs { "", "Authorization: Token 1\r\n", "Authorization: Token 2\r\n" } do
        peer:binary("GET /asked HTTP/1.1\r\n" .. value .. "\r\n")
        local response = peer:extended()
        assert.equal(attempt < 3 and 401 or 101, response.status)
        assert.equal(attempt < 3 and 'Token, Basic realm="r"' or nil, response.headers["www-authenticate"])
        assert.same({ attempt, "/opened", "/opened", "/asked" }, seen[attempt])
      end
      local asks, refuses = "receive extended GET /asked HTTP/1.1", "send extended HTTP/1.1 401 Unauthorized"
      assert.same({
        "receive opening GET /opened HTTP/1.1", "send opening HTTP/1.1 101 Switching Protocols",
        asks, refuses, asks, refuses, asks, "send extended HTTP/1.1 101 Switching Protocols",
      }, traced)
      assert.equal("/opened", server:connections()[1].request.path)
    end)

    it("closes when no replay comes in time, and counts the whole [E13 E18]", function()
      serve {
        limits = { extended = 0.2, close = 0.2 },
        policy = {
          extended = function()
            return challenge "Token"
          end,
        },
      }
      local before = core.loop.clock()
      local response, peer = extended(REQUEST)
      assert.same({ 401, "Token" }, { response.status, response.headers["www-authenticate"] })
      assert.equal(1011, (peer:closed()))
      peer:close(1011)
      peer:await_end()
      assert.is_true(core.loop.clock() - before < 5)
    end)

    it("ends with the WebSocket, and forgets the policy that still thinks [E16]", function()
      local gone, thinking
      serve { policy = {
        extended = function()
          thinking = true
          local _ <close> = setmetatable({}, { __close = function()
            gone = true
          end })
          khp.sleep(60)
        end,
      } }
      local peer = hand.khp_client(port)
      peer:binary(REQUEST)
      net.await(function()
        return thinking
      end)
      peer:close(1001)
      assert.equal(1001, (peer:closed()))
      net.await(function()
        return gone
      end)
    end)

    it("closes with 1001 when the server does, and nobody decides any more [E8 E17]", function()
      local decided, opened = false, false
      serve {
        on_open = function()
          opened = true
        end,
        policy = {
          extended = function()
            khp.sleep(0.05)
            decided = true
          end,
        },
      }
      local thinking, waiting = hand.khp_client(port), hand.khp_client(port)
      thinking:binary(REQUEST)
      thinking:write(thinking:bytes_of(0x89, ""))
      thinking:frame() -- its request is there, too
      khp.spawn(server.close, server, 1)
      assert.equal(1001, (waiting:closed()))
      assert.equal(1001, (thinking:closed()))
      khp.sleep(0.1)
      assert.is_false(decided)
      assert.is_false(opened)
      for _, peer in ipairs { thinking, waiting } do
        peer:close(1001)
        assert.equal("", peer:await_end())
      end
    end)

    it("closes in time whatever comes or does not come [E18]", function()
      serve { limits = { opening = 0.2, extended = 0.2, close = 0.2 } }
      for _, bytes in ipairs { "", "GET / HTTP/1.1\r\nX: " } do
        local peer = hand.khp_client(port)
        if bytes ~= "" then
          peer:binary(bytes)
          assert.equal(408, peer:extended().status)
        end
        assert.equal(1011, (peer:closed()))
        peer:await_end() -- dropped, though the close was not answered
      end
      local peer = hand.client(port)
      peer:write "GET / HTTP/1.1\r\n"
      assert.equal(408, peer:http().status)
      peer:await_end()
    end)

    it("holds no more than its limits allow, message by message and all together [E18 H11]", function()
      serve { limits = { extended_message = 1000, line = 300, fields = 7, body = 100 } }
      local function status(...)
        local peer = hand.khp_client(port)
        for _, bytes in ipairs { ... } do
          peer:binary(bytes)
        end
        local response = peer:extended()
        assert.equal(1000, (peer:closed()))
        peer:abort()
        return response.status, response.body
      end
      local texts = {}
      local function limited(expected, ...)
        local got, text = status(...)
        assert.equal(expected, got)
        assert.is_nil(texts[text], text)
        texts[text] = true
      end
      limited(414, "GET /" .. ("x"):rep(400))
      limited(431, "GET / HTTP/1.1\r\n" .. ("a: b\r\n"):rep(8) .. "\r\n")
      limited(431, "GET / HTTP/1.1\r\na: " .. ("b"):rep(400))
      limited(431, "GET / HTTP/1.1\r\n" .. ("a: " .. ("b"):rep(240) .. "\r\n"):rep(2),
        ("a: " .. ("b"):rep(240) .. "\r\n"):rep(3))
      limited(413, "POST / HTTP/1.1\r\nContent-Length: 101\r\n\r\n")
      local peer = hand.khp_client(port)
      peer:write("\130\254\3\233\0\0\0\0") -- a frame of 1,001 bytes: refused by its head
      assert.equal(1009, (peer:closed()))
    end)

    it("accepts HTTP/1.0 and any 1.x, sends no 1xx to 1.0, and refuses 2.0 with 505 [H6]", function()
      serve()
      local response, peer = extended "GET / HTTP/1.0\r\n\r\n"
      assert.equal(204, response.status)
      peer:abort()
      response, peer = extended "GET / HTTP/1.7\r\n\r\n"
      assert.equal(101, response.status)
      peer:abort()
      response, peer = extended "GET / HTTP/2.0\r\n\r\n"
      assert.equal(505, response.status)
      assert.equal(1000, (peer:closed()))
      peer = hand.khp_client(port)
      peer:binary "GET / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
      peer:binary "hi"
      assert.equal(204, peer:extended().status)
    end)

    it("asks for the body with 100, once, and meets no other expectation [H8]", function()
      local body
      serve { policy = {
        extended = function(request)
          body = request.body
        end,
      } }
      local peer = hand.khp_client(port)
      peer:binary "POST / HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 5\r\n\r\n"
      assert.equal(100, peer:extended().status)
      peer:text "he"
      peer:binary "llo"
      assert.equal(101, peer:extended().status)
      assert.equal("hello", body)
      local response
      response, peer = extended "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi"
      assert.equal(101, response.status)
      peer:abort()
      response, peer = extended "GET / HTTP/1.1\r\nExpect: a-miracle\r\n\r\n"
      assert.equal(417, response.status)
      assert.equal(1000, (peer:closed()))
    end)

    it("closes with 1000 after a final answer, and drops who does not answer that [E19]", function()
      serve {
        limits = { close = 0.2 },
        policy = {
          extended = function(request)
            if request.path == "/away" then
              return redirect "ws://example.com/"
            end
            return reject(403, { body = "no", reason = "Not you" })
          end,
        },
      }
      local response, peer = extended "GET /away HTTP/1.1\r\n\r\n"
      assert.same({ 302, "ws://example.com/" }, { response.status, response.headers.location })
      assert.equal(1000, (peer:closed()))
      peer:close(1000)
      assert.equal("", peer:await_end())
      response, peer = extended(REQUEST)
      assert.same({ 403, "Not you", "no" }, { response.status, response.reason, response.body })
      assert.equal(1000, (peer:closed()))
      local before = core.loop.clock()
      assert.equal("", peer:await_end()) -- without a word from us
      assert.is_true(core.loop.clock() - before < 5)
    end)
  end)
end)
