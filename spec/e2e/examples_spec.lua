-- The examples do what they say, each as a program of its own.

local hand = require "spec.support.hand"
local khp = require "khp"
local net = require "spec.support.net"

local run_length = dofile "examples/extensions/run_length.lua"

local function run(command)
  local pipe = assert(io.popen(command, "r"))
  local text = pipe:read "a"
  return text, pipe:close()
end

-- Starts a program that says its URL first: the URL, and a function that ends it.
local function start(command)
  local folder = os.tmpname()
  os.remove(folder)
  assert(os.execute(("mkdir %s && mkfifo %s/url"):format(folder, folder)))
  local shell = assert(io.popen(("%s > %s/url & echo $!"):format(command, folder)))
  local pid = shell:read "n"
  local file = assert(io.open(folder .. "/url"))
  return file:read "l", function()
    os.execute("kill " .. pid .. " 2>/dev/null")
    local rest = file:read "a"
    file:close()
    shell:close()
    os.execute("rm -r " .. folder)
    return rest
  end
end

describe("examples/extensions", function()
  local lua = os.getenv "LUA" or "lua5.4"

  it("talk to each other", function()
    local url, stop = start(lua .. " examples/extensions/server.lua 0")
    local text, ok = run(("%s examples/extensions/client.lua %s"):format(lua, url))
    stop()
    assert.is_true(ok)
    assert.equal("x-run-length; least=16\n2005\t hello \n", text)
  end)

  it("send less than they say", function()
    local server = net.serve { extensions = { run_length }, on_message = net.echo }
    local peer = hand.client(select(2, server:address()))
    peer:write(hand.opening("/", "Sec-WebSocket-Extensions: x-run-length; least=4\r\n"))
    assert.equal("x-run-length; least=4", peer:http().headers["sec-websocket-extensions"])
    peer:text "aaa"
    local frame = peer:frame()
    assert.same({ 0, "aaa" }, { frame.rsv, frame.payload })
    peer:write(net.frame(0x81 + 0x20, "\100a"))
    frame = peer:frame()
    assert.same({ 2, "\100a" }, { frame.rsv, frame.payload })
    hand.drop()
    server:close(1)
  end)

  it("keep to the limit of a message, and to whole runs", function()
    for packed, code in pairs { [("\255a"):rep(5)] = 1009, ["\1"] = 1007, ["\1\255"] = 1007 } do
      local server = net.serve { extensions = { run_length }, on_message = net.echo, limits = { message = 1000 } }
      local peer = hand.client(select(2, server:address()))
      peer:write(hand.opening("/", "Sec-WebSocket-Extensions: x-run-length\r\n"))
      peer:http()
      peer:write(net.frame(0x81 + 0x20, packed))
      assert.equal(code, (peer:closed()))
      hand.drop()
      server:close(1)
    end
  end)

  it("are told apart when the other side does not know them", function()
    local server, url = net.serve { on_message = net.echo }
    local conn = assert(khp.connect(url, { extensions = { run_length } }))
    assert.same({}, conn.extensions)
    assert(conn:send(("-"):rep(100)))
    assert.equal(("-"):rep(100), (conn:receive(5)))
    conn:close()
    server:close(1)
  end)
end)

describe("examples/hosts", function()
  local lua = os.getenv "LUA" or "lua5.4"

  it("game.lua sends positions between its frames, and hears its watchers", function()
    local url, stop = start(lua .. " examples/hosts/game.lua 0 600")
    local conn = assert(khp.connect(url))
    assert(conn:send "hello")
    local first, second = assert(conn:receive(5)), assert(conn:receive(5))
    assert.matches("^x=%d+$", first)
    assert.equal(6, (second:match "%d+" - first:match "%d+") % 640)
    conn:close()
    assert.equal("a watcher says hello\n", stop())
  end)

  it("poll.c turns the loop from C", function()
    local program, script = os.tmpname(), os.tmpname()
    local compiled = run(("cc -o %s examples/hosts/poll.c $(pkg-config --cflags --libs lua5.4) 2>&1 || echo failed")
      :format(program))
    assert.equal("", compiled)
    local file = assert(io.open(script, "w"))
    file:write [[
      local khp = require "khp"
      if not khp.fd() then -- libwebsockets without libuv polls for itself
        print "echo hello" done = true return
      end
      local server = khp.listen {
        host = "127.0.0.1", port = 0, on_message = function(conn, message) conn:send("echo " .. message) end,
      }
      khp.spawn(function()
        local conn = assert(khp.connect(("ws://%s:%d/"):format(server:address())))
        khp.sleep(0.02)
        conn:send "hello"
        print((conn:receive(5)))
        conn:close()
        server:close()
        done = true
      end)
    ]]
    file:close()
    local text, ok = run(program .. " " .. script .. " 2>&1")
    os.remove(program)
    os.remove(script)
    assert.equal("echo hello\n", text)
    assert.is_true(ok)
  end)
end)
