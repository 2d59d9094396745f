-- URLs: what is read, what is refused, references resolved, and the forms that go onto the wire.

local uri = require "khp.uri"

local function parsed(text)
  local u, message = uri.parse(text)
  return assert(u, message)
end

describe("uri.parse", function()
  it("reads a WebSocket URL", function()
    local u = parsed("ws://example.com/chat/room?a=b&c=%20d")
    assert.same({
      scheme = "ws", secure = false, host = "example.com", port = 80, path = "/chat/room",
      query = "a=b&c=%20d", target = "/chat/room?a=b&c=%20d",
    }, u)
  end)

  it("knows the schemes and their default ports", function()
    for text, expected in pairs {
      ["ws://h"] = { 80, false }, ["wss://h"] = { 443, true }, ["http://h"] = { 80, false },
      ["https://h"] = { 443, true }, ["WSS://h"] = { 443, true }, ["ws://h:8080"] = { 8080, false },
      ["ws://h:"] = { 80, false }, ["ws://h:065"] = { 65, false },
    } do
      local u = parsed(text)
      assert.same(expected, { u.port, u.secure }, text)
      assert.equal("/", u.target)
    end
  end)

  it("lowers the host and leaves path, query and escapes as they are", function()
    local u = parsed("ws://EXAMPLE.com/A%2fb/../C?%41=/?")
    assert.equal("example.com", u.host)
    assert.equal("/A%2fb/../C", u.path)
    assert.equal("%41=/?", u.query)
    assert.equal("/?x", parsed("ws://h?x").target)
    assert.equal("/?", parsed("ws://h/?").target)
  end)

  it("reads IPv6 addresses", function()
    for _, address in ipairs {
      "::1", "::", "1::", "2001:db8::1", "1:2:3:4:5:6:7:8", "::ffff:127.0.0.1", "1:2:3:4:5:6:1.2.3.4", "1::7:8",
    } do
      local u = parsed("ws://[" .. address .. "]:81/x")
      assert.equal(address, u.host)
      assert.is_true(u.ipv6)
      assert.equal("[" .. address .. "]:81", uri.host(u))
    end
    local u = parsed("ws://[FE80::1%25eth0]/")
    assert.equal("fe80::1", u.host)
    assert.equal("eth0", u.zone)
    assert.equal("[fe80::1]", uri.host(u))
    assert.equal("ws://[fe80::1%25eth0]/", uri.format(u))
  end)

  it("refuses what is no IPv6 address", function()
    for _, address in ipairs {
      "", "1", ":::", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1::2::3", "1:2:3:4::5:6:7:8", "12345::", "g::", ":1::",
      "::256.1.1.1", "::1.2.3", "1.2.3.4::", "::1%eth0", "::1%25", "127.0.0.1", "1:", ("1:"):rep(500),
    } do
      local u, message = uri.parse("ws://[" .. address .. "]/")
      assert.is_nil(u, address)
      assert.matches("not an IPv6 address", message)
    end
    assert.is_nil(uri.parse("ws://[::1/"))
    assert.is_nil(uri.parse("ws://[::1]x/"))
  end)

  it("reads user and password", function()
    local u = parsed("wss://joe:p%40ss:w@h:444/x")
    assert.equal("joe:p%40ss:w", u.userinfo)
    assert.same({ "joe", "p@ss:w" }, { uri.credentials(u) })
    assert.same({ "joe" }, { uri.credentials(parsed("ws://joe@h")) })
    assert.same({}, { uri.credentials(parsed("ws://h")) })
  end)

  it("reads the socket's path and the resource of a unix socket", function()
    for _, text in ipairs { "ws+unix:///run/a.sock:/echo?x=1", "ws+unix:/run/a.sock:/echo?x=1" } do
      local u = parsed(text)
      assert.equal("/run/a.sock", u.unix)
      assert.equal("/echo?x=1", u.target)
      assert.equal("localhost", uri.host(u))
      assert.is_false(u.secure)
      assert.equal("ws+unix:///run/a.sock:/echo?x=1", uri.format(u))
    end
    assert.equal("/", parsed("ws+unix:///run/a.sock").target)
    assert.equal("/", parsed("ws+unix:///run/a.sock:").target)
    assert.is_true(parsed("wss+unix:///run/a.sock").secure)
  end)

  local refused = {
    ["example.com/chat"] = "must begin with ws://",
    ["ftp://h/"] = "must begin with ws://",
    [""] = "must begin with ws://",
    ["ws:/h/"] = "'//' is missing",
    ["ws:///x"] = "no host",
    ["ws://:80/"] = "no host",
    ["ws://@/"] = "no host",
    ["ws://h#f"] = "no fragment",
    ["wss://h/x?y#"] = "no fragment",
    ["ws://h:0/"] = "the port is not a number from 1 to 65535",
    ["ws://h:65536/"] = "the port is not",
    ["ws://h:8x/"] = "the port is not",
    ["ws://h:-1/"] = "the port is not",
    ["ws://h:00000000000080/"] = "the port is not",
    ["ws://1:2:3/"] = "the port is not",
    ["ws://a@b@c/"] = "more than one '@'",
    ["ws://a b/"] = "percent%-encoded",
    ["ws://h/\r\nX: y"] = "percent%-encoded",
    ["ws://h/\0"] = "percent%-encoded",
    ["ws://h/\195\164"] = "percent%-encoded",
    ["ws://a%2eb/"] = "a host name has",
    ["ws://a,b/"] = "a host name has",
    ["ws+unix://run/a.sock"] = "absolute path",
    ["ws+unix:///"] = "absolute path",
    ["ws+unix://"] = "absolute path",
    ["ws+unix:///a.sock:echo"] = "must begin with '/'",
    ["ws://" .. ("a"):rep(300)] = "too long",
  }
  for text, message in pairs(refused) do
    it("refuses " .. ("%q"):format(text:sub(1, 40)), function()
      local u, why = uri.parse(text)
      assert.is_nil(u)
      assert.matches(message, why)
      assert.is_nil(why:find("[^\32-\126]"))
    end)
  end

  it("drops the fragment of an http URL", function()
    assert.equal("/x?y", parsed("http://h/x?y#z").target)
  end)

  it("throws at the caller's line for what is no string", function()
    local ok, message = pcall(function()
      uri.parse(nil)
    end)
    assert.is_false(ok)
    assert.matches("uri_spec.lua:%d+: a URL is a string, not nil", message)
  end)

  it("is done with hostile text in linear time", function()
    local function cost(length)
      local long = ("a"):rep(length)
      local began = os.clock()
      uri.parse(long)
      uri.parse("ws://" .. long)
      uri.parse("ws://h/" .. long .. "#")
      uri.parse("ws://[" .. (":"):rep(length) .. "]")
      uri.resolve(parsed("ws://h/" .. long .. "/"), "x/" .. ("../"):rep(length / 4))
      return os.clock() - began
    end
    local little = cost(100000)
    assert.is_true(cost(1000000) < 40 * little) -- quadratic time would be 100 times as much
  end)
end)

