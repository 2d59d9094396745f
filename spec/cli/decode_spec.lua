-- khp decode: captured bytes, taken apart and shown; up to where they break, with the place and the rule.

local command = require "spec.support.command"
local dissect = require "khp.cli.dissect"
local net = require "spec.support.net"
local khp = command.khp

local frame = net.frame

-- A frame of a server: first byte and payload.
local function plain(first, payload, length)
  return frame(first, payload, { unmasked = true, length = length })
end

local REQUEST = "GET /echo HTTP/1.1\r\nHost: example.org\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" ..
  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n" ..
  "Sec-WebSocket-Protocol: x-kaazing-handshake, echo\r\nCookie: session=1234\r\n\r\n"
local RESPONSE = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" ..
  "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: x-kaazing-handshake\r\n\r\n"
local FIRST = "GET /echo HTTP/1.1\r\nSec-WebSocket-Protocol: echo\r\n\r\n"
local CHALLENGE = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"m\"\r\nContent-Length: 3\r\n\r\nno\n"
local SECOND = "GET /echo HTTP/1.1\r\nAuthorization: Basic am9lOm9wZW4=\r\n\r\n"
local COMPLETED = "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Protocol: echo\r\n\r\n"

local CLIENT = REQUEST .. frame(0x82, FIRST) .. frame(0x82, SECOND) .. frame(0x01, "Hel") .. frame(0x89, "") ..
  frame(0x80, "lo") .. frame(0x82, "\0\1\255") .. frame(0x88, "\3\232done")
local SERVER = RESPONSE .. plain(0x82, CHALLENGE) .. plain(0x02, COMPLETED:sub(1, 20)) ..
  plain(0x80, COMPLETED:sub(21)) .. plain(0x8A, "") .. plain(0x81, "GET / HTTP/1.1\r\n\r\n") .. plain(0x88, "\3\232")

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

