-- A line that is being edited on a terminal, while other lines are printed above it. Bytes of keys go in, finished
-- lines and what the terminal has to be told come out: no input or output is done here. It knows the keys that
-- readline and linenoise have in common, and UTF-8. This file must not know where keys come from, nor what lines mean.

local edit = {}

local byte, find, gmatch, match, sub = string.byte, string.find, string.gmatch, string.match, string.sub
local concat, insert, remove = table.concat, table.insert, table.remove

local MOST_HISTORY = 1000

---@class khp.cli.Edit
---@field prompt string
---@field columns fun(): integer? width of the terminal
---@field put fun(text: string) tells the terminal something
---@field chars string[] of the line
---@field at integer the cursor stands before this one
---@field history string[]
---@field place integer in the history; one more than there are: the new line
---@field fresh string? the new line, while an older one is shown
---@field killed string what Ctrl-Y gives back
---@field rest string bytes that came and are no key yet, or wait behind one that asked for something
---@field column integer where the cursor was shown
---@field is_over boolean? nothing more is shown
local methods = {}
local mt = { __index = methods, __name = "khp.cli.edit" }

---@param given { prompt: string, columns: (fun(): integer?), put: fun(text: string), history: string[]? }
---@return khp.cli.Edit
function edit.new(given)
  local history = given.history or {}
  return setmetatable({
    prompt = given.prompt, columns = given.columns, put = given.put, history = history, place = #history + 1,
    chars = {}, at = 1, killed = "", rest = "", column = 0,
  }, mt)
end

-- Width --------------------------------------------------------------------------------------------------------------

local function code_of(c)
  local a, b, d, e = byte(c, 1, 4)
  if a < 0xC0 or not b then
    return a
  elseif a < 0xE0 then
    return (a - 0xC0) * 64 + b - 0x80
  elseif a < 0xF0 then
    return (a - 0xE0) * 4096 + (b - 0x80) * 64 + (d or 0x80) - 0x80
  end
  return (a - 0xF0) * 262144 + (b - 0x80) * 4096 + ((d or 0x80) - 0x80) * 64 + (e or 0x80) - 0x80
end

-- Columns that a character takes: combining marks none, East Asian wide ones and pictures two.
local function width(c)
  local code = code_of(c)
  if code < 0x300 then
    return 1
  elseif code < 0x370 or code == 0x200D or code >= 0xFE00 and code <= 0xFE0F then
    return 0
  elseif code >= 0x1100 and code <= 0x115F or code >= 0x2E80 and code <= 0xA4CF or code >= 0xAC00 and code <= 0xD7A3 or
    code >= 0xF900 and code <= 0xFAFF or code >= 0xFF00 and code <= 0xFF60 or code >= 0x1F300 and code <= 0x1FAFF or
    code >= 0x20000 and code <= 0x3FFFD then
    return 2
  end
  return 1
end

local function width_of(text)
  local sum = 0
  for c in gmatch(text, "[%z\1-\127\192-\255][\128-\191]*") do
    sum = sum + width(c)
  end
  return sum
end

-- Showing ------------------------------------------------------------------------------------------------------------

-- What of the line is shown, a window around the cursor, and the columns before the cursor in it.
local function window(self)
  local room = (self.columns() or 80) - width_of(self.prompt) - 1
  local first, before = self.at, 0
  while first > 1 and before + width(self.chars[first - 1]) <= room do
    first = first - 1
    before = before + width(self.chars[first])
  end
  local last, all = self.at - 1, before
  while self.chars[last + 1] and all + width(self.chars[last + 1]) <= room do
    last = last + 1
    all = all + width(self.chars[last])
  end
  return concat(self.chars, "", first, last), before
end

--- Shows the line anew, on the terminal's present line.
function methods:show()
  if self.is_over then
    return
  end
  local text, before = window(self)
  local column = width_of(self.prompt) + before
  self.put("\r" .. self.prompt .. text .. "\27[K\r" .. (column > 0 and ("\27[%dC"):format(column) or ""))
  self.column = column
