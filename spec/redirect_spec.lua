-- Which redirects are followed: rules, maximum, loops, and what Location means.

local redirect = require "khp.redirect"
local uri = require "khp.uri"

describe("redirect", function()
  local function follow(from, location, options)
    return assert(redirect.new(from, options)):follow(location)
  end

  local function refused(pattern, from, location, options)
    local url, message, code, detail = follow(from, location, options)
    assert.is_nil(url)
    assert.matches(pattern, message)
    assert.equal("EREDIRECT", code)
    assert.equal(location, detail.location)
  end

  it("resolves Location against the URL that it came from [E12]", function()
    for location, url in pairs {
      ["ws://b.example.com:81/x?y"] = "ws://b.example.com:81/x?y",
      ["http://b.example.com/x"] = "ws://b.example.com/x",
      ["https://b.example.com/x"] = "wss://b.example.com/x",
      ["wss://b.example.com"] = "wss://b.example.com/",
      ["//b.example.com/x"] = "ws://b.example.com/x",
      ["/other"] = "ws://a.example.com:8001/other",
      ["other?z"] = "ws://a.example.com:8001/path/other?z",
      ["../x"] = "ws://a.example.com:8001/x",
      ["?q"] = "ws://a.example.com:8001/path/here?q",
    } do
      assert.equal(url, (follow("ws://a.example.com:8001/path/here?p", location)))
    end
  end)

  it("returns the parsed URL as well [E12]", function()
    local _, parsed = follow("ws://a.example.com/", "https://b.example.com/x")
    assert.same({ "wss", "b.example.com", 443, "/x" }, { parsed.scheme, parsed.host, parsed.port, parsed.target })
  end)

  it("knows Kaazing's rules by name [E12]", function()
    local cases = {
      -- location, and the rules that follow it from ws://www.example.com:8001/
      { "ws://www.example.com:8001/x", { "same-origin", "same-domain", "sub-domain", "peer-domain", "always" } },
      { "http://www.example.com:8001/x", { "same-origin", "same-domain", "sub-domain", "peer-domain", "always" } },
      { "wss://www.example.com:8001/x", { "same-domain", "sub-domain", "peer-domain", "always" } },
      { "ws://www.example.com:8002/x", { "same-domain", "sub-domain", "peer-domain", "always" } },
      { "ws://WWW.EXAMPLE.COM/x", { "same-domain", "sub-domain", "peer-domain", "always" } },
      { "ws://a.www.example.com/x", { "sub-domain", "always" } },
      { "ws://b.example.com/x", { "peer-domain", "always" } },
      { "ws://awww.example.com/x", { "peer-domain", "always" } },
      { "ws://example.com/x", { "always" } },
      { "ws://www.example.org/x", { "always" } },
    }
    for _, case in ipairs(cases) do
      local wanted = {}
      for _, rule in ipairs(case[2]) do
        wanted[rule] = true
      end
      for rule in pairs(redirect.rules) do
        local url = follow("ws://www.example.com:8001/", case[1], { rule = rule })
        assert.equal(wanted[rule] or false, url ~= nil, rule .. " to " .. case[1])
      end
    end
  end)

  it("does not take a domain that strangers share for one of peers, or an address for a name [E12]", function()
    refused("the rule is peer%-domain", "ws://example.com/", "ws://other.com/", { rule = "peer-domain" })
    refused("the rule is peer%-domain", "ws://10.0.0.1/", "ws://9.0.0.1/", { rule = "peer-domain" })
    refused("the rule is sub%-domain", "ws://0.0.1/", "ws://9.0.0.1/", { rule = "sub-domain" })
    refused("the rule is peer%-domain", "ws://localhost/", "ws://elsewhere/", { rule = "peer-domain" })
  end)

  it("asks a function, which says yes, no, or another URL [E12]", function()
    local asked
    local function rule(location, from, count)
      asked = { location, from, count }
      return true
    end
    assert.equal("ws://b.example.com/", (follow("ws://a.example.com/x", "http://b.example.com", { rule = rule })))
    assert.same({ "ws://b.example.com/", "ws://a.example.com/x", 1 }, asked)
    for _, answer in ipairs { false, nil } do
      refused("the rule's function refused", "ws://a.example.com/", "/x", {
        rule = function()
          return answer
        end,
      })
    end
    assert.equal("ws://c.example.com/", (follow("ws://a.example.com/", "/x", {
      rule = function()
        return "ws://c.example.com/"
      end,
    })))
    local none, message, code, detail = follow("ws://a.example.com/", "/x", {
      rule = function()
        return "ftp://c.example.com/"
      end,
    })
    assert.is_nil(none)
    assert.matches("redirect to ftp://c.example.com/ is not followed: bad URL", message)
    assert.same({ "EREDIRECT", "ftp://c.example.com/" }, { code, detail.location })
  end)

  it("follows a maximum of redirects in a row [E12]", function()
    local tracker = assert(redirect.new("ws://example.com/0", { limit = 3 }))
    for i = 1, 3 do
      assert.equal("ws://example.com/" .. i, (tracker:follow("/" .. i)))
    end
    local url, message, code, detail = tracker:follow("/4")
    assert.is_nil(url)
    assert.matches("number 4 in a row", message)
    assert.equal("EREDIRECT", code)
    assert.same({ url = "ws://example.com/3", location = "/4", redirects = 3 }, detail)
    assert.is_nil((follow("ws://example.com/", "/x", { limit = 0 })))
  end)

  it("follows five by default, as RFC 2616 10.3 has it [E12]", function()
    local tracker = assert(redirect.new("ws://example.com/0"))
    for i = 1, 5 do
      assert(tracker:follow("/" .. i))
    end
    assert.is_nil((tracker:follow("/6")))
  end)

  it("detects loops, however the same URL is written [E12]", function()
    local tracker = assert(redirect.new("ws://example.com/a"))
    assert(tracker:follow("/b"))
    for _, location in ipairs { "/a", "http://EXAMPLE.com:80/a", "/b", "x/../a", "/b#top" } do
      local url, message = tracker:follow(location)
      assert.is_nil(url)
      assert.matches("loop", message)
    end
    assert(tracker:follow("/a?c"))
  end)

  it("does not leave TLS unless told to [E12]", function()
    refused("it leaves TLS", "wss://a.example.com/", "http://a.example.com/")
    refused("it leaves TLS", "wss://a.example.com/", "ws://a.example.com/", { rule = "always" })
    assert.equal("ws://a.example.com/", (follow("wss://a.example.com/", "ws://a.example.com/", { downgrade = true })))
    assert.equal("wss://a.example.com/x", (follow("wss://a.example.com/", "/x")))
    refused("it leaves TLS", "wss://a.example.com/", "ws://a.example.com/", {
      rule = function()
        return true
      end,
    })
    local elsewhere = "ws://c.example.com/"
    assert.equal(elsewhere, (follow("wss://a.example.com/", "ws://b.example.com/", {
      rule = function()
        return elsewhere
      end,
    })))
  end)

  it("takes credentials from nobody, and to nobody else [E12]", function()
    local tracker = assert(redirect.new("ws://joe:secret@example.com/"))
    local url, parsed = tracker:follow("ws://eve:other@example.com/x")
    assert.equal("ws://example.com/x", url)
    assert.equal("joe:secret", parsed.userinfo)
    local _, elsewhere = tracker:follow("ws://example.org/")
    assert.is_nil(elsewhere.userinfo)
  end)

  it("goes on from where the connection has moved to [S426 E12]", function()
    local tracker = assert(redirect.new("ws://example.com/a", { rule = "same-origin" }))
    tracker:moved(uri.over_tls(uri.parse "ws://example.com/a"))
    local url = tracker:follow "/b"
    assert.equal("wss://example.com/b", url)
    for to, pattern in pairs { ["ws://example.com/c"] = "leaves TLS", ["/a"] = "loop" } do
      local none, message = tracker:follow(to)
      assert.is_nil(none)
      assert.matches(pattern, message)
    end
  end)

  it("refuses what is no WebSocket URL [E12]", function()
    refused("bad URL", "ws://example.com/", "ftp://example.com/")
    refused("bad URL", "ws://example.com/", "ws://exa mple.com/")
    refused("unix socket", "ws://example.com/", "ws+unix:///run/x.sock:/")
  end)

  it("throws for wrong options, and returns what is wrong with a URL", function()
    assert.has_error(function()
      redirect.new("ws://example.com/", { rule = "sometimes" })
    end)
    assert.has_error(function()
      redirect.new("ws://example.com/", { maximum = 3 })
    end)
    local tracker, message = redirect.new("example.com")
    assert.is_nil(tracker)
    assert.is_string(message)
  end)
end)
