-- khp decode --pcap: connections in captured packets, which tshark puts together.

local captured = require "spec.support.captured"
local command = require "spec.support.command"
local net = require "spec.support.net"

local frame = net.frame
local khp = command.khp
local plain = captured.plain
local REQUEST, RESPONSE, FIRST, COMPLETED = captured.REQUEST, captured.RESPONSE, captured.FIRST, captured.COMPLETED

describe("khp decode --pcap", function()
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

  it("reads captured packets with tshark, in order of time", function()
    if not os.execute "command -v tshark >/dev/null" then
      return pending "tshark is not installed"
    end
    local capture = file(captured.packets {
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
    output, errors, status = khp("decode --pcap " .. file(captured.packets { { 1, "SSH-2.0-x\r\n" } }))
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
    local capture = captured.packets({
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
    output, errors, status = khp("decode --pcap " .. file(captured.packets({ -- in the middle of a handshake
      { 2, plain(0x82, COMPLETED) }, { 1, frame(0x81, "two") }, { 2, plain(0x81, "three") },
    }, true)))
    assert.same({ "", 0 }, { errors, status })
    assert.matches("client ◀── server  extended +HTTP/1.1 101", output)
    assert.matches("client ──▶ server  text +3 bytes, masked: two", output)
    output, errors, status = khp("decode --pcap " .. file(capture:sub(1, -3)))
    assert.equal(1, status)
    assert.matches("three\n$", output)
    assert.matches("^khp: decode: that is not all of .*cut short in the middle of a packet", errors)
  end)

  it("says where a capture lacks packets", function()
    if not os.execute "command -v tshark >/dev/null" then
      return pending "tshark is not installed"
    end
    local output, errors, status = khp("decode --pcap " .. file(captured.packets {
      { 1, REQUEST }, { 2, RESPONSE }, { 2, plain(0x81, "one") }, { 2, plain(0x81, "three"), lost = 20 },
      { 1, frame(0x81, "two") }, { 2, plain(0x81, "four") }, { 1, frame(0x81, "five") },
    }))
    assert.same({ "", 1 }, { errors, status })
    local expected = " %d  client ◀── server  error         20 bytes are missing in the capture\n"
    assert.matches(expected:format(#RESPONSE + 5), output)
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
      local output, _, status = khp("decode --pcap " .. file(captured.packets(pieces)))
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
    local captures = { captured.packets({ { 1, REQUEST }, { 2, RESPONSE } }, false, 40000) }
    for i = 1, 20 do
      local is_other = i % 2 == 1
      captures[#captures + 1] = captured.packets({
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
