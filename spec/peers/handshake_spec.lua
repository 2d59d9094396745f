-- Openings that are refused, and the extended handshake: made on a peer's own WebSocket by the program in
-- examples/browser, or by hand, message by message, with a peer that knows nothing of it.

local decision = require "khp.policy.decision"
local khp = require "khp"
local net = require "spec.support.net"
local peers = require "spec.peers.peers"

local KHP = "x-kaazing-handshake"

---@type peers.Case[]
local cases = {}

local function case(title, role, needs, run)
  cases[#cases + 1] = { title = title, role = role, needs = needs, run = run }
end

-- Lets joe in.
local function members(request, session)
  if not session:basic(request, { joe = "öffne dich" }) then
    return decision.challenge 'Basic realm="members"'
  end
  return decision.accept { protocol = request.protocols[1] }
end

case("does not come in where the opening is refused [O3]", "client", nil, function(w)
  local url = w:serve {
    policy = {
      opening = function()
        return decision.reject(403)
      end,
    },
  }
  assert.equal(1006, (w.puppet:connect(url):closed()))
  if w.can.enters then
    assert.equal("0", (w.puppet:enter(url, "joe", "öffne dich"):await "refused")) -- no status
  end
end)

case("comes in with the right password [E3 E13 E20]", "client", "enters", function(w)
  local url, server = w:serve { policy = { extended = members }, on_message = net.echo }
  local theirs = w.puppet:enter(url .. "path?query", "joe", "öffne dich", { "echo", "chat" }):opened()
  assert.equal("echo", theirs.protocol)
  local ours = server:connections()[1]
  assert.is_true(ours.khp)
  assert.equal("echo", ours.protocol)
  assert.equal("/path?query", ours.request.target)
  theirs:send "hello"
  assert.same({ "hello", "text" }, { theirs:receive() })
  theirs:send("\0\255", "binary")
  assert.same({ "\0\255", "binary" }, { theirs:receive() })
  theirs:close(3000, "enough")
  assert.equal(3000, (theirs:closed()))
end)

case("is told why it may not come in [E8]", "client", "enters", function(w)
  local url = w:serve {
    policy = {
      extended = function(request, session)
        return session.path == "/closed" and decision.reject(403) or members(request, session)
      end,
    },
  }
  assert.equal("401", (w.puppet:enter(url, "joe", "guess"):await "refused"))
  assert.equal("403", (w.puppet:enter(url .. "closed", "joe", "öffne dich"):await "refused"))
end)

case("goes where it is sent [E8]", "client", "enters", function(w)
  local url, server = w:serve { policy = { extended = members } }
  local door = w:serve {
    policy = {
      extended = function()
        return decision.redirect(url .. "inside")
      end,
    },
  }
  w.puppet:enter(door, "joe", "öffne dich"):opened()
  assert.equal("/inside", server:connections()[1].request.target)
end)

case("opens as usual where the server does not agree to more [O3]", "client", "enters", function(w)
  local url = w:serve {
    protocols = { "chat" },
    policy = {
      opening = function()
        return decision.accept { khp = false, protocol = "chat" }
      end,
    },
  }
  local theirs = w.puppet:enter(url, "joe", "öffne dich", { "chat" }):opened()
  assert.equal("chat", theirs.protocol)
end)

local REQUEST = "GET /path HTTP/1.1\r\nSec-WebSocket-Protocol: echo\r\n"

for _, kind in ipairs { "text", "binary" } do
  case(("makes the extended handshake in %s messages [E3 E11 E13]"):format(kind), "client", nil, function(w)
    local url, server = w:serve { policy = { extended = members }, on_message = net.echo }
    local theirs = w.puppet:connect(url, { protocols = { KHP, "echo" } }):opened()
    assert.equal(KHP, theirs.protocol)
    theirs:send(REQUEST .. "\r\n", kind)
    local response, received = theirs:receive()
    assert.equal("binary", received)
    response = assert(khp.http.parse_response(response))
    assert.equal(401, response.status)
    assert.equal('Basic realm="members"', response.headers["WWW-Authenticate"])
    -- joe:öffne dich
    theirs:send(REQUEST .. "Authorization: Basic am9lOsO2ZmZuZSBkaWNo\r\n\r\n", kind)
    response = assert(khp.http.parse_response((theirs:receive())))
    assert.equal(101, response.status)
    assert.equal("echo", response.headers["Sec-WebSocket-Protocol"])
    assert.equal("echo", server:connections()[1].protocol)
    theirs:send "hello"
    assert.equal("hello", (theirs:receive()))
  end)

  case(("is a gateway that answers in %s messages [O1 E1 E3 E4 E13]"):format(kind), "server", nil, function(w)
    local url, accept = w.puppet:listen { protocols = { KHP } }
    local ours, problem
    khp.spawn(function()
      ours, problem = w:connect(url .. "path", {
        protocols = { "echo" },
        credentials = { username = "joe", password = "öffne dich" },
      })
    end)
    local theirs = accept()
    assert.equal(KHP, theirs.protocol)
    local request = assert(khp.http.parse_request((theirs:receive())))
    assert.equal("/path", request.target)
    assert.equal("echo", request.headers["Sec-WebSocket-Protocol"])
    theirs:send("HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"members\"\r\n\r\n", kind)
    request = assert(khp.http.parse_request((theirs:receive())))
    assert.equal("Basic am9lOsO2ZmZuZSBkaWNo", request.headers.authorization)
    theirs:send("HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Protocol: echo\r\n\r\n", kind)
    theirs:send "welcome"
    net.await(function()
      return ours or problem
    end)
    assert.is_nil(problem)
    assert.is_true(ours.khp)
    assert.equal("echo", ours.protocol)
    assert.same({ "welcome", "text" }, { ours:receive(net.PATIENCE) })
    ours:close()
    assert.is_true(ours.closed.clean)
  end)
end

case("is found out when it agrees to what it does not know", "server", nil, function(w)
  local url, accept = w.puppet:listen { protocols = { KHP } }
  local failure
  khp.spawn(function()
    failure = { w:connect(url) }
  end)
  local theirs = accept()
  theirs:send(theirs:receive()) -- an echo
  net.await(function()
    return failure
  end)
  assert.is_nil(failure[1])
  assert.equal("EPROTOCOL", failure[3])
  assert.equal(1011, (theirs:closed()))
end)

-- Kaazing's extensions, as a script sees them: text messages that begin with four control bytes.
local CONTROL, PING, PONG = "\1\1\1\2", "\1\1\1\2\9\0", "\1\1\1\2\10\0"
local ASKED = "x-kaazing-idle-timeout, x-kaazing-ping-pong"

case("sees extended pings and pongs that keep a connection alive [E14]", "client", nil, function(w)
  local url, server = w:serve { extensions = { "x-kaazing-idle-timeout; timeout=1000", "x-kaazing-ping-pong" } }
  local theirs = w.puppet:connect(url, { protocols = { KHP } }):opened()
  theirs:send("GET / HTTP/1.1\r\nSec-WebSocket-Extensions: " .. ASKED .. "\r\n\r\n")
  local response = assert(khp.http.parse_response((theirs:receive())))
  assert.equal("x-kaazing-idle-timeout; timeout=1000, x-kaazing-ping-pong; 01010102",
    response.headers["Sec-WebSocket-Extensions"])
  local ours = server:connections()[1]
  theirs:send(PING)
  assert.same({ PONG, "text" }, { theirs:receive() })
  assert.same({ PONG, "text" }, { theirs:receive() }) -- nobody asked for it
  theirs:send(CONTROL)
  theirs:send(CONTROL .. "a text like any other")
  assert.equal(CONTROL .. "a text like any other", (ours:receive(net.PATIENCE)))
  theirs:send(CONTROL .. "nonsense")
  repeat
    local event = w.puppet:event(theirs.id)
    if event[1] == "closed" then
      assert.equal("1002", event[3])
    end
  until event[1] == "closed"
end)

case("is a gateway with idle timeout and extended pings [E5 E14]", "server", nil, function(w)
  local url, accept = w.puppet:listen { protocols = { KHP } }
  local ours, problem
  khp.spawn(function()
    ours, problem = w:connect(url, { extensions = { "x-kaazing-idle-timeout", "x-kaazing-ping-pong" } })
  end)
  local theirs = accept()
  local request = assert(khp.http.parse_request((theirs:receive())))
  assert.equal(ASKED, request.headers["Sec-WebSocket-Extensions"])
  theirs:send("HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Extensions: "
    .. "x-kaazing-idle-timeout; timeout=400, x-kaazing-ping-pong; 01010102\r\n\r\n", "binary")
  theirs:send(PING)
  assert.same({ PONG, "text" }, { theirs:receive() })
  net.await(function()
    return ours or problem
  end)
  assert.is_nil(problem)
  assert.is_nil((ours:receive(net.PATIENCE))) -- from now on it is silent
  assert.same({ 1001, "local" }, { ours.closed.code, ours.closed.by })
  assert.equal(1001, (theirs:closed()))
end)

describe("handshakes:", function()
  peers.try(_ENV, cases)
end)
