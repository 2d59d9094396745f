-- Mistakes of the caller that went unnoticed, hung, or were told as somebody else's.

local core = require "khp.core"
local khp = require "khp"
local net = require "spec.support.net"
local opening = require "khp.opening.client"

describe("misuse", function()
  local function throws(pattern, f, ...)
    local ok, message = pcall(f, ...)
    assert.is_false(ok)
    assert.matches(pattern, message)
  end

  it("step() with a time that is over does not wait, and one that is none is refused", function()
    local server = net.serve { on_message = net.echo }
    local before = core.loop.clock()
    khp.step(-1)
    khp.step(-math.huge)
    assert.is_true(core.loop.clock() - before < 5)
    throws("step: seconds expected, not %-?nan", khp.step, 0 / 0)
    server:close()
  end)

  it("a Server header that no response could carry is refused by listen()", function()
    throws("khp.listen: option 'server_header' must be a header's value", khp.listen, { server_header = "a\r\nB: c" })
    throws("khp.listen: option 'server_header' must be a header's value", khp.listen, { server_header = " " })
  end)

  it("a misspelt option of TLS is refused, though this URL needs none", function()
    for _, f in ipairs { khp.connect, khp.keep } do
      throws("tls: unknown option 'certt', did you mean 'cert'", f, "ws://127.0.0.1:1/", { tls = { certt = "x" } })
    end
  end)

  it("options that contradict each other are refused", function()
    throws("'require_khp' asks for what 'khp = false' leaves out", khp.connect, "ws://127.0.0.1:1/",
      { khp = false, require_khp = true })
  end)

  it("keep() wants a pause between attempts, and speaks of itself", function()
    throws("khp.keep: option 'delay' must be at least 0.001", khp.keep, "ws://127.0.0.1:1/", { delay = 0 })
    throws("khp.keep: option 'longest' must be at least 0.001", khp.keep, "ws://127.0.0.1:1/", { longest = 0 })
    throws("^khp.keep: bad URL 'foo'", khp.keep, "foo")
  end)

  it("a key that is none is refused by the opening's machine", function()
    throws("option 'key' must be 16 bytes in base64", opening.new, { host = "x", key = "abc" })
    throws("option 'key' must be 16 bytes in base64", opening.new, { host = "x", key = ("a"):rep(24) })
  end)

  it("send() always gives a detail", function()
    local server, url = net.serve { on_message = net.echo }
    local conn = assert(khp.connect(url, { limits = { queue = 100 } }))
    local refused = "a text message must be UTF-8; send it as \"binary\""
    assert.same({ nil, refused, "EPROTOCOL", {} }, { conn:send "\255" })
    refused = "the message is larger than the send queue may be"
    assert.same({ nil, refused, "ELIMIT", {} }, { conn:send(("x"):rep(100)) })
    conn:close()
    assert.equal(1000, (select(4, conn:send "x")).code)
    server:close()
  end)

  it("an extension that throws during the handshake is not blamed on the server", function()
    local server, url = net.serve { on_message = net.echo, extensions = { "x-bad" } }
    local sink, lines = khp.log.sink, {}
    khp.log.sink = function(_, text)
      lines[#lines + 1] = text
    end
    local conn, message, code = khp.connect(url, { extensions = { {
      name = "x-bad",
      handshake = "opening",
      start = function()
        return { receive = function()
          error "mine"
        end }
      end,
    } } })
    khp.log.sink = sink
    assert.is_nil(conn)
    assert.equal("EEXTENSION", code)
    assert.equal("an extension ended the connection: internal error", message)
    assert.matches("mine", lines[1])
    server:close()
  end)
end)
