-- The line editor, against a terminal of one line that does what it is told.

local edit = require "khp.cli.edit"

local LEFT, RIGHT, UP, DOWN = "\27[D", "\27[C", "\27[A", "\27[B"

describe("the line editor", function()
  local screen, editor

  -- A terminal: the lines that were left behind, the present one and the cursor's column.
  local function new_screen()
    local self = { lines = {}, chars = {}, column = 1 }
    function self.put(text)
      while text ~= "" do
        local count = text:match "^\27%[(%d+)C"
        local c = text:match "^\27%[%d*[CKHJ]" or text:match "^[%z\1-\127\192-\255][\128-\191]*"
        if c == "\r" then
          self.column = 1
        elseif c == "\n" then
          self.lines[#self.lines + 1] = table.concat(self.chars)
          self.chars = {}
        elseif c == "\27[K" then
          for i = #self.chars, self.column, -1 do
            self.chars[i] = nil
          end
        elseif count then
          self.column = self.column + count
        elseif c:byte() ~= 27 then
          self.chars[self.column] = c
          self.column = self.column + 1
        end
        text = text:sub(#c + 1)
      end
    end
    return self
  end

  before_each(function()
    screen = new_screen()
    editor = edit.new { prompt = "> ", put = screen.put, columns = function()
      return 20
    end }
    editor:show()
  end)

  local function shows(text, column)
    assert.equal(text, table.concat(screen.chars))
    assert.equal(column or #text + 1, screen.column)
  end

  it("shows what is typed and gives the line at its end", function()
    local lines, ended = editor:feed "hello"
    assert.same({ {}, false }, { lines, ended })
    shows "> hello"
    assert.same({ "hello" }, (editor:feed "\r"))
    assert.same({ "> hello" }, screen.lines)
    shows "> "
    assert.same({ "a", "", "b" }, (editor:feed "a\r\rb\n"))
  end)

  it("moves and changes in the middle", function()
    for keys, expected in pairs {
      ["ac" .. LEFT .. "b"] = "abc",
      ["abc" .. LEFT .. "\127"] = "ac",
      ["abc\1x\5y"] = "xabcy",
      ["abc\1" .. RIGHT .. "\27[3~"] = "ac",
      ["abc\1\4"] = "bc",
      ["one two\23"] = "one ",
      ["one two\23\25\25"] = "one twotwo",
      ["one two\27bX"] = "one Xtwo",
      ["one two\1\27fX"] = "oneX two",
      ["one two\1\27d"] = " two",
      ["one two" .. LEFT .. LEFT .. "\11"] = "one t",
      ["one two" .. LEFT .. LEFT .. "\21"] = "wo",
      ["ab\20"] = "ba",
      ["a\tb\1\6\6\8"] = "ab",
      ["x\0\7\27[99~\27OPy"] = "xy",
    } do
      assert.same({ expected }, (editor:feed(keys .. "\r")))
    end
  end)

  it("takes characters of UTF-8 and keys of several bytes in any pieces", function()
    for _, keys in ipairs { "aé€" .. LEFT .. "\127", "\27[1;5D" .. "x" } do
      for i = 1, #keys do
        editor:feed(keys:sub(i, i))
      end
    end
    shows("> xa€", 4)
    assert.same({ "xa€" }, (editor:feed "\r"))
    assert.same({ "\195x" }, (editor:feed "\195x\r")) -- not UTF-8: as it came
  end)

  it("remembers lines, and the new one while older ones are shown", function()
    editor:feed "one\rtwo\rtwo\r\rnew"
    for _, step in ipairs {
      { UP, "two" }, { UP, "one" }, { UP, "one" }, { DOWN, "two" }, { DOWN, "new" }, { DOWN, "new" }, { "\16", "two" },
    } do
      editor:feed(step[1])
      shows("> " .. step[2])
    end
    assert.same({ "two!" }, (editor:feed "!\r"))
    assert.same({ "one", "two", "two!" }, editor.history)
  end)

  it("shows the part around the cursor where the line is longer than the terminal", function()
    editor:feed "0123456789abcdefghijklmn"
    shows "> 789abcdefghijklmn"
    editor:feed "\1"
    shows("> 0123456789abcdefg", 3)
    editor:feed "\5\21漢漢漢漢漢漢漢漢漢"
    assert.equal("> " .. ("漢"):rep(8), table.concat(screen.chars))
  end)

  it("shows all of a line that is longer than the terminal once it is entered", function()
    editor:feed "0123456789abcdefghijklmn\r"
    assert.same({ "> 0123456789abcdefghijklmn" }, screen.lines)
    shows "> "
  end)

  it("goes on after bytes that begin like a key and are none", function()
    for _, keys in ipairs {
      "\27[\rhello\r", "\27[\4hello\r", "\27[1;\3hello\r", "\27[\195\188hello\r", "\27O\rhello\r", "\27\rhello\r",
      "\27\27[Ahello\r", "\27[" .. ("1"):rep(100) .. "\rhello\r",
    } do
      local fresh = edit.new { prompt = "> ", put = function() end, columns = function() end }
      local lines = {}
      for i = 1, #keys do
        local more, ended = fresh:feed(keys:sub(i, i))
        lines[#lines + 1] = more[1]
        if ended then -- Ctrl-D on an empty line, which a terminal would end with
          fresh:feed ""
        end
      end
      assert.matches("hello$", lines[#lines], nil, nil, keys)
    end
  end)

  it("asks the program for what is not the line's, and keeps what was typed behind that", function()
    local lines, ended, wish = editor:feed "one\r\26two"
    assert.same({ { "one" }, false, "suspend" }, { lines, ended, wish })
    shows "> "
    assert.same({ "two" }, (editor:feed "\r"))
    assert.equal("quit", select(3, editor:feed "\28"))
  end)

  it("shows the line anew when the terminal has become narrower", function()
    local columns, told = 20, {}
    local narrow = edit.new { prompt = "> ", columns = function()
      return columns
    end, put = function(text)
      told[#told + 1] = text
    end }
    narrow:feed "0123456789abcdef"
    columns = 8
    told = {}
    narrow:resized() -- the cursor was at column 18: the third line of eight columns
    assert.equal("\27[2A\r\27[J", told[1])
    assert.equal("\r> bcdef\27[K\r\27[7C", told[2])
    narrow:stop()
    told = {}
    narrow:show()
    narrow:resized()
    assert.same({}, told)
  end)

  it("makes place for other lines and comes back", function()
    editor:feed "half"
    editor:hide()
    screen.put "somebody else\r\n"
    editor:show()
    assert.same({ "somebody else" }, screen.lines)
    shows "> half"
  end)

  it("ends with Ctrl-D on an empty line", function()
    local _, ended = editor:feed "a\4"
    assert.is_false(ended)
    _, ended = editor:feed "\127\4"
    assert.is_true(ended)
  end)
end)