describe("uri.resolve", function()
  -- RFC 3986 5.4.1 and 5.4.2, without fragments, which are dropped.
  local examples = {
    ["g"] = "/b/c/g", ["./g"] = "/b/c/g", ["g/"] = "/b/c/g/", ["/g"] = "/g", ["?y"] = "/b/c/d;p?y",
    ["g?y"] = "/b/c/g?y", ["#s"] = "/b/c/d;p?q", ["g#s"] = "/b/c/g", ["g?y#s"] = "/b/c/g?y", [";x"] = "/b/c/;x",
    ["g;x"] = "/b/c/g;x", ["g;x?y#s"] = "/b/c/g;x?y", [""] = "/b/c/d;p?q", ["."] = "/b/c/", ["./"] = "/b/c/",
    [".."] = "/b/", ["../"] = "/b/", ["../g"] = "/b/g", ["../.."] = "/", ["../../"] = "/", ["../../g"] = "/g",
    ["../../../g"] = "/g", ["../../../../g"] = "/g", ["/./g"] = "/g", ["/../g"] = "/g", ["g."] = "/b/c/g.",
    [".g"] = "/b/c/.g", ["g.."] = "/b/c/g..", ["..g"] = "/b/c/..g", ["./../g"] = "/b/g", ["./g/."] = "/b/c/g/",
    ["g/./h"] = "/b/c/g/h", ["g/../h"] = "/b/c/h", ["g;x=1/./y"] = "/b/c/g;x=1/y", ["g;x=1/../y"] = "/b/c/y",
    ["g?y/./x"] = "/b/c/g?y/./x", ["g?y/../x"] = "/b/c/g?y/../x", ["g#s/../x"] = "/b/c/g",
  }
  it("agrees with the examples of RFC 3986 5.4 [E12]", function()
    local base = parsed("http://a/b/c/d;p?q")
    for reference, target in pairs(examples) do
      local u = assert(uri.resolve(base, reference))
      assert.equal(target, u.target, reference)
      assert.equal("a", u.host)
    end
  end)

  it("takes absolute and scheme-relative references [E12]", function()
    local base = parsed("wss://joe@a:444/b")
    assert.equal("wss://g/", uri.format(assert(uri.resolve(base, "//g"))))
    assert.equal("ws://x:81/y/?z", uri.format(assert(uri.resolve(base, "ws://x:81/./y/?z#f"))))
    assert.equal("wss://joe@a:444/c", uri.format(assert(uri.resolve(base, "c")), true))
    assert.is_nil((uri.resolve(base, "ftp://x/")))
    assert.is_nil((uri.resolve(base, "mailto:joe")))
    assert.is_nil((uri.resolve(base, "/a b")))
    assert.is_nil((uri.resolve(base, "/a\r\nb")))
  end)

  it("does not change the base", function()
    local base = parsed("ws://a/b?c")
    uri.resolve(base, "/d")
    assert.equal("/b?c", base.target)
  end)

  it("keeps a unix socket, and lets no remote server point at one", function()
    local base = parsed("ws+unix:///run/a.sock:/b/c")
    local u = assert(uri.resolve(base, "d"))
    assert.same({ "/run/a.sock", "/b/d" }, { u.unix, u.target })
    assert.equal("/run/b.sock", assert(uri.resolve(base, "ws+unix:///run/b.sock")).unix)
    local none, message = uri.resolve(parsed("ws://a/"), "ws+unix:///run/a.sock")
    assert.is_nil(none)
    assert.matches("must not lead to a unix socket", message)
  end)
end)

