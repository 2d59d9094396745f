-- permessage-deflate (RFC 7692) with other people's implementations of it.

local decision = require "khp.policy.decision"
local http = require "khp.http"
local khp = require "khp"
local net = require "spec.support.net"
local peers = require "spec.peers.peers"

local deflate = khp.extension.permessage_deflate

---@type peers.Case[]
local cases = {}

local function case(title, run, needs, role)
  cases[#cases + 1] = { title = title, run = run, needs = needs, role = role }
end

-- Bytes that nobody can compress, the same in every run.
local function noise(size)
  local seed, bytes = 7, {}
  for i = 1, size do
    seed = (seed * 1103515245 + 12345) % 2147483648
    bytes[i] = string.char(math.floor(seed / 65536) % 256)
  end
  return table.concat(bytes)
end

local WORDS = ("Grüße, κόσμε 世界 🌍. "):rep(3000)
local NOISE = noise(5000)
local MIB = ("0123456789abcdef"):rep(65536)

local function exchange(ours, theirs, messages)
  for _, message in ipairs(messages) do
    local kind = utf8.len(message) and "text" or "binary"
    assert(ours:send(message, kind))
    local received, received_kind = theirs:receive()
    assert.is_true(received == message, #message .. " bytes became others on their way to the peer")
    assert.equal(kind, received_kind)
    theirs:send(message, kind)
    received, received_kind = ours:receive(net.PATIENCE)
    assert.is_true(received == message, #message .. " bytes became others on their way from the peer")
    assert.equal(kind, received_kind)
  end
end

local function finish(ours, theirs)
  ours:close()
  assert.is_true(ours.closed.clean)
  assert.equal(1000, (theirs:closed()))
end

local function agreed(ours, theirs)
  assert.matches("permessage%-deflate", theirs.extensions)
  assert.equal("permessage-deflate", ours.extensions[1].name)
  return http.format_extensions(ours.extensions)
end

case("compresses and inflates messages of all kinds", function(w)
  local ours, theirs = w:pair { deflate = "deflate", ours = { extensions = { deflate { threshold = 0 } } } }
  agreed(ours, theirs)
  exchange(ours, theirs, { "x", "", WORDS, NOISE, "", "x", WORDS, WORDS })
  finish(ours, theirs)
end)

case("sends a message of 1 MiB as a few thousand bytes", function(w)
  local ours, theirs = w:pair { deflate = "deflate", ours = { extensions = { "permessage-deflate" } } }
  agreed(ours, theirs)
  exchange(ours, theirs, { MIB, MIB })
  if w.role == "client" then
    local stats = w.servers[1]:stats()
    assert.is_true(stats.bytes_out < 20000)
    if w.can.compresses then
      assert.is_true(stats.bytes_in < 20000)
    end
  end
  finish(ours, theirs)
end)

case("leaves out what we do not agree to", function(w)
  local ours, theirs = w:pair { deflate = "deflate" }
  assert.equal("", theirs.extensions)
  assert.same({}, ours.extensions)
  exchange(ours, theirs, { WORDS })
  finish(ours, theirs)
end)

-- What we ask for, and where the peer shall be a server what it is told to agree to.
for _, parameters in ipairs {
  { server_no_context_takeover = true },
  { client_no_context_takeover = true },
  { server_no_context_takeover = true, client_no_context_takeover = true },
  { server_max_window_bits = 9 },
  { server_max_window_bits = 10, client_max_window_bits = 9, client_no_context_takeover = true },
} do
  local names = {}
  for name, value in pairs(parameters) do
    names[#names + 1] = value == true and name or ("%s=%d"):format(name, value)
  end
  table.sort(names)
  parameters.threshold = 0

  case("keeps to " .. table.concat(names, ", "), function(w)
    local ours, theirs = w:pair {
      deflate = w.role == "server" and "deflate;" .. table.concat(names, ";")
        or "deflate" .. (w.can.pieces and ";client_max_window_bits" or ""), -- browsers offer it unasked
      ours = { extensions = { deflate(parameters) } },
    }
    local header = agreed(ours, theirs)
    for _, name in ipairs(names) do
      assert.truthy(header:find(name, 1, true), header)
    end
    exchange(ours, theirs, { WORDS, NOISE, "x", WORDS, "", NOISE, WORDS })
    finish(ours, theirs)
  end)
end

case("compresses a message in pieces, with pings between them", function(w)
  local ours, theirs = w:pair { deflate = "deflate", ours = { extensions = { "permessage-deflate" } } }
  agreed(ours, theirs)
  for _ = 1, 2 do
    theirs:piece(WORDS, "text")
    assert.equal("hello?", theirs:ping "hello?")
    theirs:piece("", "text")
    theirs:piece(WORDS, "text", true)
    assert.is_true(ours:receive(net.PATIENCE) == WORDS .. WORDS)
  end
  finish(ours, theirs)
end, "pieces")

case("is refused when a message would inflate beyond the limit", function(w)
  local ours, theirs = w:pair {
    deflate = "deflate",
    ours = { extensions = { "permessage-deflate" }, limits = { message = 100000 } },
  }
  agreed(ours, theirs)
  theirs:send(MIB)
  assert.is_nil((ours:receive(net.PATIENCE)))
  assert.equal(1009, (theirs:closed()))
end, "compresses")

case("compresses over TLS", function(w)
  local ours, theirs = w:pair { tls = true, deflate = "deflate", ours = { extensions = { "permessage-deflate" } } }
  agreed(ours, theirs)
  exchange(ours, theirs, { WORDS, NOISE })
  finish(ours, theirs)
end, "tls")

case("compresses the extended handshake, too", function(w)
  local url, server = w:serve {
    extensions = { deflate { threshold = 0 } },
    policy = {
      extended = function(request, session)
        return session:basic(request, { joe = "open sesame" }) and decision.accept {}
          or decision.challenge 'Basic realm="members"'
      end,
    },
  }
  local theirs = w.puppet:enter(url, "joe", "open sesame"):opened()
  local ours = server:connections()[1]
  assert.is_true(ours.khp)
  agreed(ours, theirs)
  exchange(ours, theirs, { WORDS })
  finish(ours, theirs)
end, "enters", "client")

describe("compression:", function()
  peers.try(_ENV, cases)
end)
