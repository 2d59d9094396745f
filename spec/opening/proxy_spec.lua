-- CONNECT through a proxy, every answer whole, byte by byte and cut at every place.

local drive = require "spec.opening.drive"
local http = require "khp.http"
local proxy = require "khp.opening.proxy"

local function new(options)
  local given = { authority = "example.org:443" }
  for name, value in pairs(options or {}) do
    given[name] = value
  end
  local machine = proxy.new(given)
  local name, request = machine:poll()
  assert.equal("send", name)
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

-- Bytes after the answer would be the server's: the driver passes none on, so here they must not come.
local function everywhere(bytes, options)
  return drive.everywhere(function()
    return (new(options))
  end, bytes)
end

local function fails(bytes, message, code, options)
  local events = everywhere(bytes, options)
  assert.equal("failed close", names(events))
  assert.equal(code, events[1][3])
  assert.equal(message, events[1][2])
  return events[1][4]
end

describe("the request to a proxy", function()
  it("names the place, and nothing else", function()
    local _, request = new()
    assert.equal("CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n", request)
    _, request = new { authority = "[::1]:80" }
    assert.matches("^CONNECT %[::1%]:80 HTTP/1.1\r\nHost: %[::1%]:80\r\n", request)
  end)

  it("carries credentials for the proxy when it is told to", function()
    local _, request = new { authorization = "Basic am9lOng=" }
    local parsed = http.parse_request(request)
    assert.equal("Basic am9lOng=", parsed.headers["proxy-authorization"])
    assert.is_nil(parsed.headers.authorization)
  end)

  it("is not made of what is not lawful", function()
    local wrong = { { authority = "a b:1" }, { authority = "a:1\r\n" }, { authorization = "Basic\r\nX: y" } }
    for _, options in ipairs(wrong) do
      local ok, message = pcall(new, options)
      assert.is_false(ok)
      assert.matches("khp.opening.proxy: ", message)
    end
    assert.has_error(function()
      proxy.new {}
    end)
    assert.has_error(function()
      proxy.new { authority = "a:1", authorisation = "x" }
    end)
  end)
end)

