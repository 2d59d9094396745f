-- khp connect as a process of its own, with a server in this one: what it sends, prints and says, and how it ends.

local command = require "spec.support.command"
local net = require "spec.support.net"

describe("khp connect", function()
  local server

  after_each(function()
    if server then
      server:close()
      server = nil
    end
  end)

  -- Answers with what came, and waits for who does not read.
  local function echo(conn)
    for message, kind in conn:each() do
      while not conn:send(message, kind) and conn.state == "open" do
        conn:drain()
      end
    end
  end

  local function serve(options)
    options = options or {}
    options.on_open = options.on_open or not options.on_message and echo or nil
    local url
    server, url = net.serve(options)
    return url
  end

  local function connect(arguments, before)
    return command.begin("connect " .. arguments, before):finish()
  end

  it("sends lines and prints the answers, and waits for what still comes", function()
    local url = serve()
    local path = command.file "one\n\nthree\nno end"
    local output, errors, status = connect("--wait 0.3 " .. url .. " <" .. path)
    assert.same({ "one\n\nthree\nno end\n", "", 0 }, { output, errors, status })
    os.remove(path)
  end)

  it("sends what --send and --binary say, in that order, and leaves standard input alone", function()
    local seen = {}
    local url = serve { on_message = function(conn, message, kind)
      seen[#seen + 1] = kind .. " " .. message
      conn:send(message, kind)
    end }
    local path = command.file "\0\255"
    local output, errors, status = connect(
      ("--send one --binary %s --send zwölf --wait 0.3 %s </dev/zero"):format(path, url))
    assert.same({ "one\n\0\255zwölf\n", "", 0 }, { output, errors, status })
    assert.same({ "text one", "binary \0\255", "text zwölf" }, seen)
    os.remove(path)
  end)

  it("prints an object for each event with --json", function()
    local url = serve()
    local path = command.file "\0\255"
    local output, errors, status = connect(("--json --send 'a\"b' --binary %s --wait 0.3 %s"):format(path, url))
    assert.same({ "", 0 }, { errors, status })
    output = output:gsub('"time":[%d.]+', '"time":0')
    assert.equal(('{"event":"open","extensions":[],"khp":true,"time":0,"url":"%s"}\n'):format(url) ..
      '{"event":"message","kind":"text","text":"a\\"b","time":0}\n' ..
      '{"event":"message","base64":"AP8=","kind":"binary","time":0}\n' ..
      '{"event":"close","by":"local","clean":true,"code":1000,"reason":"","time":0}\n', output)
    os.remove(path)
    output, errors, status = connect "--json ws://127.0.0.1:1/"
    assert.same({ "", 1 }, { errors, status })
    assert.matches('^{"event":"error","code":"ECONNECT","message":".-refused",.-"url":"ws://127.0.0.1:1/"', output)
  end)

  it("asks for subprotocols and extensions and sends headers of one's own", function()
    local asked
    local url = serve { policy = { extended = function(request, session)
      asked = {
        session.opening.headers["x-one"], session.opening.headers.origin, request.protocols, request.extensions[1].name,
      }
    end } }
    local _, errors, status = connect("--send x --wait 0.1 --protocol a --protocol b --extension 'x-y; z=1' " ..
      "-H 'X-One: 1' -H 'x-one: 2' -H 'Origin: https://example.org' " .. url)
    assert.same({ "", 0 }, { errors, status })
    assert.same({ "1, 2", "https://example.org", { "a", "b" }, "x-y" }, asked)
  end)

  it("shows both handshakes with --trace, without what proves who one is", function()
    local url = serve { policy = { extended = function(request, session)
      return session:basic(request, { joe = "open sesame" }) and require("khp.policy.decision").accept {} or
        require("khp.policy.decision").challenge 'Basic realm="members"'
    end } }
    local arguments = "--send x --wait 0.1 --trace --user joe " .. url
    local output, errors, status = connect(arguments, "KHP_PASSWORD='open sesame'")
    assert.same({ "x\n", 0 }, { output, status })
    for _, expected in ipairs {
      "^ +0%.%d%d%d s  client ──▶ server  opening   GET / HTTP/1.1\n",
      "Sec%-WebSocket%-Protocol: x%-kaazing%-handshake\n",
      "client ◀── server  opening   HTTP/1.1 101 Switching Protocols\n",
      "client ◀── server  extended  HTTP/1.1 401 Unauthorized\n +WWW%-Authenticate: Basic realm=\"members\"\n",
      "client ──▶ server  extended  GET / HTTP/1.1\n +Authorization: Basic %(not shown%)\n",
      "client ◀── server  extended  HTTP/1.1 101",
    } do
      assert.matches(expected, errors)
    end
    assert.is_nil(errors:find("am9l", 1, true)) -- "joe" in base64
  end)

  it("fails where the server closes for a reason of its own, and says which", function()
    local url = serve { on_open = function(conn)
      conn:receive()
      conn:close(1008, "not \27like this")
    end }
    local output, errors, status = connect("--send x --wait forever " .. url)
    assert.same({ "", 1 }, { output, status })
    assert.equal("khp: connect: closed by the server with 1008: not \\x1Blike this\n", errors)
    url = serve { on_open = function(conn)
      conn:receive()
      conn:send "bye"
    end }
    assert.same({ "bye\n", "", 0 }, { connect("--send x --wait forever " .. url) })
  end)

  it("closes in order on SIGINT", function()
    local ended
    local url = serve { on_message = net.echo, on_close = function(_, code)
      ended = code
    end }
    local client = command.begin("connect --send x --wait forever " .. url)
    client:await_text("output", "x\n")
    client:signal "INT"
    local output, errors, status = client:finish()
    assert.same({ "x\n", "", 0 }, { output, errors, status })
    net.await(function()
      return ended
    end)
    assert.equal(1000, ended)
  end)

  it("measures the round trip with --ping", function()
    local url = serve()
    local client = command.begin("connect --ping 0.02 --send x --wait forever " .. url)
    client:await_text("errors", "khp: connect: pong after ")
    client:signal "TERM"
    local _, _, status = client:finish()
    assert.equal(0, status)
  end)

  it("comes back with --reconnect", function()
    local count = 0
    local url = serve { on_open = function(conn)
      count = count + 1
      if count == 1 then
        return conn:close(1012, "restarting")
      end
      conn:send "again"
      conn:receive()
    end }
    local client = command.begin("connect --reconnect --json --wait forever " .. url)
    client:await_text("output", '"text":"again"')
    client:signal "INT"
    local output, errors, status = client:finish()
    assert.same({ "", 0 }, { errors, status })
    local events = {}
    for name in output:gmatch '{"event":"(%w+)"' do
      events[#events + 1] = name
    end
    assert.same({ "open", "down", "open", "message", "close" }, events)
    assert.matches('"again":[%d.]+,"code":"ECLOSED","message":"closed with 1012 by peer: restarting"', output)
  end)

  it("gives up in spite of --reconnect where it could not help", function()
    local url = serve { policy = { extended = function()
      return require("khp.policy.decision").reject(403)
    end } }
    local output, errors, status = connect("--reconnect " .. url)
    assert.same({ "", 1 }, { output, status })
    assert.matches("^khp: connect: " .. url .. ": the server answered '403 Forbidden'\n", errors)
  end)

  it("ends quietly where nobody reads its output", function()
    local url = serve()
    local client = command.begin(("connect --bytes %s </dev/zero | head -c 100 | wc -c"):format(url))
    local output, errors = client:finish()
    assert.same({ "100\n", "" }, { output:gsub(" ", ""), errors })
  end)

  it("refuses a line that is not UTF-8, with its number", function()
    local url = serve()
    local path = command.file "good\nb\255d\n"
    local output, errors, status = connect("--wait 0.1 " .. url .. " <" .. path)
    assert.same({ "", 1 }, { output:gsub("good\n", ""), status })
    assert.matches("line 2 of standard input: .*UTF%-8.*\n%-%-bytes sends", errors)
    os.remove(path)
  end)
end)
