-- The options of khp serve: TLS, unix sockets, files, metrics, the log; and what it says where it cannot begin.

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

  describe("says what is wrong, and what to try:", function()
    local function says(arguments, status, ...)
      local text, code = served.fails(arguments)
      assert.equal(status, code, text)
      assert.matches("^khp: serve: ", text)
      for _, pattern in ipairs { ... } do
        assert.matches(pattern, text)
      end
    end

    it("arguments", function()
      says("--port x", 2, "number from 0 to 65535, not 'x'")
      says("--hots 1", 2, "unknown option '%-%-hots'\nDid you mean '%-%-host'")
      says("--level loud", 2, "'error', 'warn', 'info'")
      says("--log xml", 2, "'text', 'json'")
      says("--port", 2, "requires an argument")
      says("--tls cert.pem", 2, "requires 2 arguments")
      says("--drain soon", 2, "number from 0 on, not 'soon'")
      says("--protocol 'a b'", 2, "a name without spaces and commas, not 'a b'")
      says("a b", 2, "too many arguments")
      says("--unix x --port 1", 2, "%-%-unix is instead of %-%-host and %-%-port")
      says("--client-ca ca.pem", 2, "%-%-client%-ca needs %-%-tls")
    end)

    it("the place to listen on", function()
      local server = net.serve {}
      local _, port = server:address()
      says("--port " .. port, 1, "127.0.0.1:" .. port .. ": Address already in use", "choose another %-%-port")
      server:close()
      says("--port 0 --host 203.0.113.1", 1, "203.0.113.1", "This machine has no such address")
      says("--unix /no/such/place", 1, "/no/such/place")
    end)

    it("policies", function()
      says("--port 0 /no/such.lua", 1, "/no/such.lua: No such file", "khp check /no/such.lua")
      write(folder .. "/p.lua", "return {\n  extnded = function() end }")
      says(("--port 0 %s/p.lua"):format(folder), 1, "p.lua: .*did you mean 'extended'", "khp check ")
    end)

    it("certificates and folders", function()
      says("--port 0 --tls /no/cert.pem /no/key.pem", 1, "/no/cert.pem", "openssl req %-x509")
      says(("--port 0 --tls %s/certs/localhost.pem %s/certs/ca.key"):format(folder, folder), 1, "openssl req")
      says("--port 0 --root /no/such/folder", 1, "/no/such/folder: No such file", "%-%-root wants a folder")
    end)

    it("scripts", function()
      says("--port 0 --script /no/app.lua", 1, "/no/app.lua: No such file", "%-%-script wants a Lua file")
      for text, pattern in pairs {
        ["return {"] = "app.lua:1: unexpected symbol near <eof>",
        ["\nlocal x = nil + 1"] = "app.lua:2: attempt to perform arithmetic on a nil value",
        ["x = 1"] = "app.lua: must return a function on_open%(conn%), or a table .*, not nothing",
        ["return 5"] = "app.lua: must return .*, not number",
        ["return { on_open = 5 }"] = "app.lua: on_open: a function expected, not number",
        ["return { on_opne = print }"] = "app.lua: unknown option 'on_opne', did you mean 'on_open'?",
        ["return { limits = { mesage = 1 } }"] = "app.lua: limits: unknown option 'mesage', did you mean 'message'?",
        ["error {}"] = "app.lua: an error that is a table",
      } do
        write(folder .. "/app.lua", text)
        says(("--port 0 --script %s/app.lua"):format(folder), 1, pattern)
      end
    end)
  end)
end)
