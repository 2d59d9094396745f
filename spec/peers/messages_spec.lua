-- What every peer is put through: subprotocols, messages of every kind and size, fragments, pings, closing, TLS.

local net = require "spec.support.net"
local peers = require "spec.peers.peers"

local MIB = 1024 * 1024

---@type peers.Case[]
local cases = {}

local function case(title, run, needs)
  cases[#cases + 1] = { title = title, run = run, needs = needs }
end

-- Letters and marks of every length in UTF-8, and all bytes.
local TEXT = "Grüße, κόσμε 世界 🌍\0\t\r\n"
local BYTES = {}
for i = 0, 255 do
  BYTES[i + 1] = string.char(i)
end
BYTES = table.concat(BYTES)

-- The same messages there and back.
local function exchange(ours, theirs)
  for _, message in ipairs {
    { TEXT, "text" }, { BYTES, "binary" }, { "", "text" }, { "", "binary" }, { ("a"):rep(125), "text" },
    { ("b"):rep(126), "text" }, { ("c"):rep(65535), "binary" }, { ("d"):rep(65536), "binary" },
  } do
    assert(ours:send(message[1], message[2]))
    assert.same(message, { theirs:receive() })
    theirs:send(message[1], message[2])
    assert.same(message, { ours:receive(net.PATIENCE) })
  end
end

local function exchange_large(ours, theirs, kinds)
  local message = ("0123456789abcdef"):rep(MIB / 16)
  for _, kind in ipairs(kinds) do
    ours:send(message, kind)
    local received, received_kind = theirs:receive()
    assert.is_true(received == message)
    assert.equal(kind, received_kind)
    theirs:send(message, kind)
    received, received_kind = ours:receive(net.PATIENCE)
    assert.is_true(received == message)
    assert.equal(kind, received_kind)
  end
end

local function finish(ours, theirs)
  ours:close()
  assert.is_true(ours.closed.clean)
  assert.equal(1000, (theirs:closed()))
end

case("agrees on a subprotocol", function(w)
  local ours, theirs = w:pair {
    asked = { "amqp", "chat", "echo" },
    offered = w.role == "client" and { "echo", "chat" } or { "chat", "echo" }, -- some weigh both sides' preferences
  }
  assert.equal("chat", ours.protocol)
  assert.equal("chat", theirs.protocol)
  assert.is_false(ours.khp)
  finish(ours, theirs)
end)

case("exchanges text, bytes, and empty messages", function(w)
  local ours, theirs = w:pair()
  assert.is_nil(ours.protocol)
  exchange(ours, theirs)
  finish(ours, theirs)
end)

case("exchanges messages of 1 MiB", function(w)
  local ours, theirs = w:pair()
  exchange_large(ours, theirs, { "text", "binary" })
  finish(ours, theirs)
end)

case("exchanges many small messages in order", function(w)
  local ours, theirs = w:pair()
  for i = 1, 2000 do
    ours:send("ours " .. i)
    theirs:send("theirs " .. i)
  end
  for i = 1, 2000 do
    assert.equal("ours " .. i, (theirs:receive()))
    assert.equal("theirs " .. i, (ours:receive(net.PATIENCE)))
  end
  finish(ours, theirs)
end)

case("sends messages in pieces, and pings between them", function(w)
  local ours, theirs = w:pair()
  theirs:piece("Grü", "text")
  assert.equal("hello?", theirs:ping "hello?")
  theirs:piece("", "text")
  theirs:piece("ße", "text", true)
  assert.same({ "Grüße", "text" }, { ours:receive(net.PATIENCE) })
  local piece = BYTES:rep(256)
  for i = 1, 16 do
    theirs:piece(piece, "binary", i == 16)
  end
  local received, kind = ours:receive(net.PATIENCE)
  assert.is_true(received == piece:rep(16))
  assert.equal("binary", kind)
  finish(ours, theirs)
end, "pieces")

case("sends pieces that end inside a character", function(w)
  local ours, theirs = w:pair()
  for i = 1, #TEXT do
    theirs:piece(TEXT:sub(i, i), "text", i == #TEXT)
  end
  assert.same({ TEXT, "text" }, { ours:receive(net.PATIENCE) })
  finish(ours, theirs)
end, "splits")

case("answers pings", function(w)
  local ours, theirs = w:pair()
  assert.is_true(ours:ping(net.PATIENCE) >= 0)
  ours:send "after it"
  assert.equal("after it", (theirs:receive()))
  finish(ours, theirs)
end)

case("has its pings answered", function(w)
  local ours, theirs = w:pair()
  for _, payload in ipairs { "once", "twice", ("x"):rep(125) } do
    assert.equal(payload, theirs:ping(payload))
  end
  finish(ours, theirs)
end, "pings")

case("hears why we close", function(w)
  for code, reason in pairs { [1000] = "", [1001] = "going away", [3000] = "", [4321] = "tschüß, bis später" } do
    local ours, theirs = w:pair()
    ours:close(code, reason)
    assert.equal(code, ours.closed.code)
    assert.is_true(ours.closed.clean)
    assert.equal("local", ours.closed.by)
    assert.same({ code, reason, true }, { theirs:closed() })
  end
end)

case("tells why it closes", function(w)
  for code, reason in pairs { [1000] = "", [3000] = "x", [4999] = ("ü"):rep(61) } do
    local ours, theirs = w:pair()
    theirs:close(code, reason)
    assert.is_nil((ours:receive(net.PATIENCE)))
    assert.same({ code = code, reason = reason, clean = true, by = "peer" }, ours.closed)
    assert.equal(code, (theirs:closed()))
  end
end)

case("gets what was sent before we close", function(w)
  local ours, theirs = w:pair()
  ours:send(("x"):rep(100000))
  ours:send "last words"
  ours:close(4000)
  assert.equal(100000, #theirs:receive())
  assert.equal("last words", (theirs:receive()))
  assert.equal(4000, (theirs:closed()))
end)

case("is missed when it leaves without a word", function(w)
  local ours, theirs = w:pair()
  theirs:tear()
  assert.is_nil((ours:receive(net.PATIENCE)))
  assert.equal(1006, ours.closed.code)
  assert.is_false(ours.closed.clean)
  assert.equal(1006, (theirs:closed()))
end, "tears")

case("speaks over TLS", function(w)
  local ours, theirs = w:pair { tls = true }
  assert.matches("^TLSv1%.[23]$", ours:tls().version)
  exchange(ours, theirs)
  exchange_large(ours, theirs, { "binary" })
  finish(ours, theirs)
end, "tls")

describe("messages:", function()
  peers.try(_ENV, cases)
end)
