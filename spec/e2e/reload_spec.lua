-- Policies that are exchanged while a server runs: what is loaded is tested first, every handshake is decided by the
-- version that it began with, and nothing is left of those that nobody needs any more.

local khp = require "khp"
local net = require "spec.support.net"

local function write(path, text)
  local file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
end

-- Three questions to the policy in each handshake; one of them is answered by another version: 500. The second takes
-- its time.
local POLICY = [==[
local version = VERSION

return {
  opening = function(_, session)
    session.data.version = version
  end,
  extended = function(request, session)
    if session.data.version ~= version then
      error "a handshake between two versions"
    elseif not request.headers.authorization then
      require("khp").sleep(0.001)
      return challenge "Token"
    end
    return accept { protocol = request.protocols[1] }
  end,
  tests = [[
C binary
| GET / HTTP/1.1
| Sec-WebSocket-Protocol: a
|
wait 1
S binary
| HTTP/1.1 401 Unauthorized
* the usual
C binary
| GET / HTTP/1.1
| Authorization: Token 7
| Sec-WebSocket-Protocol: a
|
S binary
| HTTP/1.1 101 Switching Protocols
* the usual
S opens protocol=a
]],
}
]==]

local function text_of(version)
  return (POLICY:gsub("VERSION", ("%5d"):format(version)))
end

-- The same, for a text of the same length: a file that is not cut off first is not flushed to the disk.
local function overwrite(path, text)
  local file = assert(io.open(path, "r+"))
  file:write(text)
  file:close()
end

-- KiB of the process; nil where the system does not tell.
local function resident()
  local file = io.open "/proc/self/statm"
  if not file then
    return nil
  end
  local pages = file:read("*a"):match "^%d+ (%d+)"
  file:close()
  return tonumber(pages) * 4
end

local function in_use()
  collectgarbage()
  collectgarbage()
  return collectgarbage "count"
end

