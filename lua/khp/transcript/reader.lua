-- Reads transcripts: plain text that shows, byte for byte, who sends what in a handshake. Markdown with blocks of
-- steps, or the steps of one exchange alone. The notation is described in spec/conformance/README.md. This file must
-- not know what is done with an exchange.

local reader = {}

local char, find, gmatch, gsub, match = string.char, string.find, string.gmatch, string.gsub, string.match
local error, ipairs, pcall, tonumber, tostring, type = error, ipairs, pcall, tonumber, tostring, type

---@class khp.transcript.Part one line of a message: text with or without its line end, or a gap
---@field line integer where it stands
---@field text string? nil: a gap, any number of lines

---@class khp.transcript.Step
---@field who "C"|"S"|"time"|"world"
---@field verb string
---@field line integer
---@field kind "http"|"text"|"binary"|nil of a message
---@field parts khp.transcript.Part[]? of a message
---@field bytes string? of a message; nil: it has a gap

---@class khp.transcript.Exchange one connection
---@field title string the last heading
---@field group integer what stands under one heading has one number
---@field path string
---@field line integer of its first step
---@field words table<string, true> what stands behind ```khp
---@field steps khp.transcript.Step[]
---@field prelude khp.transcript.Step[] of the last block marked `opening`

local escapes = { r = "\r", n = "\n", t = "\t", ["0"] = "\0", ["\\"] = "\\" }

-- A mistake in the text: found by whoever called read(), with the line.
local function fail(format, ...)
  error({ problem = format:format(...) }, 0)
end

-- "+ text": no line end is added; \r \n \t \0 \\ and \xHH stand for bytes.
local function unescape(text)
  return (gsub(text, "\\(.)(%x?%x?)", function(letter, rest)
    if letter == "x" then
      return char(#rest == 2 and tonumber(rest, 16) or fail "\\x needs two hexadecimal digits")
    end
    return (escapes[letter] or fail("unknown escape \\%s", letter)) .. rest
  end))
end

local function words_of(text)
  local words = {}
  for word in gmatch(text, "%S+") do
    words[#words + 1] = word
  end
  return words
end

-- name=value name="value with blanks", commas between them as one likes.
local function pairs_of(text)
  local found = {}
  local rest = text
  while find(rest, "%S") do
    local name, value, behind = match(rest, '^[%s,]*([%w_.]+)="([^"]*)"(.*)$')
    if not name then
      name, value, behind = match(rest, "^[%s,]*([%w_.]+)=([^%s,]*)(.*)$")
    end
    if not name then
      fail("name=value expected: %s", rest)
    end
    found[#found + 1], rest = { name, value }, behind
  end
  return found
end

-- One step begins with one of these; the function gets the step and what stands behind the verb.
local verbs = {}

for _, kind in ipairs { "http", "text", "binary" } do
  verbs[kind] = function(step)
    step.verb, step.kind, step.parts = kind == "http" and "http" or "message", kind, {}
  end
end

function verbs.close(step, rest)
  local code, reason = match(rest, "^(%d+)%s*(.-)$")
  step.code, step.reason = tonumber(code) or fail "close needs a code", reason
end

function verbs.decides(step, rest)
  step.source = rest ~= "" and rest or fail "decides needs a decision"
end

-- cannot CODE DECISION: a decision that is refused
function verbs.cannot(step, rest)
  step.code, step.source = match(rest, "^(E%u+) (.+)$")
  if not step.source then
    fail "cannot needs a code and a decision"
  end
end

-- asks [METHOD] URL: another server, by HTTP; what stands below is its answer
function verbs.asks(step, rest)
  step.method, step.url = match(rest, "^(%u+) (%S+)$")
  step.url = step.url or match(rest, "^%S+$") or fail "asks needs a URL"
  step.method, step.parts = step.method or "GET", {}
end

-- opens [protocol=NAME] [extensions=VALUE]
function verbs.opens(step, rest)
  step.protocol = match(rest, "protocol=(%S+)")
  step.extensions = match(rest, "extensions=(.+)$")
end

-- fails CODE [status=N] [attempts=N] [permanent|temporary]
function verbs.fails(step, rest)
  step.code = words_of(rest)[1] or fail "fails needs a code"
  step.status = tonumber(match(rest, "status=(%d+)"))
  step.attempts = tonumber(match(rest, "attempts=(%d+)"))
  if find(rest, "permanent") then
    step.permanent = true
  elseif find(rest, "temporary") then
    step.permanent = false
  end
end

function verbs.redirects(step, rest)
  step.location = rest ~= "" and rest or fail "redirects needs a URL"
end

local function read_step(line)
  local word, rest = match(line, "^(%l+) (.-)%s*$")
  if word == "wait" then
    return { who = "time", verb = "wait", seconds = tonumber(rest) or fail "wait needs seconds" }
  elseif word == "given" then
    return { who = "world", verb = "given", values = pairs_of(rest) }
  end
  local who, verb
  who, verb, rest = match(line, "^([CS]) (%a+)%s*(.-)%s*$")
  if not verbs[verb] then
    fail("not a step: %s", line)
  end
  local step = { who = who, verb = verb }
  verbs[verb](step, rest)
  return step
end

-- One line of a block: of a message, or a step, or nothing.
local function read_line(steps, line, number)
  local gutter, text = match(line, "^([|+*]) ?(.*)$")
  if gutter then
    local step = steps[#steps] or fail "bytes before the first step"
    local parts = step.parts or fail "only messages have bytes"
    if gutter == "|" then
      text = text .. "\r\n"
    elseif gutter == "+" then
      text = unescape(text)
    else
      text = nil
    end
    parts[#parts + 1] = { line = number, text = text }
  elseif find(line, "%S") and not find(line, "^%-%-") then
    local step = read_step(line)
    step.line = number
    steps[#steps + 1] = step
  end
end

-- The bytes of a message, or nil where it has a gap.
local function join(parts)
  local bytes = ""
  for _, part in ipairs(parts) do
    if not part.text then
      return nil
    end
    bytes = bytes .. part.text
  end
  return bytes
end

local function finish(steps)
  for _, step in ipairs(steps) do
    step.bytes = step.parts and join(step.parts)
  end
  return steps
end

local function lines_of(text)
  local lines = {}
  for line in gmatch(gsub(text, "\r\n", "\n") .. "\n", "([^\n]*)\n") do
    lines[#lines + 1] = line
  end
  return lines
end

local function begin_block(self, words)
  self.block = {
    title = self.title, group = self.group, path = self.path, line = self.number + 1, words = words, steps = {},
    prelude = self.prelude,
  }
end

local function end_block(self)
  local block = self.block
  self.block = nil
  finish(block.steps)
  if block.words.opening then
    self.prelude = block.steps
  else
    self.exchanges[#self.exchanges + 1] = block
  end
end

local function take_title(self, line)
  local title = match(line, "^#+ (.*)$")
  if title then
    self.title, self.group = title, self.number
  end
  return title ~= nil
end

-- Markdown: what goes on while lines are read is the title, and the block that they stand in, if any.
local function take(self, line)
  if self.block then
    if find(line, "^```%s*$") then
      end_block(self)
    else
      read_line(self.block.steps, line, self.number)
    end
  elseif find(line, "^```khp") then
    local words = {}
    for _, word in ipairs(words_of(match(line, "^```khp(.*)$"))) do
      words[word] = true
    end
    begin_block(self, words)
  else
    take_title(self, line)
  end