describe("a URL", function()
  it("has a Host header with the port only where it is not the default", function()
    for text, host in pairs {
      ["ws://h"] = "h", ["ws://h:80"] = "h", ["ws://h:443"] = "h:443", ["wss://h:443"] = "h", ["wss://h:80"] = "h:80",
      ["ws://[::1]"] = "[::1]", ["wss://[::1]:8000"] = "[::1]:8000", ["http://joe@h/"] = "h",
    } do
      assert.equal(host, uri.host(parsed(text)), text)
    end
  end)

  it("is written without its password unless asked for", function()
    local u = parsed("ws://joe:secret@h/x")
    assert.equal("ws://h/x", uri.format(u))
    assert.equal("ws://joe:secret@h/x", uri.format(u, true))
  end)

  it("is not written at all where a mistake in it is told", function()
    for _, text in ipairs {
      "ws://joe:secret@example.com:99999/", "ws://joe:sec/ret@example.com/", "ftp://joe:secret@x", "joe:secret@x",
      "ws://joe:secret@x@example.com/", "ws://joe:secret@exa mple.com/",
    } do
      local none, message = uri.parse(text)
      assert.is_nil(none)
      assert.is_nil(message:find "joe")
      assert.is_nil(message:find "ret@")
      assert.truthy(message:find("***@", 1, true))
    end
  end)

  it("has an authority with the port always", function()
    for text, authority in pairs {
      ["ws://example.com/"] = "example.com:80", ["wss://example.com/"] = "example.com:443",
      ["ws://example.com:81/"] = "example.com:81", ["wss://[::1]/"] = "[::1]:443",
      ["ws://[fe80::1%25eth0]:1/"] = "[fe80::1]:1",
    } do
      assert.equal(authority, uri.authority(parsed(text)))
    end
  end)

  it("leads to the same place over TLS: port 443 instead of 80, any other as it is [S426]", function()
    for plain, secure in pairs {
      ["ws://example.com/a?b"] = "wss://example.com/a?b", ["ws://example.com:81/"] = "wss://example.com:81/",
      ["ws://[::1]:80/"] = "wss://[::1]/", ["ws+unix:///x.sock:/a"] = "wss+unix:///x.sock:/a",
    } do
      local before = parsed(plain)
      local after = uri.over_tls(before)
      assert.equal(secure, uri.format(after))
      assert.is_true(after.secure)
      assert.equal(plain == "ws://[::1]:80/" and "ws://[::1]/" or plain, uri.format(before))
    end
  end)

  it("is read as ws(s) where it is http(s) [E12]", function()
    assert.equal("ws://h:81/x", uri.format(uri.websocket(parsed("http://h:81/x"))))
    assert.equal("wss://h/x", uri.format(uri.websocket(parsed("https://h/x"))))
    local u = parsed("ws://h/x")
    assert.equal(u, uri.websocket(u))
  end)

  it("has the origin of its scheme, host and port", function()
    local function same(a, b)
      return uri.same_origin(parsed(a), parsed(b))
    end
    assert.is_true(same("ws://h/a", "http://H:80/b?c"))
    assert.is_true(same("wss://h", "https://h:443"))
    assert.is_false(same("ws://h", "wss://h"))
    assert.is_false(same("ws://h", "wss://h:80"))
    assert.is_false(same("ws://h", "ws://h:81"))
    assert.is_false(same("ws://h", "ws://i"))
    assert.is_false(same("ws+unix:///a", "ws+unix:///b"))
    assert.is_true(same("ws+unix:///a:/x", "ws+unix:///a:/y"))
    assert.is_false(same("ws://localhost", "ws+unix:///a"))
  end)
end)
