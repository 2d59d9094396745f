-- The server's side of the handshake as Kaazing's clients know it: what surrounds the plain machine, when and when not,
-- and how decisions are told. Conversations byte for byte are in spec/conformance.

local decision = require "khp.policy.decision"
local dialect = require "khp.kaazing.dialect"
local extended = require "khp.extended.server"
local opening = require "khp.kaazing.opening"
local openings = require "khp.opening.server"
local server = require "khp.kaazing.server"

local ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
local REQUEST = "GET /echo HTTP/1.1\r\n\r\n"
local GO_ON = "\u{F0FF}N"
local COMPLETED = "HTTP/1.1 101 Web Socket Protocol Handshake\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
  .. "Sec-WebSocket-Accept: " .. ACCEPT .. "\r\n\r\n"

local function request(query, more)
  local one = {
    method = "GET", path = "/echo", query = query, target = query and "/echo?" .. query or "/echo", upgrade = true,
    host = "example.com", headers = { host = "example.com" }, protocols = { "x-kaazing-handshake", "chat" },
  }
  for name, value in pairs(more or {}) do
    one[name] = value
  end
  return one
end

local function new(query, given)
  given = given or {}
  local settings = extended.settings { server = false, date = false, limits = given.limits }
  return server.new(settings, { request = request(query), accept = ACCEPT }, 100, given.secure, given.leads)
end

