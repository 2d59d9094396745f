-- Clients behind a proxy, over real sockets: the proxy is one of our own, which shows what it was sent.

local crypto = require "khp.crypto"
local decision = require "khp.policy.decision"
local khp = require "khp"
local net = require "spec.support.net"
local proxies = require "spec.support.proxy"

local JOE = "Basic " .. crypto.base64 "joe:open sesame"

describe("a client behind a proxy", function()
  local folder, server, url, proxy

  setup(function()
    folder = os.getenv "KHP_TEST_CERTS"
    if not folder then
      folder = os.tmpname()
      os.remove(folder)
      assert(os.execute("spec/support/certs.sh " .. folder .. " >/dev/null 2>&1"))
    end
  end)

  teardown(function()
    if not os.getenv "KHP_TEST_CERTS" then
      os.execute("rm -r " .. folder)
    end
  end)

  after_each(function()
    if proxy then
      proxy:close()
      proxy = nil
    end
    if server then
      server:close(1)
      server = nil
    end
  end)

  local function serve(options)
    options = options or {}
    options.on_message = options.on_message or net.echo
    server, url = net.serve(options)
  end

  local function tls(name)
    name = name or "localhost"
    return { cert = folder .. "/" .. name .. ".pem", key = folder .. "/" .. name .. ".key" }
  end

  local function echo(conn)
    for _, size in ipairs { 1, 16384, 300000 } do
      local message = ("x"):rep(size)
      assert(conn:send(message, "binary"))
      assert.is_true((conn:receive(5)) == message)
    end
  end

  -- All that went to the proxy itself; nothing of it may know what is the server's.
  local function told_proxy()
    local lines = {}
    for _, request in ipairs(proxy.requests) do
      lines[#lines + 1] = request.method .. " " .. request.target
      for i = 1, #request.headers, 2 do
        lines[#lines + 1] = request.headers[i] .. ": " .. request.headers[i + 1]
      end
    end
    return table.concat(lines, "\n")
  end

  it("asks for a way to the server, and goes on as if there were no proxy [E1 E11]", function()
    serve { policy = "examples/policies/members.lua" }
    proxy = proxies.serve()
    local stages = {}
    local conn = assert(khp.connect(url .. "echo", {
      proxy = proxy.url,
      protocols = { "echo" },
      policy = "examples/policies/joe.lua",
      trace = function(direction, stage, bytes)
        stages[#stages + 1] = direction .. " " .. stage .. " " .. bytes:match "^[^\r\n]*"
      end,
    }))
    assert.is_true(conn.khp)
    assert.equal("echo", conn.protocol)
    assert.equal(url .. "echo", conn.url)
    echo(conn)
    assert.equal(1, proxy.tunnels)
    conn:close(1000, "bye")
    assert.is_true(conn.closed.clean)
    local authority = url:match "^ws://(.-)/$"
    assert.equal("CONNECT " .. authority .. "\nHost: " .. authority, told_proxy())
    assert.same({
      "send proxy CONNECT " .. authority .. " HTTP/1.1", "receive proxy HTTP/1.1 200 OK",
      "send opening GET /echo HTTP/1.1", "receive opening HTTP/1.1 101 Switching Protocols",
    }, { stages[1], stages[2], stages[3], stages[4] })
  end)

  it("has TLS with the server behind it, and verifies the server's certificate", function()
    serve { tls = tls() }
    proxy = proxies.serve()
    local conn = assert(khp.connect(url, { proxy = proxy.url, tls = { ca = folder .. "/ca.pem" } }))
    assert.is_true(conn:tls().peer_verified)
    echo(conn)
    conn:close()
    local seen = table.concat(proxy.through)
    assert.is_nil(seen:find("Sec-WebSocket", 1, true))
    assert.equal("\22\3", seen:sub(1, 2))
  end)

  it("asks for the server's name, and never the proxy's", function()
    serve { tls = tls "a" }
    local _, port = server:address()
    local places = { ["a.example:443"] = { "127.0.0.1", port }, ["b.example:443"] = { "127.0.0.1", port } }
    proxy = proxies.serve { places = places }
    local function connect(name, ca)
      return khp.connect("wss://" .. name .. "/", { proxy = proxy.url, tls = { ca = folder .. "/" .. ca } })
    end
    local conn = assert(connect("a.example", "ca.pem"))
    assert.equal("a.example", conn:tls().server_name)
    conn:close()
    local function fails(name, ca, pattern)
      local none, message, code, detail = connect(name, ca)
      assert.is_nil(none)
      assert.equal("ETLS", code)
      assert.matches(pattern, message)
      assert.equal(proxy.url, detail.proxy)
    end
    fails("b.example", "ca.pem", "hostname mismatch")
    fails("a.example", "other-ca.pem", "issuer")
    server:close(1)
    serve { tls = tls() } -- valid for 127.0.0.1, where the proxy is
    _, port = server:address()
    places["a.example:443"] = { "127.0.0.1", port }
    fails("a.example", "ca.pem", "hostname mismatch")
  end)

  it("gives its credentials to a proxy that asks, and to nobody else [H9]", function()
    local seen = {}
    serve {
      policy = {
        opening = function(request)
          seen[#seen + 1] = request.headers
        end,
        extended = function(request, session)
          seen[#seen + 1] = request.headers
          if not session:basic(request, { ann = "swordfish" }) then
            return decision.challenge 'Basic realm="members"'
          end
        end,
      },
    }
    proxy = proxies.serve { credentials = JOE }
    local conn = assert(khp.connect(url, {
      proxy = proxy:url_for("joe", "open%20sesame"), credentials = { username = "ann", password = "swordfish" },
      headers = { Authorization = "Bearer mine", Cookie = "secret" },
    }))
    echo(conn)
    conn:close()
    assert.equal(2, #proxy.requests) -- without credentials first: they go only where they are asked for
    assert.is_nil(proxy.requests[1].headers["proxy-authorization"])
    assert.equal(JOE, proxy.requests[2].headers["proxy-authorization"])
    assert.is_nil(told_proxy():find "\nAuthorization")
    assert.is_nil(told_proxy():find "[Cc]ookie")
    assert.equal(3, #seen)
    for _, headers in ipairs(seen) do
      for name in pairs(headers) do
        assert.is_nil(name:lower():find "^proxy")
      end
    end
    assert.is_nil(table.concat(proxy.through):find("Proxy-", 1, true))
  end)

  it("gives them at once where it was asked before, after a redirect too [E12]", function()
    serve {
      policy = {
        opening = function(request)
          if request.path ~= "/there" then
            return decision.redirect "/there"
          end
        end,
      },
    }
    proxy = proxies.serve { credentials = JOE }
    local conn = assert(khp.connect(url, { proxy = proxy:url_for("joe", "open%20sesame") }))
    assert.equal(url .. "there", conn.url)
    assert.equal(3, #proxy.requests)
    assert.equal(JOE, proxy.requests[3].headers["proxy-authorization"])
    conn:close()
  end)

  local function refused(options, code, message, status)
    local conn, said, got, detail = khp.connect(url or "ws://127.0.0.1:1/", options)
    assert.is_nil(conn)
    assert.equal(message, said)
    assert.equal(code, got)
    assert.equal(status, detail.status)
    assert.equal(proxy.url, detail.proxy)
    return detail
  end

  it("fails with EAUTH where it has no credentials, or wrong ones [H9]", function()
    serve()
    proxy = proxies.serve { credentials = JOE }
    local detail = refused({ proxy = proxy.url }, "EAUTH",
      'the proxy asks for credentials (Basic, realm "proxy"): none were given', 407)
    assert.equal("Who are you?", detail.body)
    assert.equal('Basic realm="proxy"', detail.headers["proxy-authenticate"])
    assert.equal(1, #proxy.requests)
    refused({ proxy = proxy:url_for("joe", "wrong") }, "EAUTH",
      'the proxy asks for credentials (Basic, realm "proxy"): they were refused', 407)
    assert.equal(3, #proxy.requests)
    proxy.challenge = "Negotiate"
    refused({ proxy = proxy:url_for("joe", "open%20sesame") }, "EAUTH",
      "the proxy asks for credentials (Negotiate): the only known scheme is Basic", 407)
    assert.equal(4, #proxy.requests)
    assert.is_nil(proxy.requests[4].headers["proxy-authorization"])
    refused({ proxy = proxy.url, credentials = { username = "joe", password = "open sesame" } }, "EAUTH",
      "the proxy asks for credentials (Negotiate): none were given", 407)
  end)

  it("tells what else a proxy answers", function()
    serve()
    proxy = proxies.serve { respond = "HTTP/1.1 403 Forbidden\r\nX-Why: policy\r\nContent-Length: 9\r\n\r\nNot there" }
    local detail = refused({ proxy = proxy.url }, "EHANDSHAKE", "the proxy answered '403 Forbidden'", 403)
    assert.equal("Not there", detail.body)
    assert.equal("policy", detail.headers["x-why"])
    proxy.respond = "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 101 Switching Protocols\r\n"
    refused({ proxy = proxy.url }, "EPROTOCOL", "the proxy sent bytes after its answer", 200)
    proxy.respond = ""
    refused({ proxy = proxy.url }, "ECLOSED", "the proxy closed the connection without an answer")
    proxy.respond = nil
    proxy.silent = true
    refused({ proxy = proxy.url, timeout = 0.2 }, "ETIMEOUT", "the proxy did not answer in time")
  end)

  it("takes nothing for the server's that a proxy says before TLS", function()
    serve { tls = tls() }
    proxy = proxies.serve { chatty = "HTTP/1.1 302 Found\r\nLocation: /evil\r\nContent-Length: 0\r\n\r\n" }
    for _, where in ipairs { "main", "task" } do
      local message, code
      local function try()
        local conn
        conn, message, code = khp.connect(url, { proxy = proxy.url, tls = { ca = folder .. "/ca.pem" } })
        assert(not conn)
      end
      if where == "task" then
        khp.spawn(try)
        net.await(function()
          return code
        end)
      else
        try()
      end
      assert.equal("EPROTOCOL", code)
      assert.equal("the proxy sent bytes after its answer", message)
    end
  end)

  it("tells that it is the proxy that cannot be reached, or the server", function()
    proxy = { url = "http://127.0.0.1:1", close = function() end }
    refused({ proxy = proxy.url }, "ECONNECT", "the proxy http://127.0.0.1:1: Connection refused")
    proxy = proxies.serve()
    url = "ws://127.0.0.1:1/"
    local detail = refused({ proxy = proxy.url }, "EHANDSHAKE", "the proxy answered '502 Bad Gateway'", 502)
    assert.equal("Connection refused", detail.body)
  end)

  it("tries again with the proxy's credentials after a 407 of the server, where the policy says so [S407]", function()
    for _, stage in ipairs { "opening", "extended" } do
      serve {
        policy = {
          [stage] = function()
            return proxy.requests[#proxy.requests].headers["proxy-authorization"] == JOE and decision.accept()
              or decision.reject(407, { headers = { ["Proxy-Authenticate"] = 'Basic realm="p"' } })
          end,
        },
      }
      local asked = {}
      local policy = {
        response = function(response, action)
          asked[#asked + 1] = response.status .. " " .. action
          return response.status == 407 and "proxy" or nil
        end,
      }
      proxy = proxies.serve()
      local options = { proxy = proxy:url_for("joe", "open%20sesame"), policy = policy }
      local conn = assert(khp.connect(url, options))
      assert.equal(2, #proxy.requests)
      assert.equal("407 proxy", asked[1])
      conn:close()
      assert.is_nil(table.concat(proxy.through):find("Proxy-Authorization", 1, true))

      local function fails(given, code, message)
        local none, said, got, detail = khp.connect(url, given)
        assert.is_nil(none)
        assert.equal(code, got)
        assert.equal("the server answered '407 Proxy Authentication Required'" .. message, said)
        assert.equal(407, detail.status)
      end
      options.policy = nil -- MAY: not without being told to
      fails(options, "EHANDSHAKE", "")
      fails({ policy = policy }, "EAUTH", ": there is no proxy")
      fails({ policy = policy, proxy = proxy.url }, "EAUTH", ": there are no credentials for the proxy")
      options.policy, options.proxy = policy, proxy:url_for("joe", "wrong")
      fails(options, "EAUTH", ": the proxy has its credentials already")
      proxy:close()
      server:close(1)
      server = nil
    end
  end)

  it("throws for what is no proxy, and shows no password", function()
    local function throws(pattern, given, to)
      local ok, message = pcall(function()
        khp.connect(to or "ws://127.0.0.1:1/", { proxy = given })
      end)
      assert.is_false(ok)
      assert.matches("^spec/e2e/proxy_spec.lua:%d+: khp.connect: option 'proxy'" .. pattern, message)
      assert.is_nil(message:find "sesame")
    end
    throws(" must be http://", "https://joe:sesame@127.0.0.1:8080")
    throws(" must be http://", "http://127.0.0.1:8080/path")
    throws(": bad URL 'socks5://%*%*%*@127.0.0.1:8080': must be http://", "socks5://joe:sesame@127.0.0.1:8080")
    throws(": bad URL '%*%*%*@127.0.0.1:8080': must be http://", "joe:sesame@127.0.0.1:8080")
    throws(": bad URL 'http://%*%*%*@127.0.0.1:99999'", "http://joe:sesame@127.0.0.1:99999")
    throws(" has no way to a unix socket", "http://127.0.0.1:8080", "ws+unix:///x.sock:/")
  end)
end)
