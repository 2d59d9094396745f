-- TLS from end to end, with certificates of our own.

local khp = require "khp"
local net = require "spec.support.net"

describe("TLS", function()
  local folder, server, url

  local function file(name)
    return folder .. "/" .. name
  end

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

  local function serve(tls, options)
    options = options or { on_message = net.echo }
    tls.cert = tls.cert or file "localhost.pem"
    tls.key = tls.key or file "localhost.key"
    options.tls = tls
    server, url = net.serve(options)
  end

  after_each(function()
    if server then
      server:close(1)
      server = nil
    end
  end)

  local function connect(tls, options)
    options = options or {}
    tls.ca = tls.ca or file "ca.pem"
    options.tls = tls
    return khp.connect(url, options)
  end

  local function echo(conn)
    for _, size in ipairs { 1, 16384, 1000000 } do
      local message = ("x"):rep(size)
      assert(conn:send(message, "binary"))
      assert.is_true((conn:receive(5)) == message)
    end
  end

  it("carries both handshakes and messages of any size", function()
    serve({}, { on_message = net.echo, policy = "examples/policies/members.lua" })
    local conn = assert(connect({}, { policy = "examples/policies/joe.lua" }))
    echo(conn)
    local info = conn:tls()
    assert.truthy(info.version:match "^TLSv1%.[23]$")
    assert.equal("http/1.1", info.alpn)
    assert.is_true(info.peer_verified)
    conn:close(1000, "bye")
    assert.is_true(conn.closed.clean)
  end)

  it("stops reading where it must, and loses nothing", function()
    local sent = 0
    serve({}, {
      on_open = function(conn)
        for _ = 1, 100 do
          while not conn:send(("y"):rep(100000), "binary") do
            assert(conn:drain(5))
          end
          sent = sent + 1
        end
        conn:receive()
      end,
      limits = { queue = 500000 },
    })
    local conn = assert(connect {})
    conn:pause()
    net.await(function()
      return sent > 3
    end)
    khp.sleep(0.05)
    assert.is_true(sent < 100)
    conn:resume()
    for _ = 1, 100 do
      assert.equal(100000, #assert(conn:receive(5)))
    end
    conn:close()
  end)

  local function fails(pattern, tls)
    local conn, message, code, detail = connect(tls)
    assert.is_nil(conn)
    assert.equal("ETLS", code)
    assert.truthy(message:match(pattern), message)
    assert.equal(url, detail.url)
  end

  it("verifies the server, and says what is wrong", function()
    serve {}
    fails("unable to get local issuer certificate", { ca = file "other-ca.pem" })
    fails("hostname mismatch", { server_name = "a.example" })
    assert(connect { ca = file "other-ca.pem", verify = false }):close()
    server:close(1)
    serve { cert = file "expired.pem", key = file "expired.key" }
    fails("certificate has expired", {})
  end)

  it("has several certificates, by server name", function()
    serve { names = {
      { name = "a.example", cert = file "a.pem", key = file "a.key" },
      { name = "*.b.example", cert = file "b.pem", key = file "b.key" },
    } }
    for _, name in ipairs { "a.example", "x.b.example", "localhost" } do
      local conn = assert(connect { server_name = name })
      conn:close()
    end
    fails("hostname mismatch", { server_name = "x.y.b.example" })
  end)

  it("asks clients for certificates", function()
    local subject
    serve({ ca = file "ca.pem", verify = "required" }, {
      on_open = function(conn)
        subject = conn:tls().peer_subject
        conn:receive()
      end,
    })
    local conn = assert(connect { cert = file "client.pem", key = file "client.key" })
    net.await(function()
      return subject
    end)
    assert.equal("CN=joe", subject)
    conn:close()
    for _, tls in ipairs { {}, { cert = file "stranger.pem", key = file "stranger.key" } } do
      local none, _, code = connect(tls)
      assert.is_nil(none)
      assert.truthy(code == "ETLS" or code == "ECLOSED", code)
    end
  end)

  it("takes new certificates without a restart", function()
    local cert, key = os.tmpname(), os.tmpname()
    local function copy(name)
      assert(os.execute(("cp %s %s && cp %s %s"):format(file(name .. ".pem"), cert, file(name .. ".key"), key)))
    end
    copy "expired"
    serve { cert = cert, key = key }
    fails("certificate has expired", {})
    copy "localhost"
    assert.is_true(server:reload())
    local conn = assert(connect {})
    assert(os.execute("echo nonsense > " .. cert))
    local ok, message, code = server:reload()
    assert.is_nil(ok)
    assert.equal("ETLS", code)
    assert.truthy(message:find(cert, 1, true))
    echo(conn)
    conn:close()
    assert(connect {}):close()
    os.remove(cert)
    os.remove(key)
  end)

  it("resumes sessions", function()
    serve {}
    local tls = { ca = file "ca.pem" }
    local conn = assert(khp.connect(url, { tls = tls }))
    echo(conn)
    conn:close()
    conn = assert(khp.connect(url, { tls = tls }))
    assert.is_true(conn:tls().resumed)
    conn:close()
  end)

  it("tells of files that are not there, before anything begins", function()
    local none, message, code = khp.listen { host = "127.0.0.1", port = 0, tls = { cert = "/no/such.pem" } }
    assert.is_nil(none)
    assert.equal("ETLS", code)
    assert.truthy(message:match "/no/such.pem: No such file")
    none, message, code = khp.connect("wss://127.0.0.1:1/", { tls = { ca = "/no/such.pem" } })
    assert.is_nil(none)
    assert.equal("ETLS", code)
    assert.truthy(message:match "/no/such.pem")
  end)

  it("ends a client that does not speak it, and a server that does not", function()
    serve({}, { on_message = net.echo, limits = { opening = 0.3 } })
    local _, port = server:address()
    local peer = net.peer(port)
    peer:send "GET / HTTP/1.1\r\n\r\n"
    peer:await_end()
    peer = net.peer(port) -- and one that says nothing
    peer:await_end()
    server:close(1)
    local plain, _, plain_port = net.serve {}
    local none, message, code = khp.connect(("wss://127.0.0.1:%d/"):format(plain_port))
    assert.is_nil(none)
    assert.equal("ETLS", code)
    assert.truthy(message:match "TLS", message)
    plain:close()
  end)
end)
