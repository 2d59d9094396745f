-- Connections that come back, over real sockets: servers that go and return on the same port, and such as refuse for
-- good.

local core = require "khp.core"
local khp = require "khp"
local net = require "spec.support.net"

local loop = core.loop

-- A port of this machine on which nobody listens.
local function free_port()
  local probe, url, port = net.serve {}
  probe:close()
  return port, url
end

-- Keeps what on_up and on_down were told, in order.
local function journal(options)
  local heard = {}
  function options.on_up(conn)
    heard[#heard + 1] = { up = conn }
  end
  function options.on_down(message, code, detail)
    heard[#heard + 1] = { message = message, code = code, detail = detail }
  end
  return heard, options
end

local function await_entries(heard, n)
  net.await(function()
    return #heard >= n
  end, n .. " events")
end

local function await_state(kept, state)
  net.await(function()
    return kept:state() == state
  end, "the state " .. state)
end

local function waits(heard)
  local list = {}
  for i, entry in ipairs(heard) do
    list[i] = entry.detail and entry.detail.again
  end
  return list
end

describe("khp.keep", function()
  local level, kept, server

  before_each(function()
    level, khp.log.level = khp.log.level, "off"
  end)

  after_each(function()
    if kept then
      kept:close()
    end
    if server then
      server:close(1)
    end
    kept, server = nil, nil
    khp.log.level = level
    net.await(function()
      return loop.alive() == 0
    end, "a loop with nothing to do")
  end)

  it("returns at once, and connects", function()
    local url
    server, url = net.serve { on_message = net.echo }
    kept = assert(khp.keep(url .. "echo"))
    assert.equal("connecting", (kept:state()))
    local conn = assert(kept:wait_up(5))
    assert.equal("open", conn.state)
    assert.equal(url .. "echo", conn.url)
    assert.same({ "up", conn }, { kept:state() })
    assert.equal(conn, kept:wait_up())
    assert.is_true(kept:send("\255", "binary"))
    assert.same({ "\255", "binary" }, { kept:receive(5) })
    assert.same({ nil, "timeout: no message in 0.01 s", "ETIMEOUT", {} }, { kept:receive(0.01) })
  end)

  it("comes back to a server that was started again, with the whole handshake, and keeps the order", function()
    local port, url = free_port()
    local asked = 0
    local policy = {
      extended = function(_, session)
        asked = asked + 1
        session.data.number = asked
      end,
    }
    local function start()
      server = net.serve { port = port, policy = policy, on_message = net.echo }
    end
    start()
    local heard, options = journal { delay = 0.01, longest = 0.02 }
    kept = assert(khp.keep(url, options))
    for i = 1, 3 do
      assert.is_true(kept:send("message " .. i))
      assert.equal("message " .. i, (kept:receive(5)))
    end
    server:close()
    await_entries(heard, 2)
    assert.equal("ECLOSED", heard[2].code)
    assert.equal("closed with 1001 by peer", heard[2].message)
    assert.same({ 1001, "", true, "peer" },
      { heard[2].detail.code, heard[2].detail.reason, heard[2].detail.clean, heard[2].detail.by })
    for i = 4, 30 do
      assert.is_true(kept:send("message " .. i))
    end
    await_entries(heard, 4)
    assert.equal("ECONNECT", heard[3].code)
    start()
    for i = 4, 30 do
      assert.equal("message " .. i, (kept:receive(5)))
    end
    assert.equal(2, asked)
    assert.equal(kept:wait_up(), heard[#heard].up)
  end)

  it("is told of each connection, and sends what on_up sends before what was kept", function()
    local port, url = free_port()
    kept = assert(khp.keep(url, {
      delay = 0.01,
      longest = 0.01,
      on_up = function(conn)
        conn:send "first"
        khp.sleep(0)
        conn:send "last"
      end,
    }))
    kept:send "kept"
    server = net.serve { port = port, on_message = net.echo }
    assert.equal("first", (kept:receive(5)))
    assert.equal("kept", (kept:receive(5)))
    assert.equal("last", (kept:receive(5)))
  end)

  it("waits longer with each failure, up to a bound, and gives up after so many", function()
    local _, url = free_port()
    local heard, options = journal { delay = 0.001, longest = 0.004, jitter = 0, attempts = 6 }
    kept = assert(khp.keep(url, options))
    local conn, message, code, detail = kept:wait_up(5)
    assert.is_nil(conn)
    assert.equal("ECONNECT", code)
    await_entries(heard, 6)
    assert.same({ 0.001, 0.002, 0.004, 0.004, 0.004 }, waits(heard))
    assert.equal(message, heard[6].message)
    assert.equal(detail, heard[6].detail)
    assert.is_nil(detail.again)
    assert.equal("closed", (kept:state()))
    assert.same({ nil, message, code, detail }, { kept:receive() })
    assert.same({ nil, "closed", "ECLOSED", detail }, { kept:send "x" })
    for _ in kept:each() do
      error "there are no messages"
    end
  end)

  it("leaves the waits to chance", function()
    local _, url = free_port()
    local heard, options = journal { delay = 0.002, longest = 0.002, attempts = 20 }
    kept = assert(khp.keep(url, options))
    kept:wait_up(10)
    local different, seen = 0, {}
    for _, seconds in ipairs(waits(heard)) do
      assert.is_true(seconds > 0 and seconds <= 0.002)
      different = different + (seen[seconds] and 0 or 1)
      seen[seconds] = true
    end
    assert.is_true(different > 10, "only " .. different .. " different waits of 19")
  end)

  it("begins anew with the waits after a connection that stood", function()
    local url
    server, url = net.serve { on_open = function() end } -- which closes at once
    for stable, expected in pairs { [0] = { 0.001, 0.001, 0.001 }, [60] = { 0.001, 0.002, 0.004 } } do
      local heard, options = journal { delay = 0.001, longest = 1, jitter = 0, stable = stable }
      kept = assert(khp.keep(url, options))
      await_entries(heard, 6)
      kept:close()
      assert.same(expected, { heard[2].detail.again, heard[4].detail.again, heard[6].detail.again })
      assert.equal(1000, heard[2].detail.code) -- a normal end, and it comes back all the same
    end
  end)

  describe("does not come back", function()
    local function never(options, more)
      local url
      server, url = net.serve(options)
      local heard, given = journal(more or {})
      given.delay = 0.001
      kept = assert(khp.keep(url, given))
      await_state(kept, "closed")
      await_entries(heard, 1)
      local last = heard[#heard]
      assert.is_true(last.detail.permanent)
      assert.is_nil(last.detail.again)
      return last, heard
    end

    local decision = require "khp.policy.decision"

    it("after a refusal for good", function()
      local last, heard = never {
        policy = {
          extended = function()
            return decision.reject(403)
          end,
        },
      }
      assert.equal("EHANDSHAKE", last.code)
      assert.equal(403, last.detail.status)
      assert.equal(1, #heard)
    end)

    it("where its credentials are refused", function()
      local last = never({
        policy = {
          extended = function()
            return decision.challenge 'Basic realm="x"'
          end,
        },
      }, { credentials = { username = "joe", password = "wrong" } })
      assert.equal("EAUTH", last.code)
    end)

    it("where a redirect is not followed", function()
      local last = never({
        policy = {
          opening = function()
            return decision.redirect "ws://127.0.0.1:1/"
          end,
        },
      }, { redirects = "never" })
      assert.equal("EREDIRECT", last.code)
    end)

    it("where its own policy fails", function()
      local last = never({}, {
        policy = {
          request = function()
            error "out of order"
          end,
        },
      })
      assert.equal("EPOLICY", last.code)
    end)

    it("where its own trace throws", function()
      local last = never({}, {
        trace = function()
          error "out of paper"
        end,
      })
      assert.equal("EPOLICY", last.code)
      assert.truthy(last.message:find "out of paper")
    end)

    it("when the peer has closed with 1008", function()
      local last, heard = never {
        on_open = function(conn)
          conn:close(1008, "not you")
        end,
      }
      assert.equal("closed with 1008 by peer: not you", last.message)
      assert.equal(1008, last.detail.code)
      assert.equal(2, #heard)
      assert.same({ nil, last.message, "ECLOSED", last.detail }, { kept:receive() })
    end)
  end)

  it("comes back when it was the program that closed the connection", function()
    local url
    server, url = net.serve { on_message = net.echo }
    local heard, options = journal { delay = 0.001 }
    kept = assert(khp.keep(url, options))
    assert(kept:wait_up(5)):close(1008)
    await_entries(heard, 3)
    assert.truthy(heard[3].up)
  end)

  it("waits as long as the server asks it to, and no longer than an hour", function()
    local decision, value = require "khp.policy.decision", nil
    local url
    server, url = net.serve {
      policy = {
        opening = function()
          return decision.reject(503, { headers = { ["Retry-After"] = value } })
        end,
      },
    }
    local function wait_after(text)
      value = text
      local heard, options = journal { delay = 0.5 }
      kept = assert(khp.keep(url, options))
      await_entries(heard, 1)
      kept:close()
      return heard[1].detail.again
    end
    local function between(low, high, seconds)
      assert.is_true(seconds > low and seconds <= high, tostring(seconds))
    end
    between(120, 120.5, wait_after "120")
    between(3600, 3600.5, wait_after "999999999999")
    between(58, 60.5, wait_after(require("khp.http").date(os.time() + 60)))
    between(0, 0.5, wait_after(require("khp.http").date(os.time() - 60)))
    between(0, 0.5, wait_after "soon")
  end)

  it("works in tasks and callbacks, and any number may wait for a connection", function()
    local url
    server, url = net.serve { on_message = net.echo }
    local up, got = 0, nil
    core.timer(0, function()
      kept = khp.keep(url, {
        on_message = function(_, message)
          got = message
        end,
      })
      assert(kept:send "from a callback")
      assert.is_false((pcall(kept.wait_up, kept)))
    end)
    net.await(function()
      return kept
    end)
    for _ = 1, 3 do
      khp.spawn(function()
        if kept:wait_up(5) then
          up = up + 1
        end
      end)
    end
    net.await(function()
      return up == 3 and got
    end)
    assert.equal("from a callback", got)
    assert.has_error(function()
      kept:receive()
    end, "receive: on_message hears the messages of this connection")
  end)

  describe("ends at once when it is closed", function()
    local function ends(f)
      local before = loop.clock()
      f()
      khp.run()
      assert.is_true(loop.clock() - before < 4, "it took too long")
      assert.equal("closed", (kept:state()))
    end

    it("while it waits", function()
      local _, url = free_port()
      local heard, options = journal { delay = 3600, longest = 3600, jitter = 0 }
      kept = assert(khp.keep(url, options))
      kept:send "kept in vain"
      await_entries(heard, 1)
      ends(function()
        kept:close()
      end)
      assert.equal(1, #heard)
      assert.same({ nil, "closed", "ECLOSED", {} }, { kept:wait_up() })
    end)

    for _, step in ipairs { "opening", "extended" } do
      it("while the " .. step .. " handshake goes on", function()
        local asked, url
        server, url = net.serve {
          policy = {
            [step] = function()
              asked = true
              khp.sleep(3600)
            end,
          },
        }
        kept = assert(khp.keep(url))
        net.await(function()
          return asked
        end)
        kept:close()
        net.await(function()
          return server:stats().connections == 0
        end)
        ends(function()
          server:close()
        end)
      end)
    end

    it("by a function that it calls itself", function()
      local _, dead = free_port()
      local url
      server, url = net.serve { on_message = net.echo }
      for name, where in pairs { on_up = url, on_down = dead, trace = url, on_message = url } do
        local called = false
        kept = assert(khp.keep(where, {
          [name] = function(conn)
            if not called then
              called = true
              kept:close()
              if name == "on_message" then
                assert.is_true(conn.state ~= "open")
              end
            end
          end,
        }))
        if name == "on_message" then
          kept:send "x"
        end
        await_state(kept, "closed")
        assert.is_true(called, name)
        assert.is_nil((kept:wait_up()))
        net.await(function()
          return server:stats().connections == 0
        end, "the end of the connection after " .. name)
      end
    end)

    it("while it is up, with the code that is given", function()
      local closed, url
      server, url = net.serve {
        on_close = function(_, code, reason)
          closed = { code, reason }
        end,
      }
      kept = assert(khp.keep(url))
      kept:wait_up(5)
      kept:close(4000, "enough")
      net.await(function()
        return closed
      end)
      assert.same({ 4000, "enough" }, closed)
      assert.equal("khp.keep: " .. url .. " (closed)", tostring(kept))
      assert.is_true(kept:close())
    end)
  end)

  it("throws what the caller did wrong, at the caller's line, and returns what cannot begin", function()
    local function wrong(pattern, f, ...)
      local ok, message = pcall(f, ...)
      assert.is_false(ok)
      assert.truthy(message:find("^spec/e2e/keep_spec%.lua:%d+: ") or message:find "^%w", message)
      assert.truthy(message:find(pattern), message)
    end
    local function keep(...)
      local made, message, code = khp.keep(...)
      return made, message, code
    end
    wrong("a URL expected", keep, 5)
    wrong("bad URL", keep, "gopher://x/")
    wrong("did you mean 'longest'", keep, "ws://127.0.0.1:1/", { longst = 1 })
    wrong("'jitter' must be at most 1", keep, "ws://127.0.0.1:1/", { jitter = 2 })
    wrong("unknown option 'on_close'", keep, "ws://127.0.0.1:1/", { on_close = print })
    wrong("unknown option 'certificate'", keep, "wss://127.0.0.1:1/", { tls = { certificate = "x" } })
    assert.equal("EPOLICY", select(3, keep("ws://127.0.0.1:1/", { policy = "/there/is/none.lua" })))
    assert.equal("ETLS", select(3, keep("wss://127.0.0.1:1/", { tls = { ca = "/there/is/none.pem" } })))
    kept = assert(khp.keep "ws://127.0.0.1:1/")
    wrong("a message expected, not number", kept.send, kept, 5)
    wrong('"text" or "binary" expected', kept.send, kept, "x", "xml")
    wrong("a time in seconds expected", kept.receive, kept, "x")
    wrong("a time in seconds expected", kept.wait_up, kept, 0 / 0)
    wrong("a code expected", kept.close, kept, "x")
    wrong("a reason expected", kept.close, kept, 1000, 5)
  end)
end)