describe("compressed messages", function()
  local core = require "khp.core"
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

describe("khp decode", function()
  local paths = {}

  local function file(bytes)
    paths[#paths + 1] = command.file(bytes)
    return paths[#paths]
  end

  after_each(function()
    for _, path in ipairs(paths) do
      os.remove(path)
    end
    paths = {}
  end)

  it("shows both directions: the handshakes as they answer each other, then the rest", function()
    local output, errors, status = khp(("decode --client %s --server %s"):format(file(CLIENT), file(SERVER)))
    assert.same({ "", 0 }, { errors, status })
    local list = {}
    for line in output:gmatch "[^\n]+" do
      list[#list + 1] = line:match "^ +%d+  (.*)$"
    end
    assert.same({
      "client ──▶ server  opening       GET /echo HTTP/1.1",
      "client ◀── server  opening       HTTP/1.1 101 Switching Protocols",
      "client ──▶ server  binary        52 bytes, masked",
      "client ──▶ server  extended      GET /echo HTTP/1.1",
      "client ◀── server  binary        86 bytes, not masked",
      "client ◀── server  extended      HTTP/1.1 401 Unauthorized",
      "client ──▶ server  binary        57 bytes, masked",
      "client ──▶ server  extended      GET /echo HTTP/1.1",
      "client ◀── server  binary        20 bytes, not masked, more to come",
      "client ◀── server  continuation  46 bytes, not masked",
      "client ◀── server  extended      HTTP/1.1 101 Switching Protocols",
      "client ──▶ server  text          3 bytes, masked, more to come: Hel",
      "client ──▶ server  ping          0 bytes, masked",
      "client ──▶ server  continuation  2 bytes, masked: lo",
      "client ──▶ server  binary        3 bytes, masked: 00 01 ff",
      "client ──▶ server  close         6 bytes, masked: 1000 done",
      "client ◀── server  pong          0 bytes, not masked",
      "client ◀── server  text          18 bytes, not masked: GET / HTTP/1.1\\r\\n\\r\\n",
      "client ◀── server  close         2 bytes, not masked: 1000",
    }, list)
    assert.matches("\n +Cookie: %(not shown%)\n", output)
    assert.matches("\n +Authorization: Basic %(not shown%)\n", output)
    assert.matches("Authorization: Basic am9lOm9wZW4=\n", (khp("decode --secrets " .. paths[1])))
  end)

  it("reads standard input and prints objects with --json, which hold all that a program may want", function()
    local output, errors, status = khp("decode --json <" .. file(REQUEST:gsub("x%-kaazing%-handshake, ", "") ..
      frame(0x81, "hé") .. frame(0xC1, "\1\2") .. frame(0x88, "\3\233bye") .. "\0"))
    assert.same({ "", 1 }, { errors, status })
    local lines = {}
    for line in output:gmatch "[^\n]+" do
      lines[#lines + 1] = line
    end
    assert.matches('^{"event":"head","from":"client","headers":%[%["Host","example.org"%],.*' ..
      '%["Cookie","%(not shown%)"%]%],"method":"GET","offset":0,"target":"/echo"}$', lines[1])
    local at = #REQUEST - 21
    assert.equal(('{"event":"frame","fin":true,"from":"client","length":3,"masked":true,"name":"text","offset":%d,' ..
      '"opcode":1,"rsv":0,"text":"hé"}'):format(at), lines[2])
    assert.matches('^{"event":"frame","base64":"AQI=","compressed":true,', lines[3])
    assert.matches('"code":1001,.*"reason":"bye"', lines[4])
    assert.matches('^{"event":"error",.*"text":"the bytes end in the middle of a frame\'s header"}$', lines[5])
  end)

  it("shows secrets in no form without --secrets", function()
    local core = require "khp.core"
    local secret = ("TOPSECRET "):rep(4)
    local request = "GET /echo?token=" .. secret:gsub(" ", "") .. " HTTP/1.1\r\nAuthorization: Basic " .. secret ..
      "\r\nX-Api-Key: " .. secret .. "\r\n\r\n"
    local opening = REQUEST:gsub("/echo", "/echo?a=TOPSECRET", 1):gsub("1234", "TOPSECRET")
    local agreed = RESPONSE:gsub("\r\n\r\n$", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
    local deflated = core.deflate.deflater({}):message(request)
    local directive = plain(0x82, "\239\131\191Rws://h/?t=TOPSECRET")
    local function check(arguments, pieces)
      local output = khp("decode " .. arguments) .. khp("decode --json " .. arguments)
      assert.is_nil(output:find("TOPSECRET", 1, true), output)
      assert.is_nil(output:find("54 4f 50", 1, true), output)
      for text in output:gmatch '"base64":"([^"]*)"' do
        assert.is_nil(require("khp.crypto").unbase64(text):find("TOPSECRET", 1, true))
      end
      for _, piece in ipairs(pieces) do
        assert.is_nil(output:find(require("khp.crypto").base64(piece), 1, true), output)
      end
      return output
    end
    local whole, third = frame(0x82, request), math.floor(#request / 3)
    local parts = frame(0x02, request:sub(1, third)) .. frame(0x00, request:sub(third + 1, 2 * third)) ..
      frame(0x80, request:sub(2 * third + 1))
    for _, stream in ipairs {
      opening .. whole, opening .. parts, whole, parts, opening .. whole:sub(1, -20), opening .. parts:sub(1, -20),
      opening .. frame(0xC2, deflated), frame(0xC2, deflated),
      opening .. frame(0x42, deflated:sub(1, 20)) .. frame(0x80, deflated:sub(21)):sub(1, -3),
    } do
      check("--client " .. file(stream), { request, deflated })
      check("<" .. file(stream), { request, deflated })
      check(("--client %s --server %s"):format(file(stream), file(agreed .. directive)), { request, deflated })
    end
    local shown = check("--server " .. file(agreed .. directive), {})
    assert.matches("binary +%d+ bytes, not masked: \239\131\191Rws://h/%?t=…\n", shown)
    assert.matches('"directive":"Rws://h/%?t=…"', shown)
    local output = khp("decode --secrets --json " .. file(opening .. whole))
    assert.truthy(output:find(require("khp.crypto").base64(request), 1, true))
    assert.matches('"target":"/echo%?token=TOPSECRET', output)
  end)

  it("shows what compressed messages are", function()
    local core = require "khp.core"
    local agreed = RESPONSE:gsub("x%-kaazing%-handshake", "echo\r\nSec-WebSocket-Extensions: permessage-deflate")
    local deflater = core.deflate.deflater {}
    local path = file(agreed .. plain(0xC1, deflater:message(("hé"):rep(9))) .. plain(0xC2, deflater:message "\1\2"))
    local output, errors, status = khp("decode " .. path)
    assert.same({ "", 0 }, { errors, status })
    assert.matches("text +%d+ bytes, not masked, compressed, 27 bytes inflated: héhéhéhéhéhéhéhéhé\n", output)
    assert.matches("binary +%d+ bytes, not masked, compressed, 2 bytes inflated: 01 02\n", output)
    output = khp("decode --json " .. path)
    assert.matches('"inflated":{"length":27,"text":"héhéhéhéhéhéhéhéhé"}', output)
    assert.matches('"inflated":{"base64":"AQI=","length":2}', output)
  end)

  it("gives text that is cut inside a character as base64", function()
    assert.matches('"base64":"aMM="', (khp("decode --json <" .. file(frame(0x01, "h\195") .. frame(0x80, "\169")))))
  end)

  it("reads files of any size with little memory", function()
    local cli, decode = require "khp.cli", require "khp.cli.decode"
    local response = RESPONSE:gsub("x%-kaazing%-handshake", "echo")
    local path = file(response .. plain(0x82, ("x"):rep(100000)):rep(300))
    local write, lines, most = cli.write, 0, 0
    cli.write = function()
      lines = lines + 1
      if lines % 50 == 0 then
        collectgarbage()
        most = math.max(most, collectgarbage "count")
      end
    end
    for _, given in ipairs { { server = path }, { file = path }, { client = file(CLIENT), server = path } } do
      collectgarbage()
      local before = collectgarbage "count"
      lines, most = 0, 0
      local ok, status = pcall(decode.run, given)
      assert.same({ true, 0 }, { ok, status })
      assert.is_true(lines > 300)
      assert.is_true(most - before < 4000, most - before)
    end
    cli.write = write
  end)

  it("asks whether the two directions are swapped", function()
    local client, server = file(CLIENT), file(SERVER)
    local _, errors, status = khp(("decode --client %s --server %s"):format(server, client))
    assert.equal(1, status)
    local question = "khp: decode: %s looks like what a %s sent\nAre --client and --server swapped?\n"
    assert.equal(question:format(server, "server") .. question:format(client, "client"), errors)
  end)

  it("says what is wrong with what it is given", function()
    for arguments, expected in pairs {
      ["/no/such/file"] = { 1, "khp: decode: /no/such/file: No such file or directory\nIs the path right" },
      ["</dev/null"] = { 1, "khp: decode: there are no bytes\n" },
      ["--pcap /no/such/file"] = { 1, "khp: decode: .*" },
      ["/tmp"] = { 1, "khp: decode: /tmp: Is a directory\n$" },
      ["--client /tmp"] = { 1, "khp: decode: /tmp: Is a directory\n$" },
      ["--pcap /tmp"] = { 1, "khp: decode: .*" },
      ["--client a b"] = { 2, "khp: decode: %-%-client and FILE exclude each other\nusage: khp decode" },
      ["--client a --pcap b"] = { 2, "khp: decode: %-%-pcap and %-%-client exclude each other\n" },
      ["--client a --server b c"] = { 2, "khp: decode: %-%-client and %-%-server and FILE exclude each other\n" },
      ["a b"] = { 2, "khp: decode: too many arguments\nusage: khp decode" },
    } do
      local output, errors, status = khp("decode " .. arguments)
      assert.same({ "", expected[1] }, { output, status })
      assert.matches("^" .. expected[2], errors)
    end
  end)

  -- Packets of TCP without Ethernet, in the oldest format (LINKTYPE_RAW).
  local function write_capture(pieces, late, port)
    port = port or 40000
    local parts, next_byte = { string.pack("<I4I2I2i4I4I4I4", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 101) }, { 1000, 5000 }
    local function packet(side, flags, payload)
      local ports = side == 1 and { port, 8000 } or { 8000, port }
      local tcp = string.pack(">I2I2I4I4I1I1I2I2I2", ports[1], ports[2], next_byte[side], next_byte[3 - side], 0x50,
        flags, 65535, 0, 0) .. payload
      local from, to = "\10\0\0" .. string.char(side), "\10\0\0" .. string.char(3 - side)
      local ip = string.pack(">I1I1I2I2I2I1I1I2", 0x45, 0, 20 + #tcp, #parts, 0, 64, 6, 0) .. from .. to .. tcp
      parts[#parts + 1] = string.pack("<I4I4I4I4", #parts, 0, #ip, #ip) .. ip
      next_byte[side] = next_byte[side] + #payload + (flags % 4 > 0 and 1 or 0)
    end
    if not late then
      packet(1, 2, "")
      packet(2, 18, "")
      packet(1, 16, "")
    end
    for _, piece in ipairs(pieces) do
      next_byte[piece[1]] = next_byte[piece[1]] + (piece.lost or 0)
      packet(piece[1], 24, piece[2])
    end
    return table.concat(parts)
  end

  it("reads captured packets with tshark, in order of time", function()
    if not os.execute "command -v tshark >/dev/null" then
      return pending "tshark is not installed"
    end
    local capture = file(write_capture {
      { 1, REQUEST }, { 2, RESPONSE }, { 1, frame(0x82, FIRST) }, { 2, plain(0x82, COMPLETED) },
      { 1, frame(0x81, "one"):sub(1, 5) }, { 1, frame(0x81, "one"):sub(6) }, { 2, plain(0x81, "two") },
    })
    local output, errors, status = khp("decode --pcap " .. capture)
    assert.same({ "", 0 }, { errors, status })
    assert.matches("^10%.0%.0%.1:40000 ── 10%.0%.0%.2:8000\n", output)
    local list = {}
    for arrow, what in output:gmatch "\n +%d+  client (%S+) server  (%a+)" do
      list[#list + 1] = (arrow == "──▶" and "C " or "S ") .. what
    end
    assert.same({
      "C opening", "S opening", "C binary", "C extended", "S binary", "S extended", "C text", "S text",
    }, list)
    output, errors, status = khp("decode --pcap " .. file(write_capture { { 1, "SSH-2.0-x\r\n" } }))
    assert.same({ "", 1 }, { output, status })
    assert.matches("there is no WebSocket to be seen in .*\nTLS hides", errors)
    output, errors, status = khp("decode --pcap " .. file "no packets")
    assert.same({ "", 1 }, { output, status })
    assert.matches("^khp: decode: tshark cannot read .*\nIs it a file of captured packets%?\n$", errors)
  end)

  it("reads captures that begin late, and captures that are cut", function()
    if not os.execute "command -v tshark >/dev/null" then
      return pending "tshark is not installed"
    end
    local capture = write_capture({
      { 2, plain(0x81, "one") }, { 1, frame(0x81, "two") }, { 2, plain(0x81, "three") }, { 1, frame(0x81, "four") },
    }, true)
    local output, errors, status = khp("decode --pcap " .. file(capture))
    assert.same({ "", 0 }, { errors, status })
    assert.matches("^10%.0%.0%.1:40000 ── 10%.0%.0%.2:8000\n", output)
    local list = {}
    for arrow, text in output:gmatch "\n +%d+  client (%S+) server  text +%d[^:]*: (%a+)" do
      list[#list + 1] = (arrow == "──▶" and "C " or "S ") .. text
    end
    assert.same({ "S one", "C two", "S three", "C four" }, list)
    output, errors, status = khp("decode --pcap " .. file(capture:sub(1, -3)))
    assert.equal(1, status)
    assert.matches("three\n$", output)
    assert.matches("^khp: decode: that is not all of .*cut short in the middle of a packet", errors)
  end)

  it("says where a capture lacks packets", function()
    if not os.execute "command -v tshark >/dev/null" then
      return pending "tshark is not installed"
    end
    local output, errors, status = khp("decode --pcap " .. file(write_capture {
      { 1, REQUEST }, { 2, RESPONSE }, { 2, plain(0x81, "one") }, { 2, plain(0x81, "three"), lost = 20 },
      { 1, frame(0x81, "two") }, { 2, plain(0x81, "four") }, { 1, frame(0x81, "five") },
    }))
    assert.same({ "", 1 }, { errors, status })
    assert.matches((" %d  client ◀── server  error         20 bytes are missing in the capture\n"):format(#RESPONSE + 5),
      output)
    assert.matches("text +4 bytes, masked: five\n", output)
    assert.is_nil(output:find("reserved", 1, true))
  end)

  it("leaves other connections in a capture alone", function()
    if not os.execute "command -v tshark >/dev/null" then
      return pending "tshark is not installed"
    end
    for _, pieces in ipairs {
      { { 1, "GET / HTTP/1.1\r\nHost: a\r\n\r\n" }, { 2, "HTTP/1.1 200 OK\r\n\r\nnew WebSocket()" } },
      { { 1, "\22\3\1\0\1\1" }, { 2, "\22\3\3\0\1\1" } },
      { { 1, plain(0x81, "x") }, { 2, plain(0x81, "x") } },
    } do
      local output, _, status = khp("decode --pcap " .. file(write_capture(pieces)))
      assert.same({ "", 1 }, { output, status })
    end
  end)

  it("reads a capture in as many passes, however many connections are in it", function()
    if not os.execute "command -v tshark >/dev/null" then
      return pending "tshark is not installed"
    end
    local folder = os.tmpname()
    os.remove(folder)
    assert(os.execute("mkdir " .. folder))
    local tool = assert(io.open(folder .. "/tshark", "w"))
    tool:write(("#!/bin/sh\necho x >>%s/passes\nPATH=${PATH#*:}\nexec tshark \"$@\"\n"):format(folder))
    tool:close()
    assert(os.execute("chmod +x " .. folder .. "/tshark"))
    local captures = { write_capture({ { 1, REQUEST }, { 2, RESPONSE } }, false, 40000) }
    for i = 1, 20 do
      local is_other = i % 2 == 1
      captures[#captures + 1] = write_capture({
        { 1, is_other and "SSH-2.0\r\n" or REQUEST }, { 2, is_other and "SSH-2.0\r\n" or RESPONSE },
      }, false, 40000 + i):sub(25)
    end
    local output = khp("decode --pcap " .. file(table.concat(captures)), ("PATH=%s:$PATH"):format(folder))
    local count, last = 0, 0
    for port in output:gmatch "10%.0%.0%.1:(%d+) ── " do
      assert.is_true(tonumber(port) > last)
      count, last = count + 1, tonumber(port)
    end
    assert.equal(11, count)
    assert.equal("x\nx\n", io.open(folder .. "/passes"):read "*a")
    os.execute("rm -r " .. folder)
  end)

  it("says so where tshark is missing", function()
    local lua = io.popen("command -v " .. (os.getenv "LUA" or "lua5.4")):read "*l"
    local pipe = io.popen(("PATH=/nowhere %s bin/khp decode --pcap %s 2>&1"):format(lua, file "x"))
    local text = pipe:read "*a"
    local _, _, status = pipe:close()
    assert.equal(1, status)
    assert.matches("^khp: decode: %-%-pcap needs tshark, which is not installed\nInstall it .*%-%-client FILE", text)
  end)
end)