end

--- Takes the line away, so that something else can be printed; show() brings it back.
function methods:hide()
  self.put "\r\27[K"
end

--- Shows the line anew after the terminal's width has changed. One that has become narrower has broken the line into
--- several.
function methods:resized()
  if self.is_over then
    return
  end
  local above = math.floor(self.column / math.max(self.columns() or 80, 1))
  self.put((above > 0 and ("\27[%dA"):format(above) or "") .. "\r\27[J")
  self:show()
end

--- Takes the line away for good.
function methods:stop()
  self:hide()
  self.is_over = true
end

-- The line -----------------------------------------------------------------------------------------------------------

local function text_of(self)
  return concat(self.chars)
end

local function set(self, text)
  self.chars = {}
  for c in gmatch(text, "[%z\1-\127\192-\255][\128-\191]*") do
    self.chars[#self.chars + 1] = c
  end
  self.at = #self.chars + 1
end

local function cut(self, first, last)
  self.killed = concat(self.chars, "", first, last)
  for _ = first, last do
    remove(self.chars, first)
  end
  self.at = first
end

-- Where the word before, or behind, the cursor begins or ends.
local function word_before(self)
  local at = self.at
  while at > 1 and self.chars[at - 1] == " " do
    at = at - 1
  end
  while at > 1 and self.chars[at - 1] ~= " " do
    at = at - 1
  end
  return at
end

local function word_behind(self)
  local at = self.at
  while self.chars[at] == " " do
    at = at + 1
  end
  while self.chars[at] and self.chars[at] ~= " " do
    at = at + 1
  end
  return at
end

local function look_back(self, step)
  local place = self.place + step
  if place < 1 or place > #self.history + 1 then
    return
  end
  if self.place == #self.history + 1 then
    self.fresh = text_of(self)
  end
  self.place = place
  set(self, self.history[place] or self.fresh or "")
end

local function remember(self, text)
  if text ~= "" and text ~= self.history[#self.history] then
    insert(self.history, text)
    if #self.history > MOST_HISTORY then
      remove(self.history, 1)
    end
  end
  self.place, self.fresh = #self.history + 1, nil
end

-- Keys ---------------------------------------------------------------------------------------------------------------

local on = {}

function on.left(self)
  self.at = math.max(self.at - 1, 1)
end

function on.right(self)
  self.at = math.min(self.at + 1, #self.chars + 1)
end

function on.home(self)
  self.at = 1
end

on["end"] = function(self)
  self.at = #self.chars + 1
end

function on.up(self)
  look_back(self, -1)
end

function on.down(self)
  look_back(self, 1)
end

function on.word_left(self)
  self.at = word_before(self)
end

function on.word_right(self)
  self.at = word_behind(self)
end

function on.erase(self)
  if self.at > 1 then
    self.at = self.at - 1
    remove(self.chars, self.at)
  end
end

function on.delete(self)
  if self.chars[self.at] then
    remove(self.chars, self.at)
  end
end

function on.cut_rest(self)
  cut(self, self.at, #self.chars)
end

function on.cut_beginning(self)
  cut(self, 1, self.at - 1)
end

function on.cut_word(self)
  cut(self, word_before(self), self.at - 1)
end

function on.cut_next_word(self)
  cut(self, self.at, word_behind(self) - 1)
end

function on.put_back(self)
  for c in gmatch(self.killed, "[%z\1-\127\192-\255][\128-\191]*") do
    insert(self.chars, self.at, c)
    self.at = self.at + 1
  end
end

function on.swap(self)
  if self.at > 1 and #self.chars > 1 then
    local at = math.min(self.at, #self.chars)
    self.chars[at - 1], self.chars[at] = self.chars[at], self.chars[at - 1]
    self.at = at + 1
  end
end

function on.clear(self)
  self.put "\27[H\27[2J"
end

local controls = {
  ["\1"] = "home", ["\2"] = "left", ["\5"] = "end", ["\6"] = "right", ["\8"] = "erase", ["\127"] = "erase",
  ["\11"] = "cut_rest", ["\12"] = "clear", ["\14"] = "down", ["\16"] = "up", ["\20"] = "swap",
  ["\21"] = "cut_beginning", ["\23"] = "cut_word", ["\25"] = "put_back",
}

-- What follows ESC.
local sequences = {
  ["[A"] = "up", ["[B"] = "down", ["[C"] = "right", ["[D"] = "left", ["[H"] = "home", ["[F"] = "end",
  ["OA"] = "up", ["OB"] = "down", ["OC"] = "right", ["OD"] = "left", ["OH"] = "home", ["OF"] = "end",
  ["[1~"] = "home", ["[7~"] = "home", ["[4~"] = "end", ["[8~"] = "end", ["[3~"] = "delete",
  ["[1;5C"] = "word_right", ["[1;5D"] = "word_left", ["[1;3C"] = "word_right", ["[1;3D"] = "word_left",
  ["f"] = "word_right", ["b"] = "word_left", ["d"] = "cut_next_word", ["\127"] = "cut_word",
}

-- Longer than the key of any terminal.
local MOST_KEY = 32

-- A key that begins with ESC. What cannot become one is given as far as it looked like one, and does nothing; the byte
-- that spoiled it is a key of its own.
local function escaped(bytes)
  local key = match(bytes, "^\27%[[0-?]*[ -/]*[@-~]") or match(bytes, "^\27O[@-~]") or
    match(bytes, "^\27[ -NP-Z\\-\127]")
  if key then
    return key
  end
  local begun = match(bytes, "^\27%[[0-?]*[ -/]*") or match(bytes, "^\27O") or "\27"
  return (#begun < #bytes or #begun > MOST_KEY) and begun or nil
end

-- The first key of these bytes, or nil while it is not complete.
local function next_key(bytes)
  local first = byte(bytes)
  if first == 27 then
    return escaped(bytes)
  elseif first >= 0xC0 then
    local n = first < 0xE0 and 2 or first < 0xF0 and 3 or 4
    local key = match(bytes, "^[\192-\255][\128-\191]*")
    return #key >= n and sub(key, 1, n) or #key < #bytes and key or nil
  end
  return sub(bytes, 1, 1)
end

local function press(self, key)
  local name = controls[key] or byte(key) == 27 and sequences[sub(key, 2)]
  if name then
    on[name](self)
  elseif not find(key, "^[%c\127]") or key == "\t" then
    insert(self.chars, self.at, key)
    self.at = self.at + 1
  end
end

-- Keys that are not the line's.
local wishes = { ["\26"] = "suspend", ["\28"] = "quit" }

-- The line is complete: all of it stays on the terminal.
local function enter(self)
  local text = text_of(self)
  self:hide()
  self.put(self.prompt .. text .. "\r\n")
  remember(self, text)
  set(self, "")
  return text
end

--- Takes what was typed. Returns what it made: lines in order, whether the end was typed (Ctrl-D on an empty line), and
--- what the program is asked for (Ctrl-Z, Ctrl-\): then what was typed behind that waits for the next feed().
---@param bytes string
---@return string[] lines
---@return boolean ended
---@return "suspend"|"quit"|nil wish
function methods:feed(bytes)
  local lines, ended, wish = {}, false, nil
  bytes = self.rest .. bytes
  while bytes ~= "" and not ended and not wish do
    local key = next_key(bytes)
    if not key then
      break
    end
    bytes = sub(bytes, #key + 1)
    wish = wishes[key]
    if key == "\r" or key == "\n" then
      lines[#lines + 1] = enter(self)
    elseif key == "\4" then
      ended = #self.chars == 0
      on.delete(self)
    elseif not wish then
      press(self, key)
    end
  end
  self.rest = bytes
  if not ended then
    self:show()
  end
  return lines, ended, wish
end

return edit
