-- Who owns what, and what happens when somebody misbehaves on our own side: errors in callbacks, dead coroutines,
-- the collector, states that are closed with connections open.

local core = require "khp.core"
local khp = require "khp"
local net = require "spec.support.net"

local function quietly(f)
  local sink, lines = khp.log.sink, {}
  khp.log.sink = function(level, text)
    lines[#lines + 1] = level .. ": " .. text
  end
  local ok, message = pcall(f)
  khp.log.sink = sink
  assert(ok, message)
  return table.concat(lines, "\n")
end

local function count_descriptors()
  local pipe = io.popen "ls /proc/$PPID/fd 2>/dev/null | wc -l"
  local n = tonumber(pipe:read "*a")
  pipe:close()
  return n
end

describe("an error", function()
  it("in on_message ends its own connection with 1011 and is logged with its traceback", function()
    local log = quietly(function()
      local server, url = net.serve {
        on_message = function(conn, message)
          if message == "bad" then
            error "on purpose"
          end
          conn:send(message)
        end,
      }
      local other = assert(khp.connect(url))
      local conn = assert(khp.connect(url))
      conn:send "bad"
      assert.is_nil((conn:receive(5)))
      assert.equal(1011, conn.closed.code)
      other:send "good"
      assert.equal("good", (other:receive(5)))
      other:close()
      server:close()
    end)
    assert.truthy(log:match "on purpose")
    assert.truthy(log:match "stack traceback")
  end)

  it("in on_open, on_close and on_drain does no harm either", function()
    local log = quietly(function()
      local server, url = net.serve {
        on_open = function()
          error "in on_open"
        end,
        on_close = function()
          error "in on_close"
        end,
      }
      local conn = assert(khp.connect(url))
      assert.is_nil((conn:receive(5)))
      assert.equal(1011, conn.closed.code)
      net.await(function()
        return server:stats().connections == 0
      end)
      server:close()
    end)
    assert.truthy(log:match "in on_open")
    assert.truthy(log:match "in on_close")
  end)

  it("in a task ends the task, and its to-be-closed variables are closed", function()
    local log = quietly(function()
      khp.spawn(function()
        khp.sleep(0)
        error { "not even a string" }
      end)
      khp.sleep(0.01)
    end)
    assert.truthy(log:match "table: ")
  end)

  it("that is no string does not confuse anybody", function()
    local log = quietly(function()
      local server, url = net.serve {
        on_message = function()
          error(setmetatable({}, {
            __tostring = function()
              return "an object"
            end,
          }))
        end,
      }
      local conn = assert(khp.connect(url))
      conn:send "x"
      conn:receive(5)
      assert.equal(1011, conn.closed.code)
      server:close()
    end)
    assert.truthy(log:match "an object")
  end)
end)

describe("a connection", function()
  it("closes when it leaves the scope of a to-be-closed variable", function()
    local code
    local server, url = net.serve {
      on_message = net.echo,
      on_close = function(_, with)
        code = with
      end,
    }
    do
      local conn <close> = assert(khp.connect(url)) -- luacheck: ignore
    end
    net.await(function()
      return code
    end)
    assert.equal(1000, code)
    code = nil
    pcall(function()
      local conn <close> = assert(khp.connect(url)) -- luacheck: ignore
      error "leaving"
    end)
    net.await(function()
      return code
    end)
    assert.equal(1011, code)
    server:close()
  end)

  it("wakes whoever waits for a message when it is closed by somebody else", function()
    local server, url = net.serve { on_message = net.echo }
    local conn = assert(khp.connect(url))
    local result
    khp.spawn(function()
      result = { conn:receive() }
    end)
    khp.spawn(function()
      conn:close()
    end)
    net.await(function()
      return result
    end)
    assert.equal("ECLOSED", result[3])
    server:close()
  end)

  it("is not kept by anything once it has ended", function()
    local server, url = net.serve { on_message = net.echo }
    local gone = setmetatable({}, { __mode = "k" })
    for _ = 1, 20 do
      local conn = assert(khp.connect(url))
      gone[conn] = true
      for _, other in ipairs(server:connections()) do
        gone[other] = true
      end
      conn:close()
      conn = nil -- luacheck: ignore
    end
    net.await(function()
      return server:stats().connections == 0
    end)
    khp.step(0)
    collectgarbage()
    collectgarbage()
    assert.is_nil(next(gone))
    server:close()
  end)

  it("can be aborted and closed inside its own callbacks, in any order", function()
    for _, how in ipairs { "close", "abort" } do
      local server, url = net.serve {
        on_message = function(conn)
          core.conn[how](conn)
          core.conn[how](conn)
          conn:send "too late"
          conn:close()
        end,
        on_close = function(conn)
          conn:close()
          core.conn.abort(conn)
        end,
      }
      local conn = assert(khp.connect(url))
      conn:send "now"
      assert.is_nil((conn:receive(5)))
      net.await(function()
        return server:stats().connections == 0
      end)
      server:close()
    end
  end)

  it("survives a coroutine that waits for it and is forgotten", function()
    local server, url = net.serve {
      on_open = function(conn)
        khp.spawn(function()
          coroutine.yield() -- nobody will wake it
          conn:send "never"
        end)
        for message in conn:each() do
          conn:send(message)
        end
      end,
    }
    local conn = assert(khp.connect(url))
    collectgarbage()
    conn:send "still"
    assert.equal("still", (conn:receive(5)))
    conn:close()
    server:close()
  end)
end)

describe("a server", function()
  it("closes gracefully: 1001 to everybody, then it is gone", function()
    local server, url, port = net.serve { on_message = net.echo }
    local conns = {}
    for i = 1, 10 do
      conns[i] = assert(khp.connect(url))
    end
    server:close(2)
    for _, conn in ipairs(conns) do
      assert.is_nil((conn:receive(5)))
      assert.equal(1001, conn.closed.code)
      assert.is_true(conn.closed.clean)
    end
    assert.is_nil((server:address()))
    local none, _, code = khp.connect(("ws://127.0.0.1:%d/"):format(port))
    assert.is_nil(none)
    assert.equal("ECONNECT", code)
  end)
end)

describe("a thousand connections", function()
  it("leave no descriptor behind", function()
    local server, url = net.serve { on_message = net.echo }
    assert(khp.connect(url)):close()
    net.await(function()
      return core.loop.alive() == 1 -- the server
    end)
    local before = count_descriptors()
    local finished = 0
    local each = os.getenv "KHP_SPEC_TOOL" and 20 or 100
    for _ = 1, 10 do
      khp.spawn(function()
        for _ = 1, each do
          local conn = assert(khp.connect(url))
          conn:send "x"
          assert(conn:receive(5))
          conn:close()
          finished = finished + 1
        end
      end)
    end
    net.await(function()
      return finished == 10 * each and core.loop.alive() == 1
    end)
    net.await(function()
      return count_descriptors() <= before
    end, "as few descriptors as before")
    server:close()
  end)
end)

-- A program of its own, whose state is closed while all of this lives. Its exit status tells of crashes, and of leaks
-- where the suite runs under valgrind.
local program = [[
  local khp = require "khp"
  local server = assert(khp.listen { host = "127.0.0.1", port = 0, on_open = function(conn)
    for message in conn:each() do conn:send(message) end
  end })
  local _, port = server:address()
  local url = ("ws://127.0.0.1:%d/"):format(port)
  for i = 1, 10 do
    khp.spawn(function()
      local conn = assert(khp.connect(url))
      conn:send("hello")
      conn:receive()
      conn:receive()
    end)
  end
  khp.spawn(function() khp.connect("ws://localhost:1/") end)
  khp.spawn(khp.sleep, 1000)
  local raw = require("khp.core").conn.connect({ host = "127.0.0.1", port = port }, {}, nil,
    require("khp.limits").defaults)
  for i = 1, STEPS do khp.step(0.01) end
  if FULL then collectgarbage() end
  io.write("done")
]]

describe("lua_close with everything alive", function()
  for _, steps in ipairs { 0, 1, 2, 3, 5, 30 } do
    for _, full in ipairs { "false", "true" } do
      it(("after %d turns%s"):format(steps, full == "true" and " and a collection" or ""), function()
        local path = os.tmpname()
        local file = assert(io.open(path, "w"))
        file:write((program:gsub("STEPS", steps):gsub("FULL", full)))
        file:close()
        local interpreter = (os.getenv "LUA_RUN" or "") .. " " .. (os.getenv "LUA" or "lua5.4")
        local pipe = io.popen(interpreter .. " " .. path .. " 2>&1")
        local output = pipe:read "*a"
        local ok, _, status = pipe:close()
        os.remove(path)
        assert.equal("done", output)
        assert.is_true(ok, tostring(status))
      end)
    end
  end
end)
