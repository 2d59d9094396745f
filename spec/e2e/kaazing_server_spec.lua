-- Our server and Kaazing's own clients, as their stand-ins behave: no option says who is coming.

local decision = require "khp.policy.decision"
local hand = require "spec.support.hand"
local http = require "khp.http"
local java = require "spec.support.kaazing.java"
local javascript = require "spec.support.kaazing.javascript"
local khp = require "khp"
local net = require "spec.support.net"
local socket = require "spec.support.kaazing.socket"

local accept, challenge, redirect, reject = decision.accept, decision.challenge, decision.redirect, decision.reject
local CONTROL = "\1\1\1\2"

describe("a server to Kaazing's", function()
  local servers, closed, opened, requests, logged, sink

  local function serve(options)
    options = options or {}
    options.on_message = net.echo
    options.on_close = function(conn, code, reason)
      closed[#closed + 1] = { code = code, reason = reason, clean = conn.closed.clean }
    end
    local server, url = net.serve(options)
    servers[#servers + 1] = server
    return url .. "echo", server
  end

  -- Members are let in; whoever is wrong is asked again, and the third time refused.
  local function members(answer)
    return {
      opening = function(request)
        requests[#requests + 1] = request
      end,
      extended = function(request, session)
        requests[#requests + 1] = request
        if session:basic(request, { joe = "secret" }) then
          return accept(answer)
        end
        return session.attempt < 3 and challenge "Basic realm=\"members\"" or reject(403, "no")
      end,
    }
  end

  before_each(function()
    servers, closed, opened, requests, logged, sink = {}, {}, {}, {}, {}, khp.log.sink
    khp.log.sink = function(_, text)
      logged[#logged + 1] = text
    end
  end)

  after_each(function()
    khp.log.sink = sink
    hand.drop()
    for _, server in ipairs(servers) do
      server:close(1)
    end
  end)

  local function await_close()
    net.await(function()
      return closed[1]
    end, "the server's on_close")
    return closed[1]
  end

  local function first_then(...)
    local answers = { ... }
    return function(count)
      return answers[count] or nil
    end
  end

  for name, client in pairs { ["JavaScript client"] = javascript, ["Java client"] = java } do
    describe(name, function()
      local function connect(url, given)
        local self, why = client.connect(url, given)
        opened[#opened + 1] = self
        return self, why
      end

      it("is open without a policy, and exchanges text and binary [E3 E11 E17]", function()
        local self = assert(connect(serve()))
        assert.is_true(servers[1]:connections()[1].khp)
        self:send "héllo"
        assert.same({ "héllo", "text" }, { self:receive() })
        self:send_binary "\0\255"
        assert.same({ "\0\255", "binary" }, { self:receive() })
        self:send(("x"):rep(100000))
        assert.equal(100000, #self:receive())
        self:send "" -- empty messages are the application's now, and so is what looks like a directive
        assert.same({ "", "text" }, { self:receive() })
        self:send_binary(socket.GO_ON)
        assert.same({ socket.GO_ON, "binary" }, { self:receive() })
      end)

      it("goes on to the path and query that the application gave [E3]", function()
        local self = assert(connect(serve { policy = members() } .. "?a=b&c", {
          credentials = first_then(socket.basic("joe", "secret")),
        }))
        assert.equal("/echo?a=b&c&.kl=Y", requests[1].target)
        assert.same({ "/echo?a=b&c", "/echo?a=b&c" }, { requests[2].target, requests[3].target })
        self:send "hello"
        assert.equal("hello", (self:receive()))
      end)

      it("answers challenges on the same socket, as often as it has to [E13]", function()
        local self = assert(connect(serve { policy = members() }, {
          credentials = first_then(socket.basic("joe", "wrong"), socket.basic("joe", "secret")),
        }))
        assert.equal(2, #self.challenges)
        assert.matches("^Application Basic realm=\"members\"\r?$", self.challenges[2])
        assert.equal(1, servers[1]:stats().connections)
      end)

      it("is refused after that, or gives up [E13 E19]", function()
        local url = serve { policy = members() }
        local self, why = connect(url, {
          credentials = first_then(socket.basic("joe", "wrong"), socket.basic("joe", "wronger")),
        })
        assert.is_nil(self)
        assert.matches("status 403", why)
        self, why = connect(url)
        assert.is_nil(self)
        assert.matches("no credentials", why)
      end)

      it("gets its protocol from those of both requests together [E20]", function()
        local url = serve { protocols = { "chat" } }
        local self = assert(connect(url, { protocols = { "amqp", "chat" } }))
        assert.matches("^chat\r?$", self.protocol)
        assert.equal("chat", servers[1]:connections()[1].protocol)
        self = assert(connect(url, { protocols = { "amqp" } }))
        assert.is_nil(self.protocol)
      end)

      it("is led elsewhere in the second directive's place [E19]", function()
        local target = serve()
        local seen
        local url = serve {
          policy = {
            extended = function(request)
              seen = request.target
              return redirect(target:gsub("^ws", "http") .. "?a=1")
            end,
          },
        }
        local self = assert(connect(url .. "?b=2"))
        assert.equal("/echo?b=2", seen)
        assert.equal(target .. "?a=1&b=2&.kl=Y", self.url)
        assert.same({ 0, 1 }, { servers[2]:stats().opened, servers[2]:stats().refused })
        assert.same({ 1, { code = 1000, reason = "" } }, { self.redirects, self.left })
        self:send "hello"
        assert.equal("hello", (self:receive()))
      end)

      it("is led elsewhere in the first directive's place [O3]", function()
        local target = serve()
        local url = serve {
          policy = {
            opening = function()
              return redirect(target, { headers = { ["X-Why"] = "moved" } })
            end,
          },
        }
        local self = assert(connect(url))
        assert.equal(target .. "?.kl=Y", self.url)
        assert.same({ 0, 1 }, { servers[2]:stats().opened, servers[2]:stats().refused })
        assert.same({ 1, { code = 1000, reason = "" } }, { self.redirects, self.left })
        assert.equal("/echo?.kl=Y", servers[1]:connections()[1].request.target)
      end)

      it("is led to another path of the same server [E19]", function()
        local url = serve {
          policy = {
            extended = function(_, session)
              return session.path == "/echo" and redirect "/other" or accept()
            end,
          },
        }
        local self = assert(connect(url))
        assert.equal((url:gsub("/echo", "/other?.kl=Y")), self.url)
      end)

      it("is turned away in the opening and in the extended handshake [O3 E19]", function()
        local self, why = connect(serve {
          policy = {
            extended = function()
              return reject(404, "not here")
            end,
          },
        })
        assert.is_nil(self)
        assert.matches("status 404", why)
        self, why = connect(serve {
          policy = {
            opening = function()
              return reject(403)
            end,
          },
        })
        assert.is_nil(self)
        assert.matches("403", why)
      end)

      it("is answered 500 where a policy fails, lawfully [E14]", function()
        local self, why = connect(serve {
          policy = {
            extended = function()
              return accept { protocol = "never asked for" }
            end,
          },
        })
        assert.is_nil(self)
        assert.matches("status 500", why)
        assert.matches("never asked for", logged[1])
      end)

      it("is open without KHP where the policy wants it so [O3]", function()
        local url = serve {
          policy = {
            opening = function()
              return accept { khp = false, protocol = "chat" }
            end,
          },
        }
        local self = assert(connect(url, { protocols = { "chat" } }))
        assert.equal("chat", self.protocol)
        assert.is_false(servers[1]:connections()[1].khp)
        self:send "hello"
        assert.equal("hello", (self:receive()))
      end)

      it("closes with a code and a reason, or without", function()
        local self = assert(connect(serve()))
        assert.equal(3000, self:close(3000, "bye").code)
        assert.same({ code = 3000, reason = "bye", clean = true }, await_close())
        closed = {}
        self = assert(connect(serve()))
        assert.same({}, self:close())
        assert.same({ code = 1005, reason = "", clean = true }, await_close())
      end)

      it("is closed with a code and a reason", function()
        local self = assert(connect(serve()))
        khp.spawn(function()
          servers[1]:connections()[1]:close(3001, "enough")
        end)
        assert.same({ nil, "closed" }, { self:receive() })
        assert.same({ code = 3001, reason = "enough" }, self.socket.closed_with)
        assert.is_true(await_close().clean)
      end)

      it("does not wait for ever for an answer to its challenge [E18]", function()
        local url = serve { limits = { extended = 0.2 }, policy = members() }
        local self = client.connect(url, {
          credentials = function()
            net.await(function()
              return servers[1]:stats().timed_out > 0
            end, "the end of the server's patience")
          end,
        })
        assert.is_nil(self)
      end)

      it("agrees to an idle timeout, and is kept alive by what it can see", function()
        local url = serve { extensions = { "x-kaazing-idle-timeout; timeout=200", "x-kaazing-ping-pong" } }
        local self = assert(connect(url))
        assert.equal(0.2, self.idle)
        local message
        local done = false
        khp.spawn(function()
          message = self:receive()
          done = true
        end)
        net.await(function()
          return (self.signs or 0) >= 4 or done
        end, "signs of life")
        assert.is_false(done)
        servers[1]:connections()[1]:send "still there"
        net.await(function()
          return done
        end, "the message")
        assert.equal("still there", message)
      end)

      it("closes when nothing comes in its idle timeout", function()
        local self = assert(connect(serve { extensions = { "x-kaazing-idle-timeout; timeout=60000" } }))
        assert.equal(60, self.idle)
        self.idle = 0.02 -- long before the server says anything
        assert.same({ nil, "idle" }, { self:receive() })
        assert.equal(name == "Java client" and 1006 or 1005, await_close().code)
      end)
    end)
  end

  describe("JavaScript client", function()
    it("escapes what begins like a control message, and so do we", function()
      local url = serve { extensions = { "x-kaazing-ping-pong" } }
      local self = assert(javascript.connect(url))
      assert.equal(CONTROL, self.control)
      self:send(CONTROL .. "hello")
      assert.same({ CONTROL .. "hello", "text" }, { self:receive() })
      self:send_binary(CONTROL)
      assert.same({ CONTROL, "binary" }, { self:receive() })
    end)

    it("does not wait for the first directive in an older form, and no second one comes", function()
      serve()
      local peer = hand.khp_client(select(2, servers[1]:address()), "/echo?.kv=10.05")
      peer:text "GET /echo HTTP/1.1\r\nWebSocket-Protocol: \r\n\r\n"
      assert.equal(101, peer:extended().status)
      assert.same({ 2, "" }, { peer:frame().opcode, "" })
      peer:text "hello"
      assert.equal("hello", peer:frame().payload)
    end)

    it("hears nothing after it was led elsewhere, whatever it sends", function()
      local url = serve {
        policy = {
          opening = function()
            return redirect "ws://example.org/echo"
          end,
        },
      }
      local _, port = servers[1]:address()
      local peer = hand.client(port)
      -- The extended request is there already: it crosses the directive.
      peer:write(hand.opening("/echo?.kl=Y", "Sec-WebSocket-Protocol: x-kaazing-handshake\r\n")
        .. net.frame(0x81, "GET /echo HTTP/1.1\r\n\r\n") .. net.frame(0x88, "\3\232"))
      assert.equal(101, peer:http().status)
      assert.equal("\u{F0FF}Rws://example.org/echo?.kl=Y", peer:frame().payload)
      assert.equal(1000, (peer:closed()))
      assert.equal("", peer:await_end())
      assert.is_string(url)
    end)

    it("may speak before it was spoken to, and in pieces [E3 H10]", function()
      serve()
      local _, port = servers[1]:address()
      local peer = hand.client(port)
      peer:write(hand.opening("/echo?.kl=Y", "Sec-WebSocket-Protocol: x-kaazing-handshake\r\n")
        .. net.frame(0x81, "GET /ec") .. net.frame(0x82, "ho HTTP/1.1\r\n") .. net.frame(0x81, "\r\n"))
      assert.equal(101, peer:http().status)
      assert.equal(socket.GO_ON, peer:frame().payload)
      local response = peer:extended()
      assert.same({ 101, "Web Socket Protocol Handshake" }, { response.status, response.reason })
      assert.same({ "", socket.GO_ON }, { peer:frame().payload, peer:frame().payload })
    end)

    it("is told by HTTP alone where the opening does not name KHP [O3]", function()
      serve {
        policy = {
          opening = function()
            return redirect "ws://example.org/echo"
          end,
        },
      }
      local peer = hand.client((select(2, servers[1]:address())))
      peer:write(hand.opening("/echo?.kl=Y", "Sec-WebSocket-Protocol: chat\r\n"))
      local response = peer:http()
      assert.same({ 302, "ws://example.org/echo" }, { response.status, response.headers.location })
    end)
  end)

  describe("Java client", function()
    local function ask(path)
      local peer = hand.client((select(2, servers[1]:address())))
      peer:write("GET " .. path .. " HTTP/1.1\r\nHost: x\r\nOrigin: privileged://x\r\n\r\n")
      return peer:http()
    end

    it("gets no cookies, and a policy does not hear of it", function()
      serve { policy = members() }
      local response = ask "/echo/;e/cookies?.krn=123&.kl=Y"
      assert.same({ 200, "", "0" }, { response.status, response.body, response.headers["content-length"] })
      assert.equal(200, ask("/;e/cookies?.krn=123").status)
      assert.equal(0, #requests)
      assert.equal(426, ask("/echo/;e/cookies?krn=123").status)
      assert.equal(1, #requests)
    end)

    it("gets none where it may not connect", function()
      serve { origins = { "http://example.org" } }
      assert.equal(200, ask("/echo/;e/cookies?.krn=123").status)
      local peer = hand.client((select(2, servers[1]:address())))
      peer:write "GET /echo/;e/cookies?.krn=123 HTTP/1.1\r\nHost: x\r\nOrigin: http://elsewhere.org\r\n\r\n"
      assert.equal(403, peer:http().status)
    end)

    it("gets the answer to each of its requests in a message of its own frame [E8]", function()
      serve()
      local peer = hand.khp_client(select(2, servers[1]:address()), "/echo?.kl=Y")
      local frame = peer:frame()
      assert.same({ 2, true, socket.GO_ON }, { frame.opcode, frame.fin, frame.payload })
      peer:binary "GET /echo HTTP/1.1\r\n\r\n"
      frame = peer:frame()
      assert.same({ 2, true }, { frame.opcode, frame.fin })
      assert.equal("Web Socket Protocol Handshake", http.parse_response(frame.payload).reason)
      frame = peer:frame()
      assert.same({ 2, true, "" }, { frame.opcode, frame.fin, frame.payload })
      frame = peer:frame()
      assert.same({ 2, true, socket.GO_ON }, { frame.opcode, frame.fin, frame.payload })
    end)
  end)
end)
