-- The server's side of the extended handshake: limits, order of calls, what may be answered and when. Conversations
-- byte for byte are in spec/conformance.

local http = require "khp.http"
local mutate = require "spec.extended.mutate"
local server = require "khp.extended.server"

local ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
local REQUEST = "GET /echo HTTP/1.1\r\n\r\n"

local function after_opening(extensions)
  return {
    request = { protocols = { "x-kaazing-handshake", "chat" }, headers = {} },
    accept = ACCEPT,
    extensions = extensions,
  }
end

-- A machine with these settings; besides, `opening_extensions` were negotiated in the opening.
local function new(options)
  local given, negotiated = { server = false, date = false }, nil
  for name, value in pairs(options or {}) do
    if name == "opening_extensions" then
      negotiated = value
    else
      given[name] = value
    end
  end
  return server.new(server.settings(given), after_opening(negotiated), 100)
end

local function events(machine)
  local list = {}
  while true do
    local event = { machine:poll() }
    if not event[1] then
      return list
    end
    list[#list + 1] = event
  end
end

-- Feeds one message and returns the request that comes of it.
local function ask(machine, bytes)
  machine:message(bytes or REQUEST, "binary")
  local name, request, attempt = machine:poll()
  assert.equal("request", name)
  return request, attempt
end

-- The response in the only "send" event, and the other events.
local function answer(machine)
  local list = events(machine)
  assert.equal("send", list[1][1])
  assert.equal("binary", list[1][3])
  local response, rest = http.parse_response(list[1][2])
  assert(response, rest)
  assert.equal("", rest)
  table.remove(list, 1)
  return response, list
end

local function refused(status, code, close, machine)
  local response, list = answer(machine)
  assert.equal(status, response.status)
  assert.equal("failed", list[1][1])
  assert.equal(code, list[1][3])
  assert.equal("close", list[2][1])
  assert.equal(close, list[2][2])
  assert.is_true(#list[2][3] <= 123)
  return response, list[1][2], list[1][4]
end

describe("khp.extended.server", function()
  it("gives the policy the request as it is, with what it asks for [E3 E20]", function()
    local machine = new()
    local request, attempt = ask(machine, "POST /echo?a=b HTTP/1.1\r\nSec-WebSocket-Protocol: mqtt, chat\r\n"
      .. "Sec-WebSocket-Extensions: x; a=1; b, y\r\nContent-Length: 2\r\n\r\nhi")
    assert.equal(1, attempt)
    assert.same({ "POST", "/echo?a=b", "/echo", "a=b", "1.1", "hi" },
      { request.method, request.target, request.path, request.query, request.version, request.body })
    assert.same({ "chat", "mqtt" }, request.protocols)
    assert.equal("x; a=1; b, y", http.format_extensions(request.extensions))
  end)

  it("counts the attempts [E13]", function()
    local machine = new()
    for i = 1, 3 do
      local _, attempt = ask(machine)
      assert.equal(i, attempt)
      assert.is_true(machine:challenge "Basic realm=\"a\"")
      local response = answer(machine)
      assert.equal(401, response.status)
    end
  end)

  it("refuses the last attempt that the limit allows with 403 [E13]", function()
    local machine = new { limits = { attempts = 2 } }
    ask(machine)
    machine:challenge "Basic realm=\"a\""
    events(machine)
    ask(machine)
    assert.is_true(machine:challenge "Basic realm=\"a\"")
    local _, _, detail = refused(403, "EAUTH", 1000, machine)
    assert.equal(2, detail.attempts)
    machine:message(REQUEST)
    assert.same({}, events(machine))
  end)

  it("accepts the last attempt that the limit allows [E13]", function()
    local machine = new { limits = { attempts = 1 } }
    ask(machine)
    assert.is_true(machine:accept {})
    assert.equal(101, answer(machine).status)
  end)

  it("opens with what was chosen [E11 E14 E17 E20]", function()
    local machine = new()
    local request = ask(machine, "GET / HTTP/1.1\r\nSec-WebSocket-Extensions: x, y\r\n\r\n")
    machine:accept { protocol = "chat", extensions = { "y; a=1" }, headers = { ["X-A"] = { "1", "2" } } }
    local response, list = answer(machine)
    assert.equal("websocket", response.headers.upgrade)
    assert.equal("Upgrade", response.headers.connection)
    assert.equal(ACCEPT, response.headers["sec-websocket-accept"])
    assert.equal("1, 2", response.headers["x-a"])
    local opened = list[1][2]
    assert.same({ "chat", "y; a=1", 1 }, { opened.protocol, opened.extension_source, #opened.extensions })
    assert.same({ "y", "1" }, { opened.extensions[1].name, opened.extensions[1].parameters.a })
    assert.equal(request, opened.request)
    assert.is_nil(machine:deadline())
  end)

  it("sends Server and Date unless told not to [E15]", function()
    local machine = new { server = true, date = true }
    ask(machine)
    machine:accept {}
    local headers = answer(machine).headers
    assert.equal("khp", headers.server)
    assert.is_number(http.parse_date(headers.date))
    machine = new()
    ask(machine)
    machine:accept {}
    assert.is_nil(answer(machine).headers.date)
  end)

  it("does not let a policy choose by changing the request [E14 E20]", function()
    local machine = new()
    local request = ask(machine, "GET / HTTP/1.1\r\nSec-WebSocket-Extensions: x\r\n\r\n")
    request.protocols[#request.protocols + 1] = "other"
    request.extensions[#request.extensions + 1] = { name = "y", parameters = {} }
    local _, _, code = machine:accept { protocol = "other" }
    assert.equal("EPOLICY", code)
    _, _, code = machine:accept { extensions = { "y" } }
    assert.equal("EPOLICY", code)
    _, _, code = machine:accept { extensions = { "x", "x; a=1" } }
    assert.equal("EPOLICY", code)
    _, _, code = machine:accept { extensions = { "x; a=\"\r\n\"" } }
    assert.equal("EPOLICY", code)
    assert.same({}, events(machine))
    assert.is_true(machine:accept { extensions = { "x" } })
  end)

  it("forgets what an earlier request asked for [E14]", function()
    local machine = new()
    ask(machine, "GET / HTTP/1.1\r\nSec-WebSocket-Extensions: x\r\n\r\n")
    machine:challenge "Basic realm=\"a\""
    events(machine)
    ask(machine)
    local ok, _, code = machine:accept { extensions = { "x" } }
    assert.is_nil(ok)
    assert.equal("EPOLICY", code)
  end)

  it("refuses with EPOLICY whatever a policy gives in place of what it should [H3]", function()
    local machine = new()
    ask(machine)
    for _, wrong in ipairs {
      { "accept", { headers = "x" } }, { "accept", { headers = { 1 } } }, { "accept", { headers = { x = true } } },
      { "accept", { headers = { { "x" } } } }, { "accept", { headers = { ["a b"] = "c" } } },
      { "accept", { headers = { ["Content-Length"] = "3" } } }, { "accept", { extensions = "x" } },
      { "accept", { extensions = { 1 } } }, { "accept", { protocol = 7 } },
      { "accept", { headers = { Upgrade = "x" } } }, { "accept", { headers = { ["x-a"] = "\0" } } },
      { "challenge", 1 }, { "challenge", {} }, { "challenge", "" }, { "challenge", "Basic realm=\"a\r\n\"" },
      { "redirect", 1 }, { "redirect", "" }, { "redirect", "/a\r\nb" }, { "redirect", "/", { status = 401 } },
      { "reject", "403" }, { "reject", 403.5 }, { "reject", 202 }, { "reject", 201 }, { "reject", 600 },
      { "reject", 403, { headers = { ["Transfer-Encoding"] = "chunked" } } },
      { "wait", { headers = { ["Sec-WebSocket-Extensions"] = "x" } } },
    } do
      local ok, message, code = machine[wrong[1]](machine, wrong[2], wrong[3])
      assert.is_nil(ok)
      assert.is_string(message)
      assert.equal("EPOLICY", code)
    end
    assert.same({}, events(machine))
    assert.is_true(machine:reject(426, { headers = { Upgrade = "TLS/1.0", Connection = "Upgrade" } }))
    assert.equal("TLS/1.0", answer(machine).headers.upgrade)
  end)

  it("passes on headers as they were received [E15]", function()
    local machine = new()
    local received = http.parse_request("GET / HTTP/1.1\r\nX-B: 1\r\nX-A: 2\r\nX-B: 3\r\n\r\n")
    ask(machine)
    machine:reject(403, { headers = received.headers })
    local list = {}
    for name, value in http.fields(answer(machine).headers) do
      list[#list + 1] = name .. "=" .. value
    end
    assert.equal("X-B=1 X-A=2 X-B=3 Content-Length=0", table.concat(list, " "))
  end)

  it("names each limit in the way that it is exceeded [H11 E18]", function()
    local function over(limits, bytes, status, code)
      for _, size in ipairs { #bytes, 7 } do
        local machine = new { limits = limits }
        for i = 1, #bytes, size do
          machine:message(bytes:sub(i, i + size - 1), "binary")
        end
        local _, message = refused(status, code, 1000, machine)
        assert.is_string(message)
      end
    end
    local head = "GET / HTTP/1.1\r\n"
    over({ extended_message = 100 }, head .. ("A: b\r\n"):rep(20) .. "\r\n", 431, "ELIMIT")
    over({ fields = 3 }, head .. ("A: b\r\n"):rep(4) .. "\r\n", 431, "ELIMIT")
    over({ line = 50 }, head .. "A: " .. ("b"):rep(60) .. "\r\n\r\n", 431, "ELIMIT")
    over({ line = 50 }, "GET /" .. ("b"):rep(60) .. " HTTP/1.1\r\n\r\n", 414, "ELIMIT")
    over({ body = 10 }, head .. "Content-Length: 11\r\n\r\nhello world", 413, "ELIMIT")
    over({ extended_message = 60 }, head .. "Content-Length: 30\r\n\r\n" .. ("b"):rep(30), 413, "ELIMIT")
  end)

  it("finds what is wrong with a body in whatever message it comes [H4 H10 E8]", function()
    for _, pieces in ipairs {
      { "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nno length\r\n" },
      { "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "no length\r\n" },
      { "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r", "\nno", " length\r\n" },
    } do
      local machine = new()
      for _, piece in ipairs(pieces) do
        machine:message(piece, "binary")
      end
      refused(400, "EPROTOCOL", 1000, machine)
      machine:message("ignored", "binary")
      assert.same({}, events(machine))
    end
  end)

  it("takes what is just within the limits [H11]", function()
    local bytes = "GET / HTTP/1.1\r\nContent-Length: 30\r\n\r\n" .. ("b"):rep(30)
    local machine = new { limits = { extended_message = #bytes, body = 30, fields = 1, line = 20 } }
    assert.equal(("b"):rep(30), ask(machine, bytes).body)
    machine = new { limits = { extended_message = #bytes } }
    for c in bytes:gmatch "." do
      machine:message(c)
    end
    assert.equal("request", (machine:poll()))
  end)

  it("bounds what comes while an answer is awaited [E18]", function()
    local machine = new { limits = { extended_message = 1000 } }
    ask(machine)
    for _ = 1, 10 do
      machine:message(("x"):rep(100))
    end
    assert.same({}, events(machine))
    machine:message "x"
    refused(413, "ELIMIT", 1000, machine)
    local ok, _, code = machine:accept {}
    assert.is_nil(ok)
    assert.equal("ECLOSED", code)

    machine = new()
    ask(machine)
    for _ = 1, 256 do
      machine:message "x"
      machine:message ""
    end
    assert.same({}, events(machine))
    machine:message "x"
    refused(413, "ELIMIT", 1000, machine)
  end)

  it("waits no longer than it may, in all rounds together [E13 E18]", function()
    local machine = new { timeout = 20 }
    assert.equal(120, machine:deadline())
    ask(machine)
    machine:challenge "Basic realm=\"a\""
    events(machine)
    assert.equal(120, machine:deadline())
    machine:tick(119.9)
    assert.same({}, events(machine))
    machine:tick(120)
    local list = events(machine)
    assert.same({ "failed", "close" }, { list[1][1], list[2][1] })
    assert.equal(1011, list[2][2])
    assert.is_nil(machine:deadline())
    machine:tick(121)
    assert.same({}, events(machine))
  end)

  it("has no deadline without a clock, and the limit's own by default [E18]", function()
    assert.is_nil(server.new(server.settings(), after_opening()):deadline())
    assert.equal(115, new():deadline())
    assert.equal(107, new({ limits = { extended = 7 } }):deadline())
  end)

  it("takes an answer that comes too late for what it is [E18]", function()
    local machine = new()
    ask(machine)
    machine:tick(1000)
    refused(503, "ETIMEOUT", 1011, machine)
    for _, name in ipairs { "accept", "challenge", "redirect", "reject", "wait" } do
      local ok, _, code = machine[name](machine)
      assert.is_nil(ok)
      assert.equal("ECLOSED", code)
    end
  end)

  it("says in its close what went wrong, whatever the peer wrote [E2]", function()
    local machine = new { opening_extensions = { { name = ("x"):rep(150), parameters = {} } } }
    machine:message("GET / HTTP/1.1\r\nSec-WebSocket-Extensions: " .. ("x"):rep(150) .. "\r\n\r\n")
    refused(400, "EEXTENSION", 1011, machine)
  end)

  it("finds an extension of the opening on a replay as well [E9]", function()
    local machine = new { opening_extensions = { { name = "x", parameters = {} } } }
    ask(machine)
    machine:challenge "Basic realm=\"a\""
    events(machine)
    machine:message "GET / HTTP/1.1\r\nSec-WebSocket-Extensions: y, x; a=1\r\n\r\n"
    refused(400, "EEXTENSION", 1011, machine)
  end)

  it("answers what is no request with 400 at once [E2 E8]", function()
    for _, bytes in ipairs {
      "Hello", "{}", "\0\1\2", "\240\159\152\128", "HTTP/1.1 200 OK\r\n\r\n", " GET / HTTP/1.1\r\n\r\n",
      "GET /\r\n\r\n", "GET / HTTP/1.1\r\nbad line\r\n\r\n", "GET / HTTP/1.1\r\nA : b\r\n\r\n",
    } do
      local machine = new()
      machine:message(bytes, "text")
      refused(400, "EPROTOCOL", 1000, machine)
    end
  end)

  it("takes any token as a method in a line that came whole, and a split one in capitals [H1 H10]", function()
    assert.equal("m-Search", ask(new(), "m-Search / HTTP/1.1\r\n\r\n").method)
    local machine = new()
    machine:message "M-SEA"
    machine:message "RCH / HTTP/1.1\r\n\r\n"
    assert.equal("request", (machine:poll()))
  end)

  it("reads the versions of HTTP/1 as numbers [H6]", function()
    for _, version in ipairs { "1.0", "1.1", "1.2", "1.10" } do
      assert.is_table(ask(new(), "GET / HTTP/" .. version .. "\r\n\r\n"))
    end
    for _, version in ipairs { "2.0", "0.9", "10.1" } do
      local machine = new()
      machine:message("GET / HTTP/" .. version .. "\r\n\r\n")
      refused(505, "EPROTOCOL", 1000, machine)
    end
  end)

  it("continues only where a body is missing [H8]", function()
    local head = "POST / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-Continue\r\n\r\n"
    assert.equal("hi", ask(new(), head .. "hi").body)
    local machine = new()
    machine:message(head)
    assert.equal(100, answer(machine).status)
    machine:message "h"
    assert.same({}, events(machine))
    machine:message "i"
    local name, request = machine:poll()
    assert.same({ "request", "hi" }, { name, request.body })
  end)

  it("continues once for each request that wants it [H8 E13]", function()
    local head = "POST / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    local machine = new()
    for _ = 1, 2 do
      machine:message(head)
      assert.equal(100, answer(machine).status)
      ask(machine, "hi")
      machine:challenge "Basic realm=\"a\""
      assert.equal(401, answer(machine).status)
    end
  end)

  it("cannot meet any other expectation, with or without the body [H8]", function()
    for _, bytes in ipairs {
      "POST / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue, x=y\r\n\r\n",
      "POST / HTTP/1.1\r\nContent-Length: 2\r\nExpect: x=y\r\n\r\nhi",
      "GET / HTTP/1.1\r\nExpect: @\r\n\r\n",
    } do
      local machine = new()
      machine:message(bytes)
      refused(417, "EPROTOCOL", 1000, machine)
    end
  end)

  it("does not mind empty messages [H10]", function()
    local machine = new()
    machine:message ""
    machine:message "GET / HTTP/1.1\r\n"
    machine:message ""
    machine:message "\r\n"
    assert.equal("request", (machine:poll()))
    machine:message ""
    assert.is_true(machine:accept {})
  end)

  it("reads the same requests however they are cut [H10]", function()
    local first = "\r\nPOST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n3;q\r\nabc\r\n0\r\nT: u\r\n\r\n"
    local both = first .. "GET /b HTTP/1.1\r\nAuthorization: Token 1\r\n\r\n"
    local seed = 7
    local function random(n)
      seed = (seed * 1103515245 + 12345) % 2147483648
      return seed % n + 1
    end
    for _ = 1, 200 do
      local machine, at, seen = new(), 1, {}
      while at <= #both do
        local size = random(40)
        machine:message(both:sub(at, at + size - 1), random(2) == 1 and "text" or "binary")
        at = at + size
        local name, request = machine:poll()
        while name do
          if name == "request" then
            seen[#seen + 1] = request.path .. request.body
            if request.path == "/a" and random(2) == 1 then
              machine:challenge "Token"
            end
          end
          name, request = machine:poll()
        end
      end
      if #seen == 1 then
        machine:challenge "Token"
        while true do
          local name, request = machine:poll()
          if not name then
            break
          elseif name == "request" then
            seen[#seen + 1] = request.path .. request.body
          end
        end
      end
      assert.same({ "/aabc", "/b" }, seen)
      assert.is_true(machine:accept {})
    end
  end)

  it("answers every damaged request lawfully [E2 E8 E18]", function()
    local bytes = "POST /a?b HTTP/1.1\r\nSec-WebSocket-Protocol: a, b\r\nSec-WebSocket-Extensions: x; y=\"z\", w\r\n"
      .. "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    local seen = {}
    local random = mutate.random(42)
    for _ = 1, 3000 do
      local machine = new { limits = { extended_message = 300, fields = 6 } }
      local damaged, size = mutate.bytes(bytes, random), random(200)
      for at = 1, #damaged, size do
        machine:message(damaged:sub(at, at + size - 1))
      end
      machine:tick(1000)
      local closed
      for _, event in ipairs(events(machine)) do
        assert.is_nil(closed)
        if event[1] == "send" then
          local response, rest = http.parse_response(event[2])
          assert(response, rest)
          assert.equal("", rest)
          seen[response.status] = true
        elseif event[1] == "close" then
          closed = true
          assert.is_true(#event[3] <= 123 and not event[3]:find "[^\32-\126]")
        end
      end
      assert.is_true(closed)
    end
    for _, status in ipairs { 100, 400, 408, 417, 503, 505 } do
      assert.is_true(seen[status], status .. " was never the answer")
    end
  end)

  it("ends when the WebSocket does [E16]", function()
    local machine = new()
    ask(machine)
    machine:finish(1001, "bye")
    local list = events(machine)
    assert.same({ "failed", "ECLOSED", 1001, "bye" }, { list[1][1], list[1][3], list[1][4].code, list[1][4].reason })
    assert.equal(1, #list)
    local ok, _, code = machine:accept {}
    assert.is_nil(ok)
    assert.equal("ECLOSED", code)
    machine:finish()
    assert.same({}, events(machine))
  end)

  it("says nothing of an end after its own [E19]", function()
    local machine = new()
    ask(machine)
    machine:reject(403)
    events(machine)
    machine:finish(1000, "")
    assert.same({}, events(machine))
  end)

  it("throws when the driver calls in a wrong order [E17]", function()
    local machine = new()
    assert.has_error(function()
      machine:accept {}
    end)
    ask(machine)
    assert.has_error(function()
      machine:accept "chat"
    end)
    machine:accept {}
    assert.has_error(function()
      machine:message "application"
    end)
    assert.has_error(function()
      machine:reject(403)
    end)
  end)

  it("throws for wrong options", function()
    for _, wrong in ipairs {
      7, { limit = {} }, { timeout = "0" }, { limits = { attempts = 0 } }, { server = 5 }, { date = "today" },
    } do
      assert.has_error(function()
        server.settings(wrong)
      end)
    end
  end)
end)
