-- Policies that are tested by transcripts of their own: what a test can set, what the policy sees of it, and that a
-- test fails where it should.

local test = require "khp.policy.test"

-- The failures of a policy's tests, in order: false for each that passes.
local function run(text)
  local path = os.tmpname()
  local file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
  local functions, results = test.run(path)
  os.remove(path)
  if not functions then
    return { results }
  end
  local failures = {}
  for i, result in ipairs(results) do
    failures[i] = result.failure and result.failure:gsub(path:gsub("%p", "%%%0"), "p.lua") or false
  end
  return failures
end

-- A policy with these functions and this one test.
local function play(functions, steps)
  return run("return {\n" .. functions .. ",\ntests = [==[\n" .. steps .. "]==] }")[1]
end

local function passes(functions, steps)
  assert.is_false(play(functions, steps))
end

local function fails(functions, steps, pattern)
  local failure = play(functions, steps)
  assert.truthy(failure, "it passed")
  assert.matches(pattern, failure)
end

describe("a test of a server's policy", function()
  local OPENS = "S binary\n| HTTP/1.1 101 Switching Protocols\n* the usual\nS opens\n"
  local GET = "C binary\n| GET / HTTP/1.1\n|\n"

  it("needs no opening: there is a usual one, with the path of the extended request", function()
    passes([[extended = function(request, session)
      assert(session.path == "/a" and session.opening.query == "b" and request.path == "/a")
    end]], "C binary\n| GET /a?b HTTP/1.1\n|\n" .. OPENS)
    passes("opening = function() return accept {} end", GET .. OPENS)
    fails("opening = function() return reject(403, 'no') end", GET .. OPENS,
      "nobody waits for this message after a message %(http%)\n.*%+ | HTTP/1.1 403 Forbidden\n")
  end)

  it("has steps, or it would pass whatever the policy does", function()
    fails("extended = function() end", "", "the test 'tests' has no steps$")
    fails("extended = function() end", "# first\n" .. GET .. OPENS .. "# nothing\n",
      ":13: the test 'nothing' has no steps$")
  end)

  it("shows an opening where that matters", function()
    local http = "C http\n| GET /x HTTP/1.1\n| Host: a\n| Upgrade: websocket\n| Connection: Upgrade\n" ..
      "| Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n| Sec-WebSocket-Version: 13\n| Sec-WebSocket-Protocol: chat\n|\n"
    local policy = [[opening = function(request)
      return request.path == "/x" and redirect "ws://b/" or accept { protocol = "chat" }
    end]]
    passes(policy, http .. "S http\n| HTTP/1.1 302 Found\n| Location: ws://b/\n* more\n")
    local other = http:gsub("/x", "/y")
    passes(policy, other .. "S http\n| HTTP/1.1 101 Switching Protocols\n* more\nS opens protocol=chat\n")
    passes(policy, other .. "S opens protocol=chat\n")
    fails(policy, http .. "S opens protocol=chat\n", "open expected, got a message %(http%)")
    passes("opening = nil",
      "C http\n| GET /x HTTP/1.1\n| Host: a\n|\nS http\n| HTTP/1.1 426 Upgrade Required\n* more\n")
  end)

  it("sets the time, and lets it pass", function()
    local policy = [[extended = function(_, session)
      require("khp").sleep(session.now % 60 == 0 and 10 or 0)
      return reject(403, { headers = { ["X-Now"] = ("%d"):format(session.now), ["X-Os"] = os.time() } })
    end]]
    local answer = "S binary\n| HTTP/1.1 403 Forbidden\n| X-Now: %d\n| X-Os: %d\n| Server: khp\n| Date: %s\n" ..
      "| Content-Length: 0\n|\nS close 1000\n"
    passes(policy, "given now=61\n" .. GET .. answer:format(61, 61, "Thu, 01 Jan 1970 00:01:01 GMT"))
    passes(policy, GET .. "wait 4\nwait 6\n" .. answer:format(1795348810, 1795348810, "Sun, 22 Nov 2026 12:00:10 GMT"))
    fails(policy, GET .. "wait 9\n" .. answer, "a message expected, got nothing")
  end)

  it("lets the handshake's time run out", function()
    passes("extended = function() require('khp').sleep(100) end", GET .. "wait 14.9\nwait 0.1\n" ..
      "S binary\n| HTTP/1.1 503 Service Unavailable\n* more\nS fails ETIMEOUT status=503\n" ..
      "S close 1011 no answer to the request in time\n")
    passes("extended = nil", "C http\n| GET / HTTP/1.1\nwait 10\n" ..
      "S http\n| HTTP/1.1 408 Request Timeout\n* more\nS fails ETIMEOUT\n")
  end)

  it("sets random bytes, the peer, the number of the connection and the environment", function()
    local policy = [[extended = function(_, session)
      local bytes = session:random(3):gsub(".", function(c) return ("%02x"):format(c:byte()) end)
      return reject(403, table.concat({ bytes, session.peer.host or session.peer.path, session.peer.port or 0,
        session.sequence, tostring(session.env.COLOUR) }, " "))
    end]]
    local function answers(body)
      return GET .. "S binary\n| HTTP/1.1 403 Forbidden\n* more\n|\n+ " .. body .. "\nS close 1000\n"
    end
    passes(policy, answers "000102 192.0.2.1 50000 1 nil")
    passes(policy, "given random=FF07, peer=10.0.0.1, env.COLOUR=\"light blue\", sequence=5\n" ..
      answers "ff07ff 10.0.0.1 50000 5 light blue")
    passes(policy, "given peer=10.0.0.1:80\n" .. answers "000102 10.0.0.1 80 1 nil")
    passes(policy, "given peer=[2001:db8::1]:80\n" .. answers "000102 2001:db8::1 80 1 nil")
    passes(policy, "given peer=2001:db8::1\n" .. answers "000102 2001:db8::1 50000 1 nil")
    passes(policy, "given peer=/tmp/x.sock\n" .. answers "000102 /tmp/x.sock 0 1 nil")
    fails(policy, "given random=F\n" .. answers "", "p.lua:%d+: random bytes are given in hexadecimal: F")
    fails(policy, "given now=soon\n" .. answers "", "neither seconds nor a date: soon")
    fails(policy, "given weather=fine\n" .. answers "", "a test can give now, .*, not weather")
  end)

  it("plays what stands under one heading against one copy of the policy, and everything else against fresh ones",
    function()
      local function block(count, more)
        return "```khp\n" .. (more or "") .. GET .. "S binary\n| HTTP/1.1 403 Forbidden\n| X-Count: " .. count ..
          "\n* more\nS close 1000\n```\n"
      end
      local policy = [[local count = 0
        return {
          extended = function(_, session)
            count = count + 1
            return reject(403, { headers = { ["X-Count"] = count .. session.peer.host .. " " .. session.sequence } })
          end,
          tests = "# One\n" .. ]]
      local text = block("110.0.0.1 1", "given peer=10.0.0.1\n") .. block "210.0.0.1 2" ..
        "# Two\n" .. block "1192.0.2.1 1"
      assert.same({ false, false }, run(policy .. "[==[\n" .. text .. "]==] }"))
    end)

  it("may stand in a table, by name", function()
    local failures = run([[return { tests = {
      b = "C binary\n| GET / HTTP/1.1\n|\nS opens\n",
      a = "C binary\n| GET / HTTP/1.1\n|\nS binary\n* any\nS opens\n",
    } }]])
    assert.is_false(failures[1])
    assert.matches("^p.lua %(b%):4: open expected, got a message", failures[2])
  end)

  it("fails where the policy fails, and tells why", function()
    fails("extended = function() error 'oops' end", GET .. OPENS, "500 Internal.*policy: extended: .*oops.*traceback")
    fails("extended = function() return 7 end", GET .. OPENS, "policy: extended: .*challenge, redirect or reject")
    fails("extended = function() return accept { protocol = 'x' } end", GET .. OPENS, "policy: extended: .*protocol")
    fails("extended = function() while true do end end", GET .. OPENS, "policy: extended: ")
  end)

  it("keeps to itself what the policy writes to the log, and has no network", function()
    local policy = [[extended = function()
      khp.log.warn("hm %d", 1)
      local conn, message = khp.connect "ws://127.0.0.1:1/"
      return reject(403, tostring(conn) .. message)
    end]]
    local log = require "khp.log"
    local sink, heard = log.sink, false
    function log.sink()
      heard = true
    end
    local failure = play(policy, GET .. OPENS)
    log.sink = sink
    assert.is_false(heard)
    assert.matches("\nwarn: .*: hm 1$", failure)
    assert.matches("nilthere is no network in a test", failure)
  end)

  it("ends with the last thing that happens", function()
    fails("extended = function() return reject(403) end", GET .. "S binary\n* any\n",
      "after the last line: an event close 1000")
    fails("extended = nil", GET .. "S binary\n* any\nS opens\nC decides x()\n", "nothing else after the handshake")
    fails("extended = nil", GET .. "S decides accept{}\n", "'decides' means nothing here")
  end)
end)

describe("a test of a client's policy", function()
  local GET = "C binary\n| GET / HTTP/1.1\n|\n"
  local ASKED = "S binary\n| HTTP/1.1 401 Unauthorized\n| WWW-Authenticate: Basic realm=\"r\"\n|\n"
  local ACCEPTED = "S binary\n| HTTP/1.1 101 Switching Protocols\n| Upgrade: websocket\n| Connection: Upgrade\n" ..
    "| Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\n|\n"
  local JOE = [[challenge = function(challenge, attempt, session)
    return attempt == 1 and { username = "joe", password = session.env.PASSWORD } or nil
  end]]

  it("answers challenges", function()
    passes(JOE, "given env.PASSWORD=x\n" .. GET .. ASKED ..
      "C binary\n| GET / HTTP/1.1\n| Authorization: Basic am9lOng=\n|\n" .. ACCEPTED .. "C opens\n")
    passes(JOE, "given env.PASSWORD=x\n" .. GET .. ASKED .. "C binary\n| GET / HTTP/1.1\n* credentials\n|\n" .. ASKED ..
      "C fails EAUTH status=401 attempts=2 permanent\n" ..
      "C close 1011 the server asks for credentials (Basic, realm \"r\"): no credentials\n")
  end)

  it("answers them in the opening, too, on another connection", function()
    local http = "C http\n| GET /x HTTP/1.1\n| Host: a.example\n| Upgrade: websocket\n| Connection: Upgrade\n" ..
      "| Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n| Sec-WebSocket-Version: 13\n%s|\n"
    passes(JOE, "given env.PASSWORD=x\n" .. http:format "" ..
      "S http\n| HTTP/1.1 401 Unauthorized\n| WWW-Authenticate: Basic realm=\"r\"\n| Content-Length: 0\n|\n" ..
      http:format "| Authorization: Basic am9lOng=\n" ..
      "S http\n| HTTP/1.1 101 Switching Protocols\n| Upgrade: websocket\n| Connection: Upgrade\n" ..
      "| Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\n|\nC opens\n")
  end)

  it("follows redirects or not, and goes on at the other place", function()
    local policy = [[redirect = function(location, _, _, session)
      return session.url == "ws://example.com/" and location:find("^wss?://[a-z]+%.example%.com[:/]") ~= nil
    end]]
    local function redirected(location)
      return GET .. "S binary\n| HTTP/1.1 302 Found\n| Location: " .. location .. "\n|\n"
    end
    passes(policy, redirected "ws://b.example.com/" .. "C redirects ws://b.example.com/\nC close 1000\n")
    passes(policy, redirected "wss://b.example.com/" .. "C redirects wss://b.example.com/\nC close 1000\n" ..
      "C http\n| GET / HTTP/1.1\n| Host: b.example.com\n* more\n" ..
      "| Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n* more\n" ..
      "S http\n| HTTP/1.1 101 Switching Protocols\n| Upgrade: websocket\n| Connection: Upgrade\n" ..
      "| Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\n| Sec-WebSocket-Protocol: x-kaazing-handshake\n|\n" ..
      GET .. ACCEPTED .. "C opens\n")
    passes(policy, redirected "ws://example.org/" .. "C fails EREDIRECT status=302\nC close 1000\n")
    fails(policy, redirected "ws://example.org/" .. "C redirects ws://example.org/\n", "redirect expected, got failed")
  end)

  it("adds to requests, and has the last word on responses", function()
    passes([[request = function(_, attempt) return { headers = { ["X-Attempt"] = attempt } } end,
      response = function(response, action) return response.status == 403 and "redirect" or nil end]],
      "C binary\n| GET / HTTP/1.1\n| X-Attempt: 1\n|\n" ..
      "S binary\n| HTTP/1.1 403 Forbidden\n| Location: ws://b.example/\n|\n" ..
      "C redirects ws://b.example/\nC close 1000\n")
  end)

  it("lets time pass, and the call's time run out", function()
    passes([[challenge = function() require("khp").sleep(5) return { username = "a", password = "b" } end]],
      GET .. ASKED .. "wait 5\nC binary\n| GET / HTTP/1.1\n| Authorization: Basic YTpi\n|\n")
    passes("request = function() end", "C binary\n| GET / HTTP/1.1\n|\nwait 15\nC fails ETIMEOUT\n" ..
      "C close 1011 no extended response in time\n" )
  end)

  it("begins where the test says", function()
    passes("request = function(request, _, session) return { headers = { X = request.url .. session.url } } end",
      "given url=wss://b.example:8443/\n" ..
      "C binary\n| GET / HTTP/1.1\n| X: wss://b.example:8443/wss://b.example:8443/\n|\n")
  end)

  it("fails where the policy fails, and tells why", function()
    fails("challenge = function() error 'oops' end", GET .. ASKED .. "C binary\n* any\n", "oops.*EPOLICY.*traceback")
  end)
end)

describe("a test with Kaazing's peers", function()
  local GO_ON = "S binary\n+ \\xEF\\x83\\xBFN\n"

  it("shows a server's policy what such a client sends, and the client what it needs", function()
    local http = "C http\n| GET /echo?.kl=Y HTTP/1.1\n| Host: example.com\n| Upgrade: websocket\n"
      .. "| Connection: Upgrade\n| Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n| Sec-WebSocket-Version: 13\n"
      .. "| Sec-WebSocket-Protocol: x-kaazing-handshake\n|\n"
    local agreed = "S http\n| HTTP/1.1 101 Web Socket Protocol Handshake\n* the usual\n"
    local asked = GO_ON .. "C text\n| GET /echo HTTP/1.1\n| WebSocket-Protocol: \n|\n"
    local completed = "S binary\n| HTTP/1.1 101 Web Socket Protocol Handshake\n* the usual\nS binary\n"
    passes("opening = nil", http .. agreed .. asked .. completed .. GO_ON .. "S opens\n")
    fails("opening = nil", http .. agreed .. asked .. completed .. "S opens\n", "open expected, got a message")
    passes("extended = function() return challenge 'Token' end", http .. asked
      .. "S binary\n| HTTP/1.1 401 Unauthorized\n| WWW-Authenticate: Application Token\n* the usual\nS binary\n")
    local leads = "S binary\n+ \\xEF\\x83\\xBFRws://example.org/?.kl=Y\nS close 1000\n"
    passes("extended = function() return redirect 'ws://example.org/' end", http .. asked .. completed .. leads)
    passes("opening = function() return redirect 'ws://example.org/' end", http .. agreed .. leads)
    passes("extended = function(request) assert(request.query == '.kl=Y') end",
      GO_ON .. "C binary\n| GET /echo?.kl=Y HTTP/1.1\n|\n" .. completed .. GO_ON .. "S opens\n")
  end)

  it("shows a client's policy what a gateway sends", function()
    local asked = GO_ON .. "C binary\n| GET /echo?.kl=Y HTTP/1.1\n|\n"
    local completed = "S binary\n| HTTP/1.1 101 Web Socket Protocol Handshake\n| Upgrade: websocket\n|\nS binary\n"
    local policy = "redirect = function(location) return location ~= 'ws://example.org/no?.kl=Y' end"
    passes(policy, asked .. completed .. GO_ON .. "C opens\n")
    fails(policy, asked .. completed .. "C opens\n", "open expected, got nothing")
    local leads = completed .. "S binary\n+ \\xEF\\x83\\xBFRws://example.org/%s?.kl=Y\n"
    passes(policy, asked .. leads:format "yes" .. "C redirects ws://example.org/yes?.kl=Y\nC close 1000\n")
    passes(policy, asked .. leads:format "no" .. "C fails EREDIRECT permanent\nC close 1000\n")
    passes(policy, asked .. completed .. "S binary\n+ \\xEF\\x83\\xBFR\nC fails EHANDSHAKE temporary\n"
      .. "C close 1011 the balancer knows no server that could take the connection\n")
  end)
end)
