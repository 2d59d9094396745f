-- What a server's policy may return, and the exact words for what it may not.

local answer = require "khp.policy.answer"
local contract = require "khp.policy.contract"
local decision = require "khp.policy.decision"
local http = require "khp.http"

local accept, challenge, redirect, reject = decision.accept, decision.challenge, decision.redirect, decision.reject

local function request(upgrade)
  local one = assert(http.parse_request "GET /a?b HTTP/1.1\r\nHost: example.org\r\nX-A: 1\r\n\r\n")
  one.protocols = { "chat", "x-kaazing-handshake" }
  one.extensions = assert(http.extensions "x-one; a=1, x-two")
  one.upgrade = upgrade
  return one
end

-- What is wrong with this, returned by a function for such a request.
local function wrong(returned, upgrade)
  local decided, message = answer.complete(upgrade == nil and "extended" or "opening", returned, request(upgrade))
  if message then
    assert.equal("reject", decided.action)
    assert.equal(500, decided.subject)
  end
  return message
end

describe("a decision", function()
  it("that is none is told by what it is", function()
    for returned, is in pairs { [42] = "number", [true] = "boolean", ["101"] = "string" } do
      assert.equal("accept, challenge, redirect or reject expected, got " .. is, wrong(returned))
    end
    assert.equal("accept, challenge, redirect or reject expected, got table", wrong {})
    assert.equal("accept, challenge, redirect or reject expected, got function", wrong(accept))
  end)

  it("to accept has a protocol that was requested", function()
    assert.is_nil(wrong(accept { protocol = "chat" }))
    assert.equal("accept.protocol: 'echo' was not requested; requested: chat, x-kaazing-handshake",
      wrong(accept { protocol = "echo" }))
    assert.equal("accept.protocol: a string expected, not table", wrong(accept { protocol = { "chat" } }))
    local none = request()
    none.protocols = {}
    local _, message = answer.complete("extended", accept { protocol = "echo" }, none)
    assert.equal("accept.protocol: 'echo' was not requested; requested: none", message)
  end)

  it("to accept has extensions that were requested [E4]", function()
    assert.is_nil(wrong(accept { extensions = { "x-one; b=2", "x-two" } }))
    assert.is_nil(wrong(accept { extensions = {} }))
    for expected, extensions in pairs {
      ["accept.extensions[2]: 'x-foo' was not requested; requested: x-one, x-two"] = { "x-one", "x-foo; a=b" },
      ["accept.extensions: an array of strings expected, not 'x-one'"] = "x-one",
      ["accept.extensions[1]: an extension, \"name; parameter=value\", expected, not table"] = { { name = "x-one" } },
      ["accept.extensions[1]: an extension, \"name; parameter=value\", expected, not 'x-one, x-two'"] =
        { "x-one, x-two" },
      ["accept.extensions: an array of strings expected, not table"] = { "x-one", x = "x-two" },
    } do
      assert.equal(expected, wrong(accept { extensions = extensions }))
    end
    assert.matches("^accept%.extensions%[1%]: an extension, .* expected, not 'x one': ",
      wrong(accept { extensions = { "x one" } }))
  end)

  it("has headers that can be sent", function()
    for _, headers in ipairs { { ["X-A"] = "1", ["X-B"] = { "1", "2" } }, { { "X-A", "1" } }, { "X-A", "1" }, {} } do
      assert.is_nil(wrong(accept { headers = headers }))
    end
    for expected, headers in pairs {
      ["accept.headers['X-A']: a string without control characters expected, not 'a\\x0D\\x0AX-B: b'"] =
        { ["X-A"] = "a\r\nX-B: b" },
      ["accept.headers: a header's name expected, not 'X A'"] = { ["X A"] = "1" },
      ["accept.headers: headers must be a table, not string"] = "X-A: 1",
      ["accept.headers: the header X-A must be a string, not boolean"] = { ["X-A"] = true },
      ["accept.headers: at most 16384 bytes expected, not 20008"] = { ["X-Aa"] = ("a"):rep(20000) },
    } do
      assert.equal(expected, wrong(accept { headers = headers }))
      assert.equal((expected:gsub("^accept", "reject")), wrong(reject(403, { headers = headers })))
      assert.equal((expected:gsub("^accept", "challenge")), wrong(challenge("Basic", { headers = headers })))
      assert.equal((expected:gsub("^accept", "redirect")), wrong(redirect("/", { headers = headers })))
    end
  end)

  it("has a body and a reason that can be sent", function()
    assert.is_nil(wrong(reject(403, { body = "no", reason = "No" })))
    assert.is_nil(wrong(reject(403, "no")))
    assert.equal("reject(401): a 401 needs a challenge; challenge(…) makes one", wrong(reject(401)))
    assert.is_nil(wrong(reject(401, { headers = { ["WWW-Authenticate"] = "Basic realm=x" } })))
    assert.equal("reject(302): a redirect needs a Location; redirect(…) makes one", wrong(reject(302, "there")))
    assert.is_nil(wrong(reject(302, { headers = { Location = "/there" } })))
    assert.equal("reject.body: a string expected, not table", wrong(reject(403, { body = {} })))
    assert.equal("reject.body: at most 65536 bytes expected, not 65537", wrong(reject(403, ("x"):rep(65537))))
    assert.equal("reject.reason: a string without control characters expected, not 'a\\x0Ab'",
      wrong(reject(403, { reason = "a\nb" })))
    assert.equal("accept.reason: a string without control characters expected, not 5", wrong(accept { reason = 5 }))
  end)

  it("about KHP is the opening's", function()
    assert.is_nil(wrong(accept { khp = false }, true))
    assert.equal("accept.khp: a boolean expected, not 'no'", wrong(accept { khp = "no" }, true))
    assert.equal("accept.khp: the opening decides this, and it is over", wrong(accept { khp = false }))
  end)

  it("to challenge has one, or several", function()
    assert.is_nil(wrong(challenge 'Basic realm="m"'))
    assert.is_nil(wrong(challenge { "Basic", "Application Token" }))
    assert.equal([[challenge: a challenge, 'Basic realm="members"', expected, not 'realm="m"']],
      wrong(challenge 'realm="m"'))
    assert.equal([[challenge[2]: a challenge, 'Basic realm="members"', expected, not 'Basic\x0D\x0A']],
      wrong(challenge { "Basic", "Basic\r\n" }))
    assert.equal("challenge: a challenge expected, not an empty list", wrong(challenge {}))
  end)

  it("to redirect has a place and a status", function()
    assert.is_nil(wrong(redirect("ws://b/", { status = 307 })))
    assert.equal("redirect: a URL expected, not 'ws://b/ c'", wrong(redirect "ws://b/ c"))
    assert.equal("redirect.status: 300, 301, 302, 303 or 307 expected, not 200", wrong(redirect("/", { status = 200 })))
  end)

  it("misspelt or incomplete is told by its name", function()
    for expected, returned in pairs {
      ["accept: no field 'protcol', did you mean 'protocol'?"] = accept { protcol = "chat" },
      ["reject: no field 'bdy', did you mean 'body'?"] = reject(403, { bdy = "" }),
      ["accept: no field 'x'; known: extensions, headers, khp, protocol, reason"] = accept { x = 1 },
      ["accept: no field 1; known: extensions, headers, khp, protocol, reason"] = accept { "chat" },
      ["accept: a table of fields expected, not 'chat'"] = accept "chat",
      ["reject: a table of fields expected, not 5"] = reject(403, 5),
      ["reject: a status from 200 to 599 expected, not 101"] = reject(101),
      ["reject: a status from 200 to 599 expected, not nil"] = reject(),
      ["reject: a status from 200 to 599 expected, not '403'"] = reject "403",
      ["redirect: a URL expected, not nil"] = redirect(),
      [ [[challenge: a challenge, 'Basic realm="members"', expected, not nil]] ] = challenge(),
    } do
      assert.equal(expected, wrong(returned))
    end
  end)

  it("may be given again and again, and changed afterwards", function()
    local given = { extensions = { "x-one" }, headers = { ["X-A"] = "1" } }
    local once = accept(given)
    local first = answer.complete("extended", once, request())
    assert.same(first, answer.complete("extended", once, request()))
    given.extensions[1] = "x-evil"
    once.answer.headers["X-A"] = "\r\n"
    assert.same({ "x-one" }, first.answer.extensions)
    assert.same({ "X-A", "1" }, first.answer.headers)
    once.action = "explode"
    assert.equal("accept, challenge, redirect or reject expected, got something made of one", wrong(once))
  end)
end)

