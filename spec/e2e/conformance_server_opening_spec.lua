-- The server's rows of the opening handshake over real sockets, and what RFC 6455 4.2 asks for besides: against clients
-- played by hand, with policies and without.

local decision = require "khp.policy.decision"
local hand = require "spec.support.hand"
local http = require "khp.http"
local khp = require "khp"
local net = require "spec.support.net"

local accept, challenge, redirect, reject = decision.accept, decision.challenge, decision.redirect, decision.reject

describe("the server's opening handshake", function()
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

  -- One request on a connection of its own; the response, which ends the connection.
  local function ask(bytes)
    local peer = hand.client(port)
    peer:write(bytes)
    local response = peer:http()
    peer:await_end()
    return response
  end

  it("agrees to KHP wherever it stands [O2 O4 E15]", function()
    serve()
    for _, lines in ipairs {
      "Sec-WebSocket-Protocol: x-kaazing-handshake\r\n",
      "Sec-WebSocket-Protocol: a, x-kaazing-handshake, b\r\n",
      "SEC-WEBSOCKET-PROTOCOL: a\r\nsec-websocket-protocol: b,\r\nSec-Websocket-Protocol: x-kaazing-handshake\r\n",
      "Sec-WebSocket-Protocol: a,\r\n\tx-kaazing-handshake\r\n",
    } do
      local peer = hand.client(port)
      peer:write(hand.opening("/", lines))
      local response = peer:http()
      assert.equal(101, response.status, lines)
      assert.equal("x-kaazing-handshake", response.headers["sec-websocket-protocol"], lines)
      assert.equal(hand.ACCEPT, response.headers["sec-websocket-accept"])
      assert.equal("khp", response.headers.server)
      assert.truthy(response.headers.date)
      peer:abort()
    end
  end)

  it("follows the plain rules where KHP was not asked for, or the policy does not agree [O3]", function()
    local function chosen(lines)
      local peer = hand.client(port)
      peer:write(hand.opening("/", lines))
      local response = peer:http()
      peer:write(peer:bytes_of(0x81, "hello"))
      local echo = peer:frame()
      assert.equal("hello", echo.payload) -- no extended handshake
      peer:close(1000)
      peer:closed()
      return response.headers["sec-websocket-protocol"]
    end
    serve { protocols = { "chat" }, on_message = net.echo }
    assert.equal("chat", chosen "Sec-WebSocket-Protocol: a, chat\r\n")
    assert.is_nil(chosen "Sec-WebSocket-Protocol: a\r\n")
    assert.is_nil(chosen "")
    assert.is_nil(chosen "Sec-WebSocket-Protocol: X-KAAZING-HANDSHAKE\r\n") -- names are compared as they are
    stop()
    local decided = accept { protocol = "chat" } -- the same decision for each
    serve { on_message = net.echo, policy = {
      opening = function()
        return decided
      end,
    } }
    assert.equal("chat", chosen "Sec-WebSocket-Protocol: x-kaazing-handshake, chat\r\n")
    assert.equal("chat", chosen "Sec-WebSocket-Protocol: chat\r\n")
  end)

  it("keeps a decision that the policy made once as it was [O2 O3]", function()
    local decided = accept {}
    serve { on_message = net.echo, policy = {
      opening = function()
        return decided
      end,
    } }
    for _, wanted in ipairs { "x-kaazing-handshake", "other", "x-kaazing-handshake" } do
      local peer = hand.client(port)
      peer:write(hand.opening("/", "Sec-WebSocket-Protocol: " .. wanted .. "\r\n"))
      local chosen = peer:http().headers["sec-websocket-protocol"]
      assert.equal(wanted ~= "other" and wanted or nil, chosen)
      peer:abort()
    end
  end)

  it("refuses, challenges and redirects with HTTP where the policy says so [O3]", function()
    serve { policy = {
      opening = function(request)
        if request.path == "/no" then
          return reject(403, { body = "no", headers = { ["X-Why"] = { "a", "b" } } })
        elseif request.path == "/who" then
          return challenge({ 'Basic realm="r"', "Token" }, { body = "who", headers = { { "X-A", "1" } } })
        end
        return redirect("/elsewhere", { status = 307, headers = { ["X-A"] = "1" } })
      end,
    } }
    local response = ask(hand.opening "/no")
    assert.same({ 403, "no", "a, b" }, { response.status, response.body, response.headers["x-why"] })
    response = ask(hand.opening "/who")
    assert.same({ 401, "who", "1" }, { response.status, response.body, response.headers["x-a"] })
    assert.same({ 'Basic realm="r"', "Token" },
      http.values(response.headers, "www-authenticate"))
    response = ask(hand.opening "/")
    assert.same({ 307, "/elsewhere", "1" },
      { response.status, response.headers.location, response.headers["x-a"] })
  end)

  it("answers ordinary HTTP with 426, or as the policy says", function()
    serve()
    for _, request in ipairs {
      "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "GET / HTTP/1.0\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi", "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    } do
      local response = ask(request)
      assert.equal(426, response.status, request)
      assert.equal("websocket", response.headers.upgrade)
      assert.equal("Upgrade, close", response.headers.connection)
    end
    assert.same({}, log)
    stop()
    serve { on_message = net.echo, policy = {
      opening = function(request)
        if not request.upgrade then
          return reject(200, { body = request.method .. " " .. request.path .. " " .. request.body })
        end
      end,
    } }
    assert.equal("POST /a hi", ask("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi").body)
    assert(khp.connect("ws://127.0.0.1:" .. port)):close()
  end)

  it("never opens what is no WebSocket request, whatever the policy says", function()
    serve { policy = {
      opening = function()
        return accept {}
      end,
    } }
    assert.equal(500, ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n").status)
    assert.truthy(log[1]:find "an ordinary HTTP request cannot be accepted")
  end)

  it("understands openings as proxies and odd clients write them", function()
    local seen
    serve { policy = {
      opening = function(request)
        seen = request
      end,
    } }
    for _, lines in ipairs {
      "host: x\r\nupgrade: WebSocket\r\nconnection: keep-alive, Upgrade\r\n",
      "Host: x\r\nUPGRADE: h2c, websocket\r\nConnection: keep-alive\r\nConnection: upgrade\r\n",
      "Host: x\r\nUpgrade: websocket\r\nConnection: ,, upgrade ,\r\nX-Long: a\r\n b\r\nContent-Length: 0\r\n",
    } do
      local peer = hand.client(port)
      peer:write("\r\nGET http://example.com/chat?a=b HTTP/1.1\r\n" .. lines
        .. "sec-websocket-key: " .. hand.KEY .. "\r\nsec-websocket-version:13\r\nOrigin: null\r\n\r\n")
      local response = peer:http()
      assert.equal(101, response.status, lines)
      assert.same({ "/chat", "a=b", "example.com", "null" }, { seen.path, seen.query, seen.host, seen.origin })
      peer:abort()
    end
  end)

  it("refuses what RFC 6455 4.2.1 does not allow, with the status that says what", function()
    serve()
    local function status(line, fields)
      local response = ask(line .. "\r\n" .. table.concat(fields, "\r\n") .. "\r\n\r\n")
      return response.status, response
    end
    local good = {
      "Host: x", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
      "Sec-WebSocket-Key: " .. hand.KEY,
    }
    local function with(index, field)
      local fields = { table.unpack(good) }
      fields[index] = field
      return fields
    end
    local GET = "GET / HTTP/1.1"
    assert.equal(405, (status("POST / HTTP/1.1", good)))
    assert.equal(400, (status("GET / HTTP/1.0", good)))
    assert.equal(505, (status("GET / HTTP/2.0", good)))
    assert.equal(400, (status(GET, with(1, "X: y"))))
    assert.equal(400, (status(GET, with(2, "X: y"))))
    assert.equal(400, (status(GET, with(2, "Upgrade: h2c"))))
    assert.equal(400, (status(GET, with(3, "X: y"))))
    assert.equal(400, (status(GET, with(3, "Connection: close"))))
    assert.equal(400, (status(GET, with(4, "X: y"))))
    local wrong, response = status(GET, with(4, "Sec-WebSocket-Version: 8"))
    assert.equal(426, wrong)
    assert.equal("13", response.headers["sec-websocket-version"])
    assert.equal(400, (status(GET, with(5, "X: y"))))
    assert.equal(400, (status(GET, with(5, "Sec-WebSocket-Key: c2hvcnQ="))))
    assert.equal(400, (status(GET, with(5, good[5] .. "\r\n" .. good[5]))))
    assert.equal(400, (status(GET, with(1, "Host: x\r\nSec-WebSocket-Protocol: a b"))))
  end)
end)
