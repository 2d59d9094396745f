-- khp serve as a process of its own: where it listens, what signals do to it, how it ends.

local core = require "khp.core"
local khp = require "khp"
local net = require "spec.support.net"

describe("khp serve", function()
  local lua = os.getenv "LUA" or "lua5.4"

  local function write(path, text)
    local file = assert(io.open(path, "w"))
    file:write(text)
    file:close()
  end

  -- Starts it with these arguments: its URL, a function that sends it a signal, and one that waits for its end and
  -- gives what it wrote to stderr and its exit status.
  local function start(arguments)
    local log = os.tmpname()
    local pipe = assert(io.popen(("echo $$; exec %s bin/khp serve --port 0 %s 2>%s"):format(lua, arguments, log)))
    local pid = pipe:read "*l"
    local url = pipe:read "*l"
    local function send(signal)
      assert(os.execute(("kill -%s %s"):format(signal, pid)))
    end
    local function finish()
      net.await(function() -- it waits for us, too
        return core.loop.alive() == 0
      end)
      local _, how, status = pipe:close()
      local file = assert(io.open(log))
      local text = file:read "*a"
      file:close()
      os.remove(log)
      return text, how, status
    end
    return url, send, finish
  end

  local function enters(url)
    local conn, _, _, detail = khp.connect(url)
    if not conn then
      return false, detail.status
    end
    conn:send "echo"
    assert.equal("echo", (conn:receive(5)))
    conn:close()
    return true
  end

  it("answers, loads its policy again on SIGHUP if it is good, and ends in order on SIGTERM", function()
    local path = os.tmpname()
    write(path, "return { extended = function() return reject(403) end }")
    local url, send, finish = start(path)
    assert.same({ false, 403 }, { enters(url) })
    write(path, "return { extended = function() return accept {} end }")
    send "HUP"
    net.await(function()
      return (enters(url))
    end, "the new policy")
    write(path, "return {")
    send "HUP"
    local conn = assert(khp.connect(url))
    send "TERM"
    assert.is_nil((conn:receive(5)))
    assert.equal(1001, conn.closed.code)
    local log, how, status = finish()
    assert.same({ "exit", 0 }, { how, status })
    assert.truthy(log:match "the policy was loaded again")
    os.remove(path)
  end)

  it("keeps the old policy where the new one is wrong, and says why", function()
    local path = os.tmpname()
    write(path, "return {}")
    local url, send, finish = start(path)
    write(path, "return { extnded = 1 }")
    send "HUP"
    assert.is_true(enters(url))
    khp.sleep(0.1) -- signals to one process may overtake each other
    send "INT"
    local log = finish()
    assert.truthy(log:match "the old policy stays: .*did you mean 'extended'", log)
    os.remove(path)
  end)

  it("is an echo without a policy", function()
    local url, send, finish = start ""
    assert.is_true(enters(url))
    send "TERM"
    local _, how, status = finish()
    assert.same({ "exit", 0 }, { how, status })
  end)

  it("says what is wrong with its arguments, or with the world", function()
    local function fails(arguments, status, pattern)
      local pipe = assert(io.popen(("%s bin/khp serve %s 2>&1"):format(lua, arguments)))
      local text = pipe:read "*a"
      local _, _, code = pipe:close()
      assert.equal(status, code, text)
      assert.truthy(text:match(pattern), text)
    end
    fails("--port x", 2, "number from 0 to 65535, not 'x'")
    fails("--prot 1", 2, "unknown option '%-%-prot'\nDid you mean '%-%-port'")
    fails("--level loud", 2, "'error', 'warn', 'info'")
    fails("--port", 2, "requires an argument")
    fails("a b", 2, "too many arguments")
    fails("--port 0 /no/such.lua", 1, "No such file")
    fails("--port 0 --host 203.0.113.1", 1, "203.0.113.1")
  end)
end)
