-- The client's side of the handshake with what Kaazing's gateway and its balancer add to it. Conversations byte for
-- byte are in spec/conformance.

local client = require "khp.kaazing.client"

local GO_ON = "\u{F0FF}N"
local COMPLETED = "HTTP/1.1 101 Web Socket Protocol Handshake\r\nUpgrade: websocket\r\n\r\n"
local ASKED = "HTTP/1.1 401 x\r\nWWW-Authenticate: Application Token\r\n\r\n"

local function new(target, given)
  local options = { target = target or "/echo", now = 100 }
  for name, value in pairs(given or {}) do
    options[name] = value
  end
  return client.new(options)
end

local function started(target, given)
  local machine = new(target, given)
  assert(machine:start())
  assert.equal("send", (machine:poll()))
  return machine
end

-- All events; responses are acted on.
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

local function names(machine)
  local list = events(machine)
  for i, event in ipairs(list) do
    list[i] = event[1]
  end
  return table.concat(list, " ")
end

local function fails(machine, code, message)
  local list = events(machine)
  assert.equal("failed", list[1][1])
  assert.matches(message, list[1][2])
  assert.equal(code, list[1][3])
  assert.same({ "close", 1011 }, { list[2][1], list[2][2] })
  assert.is_nil(list[3])
  assert.equal("closed", machine.state)
  assert.is_nil(machine:deadline())
  return list[1][4]
end

