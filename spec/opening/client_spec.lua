-- The client's side of the opening handshake, every response whole, byte by byte and cut at every place.

local client = require "khp.opening.client"
local drive = require "spec.opening.drive"
local http = require "khp.http"
local server = require "khp.opening.server"

local KEY, ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

local function new(options)
  local given = { host = "server.example.com", target = "/chat", key = KEY, khp = false }
  for name, value in pairs(options or {}) do
    given[name] = value
  end
  local machine = client.new(given)
  local name, request = machine:poll()
  assert.equal("send", name)
  assert.is_nil(machine:poll())
  return machine, request
end

-- The 101 of RFC 6455 1.2; `changes` replaces fields (false: leaves them out), `more` adds lines.
local function switch(changes, more, start)
  changes = changes or {}
  local lines = { start or "HTTP/1.1 101 Switching Protocols" }
  for _, field in ipairs {
    { "Upgrade", "websocket" }, { "Connection", "Upgrade" }, { "Sec-WebSocket-Accept", ACCEPT },
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

local function everywhere(bytes, options)
  return drive.everywhere(function()
    return (new(options))
  end, bytes)
end

local function names(events)
  local out = {}
  for i, event in ipairs(events) do
    out[i] = event[1]
  end
  return table.concat(out, " ")
end

local function opened(bytes, options)
  local events = everywhere(bytes, options)
  assert.equal("open", names(events))
  return events[1][2]
end

local function answered(bytes, options)
  local events = everywhere(bytes, options)
  assert.equal("response close", names(events))
  return events[1][2]
end

local function failed(bytes, message, code, options)
  local events = everywhere(bytes, options)
  assert.equal("failed close", names(events))
  assert.equal(code or "EHANDSHAKE", events[1][3])
  if message then
    assert.equal(message, events[1][2])
  end
  assert.is_nil(events[1][2]:find("[^\32-\126]"))
  return events[1][4]
end

describe("the request", function()
  it("is what RFC 6455 4.1 asks for", function()
    local _, request = new { origin = "http://example.com", protocols = { "chat", "superchat" } }
    assert.equal("GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
      .. "Sec-WebSocket-Key: " .. KEY .. "\r\nSec-WebSocket-Version: 13\r\nOrigin: http://example.com\r\n"
      .. "Sec-WebSocket-Protocol: chat, superchat\r\n\r\n", request)
  end)

  it("names KHP first, and the application's protocols in their order [O1]", function()
    for _, case in ipairs {
      { { protocols = { "a", "b" }, khp = true }, "x-kaazing-handshake, a, b" },
      { { protocols = { "a", "x-kaazing-handshake", "b" }, khp = true }, "x-kaazing-handshake, a, b" },
      { { khp = true }, "x-kaazing-handshake" },
      { { protocols = { "a", "b" } }, "a, b" },
      { {}, nil },
    } do
      local _, request = new(case[1])
      assert.equal(case[2], assert(http.parse_request(request)).headers["Sec-WebSocket-Protocol"])
    end
    local machine = client.new { host = "h" }
    local _, request = machine:poll()
    assert.equal("x-kaazing-handshake", assert(http.parse_request(request)).headers["Sec-WebSocket-Protocol"])
  end)

  it("names the extensions in their order, and never an empty list", function()
    local _, request = new { extensions = { "permessage-deflate; client_max_window_bits", "x-a" } }
    assert.equal("permessage-deflate; client_max_window_bits, x-a",
      assert(http.parse_request(request)).headers["Sec-WebSocket-Extensions"])
    _, request = new {}
    assert.is_nil(request:find("Extensions", 1, true))
  end)

  it("has further headers in each of their forms", function()
    for _, headers in ipairs {
      { Authorization = "Basic YTpi", Cookie = { "a=b" } }, { { "Authorization", "Basic YTpi" }, { "Cookie", "a=b" } },
    } do
      local _, request = new { headers = headers }
      assert.matches("\r\nAuthorization: Basic YTpi\r\nCookie: a=b\r\n\r\n$", request)
    end
  end)

  it("has a key of its own each time", function()
    local seen = {}
    for _ = 1, 100 do
      local machine = client.new { host = "h" }
      local _, request = machine:poll()
      local key = assert(http.parse_request(request)).headers["Sec-WebSocket-Key"]
      assert.matches("^[A-Za-z0-9+/]+==$", key)
      assert.equal(24, #key)
      assert.is_nil(seen[key])
      seen[key] = true
    end
  end)

  it("is one that our server takes", function()
    local machine, request = new { khp = true, protocols = { "a" }, extensions = { "x-a; b" } }
    local peer = server.new(server.settings())
    peer:feed(request)
    assert.equal("request", (peer:poll()))
    assert.is_true(peer:accept { protocol = "x-kaazing-handshake", extensions = { "x-a" } })
    local _, response = peer:poll()
    machine:feed(response)
    local name, detail = machine:poll()
    assert.equal("open", name)
    assert.is_true(detail.khp)
  end)

  local mistakes = {
    ["no host"] = { { host = false }, "option 'host' must be a string" },
    ["an unknown option"] = { { protocol = "x" }, "unknown option 'protocol', did you mean 'protocols'" },
    ["a protocol twice"] = { { protocols = { "a", "a" } }, "the protocol 'a' is there twice" },
    ["a protocol that is no token"] = { { protocols = { "a b" } }, "a protocol must be a token, not 'a b'" },
    ["an empty protocol"] = { { protocols = { "" } }, "a protocol must be a token" },
    ["a malformed extension"] = { { extensions = { "a; =" } }, "malformed extensions" },
    ["an empty extension"] = { { extensions = { "a", "" } }, "malformed extensions: an empty one" },
    ["a target with a blank"] = { { target = "/a b" }, "" },
    ["a line end in the target"] = { { target = "/ HTTP/1.1\r\nX: y" }, "" },
    ["a line end in the host"] = { { host = "a\r\nX: y" }, "" },
    ["a line end in the origin"] = { { origin = "a\nb" }, "" },
    ["a line end in a header"] = { { headers = { A = "b\r\nC: d" } }, "" },
    ["a header that is no token"] = { { headers = { ["A B"] = "c" } }, "" },
    ["a key of its own making"] = { { headers = { ["sec-websocket-key"] = KEY } }, "is the handshake's own" },
    ["a protocol header"] = { { headers = { { "Sec-WebSocket-Protocol", "a" } } }, "is the handshake's own" },
    ["a future header"] = { { headers = { ["Sec-WebSocket-New"] = "a" } }, "is the handshake's own" },
    ["Host"] = { { headers = { hOST = "a" } }, "is the handshake's own" },
    ["Upgrade"] = { { headers = { Upgrade = "a" } }, "is the handshake's own" },
    ["Connection"] = { { headers = { Connection = "close" } }, "is the handshake's own" },
    ["Content-Length"] = { { headers = { ["Content-Length"] = "1" } }, "is the handshake's own" },
    ["Transfer-Encoding"] = { { headers = { ["Transfer-Encoding"] = "chunked" } }, "is the handshake's own" },
    ["two Origins"] = { { origin = "a", headers = { Origin = "b" } }, "is the handshake's own" },
    ["a limit that is none"] = { { limits = { head = 1 } }, "unknown option 'head'" },
  }
  for what, mistake in pairs(mistakes) do
    it("throws at the caller's line for " .. what .. " [H3]", function()
      local ok, message = pcall(new, mistake[1])
      assert.is_false(ok)
      assert.matches("client_spec.lua:%d+: .*" .. mistake[2], message)
    end)
  end

  it("may have its Origin among the headers", function()
    local _, request = new { headers = { Origin = "http://a" } }
    assert.matches("\r\nOrigin: http://a\r\n", request)
  end)
end)

describe("a 101", function()
  it("opens", function()
    local detail = opened(switch() .. "\129\1a")
    assert.same({ false, ACCEPT, "\129\1a" }, { detail.khp, detail.accept, detail.rest })
    assert.is_nil(detail.protocol)
    assert.same({}, detail.extensions)
    assert.equal(101, detail.response.status)
  end)

  it("opens with KHP, with another protocol, or with none [O4 O5]", function()
    local options = { khp = true, protocols = { "a", "b" } }
    local detail = opened(switch(nil, { "Sec-WebSocket-Protocol: x-kaazing-handshake" }), options)
    assert.same({ "x-kaazing-handshake", true }, { detail.protocol, detail.khp })
    detail = opened(switch(nil, { "Sec-WebSocket-Protocol: b" }), options)
    assert.same({ "b", false }, { detail.protocol, detail.khp })
    detail = opened(switch(), options)
    assert.is_nil(detail.protocol)
    assert.is_false(detail.khp)
  end)

  it("opens with extensions that were offered, on one line or on several [O6]", function()
    local options = { extensions = { "x-a; b, x-a", "x-c" } }
    for _, more in ipairs {
      { "Sec-WebSocket-Extensions: x-c, x-a; b=1" },
      { "Sec-WebSocket-Extensions: x-c", "sec-websocket-extensions: x-a; b=1" },
    } do
      local extensions = opened(switch(nil, more), options).extensions
      assert.same({ "x-c", "x-a", "1" }, { extensions[1].name, extensions[2].name, extensions[2].parameters.b })
    end
  end)

  local lawful = {
    ["names and values in any case"] = switch({ Upgrade = false, Connection = "UPGRADE" }, { "uPGRADE: WebSocket" }),
    ["Connection: keep-alive, upgrade"] = switch { Connection = "keep-alive, upgrade" },
    ["no reason phrase"] = switch(nil, nil, "HTTP/1.1 101 "),
    ["another reason phrase"] = switch(nil, nil, "HTTP/1.1 101 Web Socket Protocol Handshake"),
    ["blanks around values"] = switch { ["Sec-WebSocket-Accept"] = "\t" .. ACCEPT .. "  " },
    ["other headers"] = switch(nil, { "Server: x", "Date: y", "Set-Cookie: a", "Set-Cookie: b" }),
    ["a length that means nothing"] = switch(nil, { "Content-Length: 5" }),
    ["interim responses before it"] = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"
      .. switch(),
  }
  for what, bytes in pairs(lawful) do
    it("may have " .. what .. " [H2]", function()
      assert.equal("\136\0", opened(bytes .. "\136\0").rest)
    end)
  end

  local asked = { protocols = { "a", "b" }, extensions = { "x-a", "x-c" } }
  local faults = {
    { "no Upgrade", switch { Upgrade = false }, "the Upgrade header is missing" },
    { "another Upgrade", switch { Upgrade = "h2c" }, "the Upgrade header is not websocket: 'h2c'" },
    { "two Upgrades", switch(nil, { "Upgrade: h2c" }), "the Upgrade header is not websocket: 'websocket, h2c'" },
    { "no Connection", switch { Connection = false }, "the Connection header is missing" },
    { "another Connection", switch { Connection = "close" }, "the Connection header does not name Upgrade: 'close'" },
    { "no accept", switch { ["Sec-WebSocket-Accept"] = false }, "the Sec-WebSocket-Accept header is missing" },
    { "two accepts", switch(nil, { "Sec-WebSocket-Accept: " .. ACCEPT }),
      "the Sec-WebSocket-Accept header is there more than once" },
    { "a wrong accept", switch { ["Sec-WebSocket-Accept"] = KEY },
      "the Sec-WebSocket-Accept header is wrong: '" .. KEY .. "'" },
    { "an accept in another case", switch { ["Sec-WebSocket-Accept"] = ACCEPT:lower() } },
    { "a protocol that was not requested", switch(nil, { "Sec-WebSocket-Protocol: c" }),
      "the server chose the protocol 'c', which was not requested" },
    { "a protocol in another case", switch(nil, { "Sec-WebSocket-Protocol: A" }),
      "the server chose the protocol 'A', which was not requested" },
    { "KHP that was not requested", switch(nil, { "Sec-WebSocket-Protocol: x-kaazing-handshake" }) },
    { "two protocols", switch(nil, { "Sec-WebSocket-Protocol: a, b" }) },
    { "an empty protocol", switch(nil, { "Sec-WebSocket-Protocol:" }) },
    { "a protocol on two lines", switch(nil, { "Sec-WebSocket-Protocol: a", "Sec-WebSocket-Protocol: b" }),
      "the Sec-WebSocket-Protocol header is there more than once" },
    { "an extension that was not offered", switch(nil, { "Sec-WebSocket-Extensions: x-b" }),
      "the extension 'x-b' was not offered" },
    { "an extension twice", switch(nil, { "Sec-WebSocket-Extensions: x-a, x-a; b" }),
      "the extension 'x-a' is chosen twice" },
    { "a malformed extension", switch(nil, { "Sec-WebSocket-Extensions: x-a; =" }) },
    { "no extension in the header", switch(nil, { "Sec-WebSocket-Extensions:" }), "Sec-WebSocket-Extensions is empty" },
    { "version 1.0", switch(nil, nil, "HTTP/1.0 101 Switching Protocols"), "the server answered 101 as HTTP/1.0" },
  }
  for _, fault in ipairs(faults) do
    it("fails with " .. fault[1] .. " [O6]", function()
      local detail = failed(fault[2], fault[3], nil, asked)
      assert.equal(101, detail.status)
      assert.is_table(detail.headers)
    end)
  end

  it("fails with a protocol, or an extension, where none was requested [O6]", function()
    failed(switch(nil, { "Sec-WebSocket-Protocol: a" }), "the server chose the protocol 'a', but none was requested")
    failed(switch(nil, { "Sec-WebSocket-Extensions: x-a" }), "the extension 'x-a' was not offered")
  end)

  it("takes no more bytes", function()
    local machine = new()
    machine:feed(switch())
    assert.equal("open", (machine:poll()))
    local ok, message = pcall(machine.feed, machine, "x")
    assert.is_false(ok)
    assert.matches("the opening is complete", message)
  end)
end)

describe("any other response", function()
  it("is handed over with its body by length [H4]", function()
    local response = answered("HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"a\"\r\n"
      .. "Content-Length: 5\r\n\r\nsorryHTTP/1.1 200 OK\r\n\r\n")
    assert.same({ 401, "Unauthorized", "sorry", false },
      { response.status, response.reason, response.body, response.truncated })
    assert.equal('Basic realm="a"', response.headers["www-authenticate"])
  end)

  it("is handed over with its body in chunks, or without one [H4]", function()
    assert.equal("sorry",
      answered("HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nso\r\n3\r\nrry\r\n0\r\n\r\n").body)
    assert.equal("", answered("HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n").body)
    assert.equal("", answered("HTTP/1.1 204 No Content\r\n\r\nxyz").body)
    assert.equal("", answered("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n").body)
    assert.equal(426, answered("HTTP/1.1 426 \r\nSec-WebSocket-Version: 8\r\nContent-Length: 0\r\n\r\n").status)
  end)

  it("has a body up to the end of the stream where nothing tells its length [H4]", function()
    for _, body in ipairs { "", "sorry" } do
      local bytes = "HTTP/1.0 404 Not Found\r\nServer: x\r\n\r\n" .. body
      for cut = 1, #bytes do
        local machine = new()
        machine:feed(bytes:sub(1, cut))
        machine:feed(bytes:sub(cut + 1))
        assert.is_nil(machine:poll())
        machine:finish()
        local events = drive.collect(machine)
        assert.equal("response close", names(events))
        assert.same({ 404, body, false }, { events[1][2].status, events[1][2].body, events[1][2].truncated })
      end
    end
  end)

  it("loses a body that is too long, not its status and headers [H11]", function()
    local limits = { limits = { body = 4 } }
    local response = answered("HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 5\r\n\r\nsorry", limits)
    assert.same({ 302, "/x", "", true },
      { response.status, response.headers.location, response.body, response.truncated })
    response = answered("HTTP/1.1 302 Found\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nsorry\r\n0\r\n\r\n", limits)
    assert.same({ 302, true }, { response.status, response.truncated })
    response = answered("HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\nsorry", limits)
    assert.same({ 302, "sorr", true }, { response.status, response.body, response.truncated })
    assert.equal("sorr", answered("HTTP/1.1 302 Found\r\nContent-Length: 4\r\n\r\nsorry", limits).body)
    assert.equal("sorr", answered("HTTP/1.1 302 Found\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsorr\r\n0\r\n\r\n",
      limits).body)
  end)

  it("is not held beyond measure by chunks of one byte [H11]", function()
    local bytes = "HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n" .. ("1\r\nx\r\n"):rep(30) .. "0\r\n\r\n"
    assert.is_true(answered(bytes, { limits = { body = 100, opening_head = 60 } }).truncated)
    assert.equal(30, #answered(bytes, { limits = { body = 100, opening_head = 200 } }).body)
  end)

  it("fails where its body is malformed [H4]", function()
    assert.equal(403, failed("HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", nil, "EPROTOCOL").status)
  end)

  it("is not waited for without end: interim ones are counted", function()
    failed(("HTTP/1.1 100 Continue\r\n\r\n"):rep(17), "more than 16 interim responses", "ELIMIT")
    local last = "HTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n"
    assert.equal(404, answered(("HTTP/1.1 102 \r\n\r\n"):rep(16) .. last).status)
  end)
end)

describe("what is no response", function()
  it("fails [H1 H6 H11]", function()
    failed("\21\3\1\0\2\2\40", nil, "EPROTOCOL")
    failed("SSH-2.0-OpenSSH_9.2\r\n", nil, "EPROTOCOL")
    failed("GET / HTTP/1.1\r\n\r\n", nil, "EPROTOCOL")
    failed("HTTP/2.0 101 Switching\r\n\r\n", nil, "EPROTOCOL")
    failed("HTTP/1.1 10 X\r\n\r\n", nil, "EPROTOCOL")
    failed("HTTP/1.1 101 X\r\nUpgrade websocket\r\n\r\n", nil, "EPROTOCOL")
    failed("HTTP/1.1 403 X\r\nContent-Length: x\r\n\r\n", nil, "EPROTOCOL")
  end)

  it("fails, or is waited for, but never throws, and is read alike however it is cut [H10]", function()
    local options = { protocols = { "a" }, extensions = { "x-a; b" } }
    local seen = {}
    for _, whole in ipairs {
      switch(nil, { "Sec-WebSocket-Protocol: a", "Sec-WebSocket-Extensions: x-a; b=\"c\"" }) .. "\129\0",
      "HTTP/1.1 403 No\r\nContent-Length: 5\r\n\r\nsorry",
    } do
      drive.mutations(whole, 2000, function(bytes, cut)
        local events = drive.run(new(options), { bytes })
        local again = drive.run(new(options), { bytes:sub(1, cut), bytes:sub(cut + 1) })
        assert.equal(drive.describe(events), drive.describe(again))
        seen[names(events)] = true
      end)
    end
    assert.same({ [""] = true, ["open"] = true, ["failed close"] = true, ["response close"] = true }, seen)
  end)

  it("is bounded, be it one line or many [H11]", function()
    for _, bytes in ipairs {
      "HTTP/1.1 101 " .. ("a"):rep(1048576),
      "HTTP/1.1 101 OK\r\n" .. ("X-A: " .. ("b"):rep(1000) .. "\r\n"):rep(1045) .. "\r\n",
      "HTTP/1.1 101 OK\r\n" .. ("A:b\r\n"):rep(10000) .. "\r\n",
    } do
      for _, step in ipairs { #bytes, 4096, 1 } do
        local machine, events = new(), {}
        for at = 1, #bytes, step do
          machine:feed(bytes:sub(at, at + step - 1))
          if drive.collect(machine, events)[1] then
            break
          end
        end
        assert.equal("failed close", names(events))
        assert.equal("ELIMIT", events[1][3])
        machine:feed(bytes) -- what still comes is nobody's
        assert.is_nil(machine:poll())
      end
    end
  end)
end)

describe("time", function()
  it("runs out for an answer that does not come", function()
    for _, bytes in ipairs {
      "", "HTTP/1.1 101 S", "HTTP/1.1 403 No\r\nContent-Length: 5\r\n\r\nsor", "HTTP/1.1 403 No\r\n\r\nsor",
    } do
      local machine = new { now = 100, timeout = 3 }
      machine:feed(bytes)
      assert.equal(103, machine:deadline())
      machine:tick(102)
      assert.is_nil(machine:poll())
      machine:tick(103)
      local events = drive.collect(machine)
      assert.equal("failed close", names(events))
      assert.equal("ETIMEOUT", events[1][3])
      assert.equal(bytes:find("403", 1, true) and 403 or nil, events[1][4].status)
      assert.is_nil(machine:deadline())
      machine:tick(1000)
      machine:finish()
      assert.is_nil(machine:poll())
    end
  end)

  it("is limits.opening by default, and stands still without a clock", function()
    assert.equal(10, new({ now = 0 }):deadline())
    assert.equal(4, new({ now = 1, limits = { opening = 3 } }):deadline())
    assert.is_nil(new():deadline())
  end)
end)

describe("the end of the stream", function()
  it("fails an opening that is not complete", function()
    local middle = "the server closed the connection in the middle of its answer"
    for bytes, message in pairs {
      [""] = "the server closed the connection without an answer",
      ["HTTP/1.1 101 S"] = middle,
      ["HTTP/1.1 403 No\r\nContent-Length: 5\r\n\r\nsor"] = middle,
    } do
      local machine = new()
      machine:feed(bytes)
      machine:finish()
      local events = drive.collect(machine)
      assert.equal("failed close", names(events))
      assert.same({ message, "ECLOSED" }, { events[1][2], events[1][3] })
    end
  end)

  it("means nothing after the opening", function()
    local machine = new()
    machine:feed(switch())
    drive.collect(machine)
    machine:finish()
    assert.is_nil(machine:poll())
  end)
end)
