-- 426: the client opens anew over TLS, where its policy wants that. A proxy of ours maps the ports that URLs have by
-- default to those of the servers here.

local crypto = require "khp.crypto"
local decision = require "khp.policy.decision"
local khp = require "khp"
local net = require "spec.support.net"
local proxies = require "spec.support.proxy"

local AGREE = {
  response = function(response, action)
    return response.status == 426 and action == "upgrade" and "upgrade" or nil
  end,
}

describe("a client that is told to use TLS", function()
  local folder, plain, secure, proxy

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
    for _, one in pairs { plain, secure } do
      one:close(1)
    end
    if proxy then
      proxy:close()
    end
    plain, secure, proxy = nil, nil, nil
  end)

  -- Says 426 at this stage of the handshake.
  local function demand(stage, headers)
    return {
      [stage] = function()
        return decision.reject(426, { headers = headers or { Upgrade = "TLS/1.2, HTTP/1.1" } })
      end,
    }
  end

  local function serve_secure(policy, port)
    local tls = { cert = folder .. "/localhost.pem", key = folder .. "/localhost.key" }
    local server, url, bound = net.serve { tls = tls, policy = policy, on_message = net.echo, port = port }
    secure = server
    return url, bound
  end

  -- localhost:80 is the plain server, localhost:443 the one with TLS.
  local function both(plain_policy, secure_policy)
    local plain_port, secure_port, _
    plain, _, plain_port = net.serve { policy = plain_policy }
    _, secure_port = serve_secure(secure_policy)
    proxy = proxies.serve {
      places = { ["localhost:80"] = { "127.0.0.1", plain_port }, ["localhost:443"] = { "127.0.0.1", secure_port } },
    }
  end

  local function connect(url, options)
    options = options or {}
    options.policy = options.policy or AGREE
    options.tls = options.tls or { ca = folder .. "/ca.pem" }
    options.proxy = proxy and proxy.url
    return khp.connect(url, options)
  end

  it("opens anew over TLS, on port 443 instead of 80 [S426]", function()
    for stage, headers in pairs { opening = { Upgrade = "TLS/1.2, HTTP/1.1" }, extended = {} } do
      both(demand(stage, headers))
      local conn = assert(connect "ws://localhost/room?a=b")
      assert.equal("wss://localhost/room?a=b", conn.url)
      assert.is_true(conn:tls().peer_verified)
      assert.is_true(conn.khp)
      conn:send "in"
      assert.equal("in", (conn:receive(5)))
      assert.equal("localhost:80", proxy.requests[1].target)
      assert.equal("localhost:443", proxy.requests[2].target)
      conn:close()
      plain:close(1)
      secure:close(1)
      proxy:close()
    end
  end)

  it("keeps any other port [S426]", function()
    local url, port, _
    plain, url, port = net.serve { policy = demand "opening" }
    local policy = {
      response = function(response, action)
        if response.status == 426 then
          plain:close(1) -- now the same port has TLS
          plain = nil
          serve_secure(nil, port)
        end
        return action
      end,
    }
    local conn = assert(connect(url, { policy = policy }))
    assert.equal(url:gsub("^ws:", "wss:"), conn.url)
    _, port = secure:address()
    assert.equal(port, conn.peer.port)
    conn:close()
  end)

  it("verifies the server there [S426]", function()
    both(demand "extended")
    local none, _, code, detail = connect("ws://localhost/", { tls = { ca = folder .. "/other-ca.pem" } })
    assert.is_nil(none)
    assert.equal("ETLS", code)
    assert.same({ "ws://localhost/", "wss://localhost/" }, detail.urls)
  end)

  it("takes its credentials along, and follows redirects from there [S426 E12 E13]", function()
    local seen = {}
    both(demand "opening", {
      opening = function(request)
        seen[#seen + 1] = request.headers.cookie
        if request.path == "/" then
          return decision.redirect "/there"
        end
      end,
      extended = function(request, session)
        if not session:basic(request, { joe = "welcome" }) then
          return decision.challenge 'Basic realm="m"'
        end
      end,
    })
    local conn = assert(connect("ws://joe:welcome@localhost/", { headers = { Cookie = "a=b" } }))
    assert.equal("wss://localhost/there", conn.url)
    assert.same({ "a=b", "a=b" }, seen)
    conn:close()
  end)

  local function refused(url, options, message)
    local none, said, code, detail = connect(url, options)
    assert.is_nil(none)
    assert.equal("EHANDSHAKE", code)
    assert.equal("the server answered '426 Upgrade Required'" .. message, said)
    assert.equal(426, detail.status)
    return detail
  end

  it("does so only where its policy says so [S426]", function()
    both(demand "extended")
    refused("ws://localhost/", { policy = {} }, "")
    refused("ws://localhost/", {
      policy = {
        response = function()
          return "close"
        end,
      },
    }, "")
    assert.equal(2, #proxy.requests)
  end)

  it("refuses whatever else it is asked for [S426]", function()
    for _, other in ipairs { "websocket", "h2c", "HTTP/2.0, IRC/6.9", "TLSX" } do
      for _, stage in ipairs { "opening", "extended" } do
        both(demand(stage, { Upgrade = other }))
        local detail = refused("ws://localhost/", nil, ": it asks for something else than TLS")
        assert.equal(other, detail.headers.upgrade)
        assert.equal(1, #proxy.requests)
        plain:close(1)
        secure:close(1)
        proxy:close()
      end
    end
  end)

  it("does not go round in circles where it has TLS already [S426]", function()
    both(demand "extended", demand "opening")
    local detail = refused("ws://localhost/", nil, ": the connection has TLS already")
    assert.same({ "ws://localhost/", "wss://localhost/" }, detail.urls)
  end)

  it("does not lead back out of TLS [S426 E12]", function()
    both(demand "opening", {
      opening = function()
        return decision.redirect "ws://localhost/"
      end,
    })
    local none, message, code = connect "ws://localhost/"
    assert.is_nil(none)
    assert.equal("EREDIRECT", code)
    assert.matches("it leaves TLS", message)
  end)

  it("sends its Authorization over TLS when only the server there asks [S426 E13]", function()
    both(demand "opening", {
      opening = function(request)
        if request.headers.authorization ~= "Basic " .. crypto.base64 "joe:welcome" then
          return decision.challenge 'Basic realm="m"'
        end
      end,
    })
    local conn = assert(connect("ws://localhost/", { credentials = { username = "joe", password = "welcome" } }))
    assert.equal(3, #proxy.requests)
    assert.is_nil(table.concat(proxy.through):find("Authorization", 1, true)) -- all that was sent in plain
    conn:close()
  end)
end)
