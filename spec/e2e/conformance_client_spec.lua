-- The client's rows over real sockets, against servers played by hand: what the driver (khp.connect) makes of them,
-- beside what the machines' own specs prove.

local core = require "khp.core"
local hand = require "spec.support.hand"
local http = require "khp.http"
local khp = require "khp"
local net = require "spec.support.net"

describe("the client's driver", function()
  local server

  local function serve(script)
    server = hand.server(script)
    return server.url
  end

  after_each(function()
    if server then
      local ended = server
      server = nil
      ended:close()
    end
  end)

  local function refused(url, options, code, pattern)
    local conn, message, got, detail = khp.connect(url, options)
    assert.is_nil(conn)
    assert.equal(code, got, message)
    assert.truthy(message:find(pattern), message)
    return detail
  end

  it("names KHP first, then the protocols, and asks again for what it did not get [O1 E1 E4 E5 E6 E7]", function()
    local requests = {}
    local url = serve(function(peer)
      requests[1] = peer:agree "Sec-WebSocket-Extensions: x-first\r\n"
      requests[2] = peer:extended()
      peer:binary("HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Protocol: b\r\n"
        .. "Sec-WebSocket-Extensions: x-second; n=1\r\n\r\n")
    end)
    local conn = assert(khp.connect(url .. "path?a=b", {
      protocols = { "a", "b" }, extensions = { "x-first", "x-second; n=2", "x-third" },
    }))
    assert.equal("x-kaazing-handshake, a, b", requests[1].headers["sec-websocket-protocol"])
    assert.equal("x-first, x-second; n=2, x-third", requests[1].headers["sec-websocket-extensions"])
    assert.equal("GET", requests[2].method)
    assert.equal("/path?a=b", requests[2].target)
    local fields = {}
    for name, value in http.fields(requests[2].headers) do
      fields[#fields + 1] = name .. ": " .. value
    end
    assert.same({ "Sec-WebSocket-Protocol: a, b", "Sec-WebSocket-Extensions: x-second; n=2, x-third" }, fields)
    assert.equal("b", conn.protocol)
    assert.equal("x-first, x-second; n=1", http.format_extensions(conn.extensions)) -- of both handshakes
    conn:close()
  end)

  it("asks again for no alternative of an extension that it has [E5 E9]", function()
    local value
    local url = serve(function(peer)
      peer:agree "Sec-WebSocket-Extensions: x; a=1\r\n"
      value = peer:extended().headers["sec-websocket-extensions"]
      peer:binary(hand.COMPLETED)
    end)
    assert(khp.connect(url, { extensions = { " x; a=1, x", "y; b=\"12\", y" } })):close()
    assert.equal("y; b=12, y", value)
  end)

  it("makes no extended handshake where KHP was not chosen [O5 E1]", function()
    local heard
    local url = serve(function(peer)
      peer:agree("", "chat")
      heard = peer:frame()
    end)
    local conn = assert(khp.connect(url, { protocols = { "chat" } }))
    assert.is_false(conn.khp)
    assert.equal("chat", conn.protocol)
    conn:send("the application's")
    net.await(function()
      return heard
    end)
    assert.equal("the application's", heard.payload)
    conn:close()
  end)

  it("fails where KHP is required and was not chosen, and sends nothing into that socket [O5]", function()
    local left
    local url = serve(function(peer)
      peer:agree("", false)
      left = peer:await_end()
    end)
    local detail = refused(url, { require_khp = true }, "EHANDSHAKE", "does not speak x%-kaazing%-handshake")
    assert.is_true(detail.permanent)
    net.await(function()
      return left
    end)
    assert.equal("", left)
  end)

  it("fails when the server chooses what was not requested [O6]", function()
    for _, case in ipairs {
      { "", "chat", "protocol 'chat'" }, { "Sec-WebSocket-Extensions: x\r\n", nil, "extension 'x'" },
    } do
      local left
      local url = serve(function(peer)
        peer:agree(case[1], case[2])
        left = peer:await_end()
      end)
      refused(url, {}, "EHANDSHAKE", case[3])
      net.await(function()
        return left
      end)
      assert.equal("", left)
      server:close()
      server = nil
    end
  end)

  it("takes nothing for an answer that came before its request [E2]", function()
    for _, early in ipairs { hand.COMPLETED, "hello" } do
      local code, frames = nil, {}
      local url = serve(function(peer)
        local request = peer:http()
        peer:write(hand.switch(request) .. peer:bytes_of(0x82, early) .. peer:bytes_of(0x82, hand.COMPLETED))
        repeat
          local frame = peer:frame()
          frames[#frames + 1] = frame
        until frame.opcode == 8
        code = frames[#frames].code
        peer:close(code)
      end)
      refused(url, nil, "EPROTOCOL", "before the request")
      net.await(function()
        return code
      end)
      assert.equal(1011, code)
      assert.equal(1, #frames)
      server:close()
      server = nil
    end
  end)

  it("closes with 1011 on a message that is no response [E2 E16]", function()
    local code
    local url = serve(function(peer)
      peer:agree()
      peer:extended()
      peer:text "hello"
      code = peer:closed()
      peer:close(code)
    end)
    refused(url, nil, "EPROTOCOL", "does not begin with an HTTP version")
    net.await(function()
      return code
    end)
    assert.equal(1011, code)
  end)

  it("understands text, and sends text where it is told to [E3]", function()
    local kinds = {}
    local url = serve(function(peer)
      peer:agree()
      kinds[#kinds + 1] = peer:frame().opcode
      peer:text(hand.COMPLETED)
    end)
    assert(khp.connect(url)):close()
    assert(khp.connect(url, { extended_kind = "text" })):close()
    assert.same({ 2, 1 }, kinds)
  end)

  it("reads a response spread over messages and frames, with a ping between [H10]", function()
    local pong
    local url = serve(function(peer)
      peer:agree()
      peer:extended()
      peer:text "HTTP/1.1 4"
      peer:write(peer:bytes_of(0x02, "03 No") .. peer:bytes_of(0x89, "?") .. peer:bytes_of(0x00, "\r\nContent-")
        .. peer:bytes_of(0x80, "Length: 6\r"))
      pong = peer:frame()
      peer:binary "\n\r\nSor"
      peer:write(peer:bytes_of(0x01, "") .. peer:bytes_of(0x80, "ry."))
      peer:closed()
    end)
    local detail = refused(url, nil, "EHANDSHAKE", "403")
    assert.equal(403, detail.status)
    assert.equal("Sorry.", detail.body)
    assert.equal(10, pong.opcode)
  end)

  it("gives the caller status, headers and body of a refusal, and closes with 1011 [E10 H4]", function()
    local code, reason
    local url = serve(function(peer)
      peer:agree()
      peer:extended()
      peer:binary "HTTP/1.1 503 Later\r\nRetry-After: 7\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nBusy\r\n0\r\n\r\n"
      code, reason = peer:closed()
      peer:close(code)
    end)
    local detail = refused(url, nil, "EHANDSHAKE", "503 Later")
    assert.same({ 503, "7", "Busy" }, { detail.status, detail.headers["retry-after"], detail.body })
    assert.is_false(detail.permanent)
    net.await(function()
      return code
    end)
    assert.equal(1011, code)
    assert.equal("the server answered '503 Later'", reason)
  end)

  it("has closed when khp.connect returns, also where the program ends with it [E10 E16]", function()
    local code
    local url = serve(function(peer)
      peer:agree()
      peer:extended()
      peer:binary "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"
      code = peer:closed()
    end)
    assert(os.execute(("%s -e 'require(\"khp\").connect(\"%s\")' &"):format(os.getenv "LUA" or "lua5.4", url)))
    net.await(function()
      return code
    end)
    assert.equal(1011, code)
  end)

  it("checks Sec-WebSocket-Accept of an extended 101 [E11 S101]", function()
    local url = serve(function(peer, n)
      local request = peer:agree()
      peer:extended()
      local right = require("khp.crypto").accept(request.headers["sec-websocket-key"])
      peer:binary("HTTP/1.1 101 x\r\nSec-WebSocket-Accept: " .. (n == 1 and right or hand.ACCEPT) .. "\r\n\r\n")
    end)
    assert(khp.connect(url)):close()
    refused(url, nil, "EHANDSHAKE", "wrong Sec%-WebSocket%-Accept")
  end)

  it("opens on 201, 204 and 205 [S201 S204 S205]", function()
    local statuses = { "201 Created", "204 No Content", "205 Reset Content" }
    local url = serve(function(peer, n)
      peer:agree()
      peer:extended()
      peer:binary("HTTP/1.1 " .. statuses[n] .. "\r\n\r\n")
    end)
    for _ = 1, 3 do
      local conn = assert(khp.connect(url))
      assert.is_true(conn.khp)
      conn:close()
    end
  end)

  it("closes on extensions that were not asked for, twice, or none [E14 E16]", function()
    local values = { "y", "x, x", "", "x; =" }
    local codes = {}
    local url = serve(function(peer, n)
      peer:agree()
      peer:extended()
      peer:binary("HTTP/1.1 101 x\r\nSec-WebSocket-Extensions: " .. values[n] .. "\r\n\r\n")
      codes[n] = peer:closed()
      peer:close(codes[n])
    end)
    for n = 1, #values do
      refused(url, { extensions = { "x" } }, "EEXTENSION", "")
      net.await(function()
        return codes[n]
      end)
      assert.equal(1011, codes[n])
    end
  end)

  it("closes on a protocol that was not requested [E20]", function()
    local url = serve(function(peer)
      peer:agree()
      peer:extended()
      peer:binary "HTTP/1.1 101 x\r\nSec-WebSocket-Protocol: other\r\n\r\n"
    end)
    refused(url, { protocols = { "one" } }, "EHANDSHAKE", "'other'")
  end)

  it("replays on a 401, on the same socket, and gives up in the end [E13 S401]", function()
    local seen = {}
    local url = serve(function(peer)
      peer:agree()
      for i = 1, 3 do
        seen[i] = peer:extended()
        peer:binary("HTTP/1.1 401 No\r\nWWW-Authenticate: Token\r\nWWW-Authenticate: Basic realm=\"r" .. i
          .. "\"\r\nContent-Length: 0\r\n\r\n")
      end
      peer:closed()
    end)
    local asked = {}
    local detail = refused(url .. "x", {
      protocols = { "a" },
      limits = { attempts = 3 },
      policy = {
        request = function(request, attempt)
          asked[#asked + 1] = request.method .. " " .. request.url .. " " .. attempt
          return { headers = { ["X-Try"] = tostring(attempt) } }
        end,
        challenge = function(challenge, attempt)
          asked[#asked + 1] = challenge.scheme .. " " .. attempt
          return challenge.scheme == "Basic" and { username = "joe", password = "try " .. attempt } or nil
        end,
      },
    }, "EAUTH", "3 attempts")
    assert.equal(1, #server.peers)
    assert.equal(3, detail.attempts)
    assert.equal(401, detail.status)
    for i, request in ipairs(seen) do
      assert.equal("a", request.headers["sec-websocket-protocol"])
      assert.equal(tostring(i), request.headers["x-try"])
    end
    assert.same({ nil, "Basic am9lOnRyeSAx", "Basic am9lOnRyeSAy" }, { seen[1].headers.authorization,
      seen[2].headers.authorization, seen[3].headers.authorization })
    assert.truthy(table.concat(asked, "\n"):find("GET " .. url .. "x 1", 1, true))
    assert.truthy(table.concat(asked, "\n"):find("GET " .. url .. "x 3", 1, true))
  end)

  it("gives up on a 401 without credentials [E13]", function()
    local code
    local url = serve(function(peer)
      peer:agree()
      peer:extended()
      peer:binary "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"r\"\r\nContent-Length: 0\r\n\r\n"
      code = peer:closed()
      peer:close(code)
    end)
    refused(url, nil, "EAUTH", 'Basic, realm "r"')
    net.await(function()
      return code
    end)
    assert.equal(1011, code)
  end)

  it("ends when the raw WebSocket closes, and when the stream does [E16]", function()
    local url = serve(function(peer, n)
      peer:agree()
      peer:extended()
      if n == 1 then
        peer:close(1001)
        peer:closed()
      else
        peer:finish()
      end
    end)
    local detail = refused(url, nil, "ECLOSED", "closed")
    assert.equal(1001, detail.code)
    refused(url, nil, "ECLOSED", "closed")
  end)

  it("ends when no response comes in time, with 1011 [E16 E18]", function()
    local code
    local url = serve(function(peer)
      peer:agree()
      peer:extended()
      code = peer:closed()
      peer:close(code)
    end)
    refused(url, { limits = { extended = 0.1 } }, "ETIMEOUT", "time")
    net.await(function()
      return code
    end)
    assert.equal(1011, code)
  end)

  it("is open only when the handshake is completed, and gets what came behind it in order [E17]", function()
    for _, handler in ipairs { false, true } do
      local heard = {}
      local url = serve(function(peer)
        peer:agree()
        peer:extended()
        local behind = ""
        for i = 1, 5 do
          behind = behind .. peer:bytes_of(0x81, "message " .. i)
        end
        peer:write(peer:bytes_of(0x82, hand.COMPLETED) .. behind)
      end)
      local conn = assert(khp.connect(url, {
        on_message = handler and function(_, message)
          heard[#heard + 1] = message
        end or nil,
      }))
      for i = 1, 5 do
        if handler then
          net.await(function()
            return heard[i]
          end)
        else
          heard[i] = conn:receive(5)
        end
      end
      assert.same({ "message 1", "message 2", "message 3", "message 4", "message 5" }, heard)
      conn:close()
      server:close()
      server = nil
    end
  end)

  it("gets in order what came behind the opening of a plain WebSocket [O5]", function()
    local url = serve(function(peer)
      local request = peer:http()
      local behind = ""
      for i = 1, 5 do
        behind = behind .. peer:bytes_of(0x81, "message " .. i)
      end
      peer:write(hand.switch(request, "", false) .. behind)
    end)
    local conn = assert(khp.connect(url))
    for i = 1, 5 do
      assert.equal("message " .. i, (conn:receive(5)))
    end
    conn:close()
  end)

  it("holds what comes behind the handshake to the application's limits, not to the handshake's [E17 H11]", function()
    local big = ("x"):rep(100000)
    local url = serve(function(peer, n)
      local request = peer:http()
      if n == 1 then
        peer:write(hand.switch(request, "", false) .. peer:bytes_of(0x82, big))
      else
        peer:write(hand.switch(request))
        peer:extended()
        peer:write(peer:bytes_of(0x82, hand.COMPLETED) .. peer:bytes_of(0x82, big))
      end
    end)
    for _ = 1, 2 do
      local conn = assert(khp.connect(url, { limits = { extended_message = 1000 } }))
      assert.equal(#big, #assert(conn:receive(5)))
      conn:close()
    end
  end)

  it("sends the body of its request when it is told to go on [S100 H8]", function()
    local request, body
    local policy = {
      request = function()
        return { body = "a body", expect = true }
      end,
    }
    local url = serve(function(peer, n)
      peer:agree()
      local frame = peer:frame()
      request = frame.payload
      if n == 1 then
        peer:binary "HTTP/1.1 100 Continue\r\n\r\n"
        body = peer:frame().payload
        peer:binary(hand.COMPLETED)
      else
        peer:binary "HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n"
        peer:closed()
      end
    end)
    assert(khp.connect(url, { policy = policy })):close()
    assert.equal("GET / HTTP/1.1\r\nContent-Length: 6\r\nExpect: 100-continue\r\n\r\n", request)
    assert.equal("a body", body)
    local detail = refused(url, { policy = policy }, "EHANDSHAKE", "417")
    assert.equal(417, detail.status)
  end)

  it("does not go on where it did not ask to [S100]", function()
    local url = serve(function(peer)
      peer:agree()
      peer:extended()
      peer:binary "HTTP/1.1 100 Continue\r\n\r\n"
      peer:closed()
    end)
    refused(url, nil, "EHANDSHAKE", "100")
  end)

  it("waits after a 202 for another response, and no longer than it may [S202]", function()
    local url = serve(function(peer, n)
      peer:agree()
      peer:extended()
      peer:binary "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
      if n == 1 then
        peer:binary "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
        peer:binary(hand.COMPLETED)
      else
        peer:closed()
      end
    end)
    assert(khp.connect(url)):close()
    local before = core.loop.clock()
    local detail = refused(url, { limits = { wait = 0.1 } }, "ETIMEOUT", "time")
    assert.equal(202, detail.status)
    assert.is_true(core.loop.clock() - before < 5)
    detail = refused(url, {
      policy = {
        response = function(response)
          return response.status == 202 and "close" or nil
        end,
      },
    }, "EHANDSHAKE", "202")
    assert.equal(202, detail.status)
  end)

  it("closes on a 407, and tells what it was [S407]", function()
    local url = serve(function(peer)
      peer:agree()
      peer:extended()
      peer:binary "HTTP/1.1 407 Pay\r\nProxy-Authenticate: Basic realm=\"p\"\r\nContent-Length: 0\r\n\r\n"
      peer:closed()
    end)
    local detail = refused(url, nil, "EHANDSHAKE", "407")
    assert.equal("proxy", detail.action)
    assert.equal('Basic realm="p"', detail.headers["proxy-authenticate"])
  end)

  it("has an error of its own for each limit of a response [H11]", function()
    local responses = {
      { "HTTP/1.1 101 " .. ("x"):rep(600) .. "\r\n\r\n", "line" },
      { "HTTP/1.1 101 x\r\n" .. ("a: b\r\n"):rep(11) .. "\r\n", "too many headers" },
      { "HTTP/1.1 403 x\r\nContent-Length: 101\r\n\r\n", "body" },
      { "HTTP/1.1 101 x\r\n" .. ("a: " .. ("b"):rep(200) .. "\r\n"):rep(6), "head" },
    }
    local url = serve(function(peer, n)
      peer:agree()
      peer:extended()
      for at = 1, #responses[n][1], 400 do
        peer:binary(responses[n][1]:sub(at, at + 399))
      end
      peer:closed()
    end)
    for _, case in ipairs(responses) do
      refused(url, { limits = { line = 500, fields = 10, body = 100, extended_message = 1000 } }, "ELIMIT", case[2])
    end
  end)

  it("reads versions of HTTP as numbers, and closes on any but 1 [H6]", function()
    local versions = { "1.2", "1.0", "2.0" }
    local url = serve(function(peer, n)
      peer:agree()
      peer:extended()
      peer:binary("HTTP/" .. versions[n] .. " 204 x\r\n\r\n")
    end)
    assert(khp.connect(url)):close()
    assert(khp.connect(url)):close()
    refused(url, nil, "EPROTOCOL", "version")
  end)
end)