-- All events: what is sent as it is, others by name with their values.
local function events(machine)
  local list = {}
  while true do
    local name, a, b = machine:poll()
    if not name then
      return list
    elseif name == "send" then
      assert.equal("binary", b)
      list[#list + 1] = a
    elseif name == "close" then
      list[#list + 1] = ("close %d %s"):format(a, b)
    else
      list[#list + 1] = name
    end
  end
end

-- A machine that has been asked.
local function asked(query, given)
  local machine = new(query, given)
  machine:message(given and given.request or REQUEST, "text")
  events(machine)
  return machine
end

describe("khp.kaazing.server", function()
  it("knows its clients by a parameter of the opening's query", function()
    for query, expected in pairs {
      [".kl=Y"] = { GO_ON }, ["a=b&.kl=Y&c"] = { GO_ON }, [".kv=10.05"] = {}, [".kv=10.05&.kl=Y"] = { GO_ON },
    } do
      assert.same(expected, events(new(query)))
      assert.equal("khp.kaazing.server", getmetatable(new(query)).__name)
    end
    for _, query in ipairs { "", "a.kl=Y", ".kl=Yes", ".kl=N", ".kl=y", ".kv=10.5", "a=.kl=Y" } do
      assert.equal("khp.extended.server", getmetatable(new(query)).__name)
    end
    assert.equal("khp.extended.server", getmetatable(new(nil)).__name)
  end)

  it("surrounds a completed handshake with directives, the connection open after the second one [E11 E17]", function()
    local machine = new ".kl=Y"
    assert.same({ GO_ON }, events(machine))
    machine:message(REQUEST, "text")
    assert.same({ "request" }, events(machine))
    assert.is_true(machine:accept())
    assert.same({ COMPLETED, "", GO_ON, "open" }, events(machine))
    assert.equal("open", machine.state)
    assert.is_nil(machine:deadline())
    assert.is_nil(machine.request.query) -- what the answer was for
    assert.has_error(function()
      machine:message "x"
    end)
  end)

  it("sends older clients empty messages and no directives", function()
    local machine = asked ".kv=10.05"
    machine:accept()
    assert.same({ COMPLETED, "", "open" }, events(machine))
    machine = asked ".kv=10.05"
    machine:redirect "ws://example.org/"
    assert.same({ "HTTP/1.1 302 Found\r\nLocation: ws://example.org/\r\nContent-Length: 0\r\n\r\n", "", "close 1000 " },
      events(machine))
  end)

  it("ends each response with an empty message, but for those that another one follows [S100 S202]", function()
    local machine = new ".kl=Y"
    events(machine)
    machine:message "POST /echo HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    assert.same({ "HTTP/1.1 100 Continue\r\n\r\n" }, events(machine))
    machine:message "hi"
    assert.same({ "request" }, events(machine))
    machine:wait()
    assert.same({ "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n" }, events(machine))
    machine:challenge "Token"
    assert.same({ "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Application Token\r\nContent-Length: 0\r\n\r\n", "" },
      events(machine))
    machine:message(REQUEST)
    assert.same({ "request" }, events(machine))
    machine:reject(403)
    assert.same({ "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "", "close 1000 " }, events(machine))
    assert.same({ nil, "the extended handshake is over", "ECLOSED" }, { machine:accept() })
  end)

  it("ends its own refusals in the same way [E2 E18]", function()
    local function refused(list, status)
      assert.matches("^HTTP/1.1 " .. status, list[1])
      assert.equal("", list[2])
      assert.equal("failed", list[3])
      assert.matches("^close ", list[4])
    end
    local machine = new ".kl=Y"
    events(machine)
    machine:message "Hello"
    refused(events(machine), 400)
    machine = asked(".kl=Y", { limits = { attempts = 1 } })
    machine:challenge "Token"
    refused(events(machine), 403)
    machine = asked ".kl=Y"
    machine:tick(machine:deadline())
    refused(events(machine), 503)
    machine = asked ".kl=Y"
    machine:finish(1006, "")
    assert.same({ "failed" }, events(machine))
  end)

  it("takes requests as these clients send them, cut anywhere [E3 H10]", function()
    local text = "GET /echo HTTP/1.1\r\nWebSocket-Protocol: \r\nSec-WebSocket-Protocol: \r\n"
      .. "Sec-WebSocket-Extensions: x-kaazing-idle-timeout,x-kaazing-ping-pong\r\n\r\n"
    for size = 1, #text do
      local machine = new ".kl=Y"
      events(machine)
      for at = 1, #text, size do
        machine:message(text:sub(at, at + size - 1), at % 2 == 1 and "text" or "binary")
      end
      local name, got, attempt = machine:poll()
      assert.same({ "request", 1 }, { name, attempt })
      assert.same({ "chat" }, got.protocols) -- of the opening
      assert.equal("x-kaazing-ping-pong", got.extensions[2].name)
    end
  end)

  it("gives the challenges that an application answers their prefix [H9]", function()
    for given, sent in pairs {
      ["Basic realm=\"a\""] = "Application Basic realm=\"a\"", ["Token"] = "Application Token",
      ["negotiate abc="] = "Application negotiate abc=", ["Application Basic realm=\"a\""] = true,
      ["Bearer"] = true, ["Digest realm=\"a\", nonce=\"b\""] = true, ["Basics x=1"] = true,
    } do
      local machine = asked ".kl=Y"
      assert.is_true(machine:challenge(given))
      assert.equal("HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: " .. (sent == true and given or sent)
        .. "\r\nContent-Length: 0\r\n\r\n", events(machine)[1])
    end
    local machine = asked ".kl=Y"
    for _, wrong in ipairs { false, "", "=", {}, { "Token", false } } do
      local ok, _, code = machine:challenge(wrong)
      assert.same({ nil, "EPOLICY" }, { ok, code })
    end
    assert.is_true(machine:challenge { "Token", "Bearer" })
    assert.matches("WWW%-Authenticate: Application Token\r\nWWW%-Authenticate: Bearer\r\n", events(machine)[1])
  end)

  it("keeps to what was decided [E14 E20]", function()
    local machine = asked(".kl=Y", { request = "GET / HTTP/1.1\r\nSec-WebSocket-Extensions: x\r\n\r\n" })
    for _, wrong in ipairs { { protocol = "other" }, { extensions = { "y" } }, { headers = { ["X-A"] = "1\r\n2" } } } do
      local ok, _, code = machine:accept(wrong)
      assert.same({ nil, "EPOLICY" }, { ok, code })
    end
    assert.has_error(function()
      machine:accept "yes"
    end)
    assert.is_true(machine:accept { protocol = "chat", extensions = { "x; a=1" }, reason = "As You Like",
      headers = { ["X-A"] = "1" } })
    assert.same({ "HTTP/1.1 101 As You Like\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
      .. ACCEPT .. "\r\nSec-WebSocket-Protocol: chat\r\nSec-WebSocket-Extensions: x; a=1\r\nX-A: 1\r\n\r\n",
      "", GO_ON, "open" }, events(machine))
  end)

  it("answers HTTP/1.0 in its own way [H6]", function()
    local machine = asked(".kl=Y", { request = "GET / HTTP/1.0\r\n\r\n" })
    machine:accept()
    assert.same({ "HTTP/1.1 204 No Content\r\nSec-WebSocket-Accept: " .. ACCEPT .. "\r\n\r\n", "", GO_ON, "open" },
      events(machine))
  end)

  describe("leads elsewhere", function()
    local function leads_to(location, query, secure)
      local machine = asked(query or ".kl=Y", { secure = secure })
      assert(machine:redirect(location))
      assert.equal("closed", machine.state)
      local list = events(machine)
      assert.same({ COMPLETED, "", "close 1000 " }, { list[1], list[2], list[4] })
      assert.equal(4, #list)
      return (list[3]:gsub("^\u{F0FF}R", ""))
    end

    it("to an absolute WebSocket URL, with the opening's query", function()
      assert.equal("ws://example.org/echo?.kl=Y", leads_to "ws://example.org/echo")
      assert.equal("ws://example.org/echo?.kl=Y", leads_to "http://example.org/echo")
      assert.equal("wss://example.org/echo?.kl=Y", leads_to "https://example.org:443/echo#here")
      assert.equal("wss://example.org:81/?a=1&.kl=Y", leads_to "wss://joe:secret@example.org:81?a=1")
      assert.equal("ws://example.com/other?.kl=Y", leads_to "/other")
      assert.equal("wss://example.com/other/place?.kl=Y", leads_to("other/place", nil, true))
      assert.equal("ws://example.org/?a=1&b=N&.kl=Y", leads_to("ws://example.org/?a=1", "a=2&.kl=Y&b=N"))
      assert.equal("ws://example.org/?a=N&.kl=Y", leads_to "ws://example.org/?.kl=N&a=N")
      assert.equal("ws://example.org/?.kl=Y", leads_to "ws://example.org/?")
    end)

    it("and says nothing more", function()
      local machine = asked ".kl=Y"
      machine:redirect "ws://example.org/"
      machine:message(REQUEST)
      machine:tick(1000)
      machine:finish(1000, "")
      assert.is_nil(machine:deadline())
      assert.equal(4, #events(machine))
      for _, method in ipairs { "accept", "challenge", "redirect", "reject", "wait" } do
        local ok, _, code = machine[method](machine, "x")
        assert.same({ nil, "ECLOSED" }, { ok, code })
      end
      assert.same({}, events(machine))
    end)

    it("nowhere else, and then the question stands", function()
      local machine = asked ".kl=Y"
      for _, wrong in ipairs { "", "mailto:joe", "ws+unix:///run/x:/", "ws://", "ws://a b/", "ws://\u{E9}/" } do
        local ok, _, code = machine:redirect(wrong)
        assert.same({ nil, "EPOLICY" }, { ok, code })
      end
      local ok, _, code = machine:redirect("ws://example.org/", { headers = { ["X-A"] = "\r\n" } })
      assert.same({ nil, "EPOLICY" }, { ok, code })
      assert.is_true(machine:accept())
      assert.same({ COMPLETED, "", GO_ON, "open" }, events(machine))
    end)

    it("in the first directive's place, where the opening was led away", function()
      local machine = new(".kl=Y", { leads = "ws://example.org/?.kl=Y" })
      assert.equal("closed", machine.state)
      machine:message(REQUEST)
      assert.same({ "\u{F0FF}Rws://example.org/?.kl=Y", "close 1000 " }, events(machine))
      assert.is_nil(machine:deadline())
    end)
  end)
end)

describe("khp.kaazing.opening", function()
  it("says an accepted opening in the clients' own phrase", function()
    local given = decision.accept { protocol = "x-kaazing-handshake" }
    assert.same({ protocol = "x-kaazing-handshake", reason = dialect.PHRASE },
      opening.translate(given, request ".kl=Y", false).answer)
    assert.same({ reason = dialect.PHRASE }, opening.translate(decision.accept(), request ".kv=10.05", false).answer)
    assert.is_nil(given.answer.reason) -- a policy may return it again
    assert.equal(given, opening.translate(given, request "a=b", false))
    assert.equal(given, opening.translate(given, request(nil), false))
    given = decision.accept { reason = "As You Like" }
    assert.equal(given, opening.translate(given, request ".kl=Y", false))
  end)

  it("accepts who is to be redirected, and tells where to", function()
    local given = decision.redirect("https://example.org/echo", { status = 303, headers = { "X-A", "1" } })
    local decided, leads = opening.translate(given, request ".kl=Y", false)
    assert.equal("wss://example.org/echo?.kl=Y", leads)
    assert.same({ protocol = "x-kaazing-handshake", extensions = {}, headers = { "X-A", "1" },
      reason = dialect.PHRASE }, decided.answer)
    assert.equal("accept", decided.action)
    local machine = openings.new(openings.settings { server = false, date = false })
    machine:feed("GET /echo?.kl=Y HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
      .. "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
      .. "Sec-WebSocket-Protocol: x-kaazing-handshake\r\n\r\n")
    assert.equal("request", (machine:poll()))
    assert(machine:accept(decided.answer))
    assert.same({ "send", "HTTP/1.1 101 Web Socket Protocol Handshake\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
      .. "Sec-WebSocket-Accept: " .. ACCEPT .. "\r\nSec-WebSocket-Protocol: x-kaazing-handshake\r\nX-A: 1\r\n\r\n" },
      { machine:poll() })
  end)

  it("leaves other decisions, and others' requests, as they are", function()
    for _, given in ipairs { decision.reject(403), decision.challenge "Token" } do
      assert.equal(given, opening.translate(given, request ".kl=Y", false))
    end
    local given = decision.redirect "ws://example.org/"
    for _, one in ipairs {
      request "a=b", request(nil), request ".kv=10.05", request(".kl=Y", { protocols = { "chat" } }),
      request(".kl=Y", { upgrade = false }),
    } do
      local decided, leads = opening.translate(given, one, false)
      assert.equal(given, decided)
      assert.is_nil(leads)
    end
  end)

  it("knows the request for cookies that the Java client makes first", function()
    local function asks(path, query, more)
      return opening.asks_for_cookies(request(query, { path = path, upgrade = more and more.upgrade or false,
        method = more and more.method }))
    end
    assert.is_true(asks("/echo/;e/cookies", ".krn=0123&.kl=Y"))
    assert.is_true(asks("/;e/cookies", ".krn=0123"))
    assert.is_true(asks("/echo/;e/cookies", "a=b&.kl=Y"))
    assert.is_false(asks("/echo/;e/cookies", nil))
    assert.is_false(asks("/echo/;e/cookies", "a=b"))
    assert.is_false(asks("/echo/;e/cookies/more", ".kl=Y"))
    assert.is_false(asks("/echo/;e/cbm", ".kl=Y"))
    assert.is_false(asks("/echo/;e/cookies", ".kl=Y", { upgrade = true }))
    assert.is_false(asks("/echo/;e/cookies", ".kl=Y", { method = "POST" }))
  end)
end)
