-- One server, several places: by path, by host, by origin.

local decision = require "khp.policy.decision"
local hand = require "spec.support.hand"
local khp = require "khp"
local net = require "spec.support.net"

describe("a server with routes", function()
  local server, url, port

  local function serve(options)
    server, url, port = net.serve(options)
  end

  after_each(function()
    if server then
      server:close(1)
      server = nil
    end
  end)

  -- An on_open that says where one is.
  local function here(name)
    return function(conn)
      conn:send(name .. (conn.captures and ":" .. table.concat(conn.captures, ",") or ""))
      conn:receive()
    end
  end

  -- Where a client comes that asks for this; or the status that it gets.
  local function reach(path, options)
    local conn, _, _, detail = khp.connect(url .. path:sub(2), options)
    if not conn then
      return detail.status
    end
    local name = conn:receive(5)
    conn:close()
    return name
  end

  it("takes the first that fits the path, and answers 404 where none does", function()
    serve {
      routes = {
        { path = "/chat", on_open = here "chat" },
        { prefix = "/api/v1", on_open = here "v1" },
        { prefix = "/api/", on_open = here "api" },
        { pattern = "^/rooms/(%w+)/(%d+)$", on_open = here "room" },
        { path = "/chat", on_open = here "never" },
      },
    }
    for path, name in pairs {
      ["/chat"] = "chat", ["/chat?a=b"] = "chat", ["/chat/"] = 404, ["/chats"] = 404, ["/"] = 404, ["/Chat"] = 404,
      ["/api/v1"] = "v1", ["/api/v1/x/y"] = "v1", ["/api/v10"] = "api", ["/api/"] = "api", ["/api"] = 404,
      ["/rooms/blue/7"] = "room:blue,7", ["/rooms/blue/x"] = 404,
      ["/rooms/" .. ("a"):rep(3000) .. "/1"] = 404, -- for which the pattern might take too long
    } do
      assert.equal(name, reach(path), path)
    end
  end)

  it("answers ordinary requests with 404, too", function()
    serve { routes = { { path = "/chat" } } }
    local peer = hand.client(port)
    peer:write "GET /other HTTP/1.1\r\nHost: x\r\n\r\n"
    assert.equal(404, peer:http().status)
    peer = hand.client(port)
    peer:write "GET /chat HTTP/1.1\r\nHost: x\r\n\r\n"
    assert.equal(426, peer:http().status)
  end)

  it("takes the host into account, in any spelling", function()
    serve {
      routes = {
        { host = "admin.example.org", on_open = here "admin" },
        { host = { "*.example.org", "[::1]" }, path = "/a", on_open = here "below" },
      },
    }
    local function status(host, path)
      local peer = hand.client(port)
      peer:write((hand.opening(path or "/a"):gsub("Host: [^\r]*", "Host: " .. host)))
      local response = peer:http()
      if response.status ~= 101 then
        return response.status
      end
      return peer:frame().payload
    end
    for host, name in pairs {
      ["admin.example.org"] = "admin", ["Admin.Example.org:8000"] = "admin", ["admin.example.org."] = "admin",
      ["a.example.org"] = "below", ["a.b.example.org"] = "below", ["example.org"] = 404, ["[::1]:80"] = "below",
      ["notexample.org"] = 404,
    } do
      assert.equal(name, status(host), host)
    end
    assert.equal("admin", status("admin.example.org", "/b"))
    assert.equal(404, status("a.example.org", "/b"))
  end)

  it("takes the origin into account", function()
    serve {
      routes = {
        { origin = { "https://*.example.org", "https://example.org" }, on_open = here "page" },
        { on_open = here "others" },
      },
    }
    assert.equal("page", reach("/", { origin = "https://a.example.org" }))
    assert.equal("page", reach("/", { origin = "https://example.org" }))
    assert.equal("others", reach("/", { origin = "https://example.com" }))
    assert.equal("others", reach("/", { origin = "http://127.0.0.1:" .. port }))
    assert.equal("others", reach "/")
  end)

  it("asks each place's own policy, and takes from the server what a route does not say", function()
    local function refuse(status)
      return {
        extended = function()
          return decision.reject(status)
        end,
      }
    end
    local closed = {}
    serve {
      policy = refuse(403),
      on_open = here "server",
      on_close = function()
        closed[#closed + 1] = "server"
      end,
      routes = {
        { path = "/own", policy = refuse(410) },
        { path = "/none", policy = false },
        {
          path = "/close",
          policy = false,
          on_open = here "route",
          on_close = function()
            closed[#closed + 1] = "route"
          end,
        },
        { prefix = "/" },
      },
    }
    assert.equal(410, reach "/own")
    assert.equal("server", reach "/none")
    assert.equal("route", reach "/close")
    assert.equal(403, reach "/else")
    net.await(function()
      return #closed == 2
    end)
    assert.same({ "server", "route" }, closed)
  end)

  it("shows what a pattern captures to policies", function()
    serve {
      policy = {
        opening = function(_, session)
          session.data.room = session.captures[1]
        end,
        extended = function(_, session)
          assert(session.captures[1] == session.data.room)
        end,
      },
      on_open = function(conn)
        conn:send(conn.data.room)
      end,
      routes = { { pattern = "^/rooms/(%w+)$" } },
    }
    assert.equal("blue", reach "/rooms/blue")
  end)

  it("knows the paths that Kaazing's clients ask for below their own", function()
    local paths = {}
    serve {
      policy = {
        opening = function(request)
          paths[#paths + 1] = request.path
          return decision.reject(410)
        end,
      },
      routes = { { path = "/echo" }, { path = "/" } },
    }
    for path, status in pairs {
      ["/echo/;e/cookies"] = 200, ["/;e/cookies"] = 200, ["/other/;e/cookies"] = 404, ["/other/;e/cbm"] = 404,
      ["/echo/;e/cbm"] = 410, ["/;e/cbm"] = 410,
    } do
      local peer = hand.client(port)
      peer:write("GET " .. path .. "?.krn=1 HTTP/1.1\r\nHost: x\r\n\r\n")
      assert.equal(status, peer:http().status, path)
    end
    table.sort(paths)
    assert.same({ "/;e/cbm", "/echo/;e/cbm" }, paths) -- for cookies no policy is asked
  end)

  it("reloads the files of all places, or of none", function()
    local names, texts = {}, { "return { extended = function() return reject(410) end }", "return {}" }
    local function write(i, text)
      names[i] = names[i] or os.tmpname()
      local file = assert(io.open(names[i], "w"))
      file:write(text)
      file:close()
    end
    write(1, texts[1])
    write(2, texts[2])
    serve {
      on_open = here "in",
      routes = {
        { path = "/a", policy = names[1] }, { path = "/b", policy = names[2] }, { path = "/c", policy = names[1] },
      },
    }
    assert.same({ 410, "in", 410 }, { reach "/a", reach "/b", reach "/c" })
    write(1, texts[2])
    write(2, "return 5")
    local ok, message, code = server:reload()
    assert.is_nil(ok)
    assert.matches("a policy returns a table of functions, not number", message)
    assert.equal("EPOLICY", code)
    assert.same({ 410, "in", 410 }, { reach "/a", reach "/b", reach "/c" })
    write(2, texts[1])
    assert(server:reload())
    assert.same({ "in", 410, "in" }, { reach "/a", reach "/b", reach "/c" })
    os.remove(names[1])
    os.remove(names[2])
  end)

  it("refuses what cannot be meant, at the caller's line", function()
    local function problem(routes, more)
      local options = { host = "127.0.0.1", port = 0, routes = routes }
      for name, value in pairs(more or {}) do
        options[name] = value
      end
      local ok, message = pcall(function()
        local listening = khp.listen(options)
        return listening
      end)
      assert.is_false(ok)
      return (assert(message:match "^spec/e2e/routes_spec%.lua:%d+: khp%.listen: (.*)$", message))
    end
    local expected = "an origin expected: 'https://example.org', 'https://*.example.org:*', 'null' or '*', not 'x'"
    for text, routes in pairs {
      ["routes: an array of routes expected; it is empty, or not an array"] = {},
      ["routes[1]: a table expected, not string"] = { "/chat" },
      ["routes[2]: path: must begin with '/', not 'chat'"] = { { path = "/" }, { path = "chat" } },
      ["routes[1]: path and pattern: a route has one of them"] = { { path = "/a", pattern = "^/a$" } },
      ["routes[1]: pattern: malformed pattern (missing ']')"] = { { pattern = "[" } },
      ["routes[1]: unknown option 'pth', did you mean 'path'?"] = { { pth = "/" } },
      ["routes[1]: option 'on_open' must be a function, not string"] = { { on_open = "x" } },
      ["routes[1]: host: a host expected, 'example.org' or '*.example.org', not 'http://a'"] =
        { { host = "http://a" } },
      ["routes[1]: host: a host expected, 'example.org' or '*.example.org', not 'a:80'"] =
        { { host = { "b", "a:80" } } },
      ["routes[1]: origin: " .. expected] = { { origin = "x" } },
      ["routes[1]: origin[2]: " .. expected] = { { origin = { "null", "x" } } },
      ["routes[1]: origins[1]: " .. expected] = { { origins = { "x" } } },
      ["routes[1]: policy: must be a path, a table or false, not true"] = { { policy = true } },
    } do
      assert.equal(text, problem(routes))
    end
    assert.equal("origins[1]: " .. expected, problem(nil, { origins = { "x" } }))
    local none, message, code = khp.listen {
      host = "127.0.0.1", port = 0, routes = { { path = "/", policy = "/no/such/policy.lua" } },
    }
    assert.is_nil(none)
    assert.equal("/no/such/policy.lua: No such file or directory", message)
    assert.equal("EPOLICY", code)
  end)
end)

describe("a server with a list of origins", function()
  local server, port, _

  local function serve(options)
    server, _, port = net.serve(options)
  end

  after_each(function()
    server:close(1)
  end)

  local ALLOWED = { "content-type", "authorization", "x-websocket-extensions", "x-websocket-version",
    "x-websocket-protocol" }

  local function ask(method, from, more)
    local peer = hand.client(port)
    peer:write(method .. " / HTTP/1.1\r\nHost: server.test\r\n" .. (from and "Origin: " .. from .. "\r\n" or "")
      .. (more or "") .. "\r\n")
    return peer:http()
  end

  local OPENING = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: " .. hand.KEY
    .. "\r\nSec-WebSocket-Version: 13\r\n"

  local function cors(response)
    local headers = response.headers
    return { headers["access-control-allow-origin"], headers["access-control-allow-credentials"],
      khp.http.values(headers, "Access-Control-Allow-Headers"), headers.vary }
  end

  it("refuses other pages with 403, in openings and in plain requests", function()
    serve { origins = { "https://example.org" } }
    for _, more in ipairs { OPENING, "" } do
      local response = ask("GET", "https://evil.test", more)
      assert.equal(403, response.status)
      assert.equal("This origin is not allowed.\n", response.body)
      assert.same({ nil, nil, {} }, cors(response))
    end
  end)

  it("tells the browsers of the others that they may", function()
    serve { origins = { "https://example.org" } }
    local opening, plain = ask("GET", "https://example.org", OPENING), ask("GET", "https://example.org")
    assert.equal(101, opening.status)
    assert.same({ "https://example.org", "true", ALLOWED }, cors(opening))
    assert.equal(426, plain.status)
    assert.same({ "https://example.org", "true", ALLOWED, "Origin" }, cors(plain))
    assert.same({ nil, nil, {} }, cors(ask("GET", "http://server.test", OPENING)))
    assert.same({ nil, nil, {} }, cors(ask("GET", nil, OPENING)))
    assert.equal(101, ask("GET", nil, OPENING).status)
  end)

  it("answers the question that browsers ask before", function()
    local asked = false
    serve {
      origins = { "https://*.example.org" },
      policy = {
        opening = function()
          asked = true
        end,
      },
    }
    local response = ask("OPTIONS", "https://a.example.org", "Access-Control-Request-Method: POST\r\n")
    assert.equal(204, response.status)
    assert.same({ "https://a.example.org", "true", ALLOWED, "Origin" }, cors(response))
    assert.equal("GET, POST, OPTIONS", response.headers["access-control-allow-methods"])
    assert.is_false(asked)
    assert.equal(403, ask("OPTIONS", "https://evil.test", "Access-Control-Request-Method: POST\r\n").status)
  end)

  it("leaves to the policy what it says itself", function()
    serve {
      origins = { "*" },
      policy = {
        opening = function()
          return decision.reject(200, { headers = { ["access-control-allow-origin"] = "*" }, body = "hello" })
        end,
      },
    }
    local response = ask("GET", "https://a.test")
    assert.same({ "*", "true", ALLOWED, "Origin" }, cors(response))
    assert.equal("hello", response.body)
  end)
end)
