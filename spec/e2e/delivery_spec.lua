-- Large files on their way to peers that read slowly, or not at all, or leave.

local core = require "khp.core"
local khp = require "khp"
local net = require "spec.support.net"

describe("a large file", function()
  local SIZE = (os.getenv "KHP_SPEC_TOOL" and 12 or 100) * 1024 * 1024 -- more than the system takes for a peer
  local root, server, port, level, sink, lines

  local function serve(options)
    options.root = root
    local _
    server, _, port = net.serve(options)
  end

  -- Kilobytes of this process in memory.
  local function resident()
    local file = assert(io.open "/proc/self/statm")
    local _, pages = file:read("*n", "*n")
    file:close()
    return pages * 4
  end

  local function open_files()
    local pipe = assert(io.popen(("ls -l /proc/%d/fd | grep -c %s"):format(
      tonumber(io.open("/proc/self/stat"):read "*n"), root)))
    local n = pipe:read "*n"
    pipe:close()
    return n
  end

  -- Somebody who asks for the file and counts what comes. Does not read before go().
  local function ask(target, tls)
    local self = { size = 0, last = "" }
    self.conn = core.conn.connect({ host = "127.0.0.1", port = port, tls = tls, server_name = tls and "localhost" }, {
      open = function(conn)
        core.conn.write(conn, ("GET %s HTTP/1.1\r\nHost: x\r\n\r\n"):format(target))
        core.conn.pause(conn)
        self.asked = true
      end,
      bytes = function(_, _, bytes)
        if not self.head then
          self.head, bytes = bytes:match "^(.-\r\n\r\n)(.*)$"
        end
        self.size, self.last = self.size + #bytes, bytes:sub(-3)
      end,
      closed = function(_, _, _, reason)
        self.ended = reason
      end,
    }, nil, require("khp.limits").defaults)
    function self.go()
      core.conn.resume(self.conn)
    end
    net.await(function()
      return self.asked
    end, "a connection")
    function self.finish()
      net.await(function()
        return self.ended
      end, "the end of the file")
    end
    return self
  end

  local function await_queue()
    net.await(function()
      return server:stats().queued_bytes > 0
    end, "a peer that does not read")
  end

  lazy_setup(function()
    local pipe = assert(io.popen "mktemp -d")
    root = pipe:read "*l"
    pipe:close()
    local file = assert(io.open(root .. "/large", "w"))
    file:seek("set", SIZE - 3)
    file:write "end"
    file:close()
  end)

  lazy_teardown(function()
    assert(os.execute("rm -r " .. root))
  end)

  before_each(function()
    level, sink, lines = khp.log.level, khp.log.sink, {}
    khp.log.level = "info"
    khp.log.sink = function(_, text)
      lines[#lines + 1] = text
    end
  end)

  after_each(function()
    server:close()
    khp.log.level, khp.log.sink = level, sink
  end)

  it("is never in memory, however slowly it is read", function()
    serve {}
    local readers = {}
    for i = 1, 3 do
      readers[i] = ask "/large"
    end
    await_queue()
    collectgarbage()
    local before = resident()
    assert.is_true(server:stats().queued_bytes <= 3 * 65536 + 1024)
    local most = 0
    for i = 1, 3 do
      readers[i].go()
    end
    net.await(function()
      most = math.max(most, resident() - before)
      return readers[1].ended and readers[2].ended and readers[3].ended
    end, "the ends of the files")
    for i = 1, 3 do
      assert.same({ SIZE, "end" }, { readers[i].size, readers[i].last })
    end
    if not os.getenv "KHP_SPEC_TOOL" then
      assert.is_true(most < 24 * 1024, "grew by " .. most .. " KiB")
    end
    assert.is_true(server:stats().bytes_out > 3 * SIZE)
  end)

  it("goes in part, too", function()
    serve {}
    local peer = net.peer(port)
    peer:send(("GET /large HTTP/1.1\r\nHost: x\r\nRange: bytes=%d-\r\n\r\n"):format(SIZE - 200000))
    local received = peer:await_end()
    assert.same({ 200000, "end" }, { #received:match "\r\n\r\n(.*)$", received:sub(-3) })
  end)

  it("does not keep others waiting", function()
    serve { on_message = net.echo }
    local reader = ask "/large"
    reader.go()
    local conn = assert(khp.connect(("ws://127.0.0.1:%d/"):format(port)))
    conn:send "meanwhile"
    assert.equal("meanwhile", (conn:receive(5)))
    assert.is_nil(reader.ended)
    conn:close()
    reader.finish()
    assert.equal(SIZE, reader.size)
  end)

  it("is given up where the peer takes nothing for too long", function()
    serve { limits = { stall = 0.3 } }
    local reader = ask "/large"
    await_queue()
    net.await(function()
      return server:stats().connections == 0
    end, "the end of patience")
    assert.matches("127.0.0.1:%d+: a body of " .. SIZE .. " bytes was not taken to its end: the peer does not read",
      table.concat(lines, "\n"))
    assert.equal(0, open_files())
    core.conn.abort(reader.conn)
  end)

  it("is closed where the peer leaves", function()
    serve {}
    local reader = ask "/large"
    await_queue()
    assert.equal(1, open_files())
    core.conn.abort(reader.conn)
    net.await(function()
      return server:stats().connections == 0
    end, "the end")
    assert.equal(0, open_files())
  end)

  it("that becomes shorter meanwhile ends the connection, not the server", function()
    assert(os.execute(("cp --sparse=always %s/large %s/shrinks"):format(root, root)))
    serve {}
    local reader = ask "/shrinks"
    await_queue()
    assert(os.execute(("truncate -s 10 %s/shrinks"):format(root)))
    reader.go()
    reader.finish()
    assert.is_true(reader.size < SIZE)
    assert.matches("a body cannot be read on: it has become shorter", table.concat(lines, "\n"))
  end)

  it("is finished when the server closes, if the peer reads", function()
    serve {}
    local reader = ask "/large"
    await_queue()
    reader.go()
    server:close(10)
    reader.finish()
    assert.same({ SIZE, "end" }, { reader.size, reader.last })
  end)

  it("does not outlast the server's patience", function()
    serve {}
    local reader = ask "/large"
    await_queue()
    server:close(0.1)
    net.await(function()
      return server:stats().connections == 0
    end, "the end")
    core.conn.abort(reader.conn)
  end)

  it("goes through TLS, too", function()
    assert(os.execute(("spec/support/certs.sh %s/certs >/dev/null 2>&1"):format(root)))
    serve { tls = { cert = root .. "/certs/localhost.pem", key = root .. "/certs/localhost.key" } }
    local settings = core.tls.new { role = "client", verify = "none" }
    local reader = ask("/large", settings)
    await_queue()
    reader.go()
    reader.finish()
    assert.same({ SIZE, "end" }, { reader.size, reader.last })
  end)
end)
