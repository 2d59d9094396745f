-- khp connect in a pipe: much more than there is memory for goes through, to a server that answers with everything, and
-- back, and neither side holds more of it than its queues allow.

local command = require "spec.support.command"
local khp = require "khp"
local net = require "spec.support.net"

-- Under tools that make it slow, a tenth.
local MEGABYTES = os.getenv "KHP_SPEC_TOOL" and 20 or 200

describe("khp connect in a pipe", function()
  local server, url

  before_each(function()
    server, url = net.serve { on_open = function(conn)
      for message, kind in conn:each() do
        while not conn:send(message, kind) and conn.state == "open" do
          conn:drain()
        end
      end
    end }
  end)

  after_each(function()
    server:close()
  end)

  -- The kilobytes that the process had in memory at most; nil where the system does not tell.
  local function most_memory(process)
    local file = io.open(("/proc/%s/status"):format(process:written("pid"):match "%d+" or "none"))
    local text = file and file:read "*a"
    if file then
      file:close()
    end
    return text and tonumber(text:match "VmHWM:%s*(%d+) kB")
  end

  -- Runs it to its end: what it printed, and the most memory that it had.
  local function run(arguments)
    local process = command.begin(arguments)
    local most = 0
    process:await(function()
      most = math.max(most, most_memory(process) or 0)
      return process:written "status" ~= ""
    end, "its end")
    local output, errors, status = process:finish()
    assert.same({ "", 0 }, { errors, status })
    return output, most
  end

  -- What this makes and what comes back are the same, as far as cksum can tell.
  local function goes_through(source, arguments, kilobytes)
    local expected = io.popen(source .. " | cksum")
    local sum = expected:read "*a"
    expected:close()
    local path = os.tmpname()
    local fifo = os.tmpname()
    os.remove(fifo)
    assert(os.execute("mkfifo " .. fifo))
    assert(os.execute(("%s >%s &"):format(source, fifo)))
    local _, most = run(("connect --wait 0.5 %s %s <%s >%s"):format(arguments, url, fifo, path))
    local pipe = io.popen("cksum <" .. path)
    assert.equal(sum, pipe:read "*a")
    pipe:close()
    os.remove(path)
    os.remove(fifo)
    if not os.getenv "KHP_SPEC_TOOL" then
      assert.is_true(most < kilobytes, most .. " kB")
    end
  end

  it("moves bytes through in little memory", function()
    goes_through(("head -c %d000000 /dev/zero"):format(MEGABYTES), "--bytes", 40000)
  end)

  it("moves lines through in as much memory as the queue of one message needs", function()
    goes_through(("yes %s | head -n %d000"):format(("line"):rep(250), MEGABYTES), "", 100000)
  end)

  it("reads no more than the server takes", function()
    server:close()
    local release
    server, url = net.serve { on_open = function(conn)
      conn:pause()
      release = conn
      khp.sleep(60)
    end }
    local process = command.begin(("connect --bytes %s </dev/zero"):format(url))
    process:await(function()
      return release
    end, "a connection")
    -- What it has read so far; it is enough to ask until it is twice the same.
    local function bytes_read()
      local file = io.open(("/proc/%s/io"):format(process:written("pid"):match "%d+"))
      local text = file and file:read "*a" or ""
      if file then
        file:close()
      end
      return tonumber(text:match "rchar: (%d+)")
    end
    local before
    process:await(function()
      local now = bytes_read()
      local is_over = now == before
      before = now
      khp.sleep(0.2)
      return is_over
    end, "it to read no more")
    process:signal "KILL"
    process:finish()
    if not before then
      return pending "this system does not count what a process reads"
    end
    assert.is_true(before < 16 * 1024 * 1024, tostring(before))
  end)
end)
