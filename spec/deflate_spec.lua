-- khp.core.deflate: what csrc/ws/deflate.h promises (spec/c/ws_deflate_test.c), as Lua sees it.
local deflate = require("khp.core").deflate

local HELLO = "\xf2\x48\xcd\xc9\xc9\x07\x00"

local function both(options)
  return assert(deflate.deflater(options)), assert(deflate.inflater(options))
end

describe("khp.core.deflate", function()
  it("makes messages that refer to those before them, and understands them", function()
    local deflater, inflater = both {}
    assert.equal(HELLO, deflater:message "Hello")
    assert.equal("\xf2\x00\x11\x00\x00", deflater:message "Hello")
    assert.equal("\0", deflater:message "")
    assert.equal("Hello", inflater:message(HELLO, 5))
    assert.equal("Hello", inflater:message("\xf2\x00\x11\x00\x00", 5))
    assert.equal("", inflater:message("\0", 0))
  end)

  it("makes messages that stand alone", function()
    local deflater, inflater = both { takeover = false }
    for _ = 1, 3 do
      assert.equal(HELLO, deflater:message "Hello")
      assert.equal("Hello", inflater:message(HELLO, 5))
    end
  end)

  it("takes every setting", function()
    local message = ("words, words, mere words; "):rep(4000)
    for bits = 9, 15 do
      for level = 0, 9 do
        local deflater, inflater = both { window_bits = bits, level = level, memory_level = (bits - 9) % 9 + 1 }
        assert.equal(message, inflater:message(deflater:message(message), #message))
      end
    end
    assert.equal("Hello", deflate.inflater({ window_bits = 8 }):message(HELLO, 5))
  end)

  it("says what is wrong, and with which code to close", function()
    local deflater, inflater = both { takeover = false }
    local large = deflater:message(("x"):rep(1000000))
    assert.same({ nil, "the message is too big once it is inflated", 1009 }, { inflater:message(large, 999999) })
    assert.equal(1000000, #inflater:message(large, 1000000))
    for _, corrupt in ipairs { "", "\x06", HELLO:sub(1, 5), HELLO .. "\xff", "Hello" } do
      assert.same({ nil, "the compressed message is corrupt", 1007 }, { inflater:message(corrupt, 100) })
    end
    assert.equal("Hello", inflater:message(HELLO, 5))
  end)

  it("refuses what no codec can be", function()
    for _, options in ipairs {
      { window_bits = 8 }, { window_bits = 16 }, { window_bits = 0 / 0 }, { level = 10 }, { level = -1 },
      { memory_level = 0 }, { memory_level = 10 }, { window_bits = "15" },
    } do
      assert.has_error(function()
        deflate.deflater(options)
      end)
    end
    assert.has_error(function()
      deflate.inflater { window_bits = 7 }
    end, "option window_bits: from 8 to 15 expected")
    assert.has_error(function()
      deflate.inflater({}):message("", -1)
    end)
    assert.has_error(function()
      deflate.inflater({}).message(deflate.deflater {}, "", 1)
    end)
  end)

  it("tells what it holds, and gives it back when it is closed", function()
    local deflater, inflater = both {}
    assert.is_true(deflater:memory() > 256 * 1024 and deflater:memory() < 280 * 1024)
    assert.is_true(inflater:memory() > 32 * 1024 and inflater:memory() < 48 * 1024)
    local small = deflate.deflater { window_bits = 9, memory_level = 1 }
    assert.is_true(small:memory() < 12 * 1024)
    for _, codec in ipairs { deflater, inflater } do
      codec:close()
      codec:close()
      assert.equal(0, codec:memory())
      assert.has_error(function()
        codec:message("", 1)
      end)
    end
    do
      local closed <close> = small
      assert.equal(HELLO, closed:message "Hello")
    end
    assert.equal(0, small:memory())
  end)
end)
