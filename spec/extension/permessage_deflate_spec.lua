-- permessage-deflate without a connection: what is offered, answered and agreed (RFC 7692 7.1), and what a session does
-- to messages.

local codec = require("khp.core").deflate
local deflate = require "khp.extension.permessage_deflate"
local extension = require "khp.extension"
local http = require "khp.http"

local HELLO = "\xf2\x48\xcd\xc9\xc9\x07\x00"
local AGAIN = "\xf2\x00\x11\x00\x00"

local function parameters_of(text)
  return assert(http.extensions("permessage-deflate" .. text))[1].parameters
end

-- What a server with these options answers, as text behind the name; nil: declined.
local function answer(options, offered)
  local agreed = deflate.new(options).answer(parameters_of(offered))
  if not agreed then
    return nil
  end
  local text = assert(http.format_extensions { { name = "permessage-deflate", parameters = agreed } })
  return text:sub(#"permessage-deflate" + 1)
end

-- A session on a link that has nothing but a role and a limit.
local function start(role, options, agreed, definition)
  definition = definition or deflate.new(options)
  local link = { role = role, most = 1000 }
  function link:limit()
    return self.most
  end
  return definition.start(link, parameters_of(agreed or ""))
end

describe("permessage-deflate", function()
  it("uses the first reserved bit and is agreed in the opening", function()
    local definition = deflate.new()
    assert.same({ "permessage-deflate", 1, "opening" }, { definition.name, definition.rsv, definition.handshake })
  end)

  it("offers what its options say", function()
    local all = "; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=9"
      .. "; client_max_window_bits=15"
    for expected, options in pairs {
      ["; client_max_window_bits"] = {},
      [""] = { client_max_window_bits = false },
      ["; client_max_window_bits=10"] = { client_max_window_bits = 10 },
      [all] = {
        server_no_context_takeover = true, client_no_context_takeover = true,
        server_max_window_bits = 9, client_max_window_bits = 15,
      },
    } do
      assert.equal("permessage-deflate" .. expected, deflate.new(options).offer)
    end
  end)

  it("reads its options from a header's parameters", function()
    assert.same({ client_max_window_bits = false }, deflate.parse {})
    assert.same({ client_max_window_bits = true }, deflate.parse(parameters_of "; client_max_window_bits"))
    assert.same({
      client_max_window_bits = 10, server_max_window_bits = 15,
      server_no_context_takeover = true, client_no_context_takeover = true,
    }, deflate.parse(parameters_of("; client_max_window_bits=10; server_max_window_bits=15"
      .. "; server_no_context_takeover; client_no_context_takeover")))
    for text, expected in pairs {
      ["; nonsense"] = "it has no parameter 'nonsense'",
      ["; server_max_window_bits"] = "server_max_window_bits is a number from 8 to 15",
      ["; server_max_window_bits=8"] = "no window of 8 bits can be made here",
      ["; client_max_window_bits=8"] = "no window of 8 bits can be made here",
    } do
      assert.same({ nil, expected }, { deflate.parse(parameters_of(text)) })
    end
  end)

  it("declines an offer with parameters that cannot be", function()
    for _, offered in ipairs {
      "; unknown", "; unknown=1",
      "; server_no_context_takeover=1", "; client_no_context_takeover=true", "; server_no_context_takeover=\"\"",
      "; server_max_window_bits", "; server_max_window_bits=7", "; server_max_window_bits=16",
      "; server_max_window_bits=010", "; server_max_window_bits=1e1", "; client_max_window_bits=7",
      "; client_max_window_bits=16", "; client_max_window_bits=09", "; client_max_window_bits=x",
      "; server_max_window_bits=110",
      "; server_no_context_takeover; server_no_context_takeover",
      "; client_no_context_takeover; client_no_context_takeover",
      "; server_max_window_bits=10; server_max_window_bits=10",
      "; client_max_window_bits; client_max_window_bits=10", "; client_max_window_bits=10; client_max_window_bits",
      "; server_max_window_bits=8", -- zlib cannot
    } do
      local parsed = http.extensions("permessage-deflate" .. offered)
      assert.is_nil(parsed and deflate.new().answer(parsed[1].parameters), offered)
    end
  end)

  it("answers an offer with what was asked for and what its options say", function()
    local small = { server_max_window_bits = 11, client_max_window_bits = 12 }
    local alone = { server_no_context_takeover = true, client_no_context_takeover = true }
    for _, case in ipairs {
      { {}, "", "" },
      { {}, "; client_max_window_bits", "" },
      { {}, "; client_max_window_bits=15", "" },
      { {}, "; client_max_window_bits=8", "; client_max_window_bits=8" },
      { {}, "; client_max_window_bits=\"10\"", "; client_max_window_bits=10" },
      { {}, "; server_max_window_bits=15", "; server_max_window_bits=15" },
      { {}, "; server_max_window_bits=9", "; server_max_window_bits=9" },
      { {}, "; server_no_context_takeover", "; server_no_context_takeover" },
      { {}, "; client_no_context_takeover", "; client_no_context_takeover" },
      { small, "", "; server_max_window_bits=11" },
      { small, "; client_max_window_bits", "; client_max_window_bits=12; server_max_window_bits=11" },
      { small, "; client_max_window_bits=10", "; client_max_window_bits=10; server_max_window_bits=11" },
      { small, "; server_max_window_bits=10; client_max_window_bits=14",
        "; client_max_window_bits=12; server_max_window_bits=10" },
      { { client_max_window_bits = false }, "; client_max_window_bits", "" },
      { alone, "", "; client_no_context_takeover; server_no_context_takeover" },
    } do
      assert.equal(case[3], answer(case[1], case[2]))
    end
  end)

  it("fails on an answer that is not to its offer", function()
    local asked = { server_max_window_bits = 10, server_no_context_takeover = true }
    for _, case in ipairs {
      { {}, "; unknown", "it has no parameter 'unknown'" },
      { {}, "; server_no_context_takeover=1", "server_no_context_takeover has no value" },
      { {}, "; server_max_window_bits", "server_max_window_bits is a number from 8 to 15" },
      { {}, "; server_max_window_bits=16", "server_max_window_bits is a number from 8 to 15" },
      { {}, "; client_max_window_bits", "client_max_window_bits is a number from 8 to 15" },
      { {}, "; client_max_window_bits=10; client_max_window_bits=10", "client_max_window_bits stands twice" },
      { { client_max_window_bits = false }, "; client_max_window_bits=10", "client_max_window_bits was not offered" },
      { asked, "; server_no_context_takeover", "server_max_window_bits was asked for and not granted" },
      { asked, "; server_max_window_bits=10", "server_no_context_takeover was asked for and not granted" },
      { asked, "; server_no_context_takeover; server_max_window_bits=11",
        "server_max_window_bits is 11, and 10 was asked for" },
    } do
      assert.same({ nil, "permessage-deflate: " .. case[3] }, { start("client", case[1], case[2]) })
    end
    assert.is_table(start("client", asked, "; server_no_context_takeover; server_max_window_bits=9"))
    assert.is_table(start("client", {}, "; server_max_window_bits=8; server_no_context_takeover"))
    assert.is_table(start("client", {}, "; client_no_context_takeover; client_max_window_bits=15"))
  end)

  it("compresses with takeover unless it was agreed or chosen otherwise", function()
    local message = ("Hello, "):rep(20)
    for _, case in ipairs {
      { "server", {}, "", true, true },
      { "server", {}, "; server_no_context_takeover", false, true },
      { "server", { server_no_context_takeover = true }, "", false, true },
      { "server", {}, "; client_no_context_takeover", true, false },
      { "client", {}, "", true, true },
      { "client", {}, "; client_no_context_takeover", false, true },
      { "client", { client_no_context_takeover = true }, "", false, true },
      { "client", {}, "; server_no_context_takeover", true, false },
    } do
      local session = start(case[1], case[2], case[3])
      local first, kind, marked = session:send(message, "text")
      assert.same({ true, "text", true }, { #first < 20, kind, marked })
      assert.equal(case[4], #session:send(message, "text") < #first)
      assert.same({ "Hello", "binary" }, { session:receive(HELLO, "binary", true) })
      if case[5] then
        assert.same({ "Hello", "text" }, { session:receive(AGAIN, "text", true) })
      else
        assert.same({ nil, "the compressed message is corrupt", 1007 }, { session:receive(AGAIN, "text", true) })
      end
      session:closed(1000, "")
    end
  end)

  it("keeps to the windows agreed", function()
    local noise = {}
    for i = 1, 3000 do
      noise[i] = string.char(i * i % 251, i % 7)
    end
    noise = table.concat(noise)
    for bits = 9, 15 do
      local agreed = ("; server_max_window_bits=%d; client_max_window_bits=%d"):format(bits, bits)
      local server, client = start("server", {}, agreed), start("client", {}, agreed)
      server.link.most, client.link.most = #noise, #noise
      for _ = 1, 3 do
        assert.equal(noise, client:receive(server:send(noise, "binary")))
        assert.equal(noise, server:receive(client:send(noise, "binary")))
      end
      assert.equal(codec.deflater({ window_bits = bits }):memory(), server.deflater:memory())
      assert.equal(codec.inflater({ window_bits = bits }):memory(), server.inflater:memory())
    end
    local narrow = start("client", { client_max_window_bits = 10 }, "")
    narrow:send(noise, "binary")
    assert.is_true(narrow.deflater:memory() < 150000)
  end)

  it("sends as it is what it cannot compress with a window of 8 bits", function()
    local client = start("client", {}, "; client_max_window_bits=8; server_max_window_bits=8")
    local message = ("x"):rep(1000)
    assert.same({ message, "text" }, { client:send(message, "text") })
    assert.same({ "Hello", "text" }, { client:receive(HELLO, "text", true) })
  end)

  it("sends as they are short messages, and those that would only grow", function()
    local session = start("server", { server_no_context_takeover = true }, "")
    assert.same({ ("x"):rep(63), "text" }, { session:send(("x"):rep(63), "text") })
    assert.is_true(select(3, session:send(("x"):rep(64), "text")))
    session = start("server", { threshold = 5 }, "")
    assert.same({ "Hell", "text" }, { session:send("Hell", "text") })
    assert.same({ HELLO, "text", true }, { session:send("Hello", "text") }) -- the next may refer to it
    session = start("server", { threshold = 5, server_no_context_takeover = true }, "")
    assert.same({ "Hello", "text" }, { session:send("Hello", "text") })
    session = start("server", { threshold = 0 }, "")
    assert.same({ "\0", "binary", true }, { session:send("", "binary") })
  end)

  it("takes what is not marked as it is", function()
    local session = start("server", {}, "")
    assert.same({ HELLO, "binary" }, { session:receive(HELLO, "binary", false) })
    assert.is_nil(session.inflater)
  end)

  it("keeps to the limit that the connection has at the time", function()
    local server, client = start("server", {}, ""), start("client", {}, "")
    server.link.most = 100
    assert.equal(100, #server:receive(client:send(("x"):rep(100), "text")))
    assert.same({ nil, "the message is too big once it is inflated", 1009 },
      { server:receive(client:send(("x"):rep(101), "text")) })
  end)

  it("has one codec for all connections without takeover, and one for each with it", function()
    local definition = deflate.new { threshold = 0 }
    local both = "; server_no_context_takeover; client_no_context_takeover"
    local message = ("x"):rep(100)
    local function used(agreed)
      local session = start("server", nil, agreed, definition)
      assert.is_nil(session.deflater or session.inflater)
      session:send(message, "text")
      session:receive(HELLO, "text", true)
      return session
    end
    local one, other, narrow = used(both), used(both), used(both .. "; server_max_window_bits=10")
    assert.equal(one.deflater, other.deflater)
    assert.equal(one.inflater, narrow.inflater)
    assert.not_equal(one.deflater, narrow.deflater)
    local shared = one.deflater
    one:closed(1000, "")
    assert.same({ message, "text" }, { other:receive(other:send(message, "text")) })
    assert.is_true(shared:memory() > 0)

    one, other = used "", used ""
    assert.not_equal(one.deflater, other.deflater)
    assert.not_equal(one.inflater, other.inflater)
    local deflater, inflater = one.deflater, one.inflater
    one:closed(1000, "")
    assert.same({ 0, 0 }, { deflater:memory(), inflater:memory() })
    assert.is_true(other.deflater:memory() > 0)
  end)

  it("is one definition for all connections where a policy alone names it", function()
    for _, list in ipairs { extension.none, extension.list({}, "khp.listen", 1) } do
      local function agreed()
        return list:agreed(assert(http.extensions "permessage-deflate"), {})[1].definition
      end
      assert.equal(agreed(), agreed())
    end
  end)

  it("checks its options", function()
    for _, options in ipairs {
      { level = 10 }, { memory_level = 0 }, { threshold = -1 }, { server_max_window_bits = 8 },
      { client_max_window_bits = 16 }, { client_max_window_bits = "10" }, { server_no_context_takeover = 1 },
      { window_bits = 10 },
    } do
      local ok, message = pcall(deflate.new, options)
      assert.is_false(ok)
      assert.matches("khp.extension.permessage_deflate", message, 1, true)
    end
  end)
end)
