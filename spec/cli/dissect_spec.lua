-- Captured bytes, taken apart: up to where they break, with the place and the rule.

local captured = require "spec.support.captured"
local core = require "khp.core"
local dissect = require "khp.cli.dissect"
local net = require "spec.support.net"

local frame = net.frame
local plain = captured.plain
local REQUEST, RESPONSE, FIRST, CHALLENGE = captured.REQUEST, captured.RESPONSE, captured.FIRST, captured.CHALLENGE
local SECOND, COMPLETED, CLIENT, SERVER = captured.SECOND, captured.COMPLETED, captured.CLIENT, captured.SERVER

-- Each event in a word or two.
local function outline(events)
  local list = {}
  for i, one in ipairs(events) do
    list[i] = one.what == "frame" and one.frame.name .. (one.code and " " .. one.code or "") or
      one.what == "error" and "error at " .. ("%.0f"):format(one.offset) .. ": " .. one.text or
      one.what .. " " .. (one.message.method or one.message.status)
  end
  return list
end

local function take_apart(bytes, from, size)
  local machine = dissect.new(from)
  local events = {}
  for at = 1, #bytes, size or #bytes do
    for _, one in ipairs(machine:feed(bytes:sub(at, at + (size or #bytes) - 1))) do
      events[#events + 1] = one
    end
  end
  for _, one in ipairs(machine:finish()) do
    events[#events + 1] = one
  end
  return events, machine.from
end

describe("the bytes of one direction", function()
  local client = {
    "head GET", "binary", "extended GET", "binary", "extended GET", "text", "ping", "continuation", "binary",
    "close 1000",
  }
  local server = {
    "head 101", "binary", "extended 401", "binary", "continuation", "extended 101", "pong", "text", "close 1000",
  }

  it("are taken apart, whosever they are, in pieces of any size", function()
    for _, size in ipairs { 1, 2, 3, 7, 100, 100000 } do
      local events, from = take_apart(CLIENT, nil, size)
      assert.same({ client, "client" }, { outline(events), from })
      events, from = take_apart(SERVER, nil, size)
      assert.same({ server, "server" }, { outline(events), from })
    end
  end)

  it("may begin with frames", function()
    local events, from = take_apart(CLIENT:sub(#REQUEST + 1))
    assert.same({ "client", "binary", "extended GET" }, { from, outline(events)[1], outline(events)[2] })
    assert.same({ "text" }, outline(take_apart(plain(0x81, "x"))))
  end)

  it("may be ordinary HTTP, with bodies", function()
    local post = "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
    local events = take_apart(post .. post, nil, 5)
    assert.same({ "head POST", "head POST" }, outline(events))
    assert.equal(post, events[2].raw)
    events = take_apart("HTTP/1.1 200 OK\r\n\r\nall that follows\r\n\r\n", nil, 5)
    assert.same({ "head 200" }, outline(events))
    assert.matches("all that follows", events[1].raw)
  end)

  it("have places: each event knows the offset of its first byte", function()
    for _, stream in ipairs { CLIENT, SERVER } do
      for _, one in ipairs((take_apart(stream, nil, 10))) do
        if one.what == "frame" then
          assert.equal(one.frame.fin and 128 or 0, stream:byte(one.offset + 1) - stream:byte(one.offset + 1) % 128)
          assert.equal(one.frame.opcode, stream:byte(one.offset + 1) % 16)
        elseif one.what == "head" then
          assert.equal(0, one.offset)
        end
      end
    end
  end)

  it("are shown up to where they break, with the rule", function()
    for bytes, expected in pairs {
      [frame(0x83, "")] = "the opcode 3 is reserved",
      [frame(0xC1, "")] = "a reserved bit is set, and no extension was agreed to",
      [plain(0x81, "")] = "a client's frame is not masked",
      [frame(0x09, "")] = "a control frame is in pieces",
      [frame(0x89, ("x"):rep(126))] = "a control frame has more than 125 bytes",
      [frame(0x80, "")] = "a continuation without a beginning",
      [frame(0x01, "") .. frame(0x81, "")] = "a new message inside another one",
      [frame(0x88, "x")] = "a close frame with half a code",
      [frame(0x88, "\3\237")] = "the close code 1005 may not be sent",
      [frame(0x88, "\3\232\255")] = "the reason of a close frame is not UTF-8",
      [frame(0x81, "\255")] = "a text message is not UTF-8",
      ["\129\254\0\1abcdx"] = "the length is not written in the shortest way",
      [frame(0x81, "hello"):sub(1, 8)] = "the bytes end in the middle of a frame: 3 of 5 bytes are missing",
      [frame(0x81, "hello"):sub(1, 3)] = "the bytes end in the middle of a frame's header",
      [frame(0x01, "hello")] = "the bytes end in the middle of a message",
    } do
      local machine = dissect.new("client", { negotiated = false, khp = false })
      local events = machine:feed(REQUEST .. frame(0x81, "good") .. bytes)
      for _, one in ipairs(machine:finish()) do
        events[#events + 1] = one
      end
      local list = outline(events)
      assert.same({ "head GET", "text" }, { list[1], list[2] })
      local at, text = list[#list]:match "^error at (%d+): (.*)$"
      assert.matches("^" .. expected:gsub("%p", "%%%0"), text or list[#list])
      assert.is_true(tonumber(at) >= #REQUEST + 10)
    end
    assert.same({ "error at 0: no HTTP response: malformed status line" },
      { (outline(take_apart("HTTP/1.1 xyz\r\n\r\n"))[1]:gsub("(response: ).*", "%1malformed status line")) })
  end)

  it("may hold frames of any length: little of them is kept", function()
    local machine = dissect.new("server")
    machine:feed(RESPONSE .. "\130\127\0\0\1\0\0\0\0\0") -- 2^40 bytes
    local piece = ("x"):rep(1000000)
    collectgarbage()
    local before = collectgarbage "count"
    for _ = 1, 100 do
      assert.same({}, machine:feed(piece))
    end
    collectgarbage()
    assert.is_true(collectgarbage "count" - before < 4000)
    assert.matches("1099411627776 of 1099511627776 bytes are missing", outline(machine:finish())[2])
  end)
end)

describe("the extended handshake", function()
  it("may come in any number of messages, and none of them is taken for the application's", function()
    for _, opening in ipairs { REQUEST, "" } do
      for at = 1, #SECOND - 1 do
        local inside, extended = {}, 0
        for _, one in ipairs((take_apart(opening .. frame(0x82, SECOND:sub(1, at)) .. frame(0x82, SECOND:sub(at + 1)) ..
          frame(0x81, "GE") .. frame(0x81, "T off") .. frame(0x81, "it")))) do
          inside[#inside + 1] = one.what == "frame" and tostring(one.inside) or nil
          extended = extended + (one.what == "extended" and 1 or 0)
        end
        assert.same({ "true", "true", "true", "true", "true", 1 }, { inside[1], inside[2], inside[3], inside[4],
          inside[5], extended })
      end
    end
    assert.same({ "binary", "extended 401" }, outline((take_apart(plain(0x82, CHALLENGE)))))
  end)
end)

describe("compressed messages", function()
  local shared

  before_each(function()
    shared = {}
  end)

  local function answer(extension)
    return (RESPONSE:gsub("\r\n\r\n$", "\r\nSec-WebSocket-Extensions: " .. extension .. "\r\n\r\n"))
  end

  local function run(from, ...)
    local machine, events = dissect.new(from, shared), {}
    for _, bytes in ipairs { ... } do
      for _, one in ipairs(machine:feed(bytes)) do
        events[#events + 1] = one
      end
    end
    for _, one in ipairs(machine:finish()) do
      events[#events + 1] = one
    end
    return events
  end

  local function inflated(events)
    local list = {}
    for _, one in ipairs(events) do
      list[#list + 1] = one.inflated and one.inflated.payload
    end
    return list
  end

  it("are inflated in each direction, as the answer has it", function()
    for extension, takeover in pairs {
      ["permessage-deflate"] = true,
      ["permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=9"] = false,
    } do
      local down = core.deflate.deflater { takeover = takeover, window_bits = takeover and 15 or 9 }
      local up = core.deflate.deflater { takeover = takeover }
      shared = {}
      local events = run("server", answer(extension), plain(0xC2, down:message(CHALLENGE)),
        plain(0x42, down:message(COMPLETED)), plain(0x80, ""), plain(0xC1, down:message "hello"),
        plain(0xC1, down:message "hello"))
      assert.same({
        "head 101", "binary", "extended 401", "binary", "continuation", "extended 101", "text", "text",
      }, outline(events))
      assert.same({ CHALLENGE, COMPLETED, "hello", "hello" }, inflated(events))
      events = run("client", REQUEST, frame(0xC2, up:message(FIRST)), frame(0xC2, up:message(SECOND)),
        frame(0xC1, up:message "hé"), frame(0x81, "plain"))
      assert.same({ "head GET", "binary", "extended GET", "binary", "extended GET", "text", "text" }, outline(events))
      assert.same({ FIRST, SECOND, "hé" }, inflated(events))
      assert.same({ true, true }, { events[2].inside, events[4].inside })
      assert.is_false(events[6].inside)
    end
  end)

  it("that are no such thing are errors", function()
    assert.matches("a compressed message cannot be inflated: .*RFC 7692 7%.2%.2",
      outline(run("server", answer "permessage-deflate", plain(0xC1, "\255\255\255")))[3])
    local deflater = core.deflate.deflater {}
    assert.matches("a text message is not UTF%-8",
      outline(run("server", answer "permessage-deflate", plain(0xC1, deflater:message "\255")))[3])
  end)

  it("are inflated up to a limit, and then no more where they refer to others", function()
    local deflater = core.deflate.deflater {}
    local events = run("server", answer "permessage-deflate", plain(0xC2, deflater:message(("x"):rep(17 * 2 ^ 20))),
      plain(0xC1, deflater:message "hello"))
    assert.same({ "head 101", "binary", "text" }, outline(events))
    assert.same({}, inflated(events))
    deflater = core.deflate.deflater { takeover = false }
    shared = {}
    events = run("server", answer "permessage-deflate; server_no_context_takeover",
      plain(0xC2, deflater:message(("x"):rep(17 * 2 ^ 20))), plain(0xC1, deflater:message "hello"))
    assert.same({ "hello" }, inflated(events))
  end)

  it("stay compressed where nothing is known of the beginning", function()
    local deflater = core.deflate.deflater {}
    local events = run("server", plain(0xC1, deflater:message "hello"))
    assert.same({ "text" }, outline(events))
    assert.same({}, inflated(events))
    assert.is_true(events[1].frame.compressed)
    shared = {}
    events = run("server", answer "x-other", plain(0xC1, "x"))
    assert.is_false(events[2].frame.compressed)
  end)
end)

describe("directives", function()
  it("are no messages of the application: the handshake goes on behind them", function()
    local events = take_apart(RESPONSE .. plain(0x82, "\239\131\191N") .. plain(0x82, CHALLENGE) .. plain(0x82, "") ..
      plain(0x82, COMPLETED) .. plain(0x82, "\239\131\191N") .. plain(0x82, "\239\131\191N"))
    assert.same({
      "head 101", "binary", "binary", "extended 401", "binary", "binary", "extended 101", "binary", "binary",
    }, outline(events))
    assert.equal("\239\131\191N", events[8].directive)
    assert.is_nil(events[9].directive) -- the third is the application's
  end)
end)
