-- Plays every exchange of every transcript beside this file against the real machines: whole, in two parts cut at
-- every byte, and byte by byte (KHP H10). The titles are the headings of the transcripts.

local transcript = require "spec.conformance.transcript"

local folder = debug.getinfo(1, "S").source:match "^@(.*)[/\\][^/\\]*$"

local function paths()
  local found = {}
  local list = assert(io.popen("ls '" .. folder .. "'/*.md"))
  for path in list:lines() do
    if not path:find "README%.md$" then
      found[#found + 1] = path
    end
  end
  list:close()
  return found
end

for _, path in ipairs(paths()) do
  describe(path:match "[^/]+$", function()
    for _, exchange in ipairs(transcript.load(path)) do
      for _, role in ipairs { "client", "server" } do
        if exchange.roles[role] then
          it(role .. ": " .. exchange.title, function()
            assert(transcript.run(exchange, role))
            if not exchange.whole then
              for k = 1, transcript.longest(exchange) - 1 do
                assert(transcript.run(exchange, role, transcript.cut_at(k)))
              end
              assert(transcript.run(exchange, role, transcript.bytewise))
            end
          end)
        end
      end
    end
  end)
end

describe("the runner of transcripts", function()
  local function exchange(text)
    local path = os.tmpname()
    local file = assert(io.open(path, "w"))
    file:write(text)
    file:close()
    local ok, exchanges = pcall(transcript.load, path)
    os.remove(path)
    if not ok then
      error(exchanges, 0)
    end
    return exchanges[1]
  end

  local opening = [[
C http
| GET / HTTP/1.1
| Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==
| Sec-WebSocket-Protocol: x-kaazing-handshake
|
S http
| HTTP/1.1 101 Switching Protocols
| Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=
| Sec-WebSocket-Protocol: x-kaazing-handshake
|
]]

  local function run(steps, role)
    return transcript.run(exchange("```khp\n" .. opening .. steps), role)
  end

  it("finds a byte that is not as written", function()
    local ok, message = run("C binary\n| GET /other HTTP/1.1\n|\n```\n", "client")
    assert.is_nil(ok)
    assert.matches(":12: the message differs", message)
    assert.matches(":13: %- | GET /other HTTP/1.1\n *%+ | GET / HTTP/1.1\n", message)
  end)

  it("finds an event that nobody expects", function()
    local ok, message = run("S binary\n| Hello\n```\n", "client")
    assert.is_nil(ok)
    assert.matches("after the last line: an event failed", message)
  end)

  it("finds an event that does not come", function()
    local ok, message = run("S opens\n```\n", "server")
    assert.is_nil(ok)
    assert.matches(":12: open expected, got nothing", message)
  end)

  it("refuses an opening that does not choose KHP", function()
    assert.has_error(function()
      exchange("```khp\n" .. opening:gsub("(101.*Protocol: )x%-kaazing%-handshake", "%1chat") .. "C opens\n```\n")
    end)
  end)

  it("refuses what is no step", function()
    assert.has_error(function()
      exchange("```khp\n" .. opening .. "C whispers\n```\n")
    end)
  end)
end)
