-- The client's side of the extended handshake: every status code, order of calls, what is held and what is not.
-- Conversations byte for byte are in spec/conformance.

local client = require "khp.extended.client"
local http = require "khp.http"
local mutate = require "spec.extended.mutate"
local status = require "khp.status"

local ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
local OPENED = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
  .. ACCEPT .. "\r\n\r\n"

local function new(options)
  local given = { target = "/echo?a=b", accept = ACCEPT, now = 100 }
  for name, value in pairs(options or {}) do
    given[name] = value
  end
  return client.new(given)
end

-- All events; responses are acted on as the status codes say.
local function events(machine)
  local list = {}
  while true do
    local event = { machine:poll() }
    if not event[1] then
      return list
    elseif event[1] == "response" then
      assert(machine:act(event[3]))
    else
      list[#list + 1] = event
    end
  end
end

-- Events as they can be compared: a redirect without its response.
local function comparable(list)
  local short = {}
  for i, event in ipairs(list) do
    short[i] = event[1] == "redirect" and { event[1], event[2] } or event
  end
  return short
end

local function started(options, start)
  local machine = new(options)
  assert(machine:start(start))
  local name, bytes, kind = machine:poll()
  assert.equal("send", name)
  return machine, bytes, kind
end

local function request_of(options, start)
  local _, bytes = started(options, start)
  local request, rest = http.parse_request(bytes)
  assert(request, rest)
  return request, bytes
end

-- Feeds one response; what must come of it is a failure, and a close with this code.
local function fails(machine, bytes, code, close)
  machine:message(bytes, "binary")
  local list = events(machine)
  assert.equal("failed", list[1][1])
  assert.equal(code, list[1][3])
  assert.equal("close", list[2][1])
  assert.equal(close or 1011, list[2][2])
  assert.is_true(#list[2][3] <= 123)
  return list[1][4], list[1][2]
end

describe("khp.extended.client", function()
  it("asks with GET, the path and query, and nothing else [E6 E7]", function()
    local _, bytes, kind = started()
    assert.equal("GET /echo?a=b HTTP/1.1\r\n\r\n", bytes)
    assert.equal("binary", kind)
    _, bytes = started { protocols = { "x-kaazing-handshake" }, extensions = {} }
    assert.equal("GET /echo?a=b HTTP/1.1\r\n\r\n", bytes)
  end)

  it("sends text where it is told to [E3]", function()
    local machine, _, kind = started { kind = "text" }
    assert.equal("text", kind)
    machine:message("HTTP/1.1 401 x\r\nWWW-Authenticate: Token\r\n\r\n", "text")
    events(machine)
    machine:authorize "Token 1"
    assert.equal("text", (select(3, machine:poll())))
  end)

  it("names the protocols of the opening and the extensions that it did not get [E4 E5 E6]", function()
    local request = request_of { protocols = { "x-kaazing-handshake", "b", "a" }, extensions = { "y; p=1", "x" } }
    assert.equal("b, a", request.headers["sec-websocket-protocol"])
    assert.equal("y; p=1, x", request.headers["sec-websocket-extensions"])
    request = request_of { protocols = { "a" }, extensions = { "x" } }
    assert.equal("a", request.headers["sec-websocket-protocol"])
    assert.equal("x", request.headers["sec-websocket-extensions"])
  end)

  it("sends the headers of a policy, but none that is the handshake's own [E7 H3]", function()
    local request = request_of(nil, { headers = { Host = "example.com", ["X-A"] = { "1", "2" } } })
    assert.equal("example.com", request.headers.host)
    assert.same({ "1", "2" }, http.values(request.headers, "x-a"))
    for name, value in pairs {
      ["Sec-WebSocket-Key"] = "x", ["sec-websocket-version"] = "13", Upgrade = "websocket", Expect = "100-continue",
      ["Sec-WebSocket-Protocol"] = "x", ["Sec-WebSocket-Extensions"] = "x", ["Content-Length"] = "1",
      ["Transfer-Encoding"] = "chunked", ["X-A"] = "a\r\nb", ["X B"] = "c",
    } do
      local machine = new()
      local ok, message, code = machine:start { headers = { [name] = value } }
      assert.is_nil(ok)
      assert.is_string(message)
      assert.equal("EPOLICY", code)
      assert.same({}, events(machine))
      assert.is_true(machine:start())
    end
  end)

  it("sends a body at once, or when it is wanted [S100 H8]", function()
    local request = request_of({ method = "POST" }, { body = "hello" })
    assert.same({ "POST", "hello", nil }, { request.method, request.body, request.headers.expect })
    local machine, bytes = started({ method = "POST" }, { body = "hello", expect = true })
    assert.equal("POST /echo?a=b HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n", bytes)
    machine:message "HTTP/1.1 100 Continue\r\n\r\n"
    assert.same({ { "send", "hello", "binary" } }, events(machine))
    machine:message "HTTP/1.1 100 Continue\r\n\r\n"
    assert.same({}, events(machine))
    machine:message "HTTP/1.1 401 x\r\nWWW-Authenticate: Token\r\n\r\n"
    events(machine)
    machine:authorize "Token 1"
    local _, again = machine:poll()
    assert.matches("Expect: 100%-continue\r\n", again)
    assert.not_matches("hello", again)
    machine:message "HTTP/1.1 100 Continue\r\n\r\n"
    assert.same({ { "send", "hello", "binary" } }, events(machine))
    machine:message(OPENED)
    assert.equal("open", events(machine)[1][1])
  end)

  it("goes on with what came behind the 100 [S100 H10]", function()
    local machine = started({ method = "POST" }, { body = "hello", expect = true })
    machine:message("HTTP/1.1 100 Continue\r\n\r\n" .. OPENED)
    local list = events(machine)
    assert.same({ "send", "hello" }, { list[1][1], list[1][2] })
    assert.equal("open", list[2][1])
    assert.has_error(function()
      machine:start()
    end, "the extended handshake has begun already")
  end)

  -- Every code of the protocol text, against the machine. What a code asks for stands in the table of khp.status,
  -- which has a test of its own against the text.
  local codes = {}
  for code in pairs(status.rows) do
    codes[#codes + 1] = code
  end
  table.sort(codes)
  local outcomes = {
    complete = { "open" },
    wait = {},
    continue = { "send" },
    authenticate = { "challenge" },
    redirect = { "redirect", "close" },
    upgrade = { "failed", "close" },
    proxy = { "failed", "close" },
    close = { "failed", "close" },
  }
  for _, code in ipairs(codes) do
    local action = status.action(code, "GET", true)
    it(("does what %d asks for: %s [S%d]"):format(code, action, code), function()
      local machine = started(nil, { body = "x", expect = true })
      machine:message(("HTTP/1.1 %d Reason\r\nLocation: /x\r\nWWW-Authenticate: Token\r\n\r\n"):format(code))
      local names, list = {}, events(machine)
      for i, event in ipairs(list) do
        names[i] = event[1]
      end
      assert.same(outcomes[action], names)
      if names[1] == "failed" then
        local detail = list[1][4]
        assert.same({ "EHANDSHAKE", code, action, 1, not status.is_temporary(code), 1011 },
          { list[1][3], detail.status, detail.action, detail.attempts, detail.permanent, list[2][2] })
      end
    end)
  end

  it("closes on codes that nobody has listed [S200 S400 S500 E10]", function()
    for _, code in ipairs { 142, 299, 420, 520, 600, 999 } do
      local detail = fails(started(), ("HTTP/1.1 %d Odd\r\n\r\n"):format(code), "EHANDSHAKE")
      assert.equal(code, detail.status)
    end
  end)

  it("follows 307 only when the method was GET [S307 E12]", function()
    local bytes = "HTTP/1.1 307 x\r\nLocation: /x\r\n\r\n"
    assert.equal(307, fails(started { method = "POST" }, bytes, "EHANDSHAKE").status)
    local machine = started()
    machine:message(bytes)
    assert.same({ { "redirect", "/x" }, { "close", 1000, "" } }, comparable(events(machine)))
  end)

  it("gives the caller the status, headers and body of a refusal [E10]", function()
    local detail, message = fails(started(), "HTTP/1.1 403\r\nX-Why: no\r\nContent-Length: 4\r\n\r\ngone", "EHANDSHAKE")
    assert.same({ 403, "no", "gone", 1, true },
      { detail.status, detail.headers["x-why"], detail.body, detail.attempts, detail.permanent })
    assert.matches("403 Forbidden", message)
  end)

  it("leaves the last word on a response to the policy [E10]", function()
    local machine = started()
    machine:message "HTTP/1.1 200 OK\r\n\r\n"
    local name, response, action = machine:poll()
    assert.same({ "response", 200, "close" }, { name, response.status, action })
    local ok, _, code = machine:act "dance"
    assert.is_nil(ok)
    assert.equal("EPOLICY", code)
    assert.is_true(machine:act "complete")
    assert.equal("open", events(machine)[1][1])
  end)

  it("checks what completes, whatever the status [E11 E14 E20]", function()
    for _, case in ipairs {
      { "Sec-WebSocket-Accept: wrong", "EHANDSHAKE" },
      { "Sec-WebSocket-Accept:", "EHANDSHAKE" },
      { "Sec-WebSocket-Protocol: other", "EHANDSHAKE" },
      { "Sec-WebSocket-Protocol: a, b", "EHANDSHAKE" },
      { "Sec-WebSocket-Protocol: x-kaazing-handshake", "EHANDSHAKE" },
      { "Sec-WebSocket-Extensions: z", "EEXTENSION" },
      { "Sec-WebSocket-Extensions: x, x", "EEXTENSION" },
      { "Sec-WebSocket-Extensions: x; =", "EEXTENSION" },
      { "Sec-WebSocket-Extensions:", "EEXTENSION" },
      { "Sec-WebSocket-Extensions: ,", "EEXTENSION" },
    } do
      for _, code in ipairs { 101, 201, 204, 205 } do
        local machine = started { protocols = { "a", "b" }, extensions = { "x", "y" } }
        local detail = fails(machine, ("HTTP/1.1 %d x\r\n%s\r\n\r\n"):format(code, case[1]), case[2])
        assert.is_true(detail.permanent)
      end
    end
  end)

  it("opens with what the server chose [E14 E17 E20]", function()
    local machine = started { protocols = { "a", "b" }, extensions = { "x; p=1", "y" } }
    machine:message("HTTP/1.1 101\r\nSEC-WEBSOCKET-PROTOCOL: b\r\nSec-WebSocket-Extensions: y, x; p=2\r\n"
      .. "X-A: 1\r\n\r\n")
    local list = events(machine)
    assert.equal(1, #list)
    local opened = list[1][2]
    assert.equal("b", opened.protocol)
    assert.equal("y, x; p=2", http.format_extensions(opened.extensions))
    assert.equal("1", opened.response.headers["x-a"])
    assert.is_nil(machine:deadline())
  end)

  it("takes an empty protocol for none [E20 H2]", function()
    local machine = started { protocols = { "a" } }
    machine:message "HTTP/1.1 101\r\nWebSocket-Protocol:\r\nSec-WebSocket-Protocol:\r\n\r\n"
    local list = events(machine)
    assert.equal("open", list[1][1])
    assert.is_nil(list[1][2].protocol)
  end)

  it("gives the challenges as they are read [E13 H9]", function()
    local machine = started()
    machine:message("HTTP/1.1 401 x\r\nWWW-Authenticate: Basic realm=\"a\", Token\r\n"
      .. "www-authenticate: Application Basic realm=\"b\"\r\n\r\n")
    local list = events(machine)
    local challenges, response, attempt = list[1][2], list[1][3], list[1][4]
    assert.same({ "Basic", "Token", "Basic", "Application", 401, 1 }, { challenges[1].scheme, challenges[2].scheme,
      challenges[3].scheme, challenges[3].prefix, response.status, attempt })
  end)

  it("replays the same request with credentials, replacing earlier ones [E13]", function()
    local machine = started({ protocols = { "a" } }, { headers = { authorization = "Token 0", ["X-A"] = "1" } })
    machine:message "HTTP/1.1 401 x\r\nWWW-Authenticate: Token\r\n\r\n"
    events(machine)
    local ok, _, code = machine:authorize "Token\r\n1"
    assert.is_nil(ok)
    assert.equal("EPOLICY", code)
    assert.is_true(machine:authorize "Token 1")
    local request = http.parse_request(events(machine)[1][2])
    assert.same({ "Token 1" }, http.values(request.headers, "authorization"))
    assert.same({ "a", "1" }, { request.headers["sec-websocket-protocol"], request.headers["x-a"] })
    machine:message "HTTP/1.1 401 x\r\nWWW-Authenticate: Token\r\n\r\n"
    assert.equal(2, events(machine)[1][4])
    assert.is_true(machine:authorize("Token 2", { headers = { ["X-B"] = "2" } }))
    request = http.parse_request(events(machine)[1][2])
    local headers = request.headers
    assert.same({ "Token 2", nil, "2" }, { headers.authorization, headers["x-a"], headers["x-b"] })
  end)

  it("gives up after a number of attempts [E13]", function()
    local machine = started { limits = { attempts = 2 } }
    local bytes = "HTTP/1.1 401 x\r\nWWW-Authenticate: Token\r\n\r\n"
    machine:message(bytes)
    events(machine)
    machine:authorize "Token 1"
    events(machine)
    local detail = fails(machine, bytes, "EAUTH")
    assert.same({ 401, 2, true }, { detail.status, detail.attempts, detail.permanent })
  end)

  it("cannot answer challenges that cannot be read [E13 H9]", function()
    fails(started(), "HTTP/1.1 401 x\r\n\r\n", "EAUTH")
    for _, value in ipairs { "", "=", "a b c d" } do
      fails(started(), "HTTP/1.1 401 x\r\nWWW-Authenticate: " .. value .. "\r\n\r\n", "EAUTH")
    end
  end)

  it("takes no message before its own request, or its replay [E2]", function()
    fails(new(), OPENED, "EPROTOCOL")
    fails(new(), "", "EPROTOCOL")
    local machine = started()
    machine:message "HTTP/1.1 401 x\r\nWWW-Authenticate: Token\r\n\r\n"
    events(machine)
    assert.is_true(fails(machine, OPENED, "EPROTOCOL").permanent)
    fails(started(), "HTTP/1.1 401 x\r\nWWW-Authenticate: Token\r\n\r\n" .. OPENED, "EPROTOCOL")
  end)

  it("takes no answer that is no response [E2]", function()
    for _, bytes in ipairs {
      "Hello", "{}", "\0", "GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 abc\r\n\r\n", "HTTP/2.0 101 x\r\n\r\n",
    } do
      fails(started(), bytes, "EPROTOCOL")
    end
  end)

  it("reads the same response however it is cut [H10]", function()
    local bytes = "\r\nHTTP/1.1 202 x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nHTTP/1.1 403 y\r\n"
      .. "Content-Length: 3\r\n\r\ndef"
    for size = 1, #bytes do
      local machine, list = started(), {}
      for at = 1, #bytes, size do
        machine:message(bytes:sub(at, at + size - 1), at % 2 == 1 and "text" or "binary")
        for _, event in ipairs(events(machine)) do
          list[#list + 1] = event
        end
      end
      assert.same({ "failed", 403, "def" }, { list[1][1], list[1][4].status, list[1][4].body })
    end
  end)

  it("keeps what comes while a response is being judged [E17]", function()
    local machine = started()
    machine:message "HTTP/1.1 202 Accepted\r\n\r\n"
    assert.equal("response", (machine:poll()))
    machine:message(OPENED:sub(1, 20))
    machine:message(OPENED:sub(21))
    machine:message("first", "text")
    machine:message("", "binary")
    assert.is_nil((machine:poll()))
    machine:act "wait"
    local list = events(machine)
    assert.same({ "open", { "message", "first", "text" }, { "message", "", "binary" } },
      { list[1][1], list[2], list[3] })
    assert.has_error(function()
      machine:message "more"
    end)
  end)

  it("bounds what comes while a response is being judged [E18]", function()
    local function judging(options)
      local machine = started(options)
      machine:message(OPENED)
      assert.equal("response", (machine:poll()))
      return machine
    end
    local machine = judging { limits = { extended_message = 400 } }
    machine:message(("x"):rep(400))
    assert.same({}, events(machine))
    fails(machine, "x", "ELIMIT")
    machine = judging()
    for _ = 1, 256 do
      machine:message "x"
    end
    assert.same({}, events(machine))
    fails(machine, "x", "ELIMIT")
    local ok, _, code = machine:act "complete"
    assert.is_nil(ok)
    assert.equal("ECLOSED", code)
  end)

  it("bounds a response [H11]", function()
    local limits = { extended_message = 100, body = 50, fields = 3, line = 60 }
    for _, bytes in ipairs {
      "HTTP/1.1 200 x\r\n" .. ("A: b\r\n"):rep(4) .. "\r\n",
      "HTTP/1.1 200 x\r\nA: " .. ("b"):rep(60) .. "\r\n\r\n",
      "HTTP/1.1 200 x\r\nContent-Length: 51\r\n\r\n",
      "HTTP/1.1 200 x\r\nA: " .. ("b"):rep(40) .. "\r\nB: " .. ("b"):rep(40) .. "\r\n\r\n",
      "HTTP/1.1 200 x\r\nA: " .. ("b"):rep(30) .. "\r\nContent-Length: 49\r\n\r\n" .. ("b"):rep(49),
    } do
      fails(started { limits = limits }, bytes, "ELIMIT")
      local machine = started { limits = limits }
      for c in bytes:gmatch "." do
        machine:message(c)
      end
      assert.equal("ELIMIT", events(machine)[1][3])
    end
  end)

  it("waits after a 202 as long as it may, all of them together [S202]", function()
    local machine = started { timeout = 100, limits = { wait = 10 } }
    assert.equal(200, machine:deadline())
    machine:tick(130)
    machine:message "HTTP/1.1 202 x\r\n\r\n"
    events(machine)
    assert.equal(140, machine:deadline())
    machine:tick(139)
    machine:message "HTTP/1.1 202 x\r\n\r\n"
    events(machine)
    assert.equal(140, machine:deadline())
    machine:tick(140)
    local list = events(machine)
    assert.same({ "failed", "ETIMEOUT", 202, false },
      { list[1][1], list[1][3], list[1][4].status, list[1][4].permanent })
    assert.is_nil(machine:deadline())
  end)

  it("ends when the time for the whole is over, in every state [E16]", function()
    for _, prepare in ipairs {
      function()
        return new()
      end,
      started,
      function()
        local machine = started()
        machine:message(OPENED)
        return machine
      end,
      function()
        local machine = started()
        machine:message "HTTP/1.1 401 x\r\nWWW-Authenticate: Token\r\n\r\n"
        events(machine)
        return machine
      end,
    } do
      local machine = prepare()
      machine:tick(114.9)
      assert.equal(115, machine:deadline())
      machine:tick(115)
      local list = {}
      for name, a, b in machine.poll, machine do
        list[#list + 1] = { name, a, b }
      end
      assert.same({ "failed", "ETIMEOUT" }, { list[#list - 1][1], list[#list - 1][3] })
      assert.same({ "close", 1011 }, { list[#list][1], list[#list][2] })
    end
  end)

  it("makes something lawful of every damaged response [E2 E16]", function()
    local bytes = OPENED:sub(1, -3) .. "Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Extensions: x; y=\"z\"\r\n"
      .. "Location: /x\r\nWWW-Authenticate: Basic realm=\"a\"\r\n\r\n"
    local seen = {}
    local random = mutate.random(42)
    for _ = 1, 3000 do
      local machine = started { protocols = { "a" }, extensions = { "x" }, limits = { extended_message = 400 } }
      local damaged, size, ended = mutate.bytes(bytes, random), random(300), false
      for at = 1, #damaged, size do
        if machine.state ~= "open" then
          machine:message(damaged:sub(at, at + size - 1))
        end
        for _, event in ipairs(events(machine)) do
          seen[event[1] .. " " .. tostring(event[1] == "failed" and event[3])] = true
          assert.is_false(ended)
          if event[1] == "close" then
            ended = true
            assert.is_true(#event[3] <= 123 and not event[3]:find "[^\32-\126]")
          end
        end
      end
      machine:tick(1000)
      local last = events(machine)
      assert.equal(not ended and machine.state ~= "open", last[1] ~= nil)
    end
    for _, what in ipairs { "open false", "failed EPROTOCOL", "failed EHANDSHAKE", "failed EEXTENSION" } do
      assert.is_true(seen[what], what .. " never came")
    end
  end)

  it("ends when the WebSocket does [E16]", function()
    for _, prepare in ipairs { new, started } do
      local machine = prepare()
      machine:finish(1001, "bye")
      local list = events(machine)
      assert.equal(1, #list)
      assert.same({ "failed", "ECLOSED", 1001, "bye", false },
        { list[1][1], list[1][3], list[1][4].code, list[1][4].reason, list[1][4].permanent })
      machine:finish()
      assert.same({}, events(machine))
    end
  end)

  it("still acts on a response that was complete when the WebSocket closed [E12 E16]", function()
    local function closed(bytes)
      local machine = started()
      machine:message(bytes)
      local _, _, action = machine:poll()
      machine:finish(1000, "")
      assert.same({}, events(machine))
      machine:act(action)
      local list = events(machine)
      assert.equal(1, #list)
      return list[1]
    end
    assert.equal("/x", closed("HTTP/1.1 302 x\r\nLocation: /x\r\n\r\n")[2])
    assert.equal("EHANDSHAKE", closed("HTTP/1.1 403 x\r\n\r\n")[3])
    assert.equal("ECLOSED", closed(OPENED)[3])
    assert.equal("ECLOSED", closed("HTTP/1.1 401 x\r\nWWW-Authenticate: Token\r\n\r\n")[3])
  end)

  it("throws when the driver calls in a wrong order [E17]", function()
    local machine = new()
    for _, call in ipairs { "act", "authorize", "give_up" } do
      assert.has_error(function()
        machine[call](machine, "complete")
      end)
    end
    machine:start()
    assert.has_error(function()
      machine:start()
    end)
    assert.has_error(function()
      new():start { expect = true }
    end)
    assert.has_error(function()
      new():start { header = {} }
    end)
  end)

  it("takes a word that comes too late for what it is [E13]", function()
    local machine = started()
    machine:message "HTTP/1.1 401 x\r\nWWW-Authenticate: Token\r\n\r\n"
    events(machine)
    machine:tick(1000)
    for _, call in ipairs { "act", "authorize", "give_up" } do
      local ok, _, code = machine[call](machine, "complete")
      assert.is_nil(ok)
      assert.equal("ECLOSED", code)
    end
  end)

  it("throws for wrong options", function()
    for _, wrong in ipairs {
      {}, { target = 1 }, { target = "/", kind = "blob" }, { target = "/", protocols = { "a b" } },
      { target = "/", extensions = { "" } }, { target = "/", extensions = { "a b" } },
      { target = "/", method = "HEAD" }, { target = "/", unknown = true },
    } do
      assert.has_error(function()
        client.new(wrong)
      end)
    end
  end)
end)
