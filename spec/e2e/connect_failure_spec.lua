-- khp connect where something goes wrong: what it says, in which order, what it recommends, and its exit status. The
-- other side is a server that is played by hand.

local command = require "spec.support.command"
local core = require "khp.core"
local hand = require "spec.support.hand"
local net = require "spec.support.net"

describe("khp connect, when something fails,", function()
  local server

  after_each(function()
    if server then
      server:close()
      server = nil
    end
  end)

  -- Runs khp connect against a server with this script; URL and PORT in the arguments are its.
  local function connect(script, arguments, before)
    server = hand.server(script)
    local output, errors, status = command.begin("connect --timeout 5 " ..
      arguments:gsub("URL", server.url):gsub("PORT", server.port), before):finish()
    server:close()
    local url = server.url
    server = nil
    return output, errors:gsub(url:gsub("%p", "%%%0"), "URL"), status
  end

  local function answers(text)
    return function(peer)
      peer:http()
      peer:write(text)
      peer:await_end()
    end
  end

  -- Opens without KHP and sends these bytes together with the 101.
  local function opens(bytes, after)
    return function(peer)
      peer:write(hand.switch(peer:http(), nil, false) .. (bytes or ""))
      if after then
        after(peer)
      else
        peer:await_end()
      end
    end
  end

  local function nothing()
  end

  local function events(output)
    local names = {}
    for name in output:gmatch '{"event":"(%w+)"' do
      names[#names + 1] = name
    end
    return names
  end

  it("tells of the opening before what came with it", function()
    local hi, bye = net.frame(0x81, "hi", { unmasked = true }), net.frame(0x88, "\3\232", { unmasked = true })
    local output = connect(opens(hi .. bye, nothing), "--json --send x URL")
    assert.same({ "open", "message", "close" }, events(output))
    bye = net.frame(0x88, "\3\240", { unmasked = true })
    output = connect(opens(hi .. bye, nothing), "--reconnect --json --send x URL")
    assert.same({ "open", "message", "error" }, events(output))
    output = connect(opens "\131\0", "--json --send x URL")
    assert.same({ "open", "close" }, events(output))
  end)

  it("says what was wrong with the server's frames", function()
    local _, errors, status = connect(opens "\131\0", "--send x --wait forever URL")
    assert.same({ "khp: connect: closed by this side with 1002: unknown opcode\n", 1 }, { errors, status })
  end)

  it("says that the connection was lost while it sent", function()
    local _, errors, status = connect(opens("", function(peer)
      peer:frame()
      peer:abort()
    end), "--bytes URL </dev/zero")
    assert.equal(1, status)
    assert.matches("^khp: connect: closed by the network with 1006: .*, before everything was sent\n$", errors)
    _, errors, status = connect(opens("", function(peer)
      peer:frame()
      peer:close(1000)
    end), "--bytes URL </dev/zero")
    assert.equal(1, status)
    assert.matches("^khp: connect: closed by the server with 1000, before everything was sent\n$", errors)
  end)

  it("does not wait long for a server that answers no pings", function()
    local began = core.loop.clock()
    local output, errors, status = connect(opens("", function(peer)
      local frame
      repeat
        frame = peer:frame()
      until frame.opcode == 8
      peer:close(1000)
    end), "--send x --wait 0.3 URL")
    assert.same({ "", "", 0 }, { output, errors, status })
    assert.is_true(core.loop.clock() - began < 8)
  end)

  it("says that the server did not answer when it closed", function()
    local _, errors, status = connect(opens(""), "--send x --wait 0 URL")
    assert.same({ "khp: connect: closed with 1000, and the server did not answer\n", 1 }, { errors, status })
  end)

  it("gives up connecting on SIGINT and SIGTERM", function()
    for name, expected in pairs { INT = 130, TERM = 143 } do
      server = hand.server(function(peer)
        peer:await_end()
      end)
      local client = command.begin("connect --send x " .. server.url)
      net.await(function()
        return server.peers[1]
      end)
      client:signal(name)
      local output, errors, status = client:finish()
      assert.same({ "", "khp: connect: interrupted while connecting\n", expected }, { output, errors, status })
      server:close()
      server = nil
    end
  end)

  it("tells with --json what cannot be sent", function()
    local path = command.file "b\255d\n"
    local output, errors, status = connect(opens(""), "--json --wait 0 URL <" .. path)
    os.remove(path)
    assert.same({ "", 1 }, { errors, status })
    assert.matches('{"event":"error","code":"EPROTOCOL","message":"line 1 of standard input: .-UTF%-8', output)
  end)

  it("says that standard input cannot be read", function()
    for _, option in ipairs { "", "--bytes" } do
      local _, errors, status = connect(opens("", function(peer)
        peer:closed()
        peer:close(1000)
      end), option .. " URL </tmp")
      assert.same({ "khp: connect: standard input: Is a directory\n", 1 }, { errors, status })
    end
  end)

  it("shows nothing of a peer's that a terminal would obey", function()
    local _, errors = connect(function(peer, number)
      peer:http()
      peer:write(number == 1 and "HTTP/1.1 503 a\194\155b\r\nContent-Length: 0\r\n\r\n" or
        "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
      peer:await_end()
    end, "--reconnect --send x URL")
    assert.matches("503 a\\xC2\\x9Bb', trying again in", errors)
  end)

  local OPENED = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
  local EMPTY = "Content-Length: 0\r\n\r\n"
  local PROXY = "--proxy http://joe:secret@127.0.0.1:PORT ws://127.0.0.1:1/"

  for title, case in pairs {
    ["a wrong Sec-WebSocket-Accept"] = { OPENED .. "Sec-WebSocket-Accept: AAAA\r\n\r\n", "URL",
      "URL: the Sec-WebSocket-Accept header is wrong: 'AAAA'\nThe server, or a proxy in between, breaks RFC 6455: " ..
        "--trace shows what it answered." },
    ["HTTP without a WebSocket"] = { "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "URL",
      "URL: the server answered '200 OK'\nIt said: hi\n" ..
        "There is HTTP at that address, but no WebSocket: is the path right? It was /" },
    ["a proxy that is none"] = { "garbage\r\n\r\n", PROXY,
      "ws://127.0.0.1:1/: the response does not begin with an HTTP version\n" ..
        "Is there an HTTP proxy at http://127.0.0.1:PORT? --trace shows what it said." },
    ["a proxy that refuses"] = { "HTTP/1.1 426 Upgrade Required\r\n" .. EMPTY, PROXY,
      "ws://127.0.0.1:1/: the proxy answered '426 Upgrade Required'\n" ..
        "The proxy does not lead to 127.0.0.1: --trace shows what it said." },
  } do
    it("recommends what helps: " .. title, function()
      server = hand.server(answers(case[1]))
      local port = server.port
      local _, errors, status = command.begin("connect --send x " .. case[2]:gsub("URL", server.url):gsub("PORT", port))
        :finish()
      assert.equal(1, status)
      assert.equal("khp: connect: " .. case[3]:gsub("URL", server.url):gsub("PORT", port) .. "\n", errors)
    end)
  end

  -- Without a server.
  local function alone(arguments)
    local output, errors, status = command.begin("connect --send x " .. arguments):finish()
    assert.equal("", output)
    return errors, status
  end

  it("recommends a server to try only on a port that everybody may use", function()
    local errors = alone "ws://127.0.0.1:1/"
    assert.matches("Nobody listens on 127.0.0.1, port 1:", errors)
    assert.is_nil(errors:find("khp serve", 1, true))
    local listener = hand.server(nothing)
    listener:close()
    assert.matches("khp serve %-%-port " .. listener.port .. " starts one", (alone(listener.url)))
  end)

  it("knows a socket that nobody listens at any more", function()
    local path = os.tmpname()
    os.remove(path)
    assert(os.execute(("python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"%s\")'"):format(path)))
    assert.matches("Nobody listens at the socket " .. path:gsub("%p", "%%%0"), (alone(("ws+unix://%s:/"):format(path))))
    os.remove(path)
  end)

  it("fails where a file of an option cannot be read, also where the URL does not need it", function()
    for _, option in ipairs { "--binary", "--ca", "--cert", "--policy" } do
      for _, scheme in ipairs { "ws", "wss" } do
        local errors, status = alone(("%s nofile %s://127.0.0.1:1/"):format(option, scheme))
        assert.equal(1, status)
        assert.matches("^khp: connect: .*nofile: No such file", errors)
        assert.matches("\nIt is the file of " .. option:gsub("%-", "%%%0") .. ": does it exist", errors)
      end
    end
  end)

  it("says which options have no effect", function()
    local errors, status = alone "--key nofile wss://127.0.0.1:1/"
    assert.same({ 2, "khp: connect: --key needs --cert: the certificate that it belongs to\n" ..
      "khp connect --help tells more.\n" }, { status, errors })
    errors = alone "--insecure ws://127.0.0.1:1/"
    assert.matches("^khp: connect: %-%-insecure has no effect on ws://, unless the server leads to wss://\n", errors)
    assert.is_nil(alone("--insecure wss://127.0.0.1:1/"):find("no effect", 1, true))
  end)

  it("speaks of options as they are written", function()
    local errors, status = alone "--extension ';;;' ws://127.0.0.1:1/"
    assert.same({ 2, "khp: connect: --extension: ';;;': the list of extensions is malformed\n" ..
      "khp connect --help tells more.\n" }, { status, errors })
    errors = alone "--proxy http://127.0.0.1:1 ws+unix:///tmp/none:/"
    assert.matches("^khp: connect: %-%-proxy has no way to a unix socket\n", errors)
  end)

  it("shows no password of a URL", function()
    for _, url in ipairs { "joe:secret@host", "ws://joe:secret@127.0.0.1:1/", "joe:secret@host:1/x" } do
      assert.is_nil(alone(url):find("secret", 1, true))
    end
    assert.matches("\nDid you mean ws://host:1/x%?\n", (alone "host:1/x"))
  end)

  it("knows why a server does not take a certificate", function()
    local folder = os.tmpname()
    os.remove(folder)
    assert(os.execute("spec/support/certs.sh " .. folder .. " >/dev/null 2>&1"))
    local url
    server, url = net.serve { on_message = net.echo, tls = {
      cert = folder .. "/localhost.pem", key = folder .. "/localhost.key",
      ca = folder .. "/ca.pem", verify = "required",
    } }
    for arguments, expected in pairs {
      ["--cert F/stranger.pem --key F/stranger.key"] =
        "The server does not trust who signed your certificate (--cert).",
      [""] = "The server wants a certificate of yours: --cert FILE --key FILE",
      ["--cert F/expired.pem --key F/expired.key"] = "Your certificate (--cert) has expired.",
      ["--cert F/client.pem --key F/stranger.key"] = "--key is not the key of the certificate in --cert.",
    } do
      local errors = alone(("--ca F/ca.pem %s %s"):format(arguments, url):gsub("F/", folder .. "/"))
      assert.equal(expected, errors:match "\n(.*)\n$", errors)
    end
    os.execute("rm -r " .. folder)
  end)
end)