end

-- Steps alone: a title begins another exchange.
local function take_bare(self, line)
  if take_title(self, line) then
    if self.block.steps[1] then
      end_block(self)
    end
    begin_block(self, {})
  else
    read_line(self.block.steps, line, self.number)
  end
end

local function read(self, text)
  local bare = not find("\n" .. text, "\n```khp", 1, true)
  if bare then
    begin_block(self, {})
  end
  for _, line in ipairs(lines_of(text)) do
    self.number = self.number + 1
    if bare then
      take_bare(self, line)
    else
      take(self, line)
    end
  end
  if bare then
    end_block(self)
  elseif self.block then
    fail "a block does not end"
  end
end

--- Reads exchanges.
---@param text string Markdown with blocks that begin with ```khp; or, where there are none, the steps alone
---@param path string what to call it in messages
---@param title string? of what stands before the first heading; default: the path
---@param before integer? lines that stand before the text in that file; default 0
---@return khp.transcript.Exchange[]? exchanges
---@return string? message with the line of the mistake
function reader.read(text, path, title, before)
  local self = {
    title = title or path, group = 0, path = path, number = before or 0, exchanges = {}, prelude = {}, block = nil,
  }
  local ok, problem = pcall(read, self, text)
  if not ok then
    problem = type(problem) == "table" and problem.problem or tostring(problem)
    return nil, ("%s:%d: %s"):format(path, self.number, problem)
  end
  return self.exchanges
end

return reader
