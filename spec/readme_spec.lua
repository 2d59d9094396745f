-- The README's programs do what the README says: its server and its client are run as they are printed, but for the
-- port, which may be taken here.

local khp = require "khp"
local net = require "spec.support.net"

local function read(path)
  local file = assert(io.open(path))
  local text = file:read "*a"
  file:close()
  return text
end

local function write(text)
  local path = os.tmpname()
  local file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
  return path
end

local function blocks(text)
  local list = {}
  for block in text:gmatch "```lua\n(.-)```" do
    list[#list + 1] = block
  end
  return list
end

describe("README.md", function()
  local found = blocks(read "README.md")

  it("has a server, a client and a policy, which all compile", function()
    assert.is_true(#found >= 3)
    for _, block in ipairs(found) do
      assert(load(block, "README.md", "t"))
    end
    assert.truthy(found[1]:match "khp%.listen")
    assert.truthy(found[2]:match "khp%.connect")
  end)

  it("prints a server and a client that talk to each other, of five lines each", function()
    for i = 1, 2 do
      local _, lines = found[i]:gsub("\n", "\n")
      assert.is_true(lines <= 6, "the example has grown") -- with the line that requires khp
    end
    local lua = os.getenv "LUA" or "lua5.4"
    local probe, _, port = net.serve {}
    probe:close()
    local function on_free_port(block)
      local text, count = block:gsub("8000", port)
      assert.equal(1, count)
      return text
    end
    local server, client = write(on_free_port(found[1])), write(on_free_port(found[2]))
    local script = ([[
      %s %s & server=$!
      for try in 1 2 3 4 5 6 7 8 9 10; do
        %s -e 'local c = require("khp").connect("ws://127.0.0.1:%d/") os.exit(c and 0 or 1)' 2>/dev/null && break
        kill -0 $server || exit 1
      done
      %s %s
      kill $server
    ]]):format(lua, server, lua, port, lua, client)
    local pipe = io.popen(script .. " 2>&1")
    local output = pipe:read "*a"
    pipe:close()
    os.remove(server)
    os.remove(client)
    assert.equal("hello\ttext\n", output)
  end)

  it("prints a policy that loads, and lets in whom it should", function()
    local path = write(found[3])
    local server, url = net.serve { policy = path, on_message = net.echo }
    local conn = assert(khp.connect((url:gsub("//", "//joe:open%%20sesame@"))))
    conn:close()
    assert.equal("EAUTH", (select(3, khp.connect(url))))
    server:close()
    os.remove(path)
  end)
end)
