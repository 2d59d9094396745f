-- Lists of origins: who may connect, and what a browser is told.

local http = require "khp.http"
local origin = require "khp.origin"

local function request(from, host, method, more)
  local text = (method or "GET") .. " / HTTP/1.1\r\n" .. (host and "Host: " .. host .. "\r\n" or "")
    .. (from and "Origin: " .. from .. "\r\n" or "") .. (more or "") .. "\r\n"
  return (assert(http.parse_request(text)))
end

local function allows(list, from, host)
  return { assert(origin.new(list)):allows(request(from, host or "server.test")) }
end

local NO, SAME, CROSS = { false, false }, { true, false }, { true, true }

describe("a list of origins", function()
  it("allows those that it names, and their ports", function()
    local list = { "https://example.org", "http://localhost:8080" }
    for from, expected in pairs {
      ["https://example.org"] = CROSS, ["https://example.org:443"] = CROSS, ["HTTPS://Example.ORG"] = CROSS,
      ["https://example.org."] = CROSS, ["http://example.org"] = NO, ["https://example.org:8443"] = NO,
      ["https://www.example.org"] = NO, ["https://example.org.evil.test"] = NO, ["https://notexample.org"] = NO,
      ["http://localhost:8080"] = CROSS, ["http://localhost"] = NO, ["null"] = NO, ["example.org"] = NO,
      ["https://example.org/"] = NO, ["https://example.org https://evil.test"] = NO, ["https://user@example.org"] = NO,
    } do
      assert.same(expected, allows(list, from), from)
    end
  end)

  it("allows all names below one, and all ports, where it says so", function()
    local list = { "https://*.example.org", "http://localhost:*" }
    for from, expected in pairs {
      ["https://a.example.org"] = CROSS, ["https://a.b.example.org"] = CROSS, ["https://example.org"] = NO,
      ["https://aexample.org"] = NO, ["https://.example.org"] = NO, ["https://a.example.org:1"] = NO,
      ["http://localhost"] = CROSS, ["http://localhost:1"] = CROSS, ["https://localhost"] = NO,
    } do
      assert.same(expected, allows(list, from), from)
    end
  end)

  it("allows all, or pages without an origin, where it says so", function()
    assert.same(CROSS, allows({ "*" }, "https://a.test"))
    assert.same(CROSS, allows({ "*" }, "null"))
    assert.same(CROSS, allows({ "null" }, "null"))
    assert.same(NO, allows({ "null" }, "https://a.test"))
  end)

  it("allows the server's own pages, unless it says not", function()
    for from, host in pairs {
      ["http://server.test"] = "server.test", ["https://server.test"] = "Server.Test:443",
      ["http://[::1]:80"] = "[::1]", ["http://server.test:8000"] = "server.test:8000",
    } do
      assert.same(SAME, allows({}, from, host), from)
      assert.same(NO, allows({ same = false }, from, host), from)
    end
    assert.same(NO, allows({}, "http://server.test:8000", "server.test"))
    assert.same(NO, allows({}, "http://server.test", "server.test:8000"))
    assert.same(NO, allows({}, "http://other.test"))
  end)

  it("allows programs, which have no origin, unless it says not", function()
    assert.same(SAME, allows({}, nil))
    assert.same(NO, allows({ absent = false }, nil))
    assert.same(SAME, allows({}, "privileged://host:8000"))
    assert.same(NO, allows({ absent = false }, "privileged://host:8000"))
  end)

  it("tells the browsers of other pages that they may, in the headers that deployed clients expect", function()
    local list = assert(origin.new { "https://example.org" })
    assert.same({
      ["Access-Control-Allow-Origin"] = "https://example.org",
      ["Access-Control-Allow-Credentials"] = "true",
      ["Access-Control-Allow-Headers"] = {
        "content-type", "authorization", "x-websocket-extensions", "x-websocket-version", "x-websocket-protocol",
      },
    }, list:headers(request "https://example.org"))
    assert.same({}, list:headers(request("http://server.test", "server.test")))
    assert.same({}, list:headers(request "https://evil.test"))
    assert.same({}, list:headers(request()))
  end)

  it("knows the question that a browser asks before", function()
    local asks = "Access-Control-Request-Method: POST\r\n"
    assert.is_true(origin.is_preflight(request("https://a.test", "b", "OPTIONS", asks)))
    assert.is_false(origin.is_preflight(request("https://a.test", "b", "OPTIONS")))
    assert.is_false(origin.is_preflight(request("https://a.test", "b", "GET", asks)))
    assert.is_false(origin.is_preflight(request(nil, "b", "OPTIONS", asks)))
  end)

  it("is checked", function()
    local expected = "an origin expected: 'https://example.org', 'https://*.example.org:*', 'null' or '*', not "
    for text, list in pairs {
      ["[1]: " .. expected .. "'example.org'"] = { "example.org" },
      ["[2]: " .. expected .. "'https://a.test/'"] = { "*", "https://a.test/" },
      ["[1]: " .. expected .. "'https://a*.test'"] = { "https://a*.test" },
      ["[1]: " .. expected .. "'https://a.test:80:*'"] = { "https://a.test:80:*" },
      ["[1]: " .. expected .. "''"] = { "" },
      ["[1]: " .. expected .. "number"] = { 5 },
      ["absent: a boolean expected, not string"] = { absent = "yes" },
      ["unknown field 'absnt': a list of origins has 'absent' and 'same'"] = { absnt = true },
    } do
      local none, message = origin.new(list)
      assert.is_nil(none)
      assert.equal(text, (message:gsub(", not number$", ", not number")))
    end
  end)
end)
