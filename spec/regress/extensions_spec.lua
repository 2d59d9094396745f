-- What extensions could do that hung, went unheard, or broke a promise of the interface.

local core = require "khp.core"
local decision = require "khp.policy.decision"
local hand = require "spec.support.hand"
local khp = require "khp"
local net = require "spec.support.net"

describe("an extension", function()
  local servers, sink, lines

  before_each(function()
    servers, sink, lines = {}, khp.log.sink, {}
    khp.log.sink = function(level, text)
      lines[#lines + 1] = level .. ": " .. text
    end
  end)

  after_each(function()
    khp.log.sink = sink
    hand.drop()
    for _, server in ipairs(servers) do
      server:close(1)
    end
  end)

  local function serve(options)
    options.on_message = not options.on_open and net.echo or nil
    local server, url, port = net.serve(options)
    servers[#servers + 1] = server
    return url, server, port
  end

  -- An extension that both sides know; hooks: of its session, or what start() does.
  local function extension(hooks, more)
    local definition = { name = "x-a", start = type(hooks) == "function" and hooks or function()
      return hooks
    end }
    for name, value in pairs(more or {}) do
      definition[name] = value
    end
    return definition
  end

  local function connect(url, definition, options)
    options = options or {}
    options.timeout = options.timeout or 5
    options.extensions = { definition }
    return khp.connect(url, options)
  end

  it("that closes in the middle of a handshake does not hang it, with its own call or the connection's", function()
    local url = serve { extensions = { "x-a" } }
    for _, speaks in ipairs { true, false } do
      for _, how in ipairs { "link", "conn" } do
        local before = core.loop.clock()
        local conn, message, code = connect(url, extension(function(link)
          if how == "link" then
            link:close(4001, "tschüß")
          else
            link.conn:close(4001, "tschüß")
          end
          return {}
        end), { khp = speaks })
        assert.same({ nil, "x-a has ended the connection", "EEXTENSION" }, { conn, message, code })
        assert.is_true(core.loop.clock() - before < 4)
      end
    end
    local _, message, code = connect(url, extension(function(link)
      return { send = function(_, text, kind)
        link.conn:close(4001, "tschüß, bis später")
        return text, kind
      end }
    end, { handshake = "opening" }))
    assert.same({ "an extension ended the connection: tschüß, bis später", "EEXTENSION" }, { message, code })
  end)

  it("that closes while a task of the application sends does not make that task yield", function()
    local done
    local url = serve { extensions = { extension(function(link)
      return { send = function(_, text, kind)
        link.conn:close(4001)
        return text, kind
      end }
    end, { handshake = "extended" }) }, on_open = function(conn)
      conn:receive(5)
      conn:send "x"
      done = true
    end }
    local conn = assert(connect(url, "x-a"))
    conn:send "go"
    assert.equal(4001, (net.await(function()
      return conn.closed
    end, "the close")).code)
    assert.is_true(done)
    assert.same({}, lines)
  end)

  it("may not wait in a hook", function()
    local url = serve { extensions = { "x-a" } }
    local conn, message, code = connect(url, extension(function()
      khp.sleep(0)
      return {}
    end))
    assert.same({ nil, "an extension failed", "EEXTENSION" }, { conn, message, code })
    assert.matches("^error: extension x%-a: .*a callback must not", lines[1])
  end)

  it("starts as the alternative whose answer was agreed to", function()
    local started = {}
    local function alternative(name, agrees)
      return extension(function(_, parameters, memory)
        started[#started + 1] = ("%s %s %s"):format(name, parameters.by, memory.for_whom)
        return {}
      end, { answer = function(parameters, offer, request)
        assert.equal("2", parameters.v)
        assert.equal("x-a; v=2", offer)
        return agrees and { by = name } or nil, { for_whom = request.path }
      end })
    end
    local url = serve { extensions = { alternative("first", false), alternative("second", true) } }
    local conn = assert(khp.connect(url .. "here", { extensions = { "x-a; v=2" } }))
    assert.same({ "second second /here" }, started)
    conn:close()
    assert.has_error(function()
      khp.listen { extensions = { extension({}, { rsv = 1 }), extension({}, { rsv = 2 }) } }
    end, "khp.listen: option 'extensions': x-a: alternatives must use the same reserved bit")
  end)

  it("is asked for its offer once for each connection, and started with what it gave besides", function()
    local count, started = 0, {}
    local definition = extension(function(_, _, memory)
      started[#started + 1] = memory
      return {}
    end, { offer = function()
      count = count + 1
      return "x-a; n=" .. count, count
    end })
    local place = serve { extensions = { "x-a" } }
    local url = serve { policy = { extended = function()
      return decision.redirect(place)
    end } }
    local conn = assert(connect(url, definition))
    assert.same({ 2, { 2 } }, { count, started })
    conn:close()
  end)

  it("that gives what is no message ends its connection, and throws at nobody", function()
    for _, given in ipairs { { {} }, { 1 }, { "x", "utf8" }, { "x", "text", true } } do
      for _, hook in ipairs { "send", "receive" } do
        if not (hook == "receive" and given[3]) then
          lines = {}
          local url = serve { extensions = { "x-a" } }
          local conn = assert(connect(url, extension({ [hook] = function()
            return given[1], given[2], given[3]
          end }, { handshake = "extended" })))
          local sent, message, code = conn:send "hello"
          if hook == "send" then
            assert.same({ nil, "an extension failed", "EEXTENSION" }, { sent, message, code })
          else
            conn:receive(5)
          end
          net.await(function()
            return conn.closed
          end, "the end")
          assert.equal(1011, conn.closed.code)
          assert.matches("^error: extension x%-a: " .. hook .. ": ", lines[1])
        end
      end
    end
  end)

  it("cannot make an unlawful text of a binary message, nor send or deliver one", function()
    local url = serve { extensions = { "x-a" } }
    local conn = assert(connect(url, extension({ receive = function(_, message)
      return message, "text"
    end }, { handshake = "extended" })))
    conn:send("\254\255", "binary")
    local _, _, code = conn:receive(5)
    assert.equal("ECLOSED", code)
    assert.equal(1007, conn.closed.code)
    local session
    conn = assert(connect(url, extension(function(link)
      session = link
      return {}
    end, { handshake = "extended" })))
    local refused = "an extension made a text message that is not UTF-8"
    assert.same({ nil, refused, "EEXTENSION", {} }, { session:send "\255" })
    session:deliver "fine"
    assert.same({ "fine", "text" }, { conn:receive(5) })
    session:deliver "\255"
    conn:receive(5)
    assert.equal(1007, conn.closed.code)
  end)

  it("cannot deliver more than the limit of messages", function()
    local url = serve { extensions = { "x-a" } }
    local conn = assert(connect(url, extension({ receive = function(_, message)
      return message:rep(11)
    end }, { handshake = "extended" }), { limits = { message = 100 } }))
    conn:send "0123456789"
    conn:receive(5)
    assert.same({ 1009, "message is too big" }, { conn.closed.code, conn.closed.reason })
  end)

  it("that refuses a message of the handshake is heard at once, on both sides", function()
    local function refusing(hook)
      return extension({ [hook] = function()
        return nil, "no key yet"
      end }, { handshake = "opening" })
    end
    local before = core.loop.clock()
    local url = serve { extensions = { "x-a" } }
    assert.same({ nil, "no key yet", "EEXTENSION" }, { connect(url, refusing "send"), (select(2,
      connect(url, refusing "send"))), (select(3, connect(url, refusing "send"))) })
    local _, message, code = connect(url, refusing "receive")
    assert.same({ "no key yet", "EPROTOCOL" }, { message, code })
    url = serve { extensions = { refusing "send" } }
    _, message, code = connect(url, "x-a")
    assert.same({ "the server closed during the extended handshake", "ECLOSED" },
      { message, code })
    assert.matches("no key yet", table.concat(lines, "\n"))
    assert.is_true(core.loop.clock() - before < 5)
  end)

  it("of a client has a whole connection when it is open, as a server's has", function()
    local seen = {}
    local function recording(who)
      return extension(function(link)
        return { open = function()
          local conn = link.conn
          seen[who] = { link:limit(), conn.khp, conn.extensions[1].name, conn.protocol, conn:send("from " .. who) }
          conn.data.mark = who
        end }
      end)
    end
    local url = serve { extensions = { recording "server" }, protocols = { "p" } }
    local conn = assert(connect(url, recording "client", { protocols = { "p" } }))
    for _, who in ipairs { "client", "server" } do
      assert.same({ 16777216, true, "x-a", "p", true }, seen[who])
    end
    assert.equal("client", conn.data.mark)
    assert.equal("from server", (conn:receive(5)))
    assert.equal("from client", (conn:receive(5)))
    conn:close()
  end)

  it("is within reach of the application", function()
    local url = serve { extensions = { "x-a", "x-kaazing-ping-pong" } }
    local session = {}
    local conn = assert(khp.connect(url, { extensions = { extension(session), "x-kaazing-ping-pong" } }))
    assert.equal(session, conn:extension "x-a")
    assert.is_true(conn:extension("x-kaazing-ping-pong"):ask())
    conn:send "after the pong"
    assert.equal("after the pong", (conn:receive(5)))
    assert.is_nil(conn:extension "x-b")
    conn:close()
  end)

  it("is not agreed together with one whose control bytes begin with its own", function()
    local url = serve { extensions = { "x-kaazing-ping-pong", extension({}, { control = "\1\1" }) } }
    local conn = assert(khp.connect(url, { extensions = { "x-kaazing-ping-pong", "x-a" } }))
    assert.equal(1, #conn.extensions)
    conn:close()
  end)

  it("whose start throws is not followed by another on the same connection", function()
    local url, tried = serve { extensions = { "x-a" } }, 0
    local function alternative(f)
      return extension(function()
        tried = tried + 1
        return f()
      end)
    end
    local conn, message, code = khp.connect(url, { extensions = {
      alternative(function()
        error "oops"
      end),
      alternative(function()
        return {}
      end),
    } })
    assert.same({ nil, "an extension failed", "EEXTENSION", 1 }, { conn, message, code, tried })
  end)

  it("that keeps a pong for itself keeps it from those above, too", function()
    local heard = {}
    local function hearing(name, keeps)
      return { name = name, handshake = "extended", start = function()
        return { pong = function()
          heard[#heard + 1] = name
          return keeps
        end }
      end }
    end
    local url = serve { extensions = { "x-b", "x-c" } }
    local conn = assert(khp.connect(url, { extensions = { hearing "x-b", hearing("x-c", true) } }))
    assert.same({ nil, "ETIMEOUT" }, { conn:ping(0.05), (select(3, conn:ping(0.05))) })
    assert.same({ "x-c", "x-c" }, heard)
    conn:close()
  end)

  it("passes on why a message of its own found no room", function()
    local url = serve { extensions = { "x-a" } }
    local conn = assert(connect(url, extension(function(link)
      return { send = function()
        local _, text, code = link:send(("x"):rep(200))
        return nil, text, code
      end }
    end, { handshake = "extended" }), { limits = { queue = 100 } }))
    assert.same({ nil, "the message is larger than the send queue may be", "ELIMIT", {} }, { conn:send "x" })
    conn:close()
  end)

  it("whose answer or control throws is named", function()
    local url = serve { extensions = { extension({}, { answer = function()
      error "my answer"
    end }) } }
    assert.is_nil((connect(url, "x-a")))
    assert.matches("extension x%-a: answer: .*my answer", table.concat(lines, "\n"))
    url = serve { extensions = { "x-a" } }
    local conn, message, code = connect(url, extension({}, { control = function()
      error "my control"
    end }))
    assert.is_nil(conn)
    assert.matches("^extension x%-a: control: .*my control$", message)
    assert.equal("EEXTENSION", code)
  end)

  it("that answers with a number that is no integer writes it as it is", function()
    local url = serve { extensions = { extension({}, { answer = function()
      return { a = 2.5, b = 30000, c = true }
    end }) } }
    local conn = assert(khp.connect(url, { extensions = { "x-a" } }))
    assert.same({ "a", "b", "c", a = "2.5", b = "30000", c = true }, conn.extensions[1].parameters)
    conn:close()
  end)

  it("of Kaazing's is agreed with its clients beside those that the server names, unless it names none", function()
    local function agreed(extensions)
      local url = serve { extensions = extensions }
      local conn = assert(khp.connect(url .. "?.kl=Y", {
        extensions = { "permessage-deflate", "x-kaazing-idle-timeout", "x-kaazing-ping-pong" },
      }))
      local names = {}
      for i, one in ipairs(conn.extensions) do
        names[i] = one.name
      end
      conn:close()
      return table.concat(names, " ")
    end
    assert.equal("x-kaazing-idle-timeout x-kaazing-ping-pong", agreed(nil))
    assert.equal("permessage-deflate x-kaazing-idle-timeout x-kaazing-ping-pong", agreed { "permessage-deflate" })
    assert.equal("", agreed {})
  end)
end)

describe("permessage-deflate", function()
  -- What deflate can do nothing with.
  local function noise(n)
    local parts = {}
    for i = 1, n / 1000 do
      parts[i] = core.crypto.random(1000)
    end
    return table.concat(parts)
  end

  it("lets a message through that has as many bytes as it may, though they grow", function()
    for _, definition in ipairs {
      khp.extension.permessage_deflate {}, khp.extension.permessage_deflate { memory_level = 1, level = 1 },
    } do
      local server, url = net.serve {
        on_message = net.echo, extensions = { definition }, limits = { message = 100000 },
      }
      local conn = assert(khp.connect(url, { extensions = { definition }, limits = { message = 100000 } }))
      local message = noise(100000)
      conn:send(message, "binary")
      assert.is_true(conn:receive(5) == message)
      conn:send(message .. "x", "binary")
      assert.same({ nil, "ECLOSED" }, { conn:receive(5), (select(3, conn:receive(5))) })
      assert.equal(1009, conn.closed.code)
      server:close()
    end
  end)

  it("does not inflate more than the inbox holds for who does not receive", function()
    local conns = {}
    local server, url = net.serve {
      extensions = { "permessage-deflate" },
      on_open = function(conn)
        conns[#conns + 1] = conn
        khp.sleep(5)
      end,
    }
    local conn = assert(khp.connect(url, { extensions = { "permessage-deflate" } }))
    local message, count = ("\0"):rep(1000000), 40 -- about 1000 bytes each on the wire
    for _ = 1, count do
      assert(conn:send(message, "binary"))
    end
    net.await(function()
      return conns[1] and conn:queued() == 0 and server:stats().messages_in > 1
    end, "the messages")
    local before = server:stats().messages_in
    local until_then = core.loop.clock() + 0.2
    net.await(function()
      return core.loop.clock() > until_then
    end, "more")
    assert.is_true(before <= 4, tostring(before)) -- 1 MiB, the one that goes over it, and the handshake's
    assert.equal(before, server:stats().messages_in)
    for _ = 1, count do
      assert.equal(#message, #conns[1]:receive(5))
    end
    conn:close()
    server:close(1)
  end)
end)
