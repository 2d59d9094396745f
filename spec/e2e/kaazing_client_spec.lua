-- Our client and Kaazing's gateway, as its stand-in behaves.

local gateway = require "spec.support.kaazing.gateway"
local hand = require "spec.support.hand"
local khp = require "khp"
local net = require "spec.support.net"

local CONTROL, GO_ON = "\1\1\1\2", "\u{F0FF}N"
local EXTENSIONS = { "x-kaazing-idle-timeout", "x-kaazing-ping-pong" }

describe("a client of Kaazing's gateway", function()
  local gateways, conns

  before_each(function()
    gateways, conns = {}, {}
  end)

  after_each(function()
    for _, conn in ipairs(conns) do
      conn:close()
    end
    for _, one in ipairs(gateways) do
      one:close()
    end
    hand.drop()
  end)

  local function serve(options)
    local one = gateway.new(options)
    gateways[#gateways + 1] = one
    return one.url .. "echo", one
  end

  local function connect(url, options)
    local conn, message, code, detail = khp.connect(url, options)
    conns[#conns + 1] = conn
    return conn, message, code, detail
  end

  local function echoes(conn)
    assert.is_true(conn.khp)
    assert(conn:send "héllo")
    assert.same({ "héllo", "text" }, { conn:receive(5) })
    assert(conn:send("\0\255", "binary"))
    assert.same({ "\0\255", "binary" }, { conn:receive(5) })
  end

  local function refused(url, options, code, message)
    local conn, text, kind, detail = connect(url, options)
    assert.is_nil(conn)
    assert.equal(code, kind)
    assert.matches(message, text)
    return detail
  end

  -- The code with which the client closed its first connection.
  local function closed_with(one)
    return net.await(function()
      return one.connections[1].closed_with
    end, "a close frame")
  end

  for _, query in ipairs { "?.kl=Y", "?a=b&.kl=Y", "?.kv=10.05", "" } do
    describe("with '" .. query .. "'", function()
      it("is open, and exchanges text and binary [E3 E11 E17]", function()
        local url, one = serve()
        echoes(assert(connect(url .. query)))
        assert.equal("/echo" .. query, one.requests[1].target)
        assert.equal("Web Socket Protocol Handshake", conns[1].response.reason)
      end)

      it("does not mind how a response comes [E3 H2 H10]", function()
        for _, oddity in ipairs {
          { pieces = 2 }, { pieces = 7, kind = "text" }, { kind = "text" }, { pieces = 1000 }, { unsorted = true },
          { phrase = "Switching Protocols" }, { phrase = "" },
        } do
          echoes(assert(connect(serve(oddity) .. query)))
        end
      end)

      it("authenticates on the same connection, in as many rounds as it takes [E13 H9]", function()
        local url, one = serve {
          challenges = { "Application Basic realm=\"demo\"", "Basic realm=\"demo\"", "Application Token" },
          authorization = "Token 123", pieces = 3,
        }
        local given = {
          { username = "joe", password = "wrong" }, { username = "joe", password = "secret" }, { token = "123" },
        }
        local count = 0
        echoes(assert(connect(url .. query, {
          credentials = function()
            count = count + 1
            return given[count]
          end,
        })))
        local sent = {}
        for i, request in ipairs(one.requests) do
          sent[i] = request.headers.authorization or "none"
        end
        assert.same({ "none", "Basic am9lOndyb25n", "Basic am9lOnNlY3JldA==", "Token 123" }, sent)
        assert.equal(1, #one.openings)
      end)

      it("is told why it may not come in [E10]", function()
        local url, one = serve { challenges = { "Application Basic realm=\"demo\"" }, authorization = "Basic x" }
        local detail = refused(url .. query, { credentials = { username = "joe", password = "wrong" } }, "EHANDSHAKE",
          "403 Forbidden")
        assert.same({ 403, "<html>403</html>", 2, true },
          { detail.status, detail.body, detail.attempts, detail.permanent })
        assert.equal(1011, closed_with(one))
      end)
    end)
  end

  it("needs no directive to begin, and may cross it [E2]", function()
    for _, query in ipairs { "?.kl=Y", "" } do
      for _, kind in ipairs { "text", "binary" } do
        echoes(assert(connect(serve { late = true, kind = kind } .. query)))
      end
    end
    echoes(assert(connect((serve { directives = true })))) -- of a balancer that nobody asked
  end)

  it("takes what comes after the handshake for the application's, whatever it looks like [E17]", function()
    for _, query in ipairs { "?.kl=Y", "" } do
      local conn = assert(connect(serve() .. query))
      for _, message in ipairs { "", GO_ON, "\u{F0FF}Rws://example.org/", "HTTP/1.1 302 Found\r\n\r\n" } do
        conn:send(message, "binary")
        assert.equal(message, (conn:receive(5)))
      end
    end
    local conn = assert(connect((serve { instead = GO_ON }))) -- at once after the 101, in one piece with it
    assert.same({ GO_ON, "text" }, { conn:receive(5) })
  end)

  it("gets its protocol and extensions in the extended handshake [E4 E5 E7 E14 E20]", function()
    local url, one = serve { protocols = { "amqp", "chat" }, idle = 5000 }
    local conn = assert(connect(url .. "?.kl=Y", { protocols = { "chat", "amqp" }, extensions = EXTENSIONS }))
    assert.equal("amqp", conn.protocol)
    assert.same({ "x-kaazing-idle-timeout", "x-kaazing-ping-pong" },
      { conn.extensions[1].name, conn.extensions[2].name })
    local headers = one.requests[1].headers
    assert.equal("chat, amqp", headers["sec-websocket-protocol"])
    assert.is_nil(headers["sec-websocket-key"] or headers.upgrade or headers.host)
    conn = assert(connect(url .. "?.kl=Y", { protocols = { "mqtt" } }))
    assert.is_nil(conn.protocol)
    assert.same({}, conn.extensions)
  end)

  it("escapes what begins like a control message, and understands what is escaped", function()
    local conn = assert(connect(serve() .. "?.kl=Y", { extensions = { "x-kaazing-ping-pong" } }))
    conn:send(CONTROL .. "hello")
    assert.equal(CONTROL .. "hello", (conn:receive(5)))
    conn:send(CONTROL)
    assert.equal(CONTROL, (conn:receive(5)))
    conn:send(CONTROL, "binary")
    assert.same({ CONTROL, "binary" }, { conn:receive(5) })
  end)

  it("lives on the gateway's pongs, and keeps the gateway's patience", function()
    for _, extensions in ipairs { EXTENSIONS, { "x-kaazing-idle-timeout" } } do
      local url, one = serve { idle = 500 }
      local conn = assert(connect(url .. "?.kl=Y", { extensions = extensions }))
      assert.equal("ETIMEOUT", (select(3, conn:receive(1.2))))
      echoes(conn)
      assert.is_nil(one.connections[1].dropped)
    end
  end)

  it("ends when the gateway breaks its promise", function()
    local url, one = serve { idle = 200, silent = true }
    local conn = assert(connect(url .. "?.kl=Y", { extensions = EXTENSIONS }))
    local message, why = conn:receive(5)
    assert.same({ nil, "closed" }, { message, why })
    assert.is_string(one.url)
  end)

  it("closes with a code and without, from either side", function()
    local url, one = serve()
    local conn = assert(connect(url .. "?.kl=Y"))
    conn:close(3000, "bye")
    assert.same({ 3000, true }, { one.connections[1].closed_with, conn.closed.clean })
    conn = assert(connect(url .. "?.kl=Y"))
    conn:send "close 3001"
    assert.is_nil(conn:receive(5))
    assert.same({ 3001, "peer", true }, { conn.closed.code, conn.closed.by, conn.closed.clean })
    conn = assert(connect(url .. "?.kl=Y"))
    conn:send "close without a code"
    assert.is_nil(conn:receive(5))
    assert.same({ 1005, true }, { conn.closed.code, conn.closed.clean })
  end)

  it("is told of a request that the gateway does not like [E10]", function()
    local policy = {
      request = function()
        return { headers = { Referer = "http://example.org/" } }
      end,
    }
    local detail = refused(serve() .. "?.kl=Y", { policy = policy }, "EHANDSHAKE", "400 Bad Request")
    assert.same({ 400, "" }, { detail.status, detail.body })
  end)

  describe("that leads elsewhere", function()
    it("follows a directive in either place, with the query [E12]", function()
      local target, member = serve()
      for _, place in ipairs { "first", "second" } do
        for _, kind in ipairs { "text", "binary" } do
          local url, balancer = serve { [place] = target, kind = kind }
          local conn = assert(connect(url .. "?a=b&.kl=Y", { protocols = { "chat" } }))
          echoes(conn)
          assert.equal(target .. "?a=b&.kl=Y", conn.url)
          assert.equal("/echo?a=b&.kl=Y", member.openings[#member.openings].target)
          assert.equal(1000, closed_with(balancer))
        end
      end
    end)

    it("follows the 302 of a balancer that was not asked for directives [E12 H2]", function()
      local target = serve()
      for _, query in ipairs { "", "?.kv=10.05" } do
        local conn = assert(connect(serve { balancer = target } .. query))
        echoes(conn)
        assert.equal(target, conn.url)
      end
    end)

    it("goes by the same rules as for any redirect [E12]", function()
      local target = serve()
      local seen = {}
      local function policy(answer)
        return {
          redirect = function(location, from, count)
            seen[#seen + 1] = { location, from, count }
            return answer
          end,
        }
      end
      for _, place in ipairs { "first", "second" } do
        local url = serve { [place] = target } .. "?.kl=Y"
        local detail = refused(url, { redirects = "never" }, "EREDIRECT", "the rule is never")
        assert.same({ target .. "?.kl=Y", true }, { detail.location, detail.permanent })
        refused(url, { redirects = "same-origin" }, "EREDIRECT", "the rule is same%-origin")
        refused(url, { policy = policy(false) }, "EREDIRECT", "the rule's function refused")
        local other = serve() .. "?.kl=Y&other"
        assert.equal(other, assert(connect(url, { policy = policy(other) })).url)
        assert.same({ { target .. "?.kl=Y", url, 1 }, { target .. "?.kl=Y", url, 1 } }, seen)
        seen = {}
        url = serve { [place] = "mailto:joe" }
        refused(url .. "?.kl=Y", nil, "EREDIRECT", "is not followed")
      end
    end)

    it("finds out a loop, and follows so many and no more [E12]", function()
      local options = {}
      local url = serve(options)
      options.second = url
      local detail = refused(url .. "?.kl=Y", { redirects = "always" }, "EREDIRECT", "loop")
      assert.same({ url .. "?.kl=Y" }, detail.urls)
      assert.equal(url .. "?.kl=Y", detail.location)
      local far = serve { first = (serve { second = (serve()) }) }
      echoes(assert(connect(far .. "?.kl=Y")))
      refused(far .. "?.kl=Y", { limits = { redirects = 1 } }, "EREDIRECT", "number 2 in a row")
    end)

    it("says that there is no member, which may change [E16]", function()
      for _, place in ipairs { "first", "second" } do
        local url, one = serve { [place] = "" }
        local detail = refused(url .. "?.kl=Y", nil, "EHANDSHAKE", "knows no server")
        assert.is_false(detail.permanent)
        assert.is_number(closed_with(one)) -- the gateway closes as well: whose code it is does not matter
      end
    end)
  end)

  it("waits for the second directive so long and no longer [E16 E17]", function()
    local detail = refused(serve { second = false } .. "?.kl=Y", { limits = { extended = 0.2 } }, "ETIMEOUT",
      "second directive did not come")
    assert.is_false(detail.permanent)
    refused(serve { directives = false } .. "?.kl=Y", { limits = { extended = 0.2 } }, "ETIMEOUT",
      "second directive did not come")
  end)

  it("takes nothing else there [E2]", function()
    local url, one = serve { instead = "Hello" }
    assert.is_true(refused(url .. "?.kl=Y", nil, "EPROTOCOL", "where the second directive is due").permanent)
    assert.equal(1011, closed_with(one))
  end)
end)
