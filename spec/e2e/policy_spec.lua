-- Policies over real sockets: what a bad one does to its own peer, and that nobody else notices.

local core = require "khp.core"
local khp = require "khp"
local net = require "spec.support.net"

-- Tools make everything slower; what is promised is promised without them.
local SLOWER = os.getenv "KHP_SPEC_TOOL" and 60 or 1

describe("a server with a policy", function()
  local folder, server, url, lines, sink

  local function write(text)
    local path = folder .. "/p.lua"
    local file = assert(io.open(path, "w"))
    file:write(text)
    file:close()
    return path
  end

  local function serve(options)
    if type(options.policy) == "string" then
      options.policy = write(options.policy)
    end
    options.on_message = options.on_message or net.echo
    options.limits = options.limits or {}
    options.limits.policy_time = (options.limits.policy_time or 0.8) * SLOWER
    server, url = net.serve(options)
  end

  before_each(function()
    folder = os.tmpname()
    os.remove(folder)
    assert(os.execute("mkdir " .. folder))
    lines, sink = {}, khp.log.sink
    khp.log.sink = function(level, text)
      lines[#lines + 1] = level .. ": " .. text
    end
  end)

  after_each(function()
    khp.log.sink = sink
    if server then
      server:close(1)
      server = nil
    end
    assert(os.execute("rm -r " .. folder))
  end)

  local function refused(status, path)
    local conn, message, code, detail = khp.connect(url .. (path or "bad"))
    assert.is_nil(conn)
    assert.equal("EHANDSHAKE", code, message)
    assert.equal(status, detail.status)
  end

  local function works()
    local conn = assert(khp.connect(url .. "good"))
    conn:send "still here"
    assert.equal("still here", (conn:receive(5)))
    conn:close()
  end

  -- What a policy may do wrong → what the log says of it.
  local misdeeds = {
    ["loops without end"] = { "while true do end", "the instruction budget is spent" },
    ["loops within pcall"] = { "while true do pcall(function() while true do end end) end",
      "the instruction budget is spent" },
    ["loops within xpcall and in its handler"] = {
      "xpcall(function() while true do end end, function() while true do end end)", "the instruction budget is spent" },
    ["loops within a callback of the library"] = {
      "xpcall(string.gsub, function() while true do end end, 'x', '.', function() while true do end end)",
      "the instruction budget is spent" },
    ["loops while it sorts"] = { "table.sort({ 3, 2, 1 }, function() while true do end end)",
      "the instruction budget is spent" },
    ["waits and then loops"] = { "khp.sleep(0.01) while true do end", "the instruction budget is spent" },
    ["builds a string without end"] = { "local s = 'x' while true do s = s .. s end", "the memory budget is spent" },
    ["builds a string within pcall"] = {
      "while true do pcall(function() local s = 'x' while true do s = s .. s end end) end",
      "the memory budget is spent" },
    ["builds a table without end"] = { "local t = {} while true do t[#t + 1] = {} end", "the %a+ budget is spent" },
    ["takes memory at a stroke"] = { "local s = ('x'):rep(2^30)", "the memory budget is spent" },
    ["recurses without end"] = { "local function f() return 1 + f() end f()", "p.lua:" },
    ["recurses through the library"] = {
      "local function f() return (('x'):gsub('x', f)) end f()", "C stack overflow" },
    ["throws a string"] = { "error 'oops'", "p.lua:%d+: oops" },
    ["throws nothing"] = { "error()", "the error is a nil value" },
    ["throws a table"] = { "error {}", "the error is a table value" },
    ["throws a function"] = { "error(print or type)", "the error is a function value" },
    ["throws what a terminal obeys"] = { "error('\\27[2J\\7', 0)", "\\x1B%[2J\\x07" },
    ["indexes what is not there"] = { "local x x.y = 1", "attempt to index a nil value" },
    ["returns a number"] = { "return 42", "accept, challenge, redirect or reject expected, got number" },
    ["returns a table"] = { "return {}", "accept, challenge, redirect or reject expected, got table" },
    ["returns what was not requested"] = { "return accept { extensions = { 'x-foo' } }",
      "accept%.extensions%[1%]: 'x%-foo' was not requested; requested: none" },
    ["returns a header in which another one hides"] = { "return accept { headers = { A = 'a\\r\\nB: b' } }",
      "accept%.headers%['A'%]: a string without control characters expected" },
    ["returns a header of the handshake's own"] = { "return accept { headers = { Upgrade = 'x' } }", "Upgrade" },
    ["returns a list whose length is a lie"] = {
      "local h = { [1] = 'a', [2] = 'b', [4] = 'c' } for i = 3, 50 do h[2^i] = 'd' end return accept { headers = h }",
      "accept%.headers" },
    ["returns a protocol that it has put among the requested ones"] = {
      "request.protocols[1] = 'evil' return accept { protocol = 'evil' }", "protocol 'evil' was not asked for" },
    ["returns an extension that it has put there"] = {
      "request.extensions[1] = { name = 'evil' } return accept { extensions = { 'evil' } }", "'evil'" },
    ["returns a field that there is not"] = { "return accept { protcol = 'x' }",
      "accept: no field 'protcol', did you mean 'protocol'%?" },
  }

  for name, misdeed in pairs(misdeeds) do
    it("that " .. name .. " answers its peer with 500, says so once, and serves on", function()
      serve {
        policy = ("return { extended = function(request)\n if request.path == '/bad' then %s end\nend }"):format(
          misdeed[1]),
      }
      for round = 1, 2 do
        local before = os.clock() -- ours alone, whoever else has the processor meanwhile
        refused(500)
        local took = os.clock() - before
        assert.truthy(took < 1 * SLOWER, took)
        assert.equal(round, #lines, table.concat(lines, "\n"))
        assert.equal(1, (lines[round]:find(("error: %s/p.lua: extended: "):format(folder), 1, true)), lines[round])
        assert.matches(misdeed[2], lines[round])
        works()
      end
      if not name:find "^returns" then
        assert.matches("stack traceback:\n.*p%.lua:2: in", lines[1])
      end
    end)
  end

  it("that yields otherwise than by waiting answers its peer with 500", function()
    for _, yield in ipairs {
      function()
        coroutine.yield(42)
      end,
      function()
        coroutine.yield()
      end,
    } do
      lines = {}
      serve { policy = { opening = yield } }
      refused(500)
      assert.equal(1, #lines)
      assert.matches("policy: opening: a policy waits with khp.sleep, khp.connect and khp.promise.*traceback", lines[1])
      server:close(1)
    end
  end)

  it("is protected from functions of the program itself as well", function()
    serve {
      policy = {
        opening = function(request)
          if request.path == "/bad" then
            while true do
              pcall(error)
            end
          end
        end,
      },
      limits = { policy_instructions = 100000 },
    }
    refused(500)
    assert.matches("policy: opening: the instruction budget is spent "
      .. "%(limit policy_instructions = 100000%)\nstack traceback", lines[1])
    works()
  end)

  it("bounds the time in which a decision holds the loop, and not the time in which it waits", function()
    serve {
      policy = [[return { extended = function(request)
        for _ = 1, 4 do khp.sleep(0.02) end
        if request.path == '/bad' then while true do end end
      end }]],
      limits = { policy_time = 0.05, policy_instructions = 2^52 },
    }
    works()
    refused(500)
    assert.matches("the time budget is spent %(limit policy_time = [%d.]+%)", lines[1])
  end)

  it("bounds all functions of one decision together, and each decision anew", function()
    serve {
      policy = [[local function work() for _ = 1, 20000 do end end
        return { extended = function(request)
          for _ = 1, request.path == '/bad' and 10 or 2 do work() khp.sleep(0) end
        end }]],
      limits = { policy_instructions = 150000 },
    }
    for _ = 1, 5 do
      works()
    end
    refused(500)
    works()
  end)

  it("does not load a policy that runs on, and says where it was", function()
    for text, message in pairs {
      ["while true do end"] = "p.lua: the instruction budget is spent (limit policy_instructions = 10000000)",
      ["local s = 'x' while true do s = s .. s end"] =
        "p.lua: the memory budget is spent (limit policy_memory = 67108864)",
      ["khp.sleep(1) return {}"] = "p.lua: nothing may wait here",
      ["return 5"] = "p.lua: a policy returns a table of functions, not number",
      ["return { extnded = function() end }"] = "p.lua: a server's policy has no 'extnded', did you mean 'extended'?",
      ["return { extended = 5 }"] = "p.lua: extended: a function expected, not number",
      ["return {"] = "p.lua:1: unexpected symbol near <eof>",
    } do
      local before = os.clock()
      local none, problem, code, detail = khp.listen {
        host = "127.0.0.1", port = 0, policy = write(text), limits = { policy_time = 0.8 * SLOWER },
      }
      assert.is_nil(none)
      assert.equal("EPOLICY", code)
      assert.equal(folder .. "/" .. message, problem)
      assert.equal(folder .. "/p.lua", detail.path)
      assert.truthy(os.clock() - before < 1 * SLOWER)
    end
  end)

  describe("that waits", function()
    it("lets everything else run meanwhile", function()
      local promise = khp.promise()
      serve {
        policy = {
          extended = function(request)
            if request.path == "/slow" then
              assert(promise:wait() == "now")
            end
          end,
        },
      }
      local slow
      khp.spawn(function()
        slow = assert(khp.connect(url .. "slow"))
      end)
      for _ = 1, 3 do
        works()
      end
      assert.is_nil(slow)
      promise:resolve "now"
      net.await(function()
        return slow
      end, "the slow one")
      slow:close()
    end)

    it("is ended when the handshake's time is over, and what it holds is closed [E18]", function()
      local closed, reached = 0, false
      serve {
        limits = { extended = 0.1 },
        policy = {
          extended = function()
            local _ <close> = setmetatable({}, {
              __close = function()
                closed = closed + 1
              end,
            })
            khp.promise():wait()
            reached = true
          end,
        },
      }
      refused(503)
      assert.equal(1, closed)
      assert.is_false(reached)
      assert.same({}, lines)
    end)

    it("is ended when its peer leaves", function()
      local closed, waiting = false, false
      serve {
        policy = {
          opening = function()
            local _ <close> = setmetatable({}, {
              __close = function()
                closed = true
              end,
            })
            waiting = true
            khp.sleep(60)
          end,
        },
      }
      local _, port = server:address()
      local peer = net.peer(port)
      peer:send("GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" ..
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
      net.await(function()
        return waiting
      end)
      peer:close()
      net.await(function()
        return closed
      end, "the end of the policy")
    end)

    it("closes what runs on while it is closed", function()
      serve {
        limits = { extended = 0.1 },
        policy = {
          extended = function()
            local _ <close> = setmetatable({}, {
              __close = function()
                while true do end
              end,
            })
            khp.sleep(60)
          end,
        },
      }
      refused(503)
    end)

    it("may ask another server over a connection of its own, which ends with the decision", function()
      local other, there = net.serve {
        on_message = function(conn, message)
          conn:send(message == "joe" and "yes" or "no")
        end,
      }
      serve {
        policy = ([[return { extended = function(request)
          local conn = assert(khp.connect(%q))
          conn:send(request.path:sub(2))
          if conn:receive(5) ~= "yes" then return reject(403) end
        end }]]):format(there),
      }
      local conn = assert(khp.connect(url .. "joe"))
      refused(403, "ann")
      conn:close()
      net.await(function()
        return other:stats().connections == 0
      end, "the policy's connections to end")
      other:close(1)
    end)

    it("leaves no connection behind that it was making when its time was over", function()
      local listener = assert(core.listener.listen({ host = "127.0.0.1", port = 0 }, {}, {}, khp.limits.defaults))
      local _, port = core.listener.address(listener)
      serve {
        limits = { extended = 0.1 },
        policy = ([[return { extended = function() khp.connect("ws://127.0.0.1:%d/") end }]]):format(port),
      }
      refused(503)
      net.await(function()
        return server:stats().connections == 0
      end)
      core.listener.close(listener)
    end)
  end)

  it("writes what its policy has to say, under the policy's name", function()
    serve {
      policy = [[return { opening = function(request)
        khp.log.warn('%s\n%d', request.path, 5)
        khp.log.error('100%')
      end }]],
    }
    works()
    assert.same({ "warn: " .. folder .. "/p.lua: /good\\x0A5", "error: " .. folder .. "/p.lua: 100%" }, lines)
  end)

  it("bounds what its policy has to say", function()
    serve { policy = "return { opening = function() while true do khp.log.error 'x' end end }" }
    refused(500)
    assert.truthy(#lines <= 1001, #lines)
  end)

  it("trusts a policy where it is told to", function()
    serve {
      policy = "return { opening = function() return io and reject(403, type(os.getenv)) end }",
      trusted = true,
    }
    refused(403)
  end)
end)