describe("a request, as a policy sees it,", function()
  it("has what is documented, and is a copy", function()
    local real = request(true)
    local seen = contract.request(real)
    local names = {}
    for name in pairs(seen) do
      names[#names + 1] = name
    end
    table.sort(names)
    assert.same({
      "body", "extensions", "headers", "method", "path", "protocols", "query", "target", "upgrade", "version",
    }, names)
    assert.equal("1", seen.headers["x-a"])
    seen.protocols[1], seen.extensions[1].name, seen.extensions[3] = "evil", "x-evil", { name = "x-evil" }
    assert.equal("chat", real.protocols[1])
    assert.equal("x-one", real.extensions[1].name)
    assert.equal(2, #real.extensions)
  end)
end)

describe("a redirect", function()
  local limits = require("khp.limits").defaults

  it("leads to a WebSocket's or a page's address and to no other scheme", function()
    for _, url in ipairs { "javascript:alert(1)", "file:///etc/passwd", "data:x" } do
      local checked, message = contract.check(decision.redirect(url), {}, limits)
      assert.is_nil(checked)
      assert.matches("^redirect: a URL of ws, wss, http or https", message)
    end
    for _, url in ipairs { "ws://a/", "WSS://a/", "http://a/", "/b", "b?c:d" } do
      assert(contract.check(decision.redirect(url), {}, limits))
    end
  end)
end)
