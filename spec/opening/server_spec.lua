-- The server's side of the opening handshake, every input whole, byte by byte and cut at every place.

local drive = require "spec.opening.drive"
local http = require "khp.http"
local server = require "khp.opening.server"

local KEY, ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

-- An opening of the example in RFC 6455 1.2; `changes` replaces fields (false: leaves them out), `more` adds lines.
local function opening(changes, more, start)
  changes = changes or {}
  local lines = { start or "GET /chat?a=b HTTP/1.1" }
  for _, field in ipairs {
    { "Host", "server.example.com" }, { "Upgrade", "websocket" }, { "Connection", "Upgrade" },
    { "Sec-WebSocket-Key", KEY }, { "Origin", "http://example.com" }, { "Sec-WebSocket-Version", "13" },
  } do
    local value = changes[field[1]]
    if value == nil then
      value = field[2]
    end
    if value then
      lines[#lines + 1] = field[1] .. ": " .. value
    end
  end
  for _, line in ipairs(more or {}) do
    lines[#lines + 1] = line
  end
  return table.concat(lines, "\r\n") .. "\r\n\r\n"
end

-- A machine with these settings, and perhaps `now`.
local function new(options)
  local given = {
    date = function()
      return "Sun, 22 Nov 2026 08:00:00 GMT"
    end,
  }
  for name, value in pairs(options or {}) do
    given[name] = value
  end
  given.now = nil
  return server.new(server.settings(given), options and options.now)
end

-- Answers the question of a request, when it comes, with this method.
local function answering(method, ...)
  local arguments = { n = select("#", ...), ... }
  return function(machine, event)
    if event[1] == "request" then
      local unpack = table.unpack or unpack -- luacheck: ignore
      assert(machine[method](machine, unpack(arguments, 1, arguments.n)))
    end
  end
end

local function decide(machine, event)
  if event[1] == "request" then
    assert(event[2].upgrade and machine:accept() or machine:reject(404))
  end
end

-- The machine after this request, and the request of its question.
local function asked(bytes, options)
  local machine = new(options)
  machine:feed(bytes)
  local name, request = machine:poll()
  assert.equal("request", name)
  assert.is_nil(machine:poll())
  return machine, request
end

local function names(events)
  local out = {}
  for i, event in ipairs(events) do
    out[i] = event[1]
  end
  return table.concat(out, " ")
end

-- Expects the refusal of these bytes; returns the parsed answer and the message.
local function refused(bytes, status, message, code, options)
  local events = drive.everywhere(function()
    return new(options)
  end, bytes)
  assert.equal("send failed close", names(events))
  local response = assert(http.parse_response(events[1][2]))
  assert.equal(status, response.status)
  assert.equal("1.1", response.version)
  assert.equal(events[2][2] .. "\n", response.body)
  assert.matches("close", response.headers.connection)
  assert.equal("Sun, 22 Nov 2026 08:00:00 GMT", response.headers.date)
  assert.equal("khp", response.headers.server)
  assert.equal(code or "EHANDSHAKE", events[2][3])
  assert.equal(status, events[2][4].status)
  if message then
    assert.equal(message, events[2][2])
  end
  return response, events[2][2]
end

describe("an opening request", function()
  it("is asked about with all that it says [O2]", function()
    local _, request = asked(opening(nil, {
      "Sec-WebSocket-Protocol: chat, x-kaazing-handshake",
      "sec-websocket-protocol: superchat",
      "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x-a; b=\"c\"",
      "Sec-WebSocket-Extensions: x-b",
    }))
    assert.is_true(request.upgrade)
    assert.same({ "GET", "/chat?a=b", "/chat", "a=b", "1.1" },
      { request.method, request.target, request.path, request.query, request.version })
    assert.same({ KEY, "http://example.com", "server.example.com" }, { request.key, request.origin, request.host })
    assert.same({ "chat", "x-kaazing-handshake", "superchat" }, request.protocols)
    local extensions = request.extensions
    assert.same({ "permessage-deflate", "x-a", "x-b" },
      { extensions[1].name, extensions[2].name, extensions[3].name })
    assert.is_true(extensions[1].parameters.client_max_window_bits)
    assert.equal("c", extensions[2].parameters.b)
  end)

  it("asks for nothing where it names no protocol and no extension", function()
    for _, more in ipairs {
      {}, { "Sec-WebSocket-Protocol:" }, { "Sec-WebSocket-Protocol: ,", "Sec-WebSocket-Extensions:" },
    } do
      local _, request = asked(opening({ Origin = false }, more))
      assert.same({}, request.protocols)
      assert.same({}, request.extensions)
      assert.is_nil(request.origin)
    end
  end)

  it("gets the 101 of RFC 6455 1.2 [O2 E15]", function()
    local events = drive.everywhere(new, opening(nil, { "Sec-WebSocket-Protocol: chat, superchat" }) .. "\129\0",
      answering("accept", { protocol = "chat" }))
    assert.equal("request send open", names(events))
    assert.equal("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
      .. "Sec-WebSocket-Accept: " .. ACCEPT .. "\r\nSec-WebSocket-Protocol: chat\r\nServer: khp\r\n"
      .. "Date: Sun, 22 Nov 2026 08:00:00 GMT\r\n\r\n", events[2][2])
    local opened = events[3][2]
    assert.same({ "chat", ACCEPT, "\129\0" }, { opened.protocol, opened.accept, opened.rest })
    assert.same({}, opened.extensions)
    assert.equal("/chat", opened.request.path)
  end)

  it("may have a URL in its query [O2 H1]", function()
    local _, request = asked(opening(nil, nil, "GET /chat?to=http://elsewhere/ HTTP/1.1"))
    assert.same({ "/chat", "to=http://elsewhere/" }, { request.path, request.query })
    assert.equal("server.example.com", request.host)
  end)

  local lawful = {
    ["header names and values in any case"] = opening({
      Host = false, Upgrade = false, Connection = false, ["Sec-WebSocket-Key"] = false,
      ["Sec-WebSocket-Version"] = false,
    }, {
      "hOsT: a", "UPGRADE: WebSocket", "connection: uPGRADE", "sec-websocket-key: " .. KEY,
      "SEC-WEBSOCKET-VERSION: 13",
    }),
    ["Connection: keep-alive, Upgrade"] = opening { Connection = "keep-alive, Upgrade" },
    ["Connection on two lines"] = opening({ Connection = "keep-alive" }, { "Connection:\t upgrade ," }),
    ["several products in Upgrade"] = opening { Upgrade = "h2c/1 ,\tWebSocket" },
    ["blanks around values"] = opening {
      ["Sec-WebSocket-Key"] = "  " .. KEY .. "\t ", ["Sec-WebSocket-Version"] = " 13 ",
    },
    ["an absolute target"] = opening(nil, nil, "GET http://server.example.com/chat?a=b HTTP/1.1"),
    ["a higher minor version"] = opening(nil, nil, "GET /chat?a=b HTTP/1.2"),
    ["empty lines first"] = "\r\n\r\n" .. opening(),
    ["bare line feeds"] = (opening():gsub("\r\n", "\n")),
    ["an empty body"] = opening(nil, { "Content-Length: 0" }),
    ["an IPv6 host"] = opening { Host = "[::1]:8000" },
    ["a key with other bits at its end"] = opening { ["Sec-WebSocket-Key"] = "dGhlIHNhbXBsZSBub25jZR==" },
  }
  for what, bytes in pairs(lawful) do
    it("may have " .. what .. " [O2 H2 H5 H6]", function()
      local events = drive.everywhere(new, bytes, answering "accept")
      assert.equal("request send open", names(events))
      assert.is_true(events[1][2].upgrade)
      assert.equal("/chat", events[1][2].path)
      assert.equal("a=b", events[1][2].query)
    end)
  end

  it("is for the host of an absolute target, whatever Host says", function()
    local _, request = asked(opening({ Host = "other" }, nil, "GET http://Real.example.com:81/ HTTP/1.1"))
    assert.equal("real.example.com:81", request.host)
  end)

  local faults = {
    { "POST", opening(nil, nil, "POST / HTTP/1.1"), 405, "a WebSocket opening is a GET request, not 'POST'" },
    { "HTTP/1.0", opening(nil, nil, "GET / HTTP/1.0"), 400, "a WebSocket opening needs HTTP/1.1, not HTTP/1.0" },
    { "OPTIONS *", opening(nil, nil, "OPTIONS * HTTP/1.1"), 405 },
    { "the target *", opening(nil, nil, "GET * HTTP/1.1"), 400, "the request target names no resource: '*'" },
    { "no Host", opening { Host = false }, 400, "the Host header is missing", "EPROTOCOL" },
    { "an empty Host", opening { Host = "" }, 400, "the Host header is empty" },
    { "two Hosts", opening(nil, { "Host: b" }), 400, "the Host header is there more than once", "EPROTOCOL" },
    { "a Host with a path", opening { Host = "a/b" }, 400, "the Host header is no host and port: 'a/b'", "EPROTOCOL" },
    { "a Host with a user", opening { Host = "a@b" }, 400, "the Host header is no host and port: 'a@b'", "EPROTOCOL" },
    { "a fragment", opening(nil, nil, "GET /#a HTTP/1.1"), 400, nil, "EPROTOCOL" },
    { "a target of another scheme", opening(nil, nil, "GET ftp://a/ HTTP/1.1"), 400, nil, "EPROTOCOL" },
    { "no Upgrade", opening { Upgrade = false }, 400, "the Upgrade header is missing" },
    { "another Upgrade", opening { Upgrade = "h2c" }, 400, "the Upgrade header does not name websocket: 'h2c'" },
    { "an Upgrade like it", opening { Upgrade = "websockets" }, 400 },
    { "no Connection", opening { Connection = false }, 400, "the Connection header is missing" },
    { "Connection: close", opening { Connection = "close" }, 400,
      "the Connection header does not name Upgrade: 'close'" },
    { "a Connection like it", opening { Connection = "no-upgrade" }, 400 },
    { "no key", opening { ["Sec-WebSocket-Key"] = false }, 400, "the Sec-WebSocket-Key header is missing" },
    { "two keys", opening(nil, { "Sec-WebSocket-Key: " .. KEY }), 400,
      "the Sec-WebSocket-Key header is there more than once" },
    { "a short key", opening { ["Sec-WebSocket-Key"] = "dGhlIHNhbXBsZSBub25j" }, 400,
      "Sec-WebSocket-Key is not 16 bytes in base64: 'dGhlIHNhbXBsZSBub25j'" },
    { "a key of 17 bytes", opening { ["Sec-WebSocket-Key"] = "dGhlIHNhbXBsZSBub25jZXo=" }, 400 },
    { "a key that is not base64", opening { ["Sec-WebSocket-Key"] = "dGhlIHNhbXBsZSBub25j*Q==" }, 400 },
    { "an empty key", opening { ["Sec-WebSocket-Key"] = "" }, 400 },
    { "no version", opening { ["Sec-WebSocket-Version"] = false }, 400,
      "the Sec-WebSocket-Version header is missing" },
    { "version 8", opening { ["Sec-WebSocket-Version"] = "8" }, 426,
      "this server speaks WebSocket version 13, not '8'" },
    { "a list of versions", opening { ["Sec-WebSocket-Version"] = "13, 8" }, 426 },
    { "two versions", opening(nil, { "Sec-WebSocket-Version: 8" }), 400,
      "the Sec-WebSocket-Version header is there more than once" },
    { "a body by length", opening(nil, { "Content-Length: 3" }) .. "abc", 400, "a WebSocket opening has no body" },
    { "a chunked body", opening(nil, { "Transfer-Encoding: chunked" }) .. "0\r\n\r\n", 400,
      "a WebSocket opening has no body" },
    { "two origins", opening(nil, { "Origin: http://b" }), 400, "the Origin header is there more than once" },
    { "a bad protocol", opening(nil, { "Sec-WebSocket-Protocol: a b" }), 400 },
    { "a protocol twice", opening(nil, { "Sec-WebSocket-Protocol: a, b", "Sec-WebSocket-Protocol: a" }), 400,
      "Sec-WebSocket-Protocol names 'a' more than once" },
    { "one protocol, twice", opening(nil, { "Sec-WebSocket-Protocol: a,a" }), 400 },
    { "a key and nothing else", opening { Upgrade = false, Connection = false, ["Sec-WebSocket-Version"] = false },
      400, "the Upgrade header is missing" },
    { "a version and nothing else", opening { Upgrade = false, Connection = false, ["Sec-WebSocket-Key"] = false },
      400, "the Upgrade header is missing" },
    { "a bad extension", opening(nil, { "Sec-WebSocket-Extensions: a; =b" }), 400 },
  }
  for _, fault in ipairs(faults) do
    it("is refused for " .. fault[1] .. " [O3]", function()
      local response, message = refused(fault[2], fault[3], fault[4], fault[5])
      assert.equal(fault[3] == 405 and "GET" or nil, response.headers.allow)
      if fault[3] == 426 then
        assert.equal("13", response.headers["sec-websocket-version"])
        assert.equal("websocket", response.headers.upgrade)
        assert.equal("Upgrade, close", response.headers.connection)
      end
      assert.is_nil(message:find("[^\32-\126]"))
    end)
  end

  it("shows a peer's text short and harmless", function()
    local _, message = refused(opening { Connection = "\255<b>" .. ("x"):rep(500) }, 400)
    assert.equal("the Connection header does not name Upgrade: '\\xFF<b>" .. ("x"):rep(53) .. "...'", message)
  end)
end)

describe("what is no request", function()
  it("is refused once, with one answer [H1 H11]", function()
    refused("\22\3\1\2\0\1\0\1\252\3\3" .. ("\0"):rep(100), 400, nil, "EPROTOCOL")
    refused("hello\r\n\r\n", 400, nil, "EPROTOCOL")
    refused("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400, nil, "EPROTOCOL")
    refused("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, nil, "EPROTOCOL")
    refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, nil, "EPROTOCOL")
    refused("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, nil, "EPROTOCOL")
  end)

  local function flood(bytes, status, size)
    for _, step in ipairs { #bytes, size, 1 } do
      local machine, events = new(), {}
      for at = 1, #bytes, step do
        machine:feed(bytes:sub(at, at + step - 1))
        if drive.collect(machine, events)[1] then
          break
        end
      end
      assert.equal("send failed close", names(events))
      assert.equal("ELIMIT", events[2][3])
      assert.equal(status, events[2][4].status)
      machine:feed(bytes) -- what still comes is nobody's
      assert.is_nil(machine:poll())
    end
  end

  it("may be a target of 1 MiB [H11]", function()
    flood("GET /" .. ("a"):rep(1048576) .. " HTTP/1.1\r\nHost: a\r\n\r\n", 414, 4096)
  end)

  it("may be a head of 1 MiB [H11]", function()
    flood("GET / HTTP/1.1\r\nHost: a\r\n" .. ("X-A: " .. ("b"):rep(1000) .. "\r\n"):rep(1045) .. "\r\n", 431, 4096)
  end)

  it("may have 10,000 header fields [H11]", function()
    flood("GET / HTTP/1.1\r\n" .. ("A:b\r\n"):rep(10000) .. "\r\n", 431, 777)
  end)

  it("gets an answer, or is waited for, but never throws, and is read alike however it is cut [H10]", function()
    local whole = opening(nil, { "Sec-WebSocket-Protocol: a, b", "Sec-WebSocket-Extensions: c; d=\"e\"" }) .. "\129\0"
    local seen = {}
    drive.mutations(whole, 3000, function(bytes, cut)
      local events = drive.run(new(), { bytes }, decide)
      local again = drive.run(new(), { bytes:sub(1, cut), bytes:sub(cut + 1) }, decide)
      assert.equal(drive.describe(events), drive.describe(again))
      seen[names(events)] = true
    end)
    assert.same({ ["request send open"] = true, ["send failed close"] = true, ["request send close"] = true }, seen)
  end)

  it("is told by limits that can be set [H11]", function()
    refused(opening(), 431, nil, "ELIMIT", { limits = { fields = 5 } })
    refused(opening(), 431, nil, "ELIMIT", { limits = { opening_head = 100 } })
    refused(opening(), 431, nil, "ELIMIT", { limits = { line = 30 } })
    refused(opening(nil, nil, "GET /" .. ("a"):rep(50) .. " HTTP/1.1"), 414, nil, "ELIMIT", { limits = { line = 40 } })
  end)

  it("costs linear time whatever the fields hold", function()
    local began = os.clock()
    local bounds = { opening_head = 3000000, line = 3000000 }
    for _, value in ipairs { (" "):rep(1000000) .. "x", ("a,"):rep(500000), ("\t,"):rep(500000), (" a"):rep(500000) } do
      for _, name in ipairs { "Connection", "Upgrade", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions",
        "Origin", "Sec-WebSocket-Key", "Host" } do
        local machine = new { limits = bounds }
        machine:feed(opening({ [name] = "x" .. value }))
        assert.truthy(machine:poll())
      end
    end
    assert.is_true(os.clock() - began < 20)
  end)
end)

describe("an ordinary request", function()
  it("is asked about, with upgrade = false", function()
    for _, bytes in ipairs {
      "GET /;e/cookies?.kl=Y HTTP/1.1\r\nHost: a\r\n\r\n",
      "GET /;e/cookies?.kl=Y HTTP/1.0\r\n\r\n",
      "GET /;e/cookies?.kl=Y HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n",
      "GET /;e/cookies?.kl=Y HTTP/1.1\r\nHost:\r\n\r\n",
    } do
      local events = drive.everywhere(new, bytes, answering("reject", 200, { body = "x=y" }))
      assert.equal("request send close", names(events))
      local request = events[1][2]
      assert.is_false(request.upgrade)
      assert.same({ "/;e/cookies", ".kl=Y", "" }, { request.path, request.query, request.body })
      assert.equal("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\nServer: khp\r\n"
        .. "Date: Sun, 22 Nov 2026 08:00:00 GMT\r\nContent-Length: 3\r\n\r\nx=y", events[2][2])
    end
  end)

  it("has its body, by length and chunked [H4]", function()
    for _, bytes in ipairs {
      "POST /;api/set-cookies HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\na=b;GET / HTTP/1.1\r\n",
      "POST /;api/set-cookies HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na=b\r\n1\r\n;\r\n0\r\n\r\n",
    } do
      local events = drive.everywhere(new, bytes, answering("reject", 204))
      assert.equal("request send close", names(events))
      assert.equal("a=b;", events[1][2].body)
    end
  end)

  it("gets 100 where it expects that, and only while its body is missing [H8 H6]", function()
    local head, tail = "POST / HTTP/1.%d\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-Continue\r\n\r\n", "x"
    local machine = new()
    machine:feed(head:format(1))
    assert.same({ "send", "HTTP/1.1 100 Continue\r\n\r\n" }, { machine:poll() })
    machine:feed(tail)
    assert.equal("request", (machine:poll()))
    machine = new()
    machine:feed(head:format(1) .. tail)
    assert.equal("request", (machine:poll()))
    machine = new()
    machine:feed(head:format(0))
    assert.is_nil(machine:poll())
  end)

  it("gets 417 for any other expectation [H8]", function()
    refused("POST / HTTP/1.1\r\nHost: a\r\nExpect: the worst\r\n\r\n", 417, nil, "EPROTOCOL")
    refused(opening(nil, { "Expect: the worst" }), 417, nil, "EPROTOCOL")
  end)

  it("is bounded [H11]", function()
    refused("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 65537\r\n\r\n", 413, nil, "ELIMIT")
    refused("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n", 413, nil, "ELIMIT",
      { limits = { body = 3 } })
  end)

  it("cannot be accepted as a WebSocket", function()
    local machine = asked("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    local ok, message, code = machine:accept()
    assert.same({ "an ordinary HTTP request cannot be accepted as a WebSocket", "EPOLICY" }, { message, code })
    assert.is_nil(ok)
    assert.is_true(machine:reject(404))
  end)

  it("gets no body where it is HEAD", function()
    local machine = asked("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert.is_true(machine:reject(404, { body = "gone" }))
    local _, bytes = machine:poll()
    assert.matches("Content%-Length: 4\r\n", bytes)
    assert.matches("\r\n\r\n$", bytes)
  end)
end)

describe("accept", function()
  local offers = {
    "Sec-WebSocket-Protocol: x-kaazing-handshake, chat", "Sec-WebSocket-Extensions: x-a; b=1, x-c, x-c; d",
  }

  it("takes protocol, extensions, headers and a reason [O2 E15]", function()
    local machine = asked(opening(nil, offers))
    assert.is_true(machine:accept {
      protocol = "x-kaazing-handshake", extensions = { "x-c; d", "x-a" }, reason = "Web Socket Protocol Handshake",
      headers = { ["X-B"] = { "2", "3" }, ["X-A"] = "1", Server = "mine" },
    })
    local _, bytes = machine:poll()
    assert.equal("HTTP/1.1 101 Web Socket Protocol Handshake\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
      .. "Sec-WebSocket-Accept: " .. ACCEPT .. "\r\nSec-WebSocket-Protocol: x-kaazing-handshake\r\n"
      .. "Sec-WebSocket-Extensions: x-c; d, x-a\r\nServer: mine\r\nX-A: 1\r\nX-B: 2\r\nX-B: 3\r\n"
      .. "Date: Sun, 22 Nov 2026 08:00:00 GMT\r\n\r\n", bytes)
    local _, opened = machine:poll()
    assert.same({ "x-c", "x-a" }, { opened.extensions[1].name, opened.extensions[2].name })
    assert.is_true(opened.extensions[1].parameters.d)
  end)

  it("takes headers in each of their forms", function()
    local response = assert(http.parse_response("HTTP/1.1 200 OK\r\nX-A: 1\r\nX-B: 2\r\nContent-Type: a/b\r\n\r\n"))
    for _, headers in ipairs {
      { { "X-A", "1" }, { "X-B", "2" }, { "Content-Type", "a/b" } }, response.headers,
      { ["X-A"] = "1", ["X-B"] = 2, ["Content-Type"] = "a/b" },
    } do
      local machine = asked(opening())
      assert.is_true(machine:accept { headers = headers })
      local _, bytes = machine:poll()
      for _, line in ipairs { "\r\nX-A: 1\r\n", "\r\nX-B: 2\r\n", "\r\nContent-Type: a/b\r\n" } do
        assert.truthy(bytes:find(line, 1, true))
      end
    end
  end)

  it("sends no Server and no Date where told so", function()
    local machine = asked(opening(), { server = false, date = false })
    machine:accept()
    local _, bytes = machine:poll()
    assert.equal("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
      .. "Sec-WebSocket-Accept: " .. ACCEPT .. "\r\n\r\n", bytes)
  end)

  local unlawful = {
    ["a protocol that was not offered"] = { protocol = "superchat" },
    ["a protocol in another case"] = { protocol = "Chat" },
    ["a protocol that is no string"] = { protocol = {} },
    ["an extension that was not offered"] = { extensions = { "x-z" } },
    ["an extension twice"] = { extensions = { "x-c", "x-c; d" } },
    ["two extensions in one"] = { extensions = { "x-a, x-c" } },
    ["a malformed extension"] = { extensions = { "x-a; =" } },
    ["an extension that is no string"] = { extensions = { {} } },
    ["extensions that are no array"] = { extensions = "x-a" },
    ["a line end in a value"] = { headers = { ["X-A"] = "a\r\nSet-Cookie: b" } },
    ["a line end in a name"] = { headers = { ["X-A: b\r\nX-C"] = "a" } },
    ["a NUL in a value"] = { headers = { { "X-A", "a\0" } } },
    ["a line end in the reason"] = { reason = "OK\r\nX: y" },
    ["a reason that is no string"] = { reason = {} },
    ["Sec-WebSocket-Accept"] = { headers = { ["sec-webSocket-accept"] = "a" } },
    ["Sec-WebSocket-Protocol"] = { headers = { ["Sec-WebSocket-Protocol"] = "chat" } },
    ["Upgrade"] = { headers = { { "Upgrade", "h2c" } } },
    ["Connection"] = { headers = { { "Connection", "close" } } },
    ["Content-Length"] = { headers = { ["Content-Length"] = 0 } },
    ["Transfer-Encoding"] = { headers = { ["transfer-encoding"] = "chunked" } },
    ["a value that is no string"] = { headers = { ["X-A"] = true } },
    ["a pair that is no table"] = { headers = { { "X-A", "1" }, "X-B" } },
    ["a name that is no string"] = { headers = { [true] = "x" } },
    ["headers that are no table"] = { headers = "X-A: b" },
    ["an unknown field"] = { protocols = { "chat" } },
  }
  for what, answer in pairs(unlawful) do
    it("refuses " .. what .. " and stays undecided [H3 O6]", function()
      local machine = asked(opening(nil, offers))
      local ok, message, code = machine:accept(answer)
      assert.is_nil(ok)
      assert.is_string(message)
      assert.equal("EPOLICY", code)
      assert.is_nil(machine:poll())
      assert.is_true(machine:reject(500))
      assert.equal("send close", names(drive.collect(machine)))
    end)
  end

  it("is given once, and only when asked", function()
    local machine = new()
    local ok, message = pcall(machine.accept, machine)
    assert.is_false(ok)
    assert.matches("there is no request to answer yet", message)
    machine = asked(opening())
    machine:accept()
    assert.is_false(pcall(machine.accept, machine))
    assert.is_false(pcall(machine.reject, machine, 500))
    assert.is_false(pcall(machine.feed, machine, "x"))
  end)

  it("may come late; what the client sent meanwhile is kept, and bounded", function()
    local machine = asked(opening() .. "\129")
    machine:feed("\1")
    machine:feed("a")
    machine:accept()
    assert.equal("\129\1a", drive.collect(machine)[2][2].rest)

    machine = asked(opening(), { limits = { opening_head = 1000 } })
    machine:feed(("x"):rep(1000))
    assert.is_nil(machine:poll())
    machine:feed("x")
    local events = drive.collect(machine)
    assert.equal("send failed close", names(events))
    assert.equal("ELIMIT", events[2][3])
    assert.same({ "the opening is over", "ELIMIT" }, { select(2, machine:accept()) })
    assert.same({ "the opening is over", "ELIMIT" }, { select(2, machine:reject(403)) })
  end)
end)

describe("reject", function()
  it("answers an opening with any final status [O3]", function()
    local machine = asked(opening())
    assert.is_true(machine:reject(401, {
      headers = { ["WWW-Authenticate"] = 'Basic realm="a"', ["Content-Type"] = "text/html", Date = "never" },
      body = "<p>no", reason = "Who",
    }))
    local events = drive.collect(machine)
    assert.equal("send close", names(events))
    assert.equal("HTTP/1.1 401 Who\r\nContent-Type: text/html\r\nDate: never\r\nWWW-Authenticate: Basic realm=\"a\"\r\n"
      .. "Connection: close\r\nServer: khp\r\nContent-Length: 5\r\n\r\n<p>no", events[1][2])
    machine:feed("more") -- of no interest any longer
    machine:finish()
    assert.is_nil(machine:poll())
    assert.is_nil(machine:deadline())
  end)

  it("gives a length also where there is no body [H4]", function()
    for status, length in pairs {
      [404] = "Content-Length: 0\r\n", [302] = "Content-Length: 0\r\n", [204] = false, [304] = false,
    } do
      local machine = asked(opening())
      machine:reject(status)
      local _, bytes = machine:poll()
      assert.equal(length and true or false, bytes:find(length or "Content-Length", 1, true) ~= nil)
      assert.matches("\r\n\r\n$", bytes)
    end
  end)

  local unlawful = {
    ["101"] = { 101 }, ["100"] = { 100 }, ["600"] = { 600 }, ["half a status"] = { 403.5 }, ["a word"] = { "403" },
    ["no status"] = {}, ["a line end in a header"] = { 403, { headers = { A = "b\nc" } } },
    ["a line end in the reason"] = { 403, { reason = "a\rb" } },
    ["Connection"] = { 403, { headers = { Connection = "x" } } },
    ["Content-Length"] = { 403, { headers = { ["Content-Length"] = "1" } } },
    ["Transfer-Encoding"] = { 403, { headers = { ["Transfer-Encoding"] = "chunked" } } },
    ["Sec-WebSocket-Accept"] = { 403, { headers = { ["Sec-WebSocket-Accept"] = ACCEPT } } },
    ["a body that is no string"] = { 403, { body = {} } }, ["a body of a 204"] = { 204, { body = "x" } },
    ["an unknown field"] = { 403, { bdy = "x" } }, ["an answer that is no table"] = { 403, "x" },
  }
  for what, arguments in pairs(unlawful) do
    it("refuses " .. what .. " and stays undecided [H3]", function()
      local machine = asked(opening())
      local ok, message, code = machine:reject(arguments[1], arguments[2])
      assert.is_nil(ok)
      assert.is_string(message)
      assert.equal("EPOLICY", code)
      assert.is_nil(machine:poll())
      assert.is_true(machine:accept())
    end)
  end
end)

describe("time", function()
  it("runs out for a request that does not come [E18]", function()
    for _, bytes in ipairs { "", "GET / HTTP/1.1\r\n", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc" } do
      local machine = new { now = 100, timeout = 5 }
      machine:feed(bytes)
      assert.equal(105, machine:deadline())
      machine:tick(104.9)
      assert.is_nil(machine:poll())
      machine:tick(105)
      local events = drive.collect(machine)
      assert.equal("send failed close", names(events))
      assert.matches("^HTTP/1.1 408 ", events[1][2])
      assert.same({ "ETIMEOUT", 408 }, { events[2][3], events[2][4].status })
      assert.is_nil(machine:deadline())
      machine:tick(1000)
      assert.is_nil(machine:poll())
    end
  end)

  it("runs out for a decision that does not come", function()
    local machine = asked(opening(), { now = 0 })
    assert.equal(10, machine:deadline())
    machine:tick(10)
    local events = drive.collect(machine)
    assert.equal("send failed close", names(events))
    assert.matches("^HTTP/1.1 503 ", events[1][2])
    assert.same({ "the opening is over", "ETIMEOUT" }, { select(2, machine:accept()) })
  end)

  it("stands still where none is given", function()
    local machine = new()
    assert.is_nil(machine:deadline())
    machine:tick(1e9)
    assert.is_nil(machine:poll())
  end)
end)

describe("the end of the stream", function()
  it("fails an opening that is not complete", function()
    for _, bytes in ipairs { "", "GET /", opening() } do
      local machine = new()
      machine:feed(bytes)
      drive.collect(machine)
      machine:finish()
      local events = drive.collect(machine)
      assert.equal("failed close", names(events))
      assert.equal("ECLOSED", events[1][3])
      machine:finish()
      machine:feed "more"
      assert.same({}, drive.collect(machine))
      if bytes == opening() then -- the answer comes too late
        assert.same({ nil, "the opening is over", "ECLOSED" }, { machine:accept() })
      end
    end
  end)

  it("does not keep an ordinary request from its answer", function()
    local machine = asked("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    machine:finish()
    assert.is_true(machine:reject(200))
    assert.equal("send close", names(drive.collect(machine)))
  end)
end)

describe("server.settings", function()
  it("serve many machines, whose bytes do not mix [O2]", function()
    local settings, machines, waiting = server.settings(), {}, {}
    for i = 1, 5 do
      machines[i] = server.new(settings)
      waiting[i] = opening({ Host = "host" .. i }, nil, "GET /" .. i .. " HTTP/1.1")
    end
    for cut = 1, #waiting[1] do -- all in turn, byte by byte, and the last ones at once
      for i = 1, 5 do
        machines[i]:feed(waiting[i]:sub(cut, cut))
      end
      if cut % 20 == 0 then
        local other = server.new(settings)
        other:feed(cut % 40 == 0 and "garbage\r\n\r\n" or opening())
        assert.equal(cut % 40 == 0 and "send" or "request", (other:poll()))
      end
    end
    for i = 1, 5 do
      local _, request = machines[i]:poll()
      assert.equal("/" .. i .. " host" .. i, request.path .. " " .. request.host)
    end
  end)

  it("throws at the caller's line for options that it does not know", function()
    local ok, message = pcall(function()
      local settings = server.settings { timout = 1 }
      return settings
    end)
    assert.is_false(ok)
    assert.matches("server_spec.lua:%d+: khp.opening.server: unknown option 'timout', did you mean", message)
    ok, message = pcall(function()
      local settings = server.settings { limits = { head = 1 } }
      return settings
    end)
    assert.is_false(ok)
    assert.matches("server_spec.lua:%d+: limits: unknown option 'head'", message)
  end)
end)
