-- khp decode: what it shows of captured bytes, and what it leaves out.

local captured = require "spec.support.captured"
local command = require "spec.support.command"
local net = require "spec.support.net"

local frame = net.frame
local khp = command.khp
local plain = captured.plain
local REQUEST, RESPONSE, CLIENT, SERVER = captured.REQUEST, captured.RESPONSE, captured.CLIENT, captured.SERVER

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
    assert.is_nil((select(2, khp(("decode --client %s --server %s"):format(file "garbage\r\n\r\n", server)))
      :find "swapped"))
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
end)
