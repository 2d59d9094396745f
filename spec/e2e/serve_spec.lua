-- khp serve as a process of its own: where it listens, what signals do to it, how it ends.

local khp = require "khp"
local net = require "spec.support.net"
local served = require "spec.support.served"

describe("khp serve", function()
  local path, echoes, write = nil, served.echoes, served.write

  before_each(function()
    path = os.tmpname()
  end)

  after_each(function()
    served.stop()
    os.remove(path)
  end)

  it("is an echo without a policy, and says where it listens", function()
    local server = served.anywhere()
    assert.matches("^ws://127%.0%.0%.1:%d+/$", server.url)
    assert.is_true((echoes(server.url)))
    server:signal "TERM"
    local log, status = server:finish()
    assert.equal(0, status)
    assert.matches("^khp: info: 127%.0%.0%.1:%d+: GET / %(KHP%): opened with KHP, in %d+%.%d+ ms\n", log)
    assert.matches("khp: info: SIGTERM: ending; connections: %d, at most 5 s for them\n$", log)
  end)

  it("loads its policy again on SIGHUP if it is good, and ends in order on SIGTERM", function()
    write(path, "return { extended = function() return reject(403) end }")
    local server = served.anywhere(path)
    assert.same({ false, 403 }, { echoes(server.url) })
    write(path, "return { extended = function() return accept {} end }")
    server:signal "HUP"
    server:await("loaded again: " .. path)
    assert.is_true((echoes(server.url)))
    write(path, "return { extnded = 1 }")
    server:signal "HUP"
    server:await "nothing has changed: .*did you mean 'extended'"
    local conn = assert(khp.connect(server.url))
    server:signal "TERM"
    assert.is_nil((conn:receive(5)))
    assert.equal(1001, conn.closed.code)
    local log, status = server:finish()
    assert.equal(0, status)
    assert.matches("SIGTERM: ending; connections: 1, at most 5 s", log)
  end)

  it("says that there is nothing to load again where there is nothing", function()
    local server = served.anywhere()
    server:signal "HUP"
    server:await "there is nothing to load again"
    server:signal "INT"
    assert.equal(0, select(2, server:finish()))
  end)

  -- A peer that never answers a close.
  local function mute(server)
    local peer = net.peer(tonumber(server.url:match ":(%d+)/"))
    peer:upgrade()
    return peer
  end

  it("cuts off who does not end in time", function()
    local server = served.anywhere "--drain 0.2"
    local peer = mute(server)
    server:signal "INT"
    peer:await_end()
    local log, status = server:finish()
    assert.equal(0, status)
    assert.matches("SIGINT: ending; connections: 1, at most 0.2 s .*warn: connections that were cut off: 1", log)
  end)

  it("ends at once on a second signal", function()
    local server = served.anywhere "--drain 1000"
    local peer = mute(server)
    server:signal "TERM"
    server:await "SIGTERM: ending"
    server:signal "INT"
    peer:await_end()
    local log, status = server:finish()
    assert.equal(0, status)
    assert.matches("SIGINT again: ending at once", log)
  end)

  describe("with a script", function()
    it("runs its on_open, and the new one after SIGHUP", function()
      write(path, "return function(conn) conn:send 'one' conn:receive() end")
      local server = served.anywhere("--script " .. path)
      local function greeting()
        local conn = assert(khp.connect(server.url))
        local text = conn:receive(5)
        conn:close()
        return text
      end
      assert.equal("one", greeting())
      write(path, "return function(conn) conn:send 'two' conn:receive() end")
      server:signal "HUP"
      server:await("loaded again: " .. path)
      assert.equal("two", greeting())
      write(path, "return function(conn)\n  conn:send(\nend")
      server:signal "HUP"
      server:await "nothing has changed: .*:3: unexpected symbol near 'end'"
      assert.equal("two", greeting())
      write(path, "return { on_message = print }")
      server:signal "HUP"
      server:await "nothing has changed: .*: on_open is missing: that takes a restart"
      server:signal "TERM"
      assert.equal(0, select(2, server:finish()))
    end)

    it("says what of a new one takes a restart", function()
      local text = [[
        local limits = { message = 5 }
        return {
          protocols = { "a" }, limits = limits, routes = { { on_open = function() return limits end } },
          on_message = function(conn, text) conn:send(text) end,
        }]]
      write(path, text)
      local server = served.anywhere("--script " .. path)
      server:signal "HUP"
      server:await "loaded again"
      assert.is_nil(server:log():find "restart")
      write(path, "\n" .. text:gsub("send%(text%)", "send(text .. text)"))
      server:signal "HUP"
      server:await "loaded again.*loaded again"
      assert.is_nil(server:log():find "restart")
      text = text:gsub('"a"', '"a", "b"'):gsub("return limits", "return 5"):gsub("limits = limits,", "root = '.',")
      write(path, text)
      server:signal "HUP"
      server:await("warn: " .. path:gsub("%p", "%%%0") ..
        ": what has changed in limits, protocols, root, routes takes effect after a restart")
      server:signal "TERM"
      assert.equal(0, select(2, server:finish()))
    end)

    it("takes its options, under those of the command line", function()
      write(path, [[
        return {
          port = 1, protocols = { "a" }, limits = { message = 5 },
          on_message = function(conn, text) conn:send(conn.protocol .. text) end,
        }]])
      local server = served.anywhere("--protocol b --protocol c --script " .. path)
      local conn = assert(khp.connect(server.url, { protocols = { "a", "c", "b" } }))
      conn:send "12345"
      assert.equal("c12345", (conn:receive(5)))
      conn:send "123456"
      assert.is_nil((conn:receive(5)))
      assert.equal(1009, conn.closed.code)
      server:signal "TERM"
      assert.equal(0, select(2, server:finish()))
    end)

    it("logs what goes wrong in it with its line", function()
      write(path, "return function(conn)\n  error 'no good'\nend")
      local server = served.anywhere("--script " .. path)
      local conn = assert(khp.connect(server.url))
      assert.is_nil((conn:receive(5)))
      assert.equal(1011, conn.closed.code)
      server:signal "TERM"
      local log = server:finish()
      assert.truthy(log:find("error: on_open: " .. path .. ":2: no good", 1, true), log)
    end)

    it("may require what lies beside it", function()
      local folder = os.tmpname()
      os.remove(folder)
      assert(os.execute("mkdir " .. folder))
      write(folder .. "/words.lua", "return 'from beside'")
      write(folder .. "/app.lua", "local words = require 'words'\nreturn function(conn) conn:send(words) end")
      local server = served.anywhere("--script " .. folder .. "/app.lua")
      local conn = assert(khp.connect(server.url))
      assert.equal("from beside", (conn:receive(5)))
      conn:close()
      server:signal "TERM"
      server:finish()
      os.execute("rm -r " .. folder)
    end)
  end)
end)