describe("reload", function()
  local path, server, url

  local function serve(text)
    path = os.tmpname()
    write(path, text)
    server, url = net.serve { policy = path, on_message = net.echo }
  end

  after_each(function()
    if server then
      server:close(1)
      server = nil
    end
    os.remove(path)
  end)

  local function connect()
    return khp.connect(url, { protocols = { "a" }, credentials = { token = "7" } })
  end

  it("10,000 times while handshakes run: none fails, and nothing is left behind", function()
    local tool = os.getenv "KHP_SPEC_TOOL"
    local reloads = (tool == "valgrind" or tool == "gc") and 200 or 10000
    serve(text_of(0))
    local early = assert(connect())
    local made, running, finished = 0, 0, false
    local failures = {}
    for _ = 1, 6 do
      khp.spawn(function()
        running = running + 1
        while not finished do
          local conn, message = connect()
          if conn then
            made = made + 1
            conn:close()
          else
            failures[#failures + 1] = message
          end
        end
        running = running - 1
      end)
    end
    local lua, process
    for i = 1, reloads do
      overwrite(path, text_of(i))
      assert(server:reload())
      if i % 8 == 0 then
        khp.step(0)
      end
      if i == math.floor(reloads / 5) then
        lua, process = in_use(), resident()
      end
    end
    local lua_after, process_after = in_use(), resident()
    finished = true
    net.await(function()
      return running == 0
    end, "the clients")
    assert.same({}, failures)
    assert.is_true(made > reloads / 100, "too few handshakes: " .. made)
    assert.is_true(lua_after < lua + 512, ("Lua holds %.0f KiB, and held %.0f"):format(lua_after, lua))
    if process and not tool then
      local grown = ("%.0f KiB are resident, and were %.0f"):format(process_after, process)
      assert.is_true(process_after < process + 8192, grown)
    end
    early:send "still here"
    assert.equal("still here", (early:receive(5)))
    assert.equal(0, server:connections()[1].data.version)
  end)

  it("keeps the old policy when anything is wrong with the new one, and says what", function()
    serve(text_of(1))
    local function refuses(text, pattern)
      write(path, text)
      local ok, message, code, detail = server:reload()
      assert.is_nil(ok)
      assert.equal("EPOLICY", code)
      assert.equal(path, detail.path)
      assert.truthy(message:find(path, 1, true), message)
      assert.matches(pattern, message)
      assert(connect()):close()
    end
    refuses("return {", "near <eof>")
    refuses("error 'not today'", "not today")
    refuses("return { extnded = function() end }", "did you mean 'extended'")
    refuses("return { tests = 1 }", "a transcript or a table of transcripts expected")
    refuses("return { tests = 'C shouts' }", ":1: not a step: C shouts")
    refuses(text_of(2):gsub("protocol = request.protocols%[1%]", ""), 'test fails: tests\n.*: "a" expected, got nil')
    refuses(text_of(2):gsub("return accept", "return acept"), "attempt to call a nil value %(global 'acept'%)")
    refuses(text_of(2):gsub("sleep%(0.001%)", "sleep(10)"), "a message expected, got nothing")
    os.remove(path)
    local ok, message = server:reload()
    assert.is_nil(ok)
    assert.matches("No such file", message)
    write(path, text_of(3))
    assert.is_true(server:reload())
    assert(connect()):close()
  end)

  it("lets a handshake that waits end with the version it began with", function()
    local function version(word)
      return ([[
        return { extended = function()
          require("khp").sleep(0.05)
          return accept { headers = { ["X-Word"] = "%s" } }
        end }]]):format(word)
    end
    serve(version "old")
    local words = {}
    local function ask()
      local conn = assert(khp.connect(url, { trace = function(_, stage, bytes)
        local word = stage == "extended" and bytes:match "X%-Word: (%w+)"
        words[#words + 1] = word or nil
      end }))
      conn:close()
    end
    khp.spawn(ask)
    net.await(function()
      return server:stats().connections == 1
    end)
    khp.sleep(0.02)
    write(path, version "new")
    assert.is_true(server:reload())
    ask()
    assert.same({ "old", "new" }, words)
  end)

  it("leaves a policy alone that was given as a table", function()
    local policy = {
      extended = function()
        return require("khp.policy.decision").reject(403)
      end,
    }
    path = os.tmpname()
    server, url = net.serve { policy = policy }
    assert.is_true(server:reload())
    assert.equal(403, (select(4, khp.connect(url))).status)
  end)

  it("is no way for tests to reach those who come in earnest", function()
    serve [==[
      local count = 0
      return {
        extended = function()
          count = count + 1
          return accept { headers = { ["X-Count"] = count } }
        end,
        tests = [[
# First
```khp
C binary
| GET / HTTP/1.1
|
S binary
* the usual
| X-Count: 1
* the usual
S opens
```
```khp
C binary
| GET / HTTP/1.1
|
S binary
* the usual
| X-Count: 2
* the usual
S opens
```
# Second
```khp
C binary
| GET / HTTP/1.1
|
S binary
* the usual
| X-Count: 1
* the usual
S opens
```
        ]],
      }
    ]==]
    local head
    assert(khp.connect(url, { trace = function(_, _, bytes)
      head = bytes
    end })):close()
    assert.matches("X%-Count: 1\r\n", head)
  end)
end)

describe("listen", function()
  it("does not begin with a policy whose own test fails", function()
    local path = os.tmpname()
    write(path, (text_of(1):gsub("401 Unauthorized", "403 Forbidden")))
    local server, message, code = khp.listen { host = "127.0.0.1", port = 0, policy = path }
    os.remove(path)
    assert.is_nil(server)
    assert.equal("EPOLICY", code)
    assert.matches(":%d+: %- | HTTP/1.1 403 Forbidden\n *%+ | HTTP/1.1 401 Unauthorized\n", message)
  end)
end)