describe("the answer of a proxy", function()
  it("opens the way with any 2xx, which has no body", function()
    for _, head in ipairs {
      "HTTP/1.1 200 Connection established\r\n\r\n", "HTTP/1.0 200 OK\r\nProxy-Agent: x\r\n\r\n",
      "HTTP/1.1 204 x\r\n\r\n", "HTTP/1.1 200 x\r\nContent-Length: 5\r\n\r\n",
      "HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 x\r\n\r\n",
    } do
      local events = everywhere(head)
      assert.equal("open", names(events))
      assert.is_true(events[1][2].response.status < 300)
    end
  end)

  it("is nothing that is followed by bytes at once: the server was not spoken to yet", function()
    local machine = new()
    machine:feed "HTTP/1.1 200 x\r\n\r\nHTTP/1.1 101 x\r\n"
    local name, message, code = machine:poll()
    assert.same({ "failed", "the proxy sent bytes after its answer", "EPROTOCOL" }, { name, message, code })
  end)

  it("asks for credentials with 407, and may say why in its body", function()
    local detail = fails('HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm="p"\r\nContent-Length: 5\r\n\r\nsorry',
      "the proxy asks for credentials", "EAUTH")
    assert.same({ 407, "sorry", 'Basic realm="p"' },
      { detail.status, detail.body, detail.headers["proxy-authenticate"] })
  end)

  it("refuses with any other status, each with its own words", function()
    local detail = fails("HTTP/1.1 403 Not there\r\nContent-Length: 2\r\n\r\nno", "the proxy answered '403 Not there'",
      "EHANDSHAKE")
    assert.same({ 403, "no" }, { detail.status, detail.body })
    fails("HTTP/1.1 502 \r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
      "the proxy answered '502 Bad Gateway'", "EHANDSHAKE")
    fails("HTTP/1.1 302 Found\r\nLocation: http://portal/\r\nContent-Length: 0\r\n\r\n",
      "the proxy answered '302 Found'", "EHANDSHAKE")
    fails("HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", "the proxy answered 101 to CONNECT", "EPROTOCOL")
  end)

  it("is a refusal even where its body ends too early, or with the stream", function()
    for _, head in ipairs { "HTTP/1.1 407 x\r\nContent-Length: 9\r\n\r\nso", "HTTP/1.0 407 x\r\n\r\nsorry" } do
      local machine = new()
      machine:feed(head)
      assert.is_nil(machine:poll())
      machine:finish()
      local events = drive.collect(machine)
      assert.equal("failed close", names(events))
      assert.equal("EAUTH", events[1][3])
      assert.equal(407, events[1][4].status)
    end
  end)

  it("is bounded [H11]", function()
    local limits = { limits = { line = 30, opening_head = 100, fields = 2, body = 4 } }
    for bytes, message in pairs {
      ["HTTP/1.1 200 " .. ("x"):rep(40) .. "\r\n\r\n"] = "line",
      ["HTTP/1.1 200 x\r\na: b\r\nc: d\r\ne: f\r\n\r\n"] = "header",
      [("HTTP/1.1 100 x\r\n\r\n"):rep(17)] = "more than 16 interim responses",
    } do
      local events = everywhere(bytes, limits)
      assert.equal("failed close", names(events))
      assert.equal("ELIMIT", events[1][3])
      assert.matches(message, events[1][2])
    end
    local detail = fails("HTTP/1.1 403 x\r\nContent-Length: 5\r\n\r\nsorry", "the proxy answered '403 x'", "EHANDSHAKE",
      limits)
    assert.equal("", detail.body)
  end)

  it("is no HTTP, or none at all", function()
    local events = everywhere "SSH-2.0-x\r\n"
    assert.equal("failed close", names(events))
    assert.equal("EPROTOCOL", events[1][3])
    for bytes, message in pairs {
      [""] = "the proxy closed the connection without an answer",
      ["HTTP/1.1 2"] = "the proxy closed the connection in the middle of its answer",
    } do
      local machine = new()
      machine:feed(bytes)
      machine:finish()
      assert.same({ "failed", message, "ECLOSED", {} }, { machine:poll() })
    end
  end)

  it("comes in time, or not", function()
    local machine = new { now = 100, timeout = 3 }
    assert.equal(103, machine:deadline())
    machine:tick(102.9)
    assert.is_nil(machine:poll())
    machine:tick(103)
    assert.same({ "failed", "the proxy did not answer in time", "ETIMEOUT", {} }, { machine:poll() })
    assert.is_nil(machine:deadline())
    assert.is_nil(new():deadline())
  end)

  it("takes what comes too late for nothing, and refuses the server's bytes", function()
    local machine = new()
    machine:feed "HTTP/1.1 403 x\r\nContent-Length: 0\r\n\r\n"
    drive.collect(machine)
    machine:feed "HTTP/1.1 200 x\r\n\r\n"
    machine:finish()
    assert.is_nil(machine:poll())
    machine = new()
    machine:feed "HTTP/1.1 200 x\r\n\r\n"
    assert.has_error(function()
      machine:feed "x"
    end, "the tunnel is open: these bytes are the server's")
  end)

  it("does no harm however it is damaged", function()
    local bytes = 'HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm="p"\r\nContent-Length: 5\r\n\r\nsorry'
    drive.mutations(bytes, 2000, function(text, cut)
      local machine = new()
      machine:feed(text:sub(1, cut))
      if machine.state ~= "open" then
        machine:feed(text:sub(cut + 1))
      end
      machine:finish()
      local events = drive.collect(machine)
      local said = names(events)
      assert.is_true(said == "open" or said == "failed close", said)
    end)
  end)
end)
