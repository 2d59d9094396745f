-- Both handshakes over real sockets, with policies on both sides.

local hand = require "spec.support.hand"
local khp = require "khp"
local net = require "spec.support.net"

local function quietly(f)
  local level, sink, lines = khp.log.level, khp.log.sink, {}
  khp.log.sink = function(at, text)
    lines[#lines + 1] = at .. ": " .. text
  end
  local ok, message = pcall(f)
  khp.log.level, khp.log.sink = level, sink
  assert(ok, message)
  return table.concat(lines, "\n")
end

describe("handshakes with policies", function()
  local server, url

  local function serve(options)
    options.on_message = options.on_message or net.echo
    server, url = net.serve(options)
  end

  after_each(function()
    if server then
      server:close(1)
      server = nil
    end
  end)

  local function write(text)
    local path = os.tmpname()
    local file = assert(io.open(path, "w"))
    file:write(text)
    file:close()
    return path
  end

  it("let members in, with protocol and extension [E8 E11 E13 E14 E20]", function()
    serve { policy = "examples/policies/members.lua" }
    local stages = {}
    local conn = assert(khp.connect(url .. "echo", {
      protocols = { "other", "echo" },
      extensions = { "x-echo-pace", "x-unknown" },
      policy = "examples/policies/joe.lua",
      trace = function(direction, stage, bytes)
        stages[#stages + 1] = direction .. " " .. stage .. " " .. bytes:match "^[^\r\n]+"
      end,
    }))
    assert.same({
      "send opening GET /echo HTTP/1.1",
      "receive opening HTTP/1.1 101 Switching Protocols",
      "send extended GET /echo HTTP/1.1",
      "receive extended HTTP/1.1 401 Unauthorized",
      "send extended GET /echo HTTP/1.1",
      "receive extended HTTP/1.1 101 Switching Protocols",
    }, stages)
    assert.equal("echo", conn.protocol)
    assert.equal(1, #conn.extensions)
    assert.equal("x-echo-pace", conn.extensions[1].name)
    assert.equal("5", conn.extensions[1].parameters.ms)
    assert.equal("joe", server:connections()[1].data.user)
    conn:send("in")
    assert.equal("in", (conn:receive(5)))
    conn:close()
  end)

  it("keep strangers out, and tell them why [E10 E13]", function()
    serve { policy = "examples/policies/members.lua" }
    local conn, message, code, detail = khp.connect(url, { policy = "examples/policies/stranger.lua" })
    assert.is_nil(conn)
    assert.equal("EAUTH", code)
    assert.equal('the server asks for credentials (Basic, realm "members"): no credentials', message)
    assert.equal(401, detail.status)
    assert.equal('Basic realm="members"', detail.headers["www-authenticate"])
    assert.equal("Members only.\n", detail.body)
    assert.is_true(detail.permanent)
    assert.equal(url, detail.url)
  end)

  it("give up when the password is wrong [E13]", function()
    serve { policy = "examples/policies/members.lua" }
    local asked = 0
    local insistent = {
      challenge = function()
        asked = asked + 1
        return { username = "joe", password = "wrong" }
      end,
    }
    local conn, _, code, detail = khp.connect(url, { policy = insistent, limits = { attempts = 3 } })
    assert.is_nil(conn)
    assert.equal("EAUTH", code)
    assert.equal(3, detail.attempts)
    assert.equal(2, asked)
    conn, _, code, detail = khp.connect(url, { policy = insistent, limits = { attempts = 100 } })
    assert.is_nil(conn)
    assert.equal("EHANDSHAKE", code)
    assert.equal(403, detail.status) -- the server's own limit
  end)

  it("refuse in the opening with any status [O3]", function()
    serve {
      policy = {
        opening = function(request)
          if request.path == "/secret" then
            return require("khp.policy.decision").reject(403, "Not here.\n")
          end
        end,
      },
    }
    local conn, message, code, detail = khp.connect(url .. "secret")
    assert.is_nil(conn)
    assert.equal("EHANDSHAKE", code)
    assert.truthy(message:match "403 Forbidden")
    assert.equal(403, detail.status)
    assert.equal("Not here.\n", detail.body)
    conn = assert(khp.connect(url .. "open"))
    conn:close()
  end)

  it("refuse in the extended handshake with any status [E10 E19]", function()
    serve { policy = write "return { extended = function() return reject(403, { reason = 'No' }) end }" }
    local conn, _, code, detail = khp.connect(url)
    assert.is_nil(conn)
    assert.equal("EHANDSHAKE", code)
    assert.equal(403, detail.status)
  end)

  it("can do without KHP where the policy says so [O3 O5]", function()
    serve { policy = write "return { opening = function() return accept { khp = false } end }" }
    local conn = assert(khp.connect(url))
    assert.is_false(conn.khp)
    conn:close()
    local none, _, code = khp.connect(url, { require_khp = true })
    assert.is_nil(none)
    assert.equal("EHANDSHAKE", code)
  end)

  it("see the opening request in the extended handshake, whether they were asked about it or not", function()
    local seen = {}
    serve {
      policy = {
        extended = function(_, session)
          seen[#seen + 1] = session.path .. " " .. session.opening.query
        end,
      },
    }
    assert(khp.connect(url .. "a?b")):close()
    assert.same({ "/a b" }, seen)
  end)

  it("may take their time, while everything else runs", function()
    serve {
      policy = {
        extended = function(request)
          khp.sleep(request.path == "/slow" and 0.2 or 0)
        end,
      },
    }
    local order = {}
    for _, path in ipairs { "slow", "fast" } do
      khp.spawn(function()
        local conn = assert(khp.connect(url .. path))
        order[#order + 1] = path
        conn:close()
      end)
    end
    net.await(function()
      return #order == 2
    end)
    assert.same({ "fast", "slow" }, order)
  end)

  it("end when a policy takes too long [E18]", function()
    local ended = false
    serve {
      limits = { extended = 0.2 },
      policy = {
        extended = function()
          local _ <close> = setmetatable({}, {
            __close = function()
              ended = true
            end,
          })
          khp.sleep(60)
        end,
      },
    }
    local conn = khp.connect(url)
    assert.is_nil(conn)
    assert.is_true(ended)
  end)

  it("survive a policy that throws, and one that returns nonsense: 500", function()
    local log = quietly(function()
      for _, body in ipairs {
        "error 'oops'", "error {}", "local x = nil + 1", "return 42", "return {}",
        "return accept { protocol = 'unasked' }",
        "return accept { extensions = { 'unasked' } }", "return accept { headers = { Evil = 'a\\r\\nb' } }",
        "return accept { typo = 1 }", "return challenge('Basic\\r\\n')", "challenge('Basic realm=\"forgotten\"')",
      } do
        serve { policy = write("return { extended = function() " .. body .. " end }") }
        local conn, _, code, detail = khp.connect(url)
        assert.is_nil(conn, body)
        assert.equal("EHANDSHAKE", code)
        assert.equal(500, detail.status, body)
        server:close()
      end
    end)
    assert.truthy(log:match "oops")
    assert.truthy(log:match "traceback")
    assert.truthy(log:match "extended")
  end)

  it("do not begin with a policy that is wrong", function()
    local function refused(text, pattern)
      local path = write(text)
      local none, message, code = khp.listen { host = "127.0.0.1", port = 0, policy = path }
      assert.is_nil(none)
      assert.equal("EPOLICY", code)
      assert.truthy(message:find(path, 1, true), message)
      assert.truthy(message:match(pattern), message)
    end
    refused("return", "table of functions")
    refused("return { extnded = function() end }", "did you mean 'extended'")
    refused("return { extended = 1 }", "function expected")
    refused("syntax error here", "syntax error")
    refused("io.open('/etc/passwd') return {}", "io")
    refused("\27Lua", "bytecode")
    local none, message = khp.listen { host = "127.0.0.1", port = 0, policy = "/no/such/file.lua" }
    assert.is_nil(none)
    assert.truthy(message:match "No such file")
  end)

  it("take a new policy while running, or keep the old one", function()
    local path = write "return { extended = function() return reject(403) end }"
    serve { policy = path }
    assert.is_nil((khp.connect(url)))
    local file = assert(io.open(path, "w"))
    file:write "return { extended = function() return accept {} end }"
    file:close()
    assert.is_true(server:reload())
    assert(khp.connect(url)):close()
    file = assert(io.open(path, "w"))
    file:write "return { extended = "
    file:close()
    local ok, message, code = server:reload()
    assert.is_nil(ok)
    assert.equal("EPOLICY", code)
    assert.truthy(message:find(path, 1, true))
    assert(khp.connect(url)):close()
  end)

  it("tell a client what is wrong with its own policy", function()
    serve { policy = "examples/policies/members.lua" }
    local policy = write "return { challenge = function() error 'my fault' end }"
    local conn, message, code = khp.connect(url, { policy = policy })
    assert.is_nil(conn)
    assert.equal("EPOLICY", code)
    assert.truthy(message:match "my fault")
  end)
end)

describe("connecting", function()
  it("fails in words [O6]", function()
    local function fails(url, options, code, pattern)
      local conn, message, got, detail = khp.connect(url, options)
      assert.is_nil(conn)
      assert.truthy(message:match(pattern), message)
      assert.equal(code, got)
      assert.equal("table", type(detail))
      assert.truthy(detail.url)
    end
    fails("ws://127.0.0.1:1/", nil, "ECONNECT", "Connection refused")
    fails("ws+unix:///no/such.sock:/", nil, "ECONNECT", "No such file")
    fails("ws://no.such.host.invalid/", nil, "ECONNECT", "no address")
    local server, url, port = net.serve {}
    fails("wss://127.0.0.1:" .. port .. "/", nil, "ETLS", "TLS")
    fails(url, { timeout = 0 }, "ETIMEOUT", "too long")
    server:close()
  end)

  it("takes no longer in all than `timeout`, whichever step it is that takes it", function()
    local clock = require("khp.core").loop.clock
    local function silent(peer)
      peer:await_end()
    end
    local function after_opening(peer)
      peer:agree()
      peer:extended()
      peer:closed()
    end
    local function in_circles(peer, n)
      peer:http()
      khp.sleep(0.1)
      peer:write(("HTTP/1.1 302 Found\r\nLocation: /%d\r\nContent-Length: 0\r\n\r\n"):format(n))
      peer:finish()
    end
    for _, script in ipairs { silent, after_opening, in_circles } do
      local server = hand.server(script)
      local begin = clock()
      local conn, _, code = khp.connect(server.url, { timeout = 0.3, limits = { close = 0.1, redirects = 1000 } })
      assert.same({ nil, "ETIMEOUT" }, { conn, code })
      assert.is_true(clock() - begin >= 0.29)
      assert.is_true(clock() - begin < 5)
      server:close()
    end
  end)

  it("throws what the caller did wrong, at his line", function()
    local function throws(pattern, ...)
      local ok, message = pcall(khp.connect, ...)
      assert.is_false(ok)
      assert.truthy(message:match(pattern), message)
    end
    throws("did you mean 'protocols'", "ws://x/", { protcols = {} })
    throws("array of strings", "ws://x/", { protocols = "a" })
    throws("khp.connect: ", "what://x/")
    local ok, message = pcall(function()
      khp.listen { prot = 1 }
    end)
    assert.is_false(ok)
    assert.truthy(message:match "handshake_spec.lua:%d+: khp.listen: unknown option 'prot', did you mean 'port'")
  end)

  it("meets a port that is taken", function()
    local server, _, port = net.serve {}
    local second, message, code = khp.listen { host = "127.0.0.1", port = port }
    assert.is_nil(second)
    assert.truthy(message:match "Address already in use")
    assert.equal("ECONNECT", code)
    server:close()
  end)
end)

describe("mistakes of the caller", function()
  local function line(f, pattern)
    local ok, message = pcall(f)
    assert.is_false(ok)
    assert.truthy(message:match("^spec/e2e/handshake_spec.lua:%d+: " .. pattern), message)
  end

  it("are told at his line", function()
    local server, url = net.serve { on_message = net.echo }
    local conn = assert(khp.connect(url))
    line(function() khp.connect(5) end, "khp.connect: a URL expected, not number")
    line(function() khp.connect "nonsense" end, "khp.connect: bad URL 'nonsense'")
    line(function() khp.spawn(5) end, "spawn: a function expected")
    line(function() khp.sleep() end, "sleep: seconds expected")
    line(function() khp.sleep "x" end, "a time in seconds expected, not x")
    line(function() khp.step "x" end, "step: seconds expected")
    line(function() conn:receive "x" end, "a time in seconds expected")
    line(function() conn:send() end, "bad argument #1 to 'send'")
    line(function() conn:send("x", "y") end, "bad argument #2 to 'send'")
    line(function() conn:close(1005) end, "close: a code")
    line(function() conn:close(1000, ("x"):rep(124)) end, "close: a reason has at most")
    line(function() conn:close(1000, "\255") end, "close: a reason must be UTF%-8")
    conn:send "still fine"
    assert.equal("still fine", (conn:receive(0.5)))
    conn:close()
    server:close()
  end)
end)

describe("a server's place", function()
  it("is one, not several", function()
    for _, options in ipairs { { port = 0, path = "/tmp/x" }, { host = "::1", fd = 5 }, { path = "/tmp/x", fd = 5 } } do
      local ok, message = pcall(khp.listen, options)
      assert.is_false(ok)
      assert.truthy(message:match "one of 'host' and 'port', 'path', or 'fd'")
    end
  end)
end)
