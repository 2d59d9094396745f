-- The notation of transcripts: what is read from it, and how a difference is shown.

local compare = require "khp.transcript.compare"
local reader = require "khp.transcript.reader"

local function read(text, ...)
  return assert(reader.read(text, "x.md", ...))
end

local function refused(text)
  local exchanges, message = reader.read(text, "x.md")
  assert.is_nil(exchanges)
  return message
end

describe("reading a transcript", function()
  it("takes the blocks of a text, their titles and their lines", function()
    local exchanges = read("# One\n\n```khp client\nC close 1000 bye\n```\n\n" ..
      "## Two\n```khp\nwait 2\n```\n```khp\nwait 3\n```\n")
    assert.equal(3, #exchanges)
    assert.equal("One", exchanges[1].title)
    assert.is_true(exchanges[1].words.client)
    assert.equal(4, exchanges[1].line)
    assert.same({ who = "C", verb = "close", code = 1000, reason = "bye", line = 4 }, exchanges[1].steps[1])
    assert.equal("Two", exchanges[3].title)
    assert.equal(exchanges[2].group, exchanges[3].group)
    assert.not_equal(exchanges[1].group, exchanges[2].group)
    assert.equal(3, exchanges[3].steps[1].seconds)
  end)

  it("takes a text without blocks for one exchange", function()
    local exchanges = read("C binary\n| a\n+ b\\x41\\n\n", "title", 10)
    assert.equal(1, #exchanges)
    assert.equal("title", exchanges[1].title)
    assert.equal(11, exchanges[1].line)
    assert.equal("a\r\nbA\n", exchanges[1].steps[1].bytes)
    assert.equal(13, exchanges[1].steps[1].parts[2].line)
  end)

  it("takes a text without blocks for as many exchanges as it has headings", function()
    local exchanges = read "\n# One\nwait 1\n\n# Two\nwait 2\nwait 3\n"
    assert.equal(2, #exchanges)
    assert.equal("One", exchanges[1].title)
    assert.equal(3, exchanges[1].line)
    assert.equal("Two", exchanges[2].title)
    assert.equal(2, #exchanges[2].steps)
    assert.not_equal(exchanges[1].group, exchanges[2].group)
  end)

  it("keeps the block marked opening for those that follow", function()
    local exchanges = read "```khp opening\ngiven now=5\nC http\n| GET / HTTP/1.1\n|\n```\n```khp\nwait 1\n```\n"
    assert.equal(1, #exchanges)
    assert.equal(2, #exchanges[1].prelude)
    assert.equal("GET / HTTP/1.1\r\n\r\n", exchanges[1].prelude[2].bytes)
  end)

  it("reads what is given, asked and left open", function()
    local steps = read([[
given now="Sun, 22 Nov 2026 12:00:00 GMT", peer=10.0.0.1 env.A=b
S asks POST http://a.example/x
| HTTP/1.1 200 OK
|
S binary
| a
* whatever
| b
]])[1].steps
    local now = "Sun, 22 Nov 2026 12:00:00 GMT"
    assert.same({ { "now", now }, { "peer", "10.0.0.1" }, { "env.A", "b" } }, steps[1].values)
    assert.equal("POST", steps[2].method)
    assert.equal("http://a.example/x", steps[2].url)
    assert.equal("HTTP/1.1 200 OK\r\n\r\n", steps[2].bytes)
    assert.is_nil(steps[3].bytes)
    assert.is_nil(steps[3].parts[2].text)
  end)

  it("says where it is wrong", function()
    assert.equal("x.md:2: not a step: C whispers", refused "-- words\nC whispers\n")
    assert.equal("x.md:2: bytes before the first step", refused "\n| a\n")
    assert.equal("x.md:2: only messages have bytes", refused "wait 1\n| a\n")
    assert.equal("x.md:1: wait needs seconds", refused "wait long")
    assert.equal("x.md:1: name=value expected: now", refused "given now")
    assert.equal("x.md:1: close needs a code", refused "C close now")
    assert.equal("x.md:1: asks needs a URL", refused "S asks")
    assert.equal("x.md:2: unknown escape \\q", refused "C text\n+ \\q")
    assert.equal("x.md:2: \\x needs two hexadecimal digits", refused "C text\n+ \\x4")
    assert.matches("^x.md:%d+: a block does not end$", refused "```khp\nwait 1\n")
  end)
end)

describe("comparing messages", function()
  local function differences(expected, found)
    local list = compare.message(read("C binary\n" .. expected)[1].steps[1].parts, found)
    return list and table.concat(compare.show(list, "x"), "\n")
  end

  it("lets pass what is as it stands there", function()
    assert.is_nil(differences("| a\n| b\n", "a\r\nb\r\n"))
    assert.is_nil(differences("+ a\n+ b\\n\n", "ab\n"))
    assert.is_nil(differences("", ""))
  end)

  it("lets any lines stand in a gap, and none", function()
    assert.is_nil(differences("| a\n* more\n| b\n", "a\r\nb\r\n"))
    assert.is_nil(differences("| a\n* more\n| b\n", "a\r\nx\r\ny\r\nb\r\n"))
    assert.is_nil(differences("| a\n* more\n", "a\r\nx\r\ny"))
    assert.is_nil(differences("* more\n| b\n* more\n", "b\r\nb\r\nb\r\n"))
    assert.truthy(differences("* more\n| b\n", "b\r\nc\r\n"))
  end)

  it("shows a line that is another, one that is missing and one too many", function()
    assert.equal("x:2:   | a\nx:3: - | b\n     + | B\nx:4:   | c", differences("| a\n| b\n| c\n", "a\r\nB\r\nc\r\n"))
    assert.equal("x:2:   | a\nx:3: - | b\nx:4:   | c", differences("| a\n| b\n| c\n", "a\r\nc\r\n"))
    assert.equal("x:2:   | a\n     + | b\nx:3:   | c", differences("| a\n| c\n", "a\r\nb\r\nc\r\n"))
  end)

  it("shows bytes as one would write them, and what stands in a gap", function()
    assert.equal("x:2: - | a\n     + + a\\n", differences("| a\n", "a\n"))
    assert.equal("x:2: - + \\x00\\\\\n     + + \\x1B\\t", differences("+ \\0\\\\\n", "\27\t"))
    assert.equal("x:2: - | a\n     + | b\n     * | c", differences("| a\n* more\n", "b\r\nc\r\n"))
  end)

  it("shows all of what it cannot compare line by line", function()
    local long = ("x\r\n"):rep(2000)
    local text = differences(("| x\n"):rep(2000) .. "| y\n", long)
    assert.matches("^x:2: %- | x\n", text)
    assert.matches("\nx:2002: %- | y\n", text)
    assert.matches("%+ | x$", text)
    assert.is_nil(differences(("| x\n"):rep(2000), long))
  end)

  it("shows a message that did not come", function()
    local list = compare.message(read("C binary\n| a\n")[1].steps[1].parts, nil)
    assert.same({ "x:2: - | a" }, compare.show(list, "x"))
  end)
end)
