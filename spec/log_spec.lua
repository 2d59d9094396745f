-- The log: levels, text and JSON on standard error, and what becomes of bytes that would break out of a line.

local core = require "khp.core"
local khp = require "khp"
local log = require "khp.log"

describe("the log", function()
  local level, format, sink, stderr, written

  before_each(function()
    level, format, sink, stderr, written = log.level, log.format, log.sink, io.stderr, {}
    io.stderr = { write = function(_, ...) -- luacheck: ignore
      written[#written + 1] = table.concat { ... }
    end }
  end)

  after_each(function()
    log.level, log.format, log.sink, io.stderr = level, format, sink, stderr -- luacheck: ignore
  end)

  local HOSTILE = 'a\nkhp: error: b\r\27[2J\0"\\\127\194\155m\226\128\168\255end'

  it("writes what is important enough", function()
    log.level = "warn"
    log.info "unheard"
    log.warn("%d of %s", 2, "them")
    log.error "100%"
    log.record("info", "unheard", {})
    assert.same({ "khp: warn: 2 of them\n", "khp: error: 100%\n" }, written)
    log.level = "off"
    log.error "unheard"
    assert.equal(2, #written)
    assert.is_true(khp.log == log)
  end)

  it("refuses settings that mean nothing, which would silence it", function()
    local function throws(pattern, name, value)
      local ok, message = pcall(function()
        log[name] = value
      end)
      assert.is_false(ok)
      assert.matches("^spec/log_spec.lua:%d+: " .. pattern, message)
    end
    throws("log%.level: off, error, warn, info or debug expected, not warning", "level", "warning")
    throws("log%.format: text or json expected, not xml", "format", "xml")
    throws("log%.sink: a function expected, not nil", "sink", nil)
    throws("log: there is no setting 'levle'", "levle", "warn")
    assert.equal("warn", log.level)
    assert.has_error(function()
      log.enabled "foo"
    end, "log: a level expected, not foo")
  end)

  it("lets a peer's words not pass for its own", function()
    assert.equal([["a\" (ECONNECT), by \\x0A"]], log.quoted 'a" (ECONNECT), by \n')
  end)

  it("keeps a line of text a line", function()
    log.error("%s", HOSTILE)
    assert.equal('khp: error: a\n  khp: error: b\\x0D\\x1B[2J\\x00"\\\\x7F\\xC2\\x9Bm\226\128\168\255end\n', written[1])
    assert.equal('a\\x0Akhp: error: b\\x0D\\x1B[2J\\x00"\\\\x7F\\xC2\\x9Bm\226\128\168\255end', log.quote(HOSTILE))
    assert.equal("abc…", log.quote("abcdef", 3))
  end)

  it("writes an object of JSON a line, with the time, the level, the message and the rest by name", function()
    log.format, log.level = "json", "info"
    log.record("info", "opened", { b = true, a = { "x", "y" }, c = 1, d = 0.25 })
    local time, rest = written[1]:match '^{"time":"([^"]+)",(.*)$'
    assert.equal('"level":"info","message":"opened","a":["x","y"],"b":true,"c":1,"d":0.25}\n', rest)
    local year, month, day, hour, minute, second = time:match "^(%d+)%-(%d+)%-(%d+)T(%d+):(%d+):(%d+)%.%d%d%dZ$"
    assert.truthy(year, time)
    local now = os.date("!*t")
    local told = { year = year, month = month, day = day, hour = hour, min = minute, sec = second }
    assert.is_true(math.abs(os.time(told) - os.time(now)) <= 3601) -- summer time or not
  end)

  it("writes JSON that holds whatever comes", function()
    local line = log.json("error", HOSTILE, { key = "grüße \226\128\168 \194\133" })
    assert.is_nil(line:find "[%c\127]")
    assert.is_true(core.conn.utf8(line))
    assert.truthy(line:find('"message":"a\\nkhp: error: b\\r\\u001b[2J\\u0000\\"\\\\\\u007f', 1, true), line)
    assert.truthy(line:find('\\u2028\239\191\189end"', 1, true), line)
    assert.truthy(line:find('"key":"grüße \\u2028 \\u0085"', 1, true), line)
  end)

  it("writes every number, and those that JSON has no form for as null", function()
    local huge = math.huge
    local fields = { a = 2 ^ 70, b = huge, c = -huge, d = 0 / 0, e = math.maxinteger, f = 1e-7, g = { 1e300 } }
    local line = log.json("info", "", fields)
    assert.truthy(line:find('"a":1180591620717411303424,"b":null,"c":null,"d":null,"e":9223372036854775807,"f":1e-07,'
      .. '"g":[1', 1, true), line)
  end)

  it("is understood by another reader of JSON", function()
    local name = os.tmpname()
    local file = assert(io.open(name, "wb"))
    for _, text in ipairs { HOSTILE, "grüße", "", '"', "\226\128\169" } do
      file:write(log.json("error", text, { text = text, list = { text, text }, port = 80 }), "\n")
    end
    file:close()
    local script = name .. ".py"
    file = assert(io.open(script, "wb"))
    file:write [==[
import json, sys
lines = [json.loads(line) for line in open(sys.argv[1], encoding='utf-8', newline='\n')]
assert len(lines) == 5
assert all(l['list'] == [l['text']] * 2 and l['message'] == l['text'] and l['port'] == 80 for l in lines)
assert lines[1]['text'] == 'gr\u00fc\u00dfe' and lines[4]['text'] == '\u2029'
]==]
    file:close()
    assert.is_true((os.execute(("python3 %s %s"):format(script, name))))
    os.remove(script)
    os.remove(name)
  end)

  it("gives a sink of one's own the same in parts", function()
    log.level = "info"
    local heard
    log.sink = function(...)
      heard = { ... }
    end
    log.record("info", "text", { event = "x" })
    assert.same({ "info", "text", { event = "x" } }, heard)
    log.error "alone"
    assert.same({ "error", "alone" }, heard)
  end)
end)
