-- The options of khp serve: TLS, unix sockets, files, metrics, and the log. What it says where it cannot begin
-- is in spec/cli/errors_spec.lua.

local http = require "khp.http"
local net = require "spec.support.net"
local served = require "spec.support.served"

describe("khp serve", function()
  local folder, write = nil, served.write

  lazy_setup(function()
    folder = os.tmpname()
    os.remove(folder)
    assert(os.execute(("mkdir %s && spec/support/certs.sh %s/certs >/dev/null 2>&1"):format(folder, folder)))
  end)

  lazy_teardown(function()
    os.execute("rm -r " .. folder)
  end)

  after_each(served.stop)

  local function finish(server)
    server:signal "TERM"
    local log, status = server:finish()
    assert.equal(0, status)
    return log
  end

  local function get(url, path)
    local peer = net.peer(tonumber(url:match ":(%d+)/"))
    peer:send("GET " .. path .. " HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    return assert(http.parse_response(peer:await_end()))
  end

  it("has TLS, asks for certificates, and takes new ones on SIGHUP", function()
    local certs = folder .. "/certs/"
    assert(os.execute(("cp %slocalhost.pem %s/cert.pem && cp %slocalhost.key %s/key.pem"):format(
      certs, folder, certs, folder)))
    local server = served.anywhere(("--tls %s/cert.pem %s/key.pem --client-ca %sca.pem"):format(folder, folder, certs))
    assert.matches("^wss://127%.0%.0%.1:%d+/$", server.url)
    local url = server.url:gsub("127%.0%.0%.1", "localhost")
    local with = { ca = certs .. "ca.pem", cert = certs .. "client.pem", key = certs .. "client.key" }
    assert.is_true((served.echoes(url, { tls = with })))
    assert.is_false((served.echoes(url, { tls = { ca = certs .. "ca.pem" } })))
    write(folder .. "/cert.pem", "no certificate")
    server:signal "HUP"
    server:await "nothing has changed: "
    assert.is_true((served.echoes(url, { tls = with })))
    assert(os.execute(("cp %slocalhost.pem %s/cert.pem"):format(certs, folder)))
    server:signal "HUP"
    server:await("loaded again: " .. folder .. "/cert.pem")
    finish(server)
  end)

  it("listens on a unix socket", function()
    local server = served.start("--unix " .. folder .. "/socket")
    assert.equal("ws+unix://" .. folder .. "/socket:/", server.url)
    assert.is_true((served.echoes(server.url)))
    assert.matches("info: unix: GET / ", finish(server))
  end)

  it("shows files and numbers beside WebSockets", function()
    write(folder .. "/index.html", "<p>home</p>")
    local server = served.anywhere("--metrics --root " .. folder, 2)
    assert.equal(server.urls[1]:gsub("^ws", "http"), server.urls[2])
    assert.equal("<p>home</p>", get(server.url, "/").body)
    assert.is_true((served.echoes(server.url)))
    local numbers = get(server.url, "/metrics")
    assert.equal("application/openmetrics-text; version=1.0.0; charset=utf-8", numbers.headers["content-type"])
    assert.truthy(numbers.body:find('\nkhp_handshakes_total{outcome="opened_khp"} 1\n', 1, true))
    assert.equal("# EOF\n", numbers.body:sub(-6))
    finish(server)
  end)

  it("counts no policy where there is none, and leaves no way around one", function()
    local server = served.anywhere "--metrics"
    get(server.url, "/metrics")
    assert.truthy(get(server.url, "/metrics").body:find("\nkhp_policy_seconds_count 0\n", 1, true))
    local log = finish(server)
    assert.matches("GET /metrics: answered with 200 OK, in ", log)
    write(folder .. "/never.lua", "return { opening = function() return reject(403) end }")
    server = served.anywhere("--metrics " .. folder .. "/never.lua")
    assert.same({ false, 404 }, { served.echoes(server.url .. "metrics") })
    assert.same({ false, 403 }, { served.echoes(server.url) })
    assert.equal(200, get(server.url, "/metrics").status)
    finish(server)
  end)

  it("shows numbers beside the routes of a script", function()
    write(folder .. "/app.lua", [[
      return { routes = { { path = "/echo", on_message = function(conn, text) conn:send(text) end } } }]])
    local server = served.anywhere(("--metrics --script %s/app.lua"):format(folder))
    assert.is_true((served.echoes(server.url .. "echo")))
    assert.equal(200, get(server.url, "/metrics").status)
    assert.equal(404, get(server.url, "/").status)
    finish(server)
  end)

  it("logs in JSON", function()
    write(folder .. "/members.lua", "return { extended = function() return accept {} end }")
    local server = served.anywhere(("--log json %s/members.lua"):format(folder))
    assert.is_true((served.echoes(server.url)))
    local log = finish(server)
    for line in log:gmatch "[^\n]+" do
      assert.matches('^{"time":"[^"]+","level":"info","message":".*}$', line)
    end
    assert.truthy(log:find('"event":"handshake","function":"extended","method":"GET","outcome":"opened_khp"', 1, true))
    assert.truthy(log:find(('"policy":"%s/members.lua","port":'):format(folder), 1, true))
  end)

  it("logs what its level says", function()
    local server = served.anywhere "--level warn"
    assert.is_true((served.echoes(server.url)))
    assert.equal("", finish(server))
  end)
end)