describe("khp.kaazing.client", function()
  it("ignores directives and empty messages before the connection is open [E2]", function()
    for _, kind in ipairs { "text", "binary" } do
      local machine = new()
      local function noise()
        machine:message(GO_ON, kind)
        machine:message("", kind)
        assert.equal("", names(machine))
      end
      noise()
      machine:start()
      assert.equal("send", names(machine))
      noise()
      machine:message(ASKED)
      assert.equal("challenge", names(machine))
      noise()
      machine:authorize "Token 1"
      assert.equal("send", names(machine))
      noise()
      machine:message(COMPLETED)
      assert.equal("open", names(machine))
      assert.equal("open", machine.state)
      assert.has_error(function()
        machine:message(GO_ON, kind)
      end)
    end
  end)

  it("takes nothing else before a request that it could answer [E2]", function()
    for _, bytes in ipairs { "Hello", "\u{F0FF}", "\u{F0FF}NN", "\u{F0FF}X", "\u{F0FE}N", "N", COMPLETED } do
      local machine = new()
      machine:message(bytes)
      fails(machine, "EPROTOCOL", "before the request")
    end
  end)

  it("is open only after the second directive where the URL asks for them [E17]", function()
    local machine = started "/echo?a=b&.kl=Y"
    machine:message(COMPLETED)
    assert.equal("", names(machine))
    assert.equal("completed", machine.state)
    assert.equal(115, machine:deadline())
    machine:message ""
    assert.equal("", names(machine))
    machine:message(GO_ON, "text")
    local list = events(machine)
    assert.equal("open", list[1][1])
    assert.equal(101, list[1][2].response.status)
    assert.equal("open", machine.state)
    assert.is_nil(machine:deadline())
    machine:finish(1000, "")
    machine:tick(1000)
    assert.equal("", names(machine))
  end)

  it("waits for it no longer than for all the rest [E16]", function()
    local machine = started "/echo?.kl=Y"
    machine:message(COMPLETED)
    machine:tick(114)
    assert.equal("", names(machine))
    machine:tick(115)
    assert.is_false(fails(machine, "ETIMEOUT", "second directive").permanent)
    machine = started "/echo?.kl=Y"
    machine:tick(115)
    fails(machine, "ETIMEOUT", "no extended response")
    machine = started("/echo?.kl=Y", { timeout = 1 })
    machine:message(COMPLETED)
    assert.equal("", names(machine))
    assert.equal(101, machine:deadline())
  end)

  it("is open after an empty message where the URL asks for those alone [E17]", function()
    local machine = started "/echo?.kv=10.05"
    machine:message(COMPLETED)
    assert.equal("", names(machine))
    machine:message(GO_ON)
    assert.equal("", names(machine))
    machine:message ""
    assert.equal("open", names(machine))
    machine = started "/echo?.kv=10.05"
    machine:message(COMPLETED)
    assert.equal("", names(machine))
    machine:message "Hello"
    fails(machine, "EPROTOCOL", "the response's end is due")
  end)

  it("takes nothing but a directive there [E2]", function()
    for _, bytes in ipairs { "Hello", "\u{F0FF}", "\u{F0FF}NN", "N", COMPLETED } do
      local machine = started "/echo?.kl=Y"
      machine:message(COMPLETED)
      assert.equal("", names(machine))
      machine:message(bytes)
      local detail = fails(machine, "EPROTOCOL", "second directive")
      assert.same({ true, 101, 1 }, { detail.permanent, detail.status, detail.attempts })
      machine:message(GO_ON)
      assert.equal("", names(machine))
    end
  end)

  it("fails when the server closes there [E16]", function()
    local machine = started "/echo?.kl=Y"
    machine:message(COMPLETED)
    assert.equal("", names(machine))
    machine:finish(1000, "bye")
    local list = events(machine)
    assert.same({ "failed", "ECLOSED", 1000, "bye" }, { list[1][1], list[1][3], list[1][4].code, list[1][4].reason })
    assert.is_nil(list[2])
  end)

  it("is led elsewhere by a directive in any place, as by a redirect [E12]", function()
    local places = {
      function() return new() end,
      function() return started() end,
      function()
        local machine = started()
        machine:message(ASKED)
        assert.equal("challenge", names(machine))
        return machine
      end,
      function()
        local machine = started "/echo?.kl=Y"
        machine:message(COMPLETED)
        assert.equal("", names(machine))
        return machine
      end,
    }
    for _, place in ipairs(places) do
      for _, kind in ipairs { "text", "binary" } do
        local machine = place()
        machine:message("\u{F0FF}Rws://example.org/echo?.kl=Y", kind)
        assert.equal("closed", machine.state)
        local list = events(machine)
        assert.same({ { "redirect", "ws://example.org/echo?.kl=Y", {} }, { "close", 1000, "" } }, list)
        machine:message(COMPLETED)
        machine:finish(1000, "")
        assert.same({}, events(machine))
        local ok, _, code = machine:start()
        assert.same({ nil, "ECLOSED" }, { ok, code })
        machine = place()
        machine:message("\u{F0FF}R", kind)
        assert.is_false(fails(machine, "EHANDSHAKE", "knows no server").permanent)
      end
    end
  end)

  it("takes a part of a response for what it is, whatever it looks like [H10]", function()
    local machine = started()
    machine:message "HTTP/1.1 403 Forbidden\r\nContent-Length: 10\r\n\r\n"
    machine:message ""
    machine:message(GO_ON)
    machine:message "\u{F0FF}Rws"
    local list = events(machine)
    assert.same({ "failed", GO_ON .. "\u{F0FF}Rws" }, { list[1][1], list[1][4].body })
  end)

  it("follows a redirect whose header is in lower case [E12 H2]", function()
    local machine = started()
    machine:message "HTTP/1.1 302 Found\r\nlocation: http://example.org/\r\n\r\n"
    local list = events(machine)
    assert.same({ "redirect", "http://example.org/" }, { list[1][1], list[1][2] })
  end)

  describe("keeps what comes while a response is being judged", function()
    local function judging(target, response, given)
      local machine = started(target, given)
      machine:message(response)
      local name, _, action = machine:poll()
      assert.equal("response", name)
      return machine, action
    end

    it("for the application, where that one opens [E17]", function()
      local machine, action = judging("/echo", COMPLETED)
      machine:message("", "text")
      machine:message(GO_ON)
      machine:act(action)
      local list = events(machine)
      assert.same({ "open", "message", "message" }, { list[1][1], list[2][1], list[3][1] })
      assert.same({ "", "text", GO_ON, "binary" }, { list[2][2], list[2][3], list[3][2], list[3][3] })
    end)

    it("as the second directive, and what follows it for the application [E17]", function()
      local machine, action = judging("/echo?.kl=Y", COMPLETED)
      machine:message ""
      machine:message(GO_ON)
      machine:message("hello", "text")
      machine:act(action)
      local list = events(machine)
      assert.same({ "open", "message", "hello", "text" }, { list[1][1], list[2][1], list[2][2], list[2][3] })
    end)

    it("as a directive that leads elsewhere [E12]", function()
      local machine, action = judging("/echo?.kl=Y", COMPLETED)
      machine:message "\u{F0FF}Rws://example.org/"
      machine:message "Hello"
      machine:act(action)
      assert.equal("redirect close", names(machine))
    end)

    it("as nothing before a replay, or as too much [E2 E13]", function()
      local machine, action = judging("/echo", ASKED)
      machine:message ""
      machine:act(action)
      assert.equal("challenge", names(machine))
      machine, action = judging("/echo", ASKED)
      machine:message(COMPLETED)
      machine:act(action)
      assert.equal("challenge failed close", names(machine))
    end)

    it("as the next response after a 202, and what follows that likewise [S202]", function()
      local machine, action = judging("/echo?.kl=Y", "HTTP/1.1 202 x\r\n\r\n")
      for _, bytes in ipairs { "", COMPLETED, "", GO_ON, "hello" } do
        machine:message(bytes)
      end
      machine:act(action)
      assert.equal("open message", names(machine))
    end)

    it("so many messages and no more [E18]", function()
      local machine = judging("/echo", COMPLETED)
      for _ = 1, 256 do
        machine:message ""
      end
      assert.equal("", names(machine))
      machine:message ""
      fails(machine, "ELIMIT", "too many messages")
      machine = judging("/echo", COMPLETED, { limits = { extended_message = 1000 } })
      machine:message(("x"):rep(1001))
      fails(machine, "ELIMIT", "too many messages")
    end)
  end)

  it("answers challenges of both forms without the prefix [E13 H9]", function()
    local auth = require "khp.auth"
    for challenge, expected in pairs {
      ["Application Basic realm=\"x\""] = "Basic am9lOnNlY3JldA==", ["Basic realm=\"x\""] = "Basic am9lOnNlY3JldA==",
      ["Application Token"] = "Token 123", ["Token"] = "Token 123",
    } do
      local machine = started()
      machine:message("HTTP/1.1 401 x\r\nWWW-Authenticate: " .. challenge .. "\r\n\r\n")
      local list = events(machine)
      assert.equal("challenge", list[1][1])
      local credentials = auth.new { username = "joe", password = "secret", token = "123" }
      assert.equal(expected, credentials:answer(list[1][2], { target = "/echo" }))
    end
  end)

  it("repeats none of the opening's own headers [E7]", function()
    local machine = new("/echo?.kl=Y", { protocols = { "chat" }, extensions = { "x" } })
    machine:start()
    assert.same({ "send", "GET /echo?.kl=Y HTTP/1.1\r\nSec-WebSocket-Protocol: chat\r\n"
      .. "Sec-WebSocket-Extensions: x\r\n\r\n", "binary" }, { machine:poll() })
  end)
end)
