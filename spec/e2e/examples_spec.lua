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

describe("examples/extensions", function()
  local lua = os.getenv "LUA" or "lua5.4"

  it("talk to each other", function()
    local folder = os.tmpname()
    os.remove(folder)
    assert(os.execute(("mkdir %s && mkfifo %s/url"):format(folder, folder)))
    local shell = assert(io.popen(("%s examples/extensions/server.lua 0 > %s/url & echo $!"):format(lua, folder)))
    local pid = shell:read "n"
    local file = assert(io.open(folder .. "/url"))
    local url = file:read "l"
    local text, ok = run(("%s examples/extensions/client.lua %s"):format(lua, url))
    os.execute("kill " .. pid)
    file:close()
    shell:close()
    os.execute("rm -r " .. folder)
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
