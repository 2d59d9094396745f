-- Transcripts: plain text files that show, byte for byte, who sends what in an extended handshake, readable as
-- documentation and run as tests. Here they are read and played against the real machines: for each side, what the
-- other side sends is fed to it, and what it sends itself must be what stands there. The notation is described in
-- spec/conformance/README.md. This file must not know any particular exchange.

local auth = require "khp.auth"
local client = require "khp.extended.client"
local crypto = require "khp.crypto"
local http = require "khp.http"
local server = require "khp.extended.server"

local transcript = {}

local KHP = "x-kaazing-handshake"
local DATE = "Sun, 22 Nov 2026 12:00:00 GMT"

-- Reading ------------------------------------------------------------------------------------------------------------

local escapes = { r = "\r", n = "\n", t = "\t", ["0"] = "\0", ["\\"] = "\\" }

-- "+ text": no line end is added; \r \n \t \0 \\ and \xHH stand for bytes.
local function unescape(text)
  return (text:gsub("\\(.)(%x?%x?)", function(letter, rest)
    if letter == "x" then
      return string.char(assert(tonumber(rest, 16), "\\x needs two hexadecimal digits"))
    end
    return assert(escapes[letter], "unknown escape \\" .. letter) .. rest
  end))
end

local function words_of(text)
  local words = {}
  for word in text:gmatch "%S+" do
    words[#words + 1] = word
  end
  return words
end

-- One step begins with one of these; the function gets the step and what stands behind the verb.
local verbs = {}

for _, kind in ipairs { "http", "text", "binary" } do
  verbs[kind] = function(step)
    step.verb, step.kind, step.bytes = kind == "http" and "http" or "message", kind, ""
  end
end

function verbs.close(step, rest)
  local code, reason = rest:match "^(%d+)%s*(.-)$"
  step.code, step.reason = assert(tonumber(code), "close needs a code"), reason
end

function verbs.decides(step, rest)
  step.source = assert(rest ~= "" and rest, "decides needs a decision")
end

-- cannot CODE DECISION: a decision that is refused
function verbs.cannot(step, rest)
  step.code, step.source = rest:match "^(E%u+) (.+)$"
  assert(step.source, "cannot needs a code and a decision")
end

-- opens [protocol=NAME] [extensions=VALUE]
function verbs.opens(step, rest)
  step.protocol = rest:match "protocol=(%S+)"
  step.extensions = rest:match "extensions=(.+)$"
end

-- fails CODE [status=N] [attempts=N] [permanent|temporary]
function verbs.fails(step, rest)
  step.code = words_of(rest)[1]
  step.status = tonumber(rest:match "status=(%d+)")
  step.attempts = tonumber(rest:match "attempts=(%d+)")
  if rest:find "permanent" then
    step.permanent = true
  elseif rest:find "temporary" then
    step.permanent = false
  end
end

function verbs.redirects(step, rest)
  step.location = rest
end

local function read_step(line)
  if line:find "^wait " then
    return { who = "time", verb = "wait", seconds = assert(tonumber(line:match "^wait (%S+)$"), "wait needs seconds") }
  end
  local who, verb, rest = line:match "^([CS]) (%a+)%s*(.-)%s*$"
  assert(who and verbs[verb], "not a step: " .. line)
  local step = { who = who, verb = verb }
  verbs[verb](step, rest)
  return step
end

local function read_block(lines, first, last)
  local steps = {}
  for number = first, last do
    local line = lines[number]
    local gutter, text = line:match "^([|+]) ?(.*)$"
    if gutter then
      local step = assert(steps[#steps], "bytes before the first step")
      assert(step.bytes, "only messages have bytes")
      step.bytes = step.bytes .. (gutter == "|" and text .. "\r\n" or unescape(text))
    elseif line:find "%S" and not line:find "^%-%-" then
      steps[#steps + 1] = read_step(line)
      steps[#steps].line = number
    end
  end
  return steps
end

-- The opening of a block: what stands in it, or what the file has said once for all.
local function take_opening(steps, inherited)
  local request, response = {}, nil
  local rest = {}
  for _, step in ipairs(steps) do
    if step.verb ~= "http" then
      rest[#rest + 1] = step
    elseif step.who == "C" then
      request = assert(http.parse_request(step.bytes), "the opening request is malformed")
    else
      response = assert(http.parse_response(step.bytes), "the opening response is malformed")
    end
  end
  if not response then
    return inherited, rest
  end
  local protocols = http.tokens(request.headers["sec-websocket-protocol"])
  assert(response.headers["sec-websocket-protocol"] == KHP, "the opening does not choose " .. KHP)
  local accept = crypto.accept(request.headers["sec-websocket-key"])
  assert(response.headers["sec-websocket-accept"] == accept, "the opening has a wrong Sec-WebSocket-Accept")
  request.protocols = protocols
  local negotiated = http.extensions(response.headers["sec-websocket-extensions"] or "")
  local taken, left = {}, {}
  for _, extension in ipairs(negotiated) do
    taken[extension.name] = true
  end
  for text in (request.headers["sec-websocket-extensions"] or ""):gmatch "[^,]+" do
    text = text:match "^%s*(.-)%s*$"
    if not taken[text:match "^[^;%s]+"] then
      left[#left + 1] = text
    end
  end
  return { request = request, accept = accept, negotiated = negotiated, extensions = left, protocols = protocols }, rest
end

---@class khp.Exchange
---@field title string the last heading, with the requirement IDs
---@field path string
---@field line integer
---@field roles table<"client"|"server", true> the sides that the exchange is for
---@field whole boolean the bounds of messages matter here: it is not played in pieces
---@field steps table[]
---@field opening table

--- Reads the exchanges of one file.
---@param path string
---@return khp.Exchange[]
function transcript.load(path)
  local lines, exchanges, title, opening, start, info = {}, {}, path, nil, nil, nil
  for line in io.lines(path) do
    lines[#lines + 1] = line
  end
  for number, line in ipairs(lines) do
    if start then
      if line:find "^```%s*$" then
        local ok, steps = pcall(read_block, lines, start, number - 1)
        local found
        if ok then
          ok, found, steps = pcall(take_opening, steps, opening)
        end
        assert(ok, ("%s:%d: %s"):format(path, start, steps or found))
        if info.opening then
          opening = found
        else
          local roles = { client = not info.server, server = not info.client }
          exchanges[#exchanges + 1] = {
            title = title, path = path, line = start, roles = roles, whole = info.whole, steps = steps,
            opening = assert(found, "no opening"),
          }
        end
        start = nil
      end
    elseif line:find "^```khp" then
      start, info = number + 1, {}
      for _, word in ipairs(words_of(line:match "^```khp(.*)$")) do
        info[word] = true
      end
    else
      title = line:match "^#+ (.*)$" or title
    end
  end
  assert(not start, path .. ": a block does not end")
  return exchanges
end

-- Ways to cut a message ----------------------------------------------------------------------------------------------

--- As it is.
function transcript.whole(bytes)
  return { bytes }
end

--- Each byte a message of its own.
function transcript.bytewise(bytes)
  local pieces = {}
  for i = 1, #bytes do
    pieces[i] = bytes:sub(i, i)
  end
  return pieces
end

--- In two, after k bytes, as far as the message is long enough.
---@param k integer
function transcript.cut_at(k)
  return function(bytes)
    return k < #bytes and { bytes:sub(1, k), bytes:sub(k + 1) } or { bytes }
  end
end

--- The length of the longest message of an exchange.
---@param exchange khp.Exchange
---@return integer
function transcript.longest(exchange)
  local longest = 0
  for _, step in ipairs(exchange.steps) do
    longest = math.max(longest, step.bytes and #step.bytes or 0)
  end
  return longest
end

-- Playing ------------------------------------------------------------------------------------------------------------

local function show(value)
  if type(value) == "string" then
    return '"' .. value:gsub("[^\32-\126\n]", function(c)
      return ("\\x%02X"):format(c:byte())
    end):gsub("\\x0D\n", "\n") .. '"'
  end
  return tostring(value)
end

local function expect(line, what, wanted, found)
  if wanted ~= found then
    error(("line %d: %s: %s expected, got %s"):format(line, what, show(wanted), show(found)), 0)
  end
end

-- "name; parameter=value, …" of an array of parsed extensions; nil for none.
local function format_extensions(list)
  return #list > 0 and http.format_extensions(list) or nil
end

-- What a decision in a transcript does to the machine that asked.
local function decide(self, step)
  local machine = self.machine
  local known = setmetatable({
    credentials = function(given)
      local challenges = assert(self.asked.challenges, "no challenge to answer")
      local value = assert(auth.new(given):answer(challenges, { target = self.opening.request.target }))
      return machine:authorize(value)
    end,
  }, {
    __index = function(_, name)
      local method = machine[name]
      return type(method) == "function" and function(...)
        return method(machine, ...)
      end or nil
    end,
  })
  local run = assert(load("return " .. step.source, "=decision", "t", known))
  local result, message, code = run()
  if step.verb == "cannot" then
    expect(step.line, step.source, step.code, code)
  elseif result == nil then
    error(("line %d: %s: %s"):format(step.line, step.source, tostring(message)), 0)
  end
end

local function new_machine(self)
  local opening = self.opening
  if self.role == "server" then
    return server.new {
      opening = opening.request,
      accept = opening.accept,
      opening_extensions = opening.negotiated,
      now = 0,
      server = "khp",
      date = function()
        return DATE
      end,
    }
  end
  return client.new {
    target = opening.request.target,
    protocols = opening.protocols,
    extensions = opening.extensions,
    accept = opening.accept,
    now = 0,
  }
end

-- Does a decision of the client on a response come next?
local function wants_to_act(self)
  for place = self.place, #self.steps do
    local step = self.steps[place]
    if step.who == self.letter then
      return step.source and step.source:find "^act" ~= nil
    end
  end
  return false
end

-- Takes all events that there are. Responses are acted on as the status codes say, unless the transcript decides.
local function pump(self)
  while true do
    local name, a, b, c = self.machine:poll()
    if not name then
      return
    elseif name == "response" and not wants_to_act(self) then
      assert(self.machine:act(b))
    else
      self.events[#self.events + 1] = { name, a, b, c }
    end
  end
end

local function next_event(self)
  return table.unpack(table.remove(self.events, 1) or {}, 1, 4)
end

local own = {}

function own.message(self, step)
  local name, bytes, kind = next_event(self)
  expect(step.line, "event", "send", name)
  expect(step.line, "message", step.bytes, bytes)
  expect(step.line, "kind of message", step.kind, kind)
end

function own.decides(self, step)
  if self.role == "client" and step.source:find "^start" then
    self.started = true
    return decide(self, step)
  end
  if not (self.asked and self.asked.open) then -- after wait, and after a refused decision, the question stands
    local name, a, b = next_event(self)
    local question = { server = { request = true }, client = { response = true, challenge = true } }
    if not question[self.role][name] then
      expect(step.line, "event", self.role == "server" and "request" or "response or challenge", name)
    end
    self.asked = { challenges = name == "challenge" and a or nil, attempt = b }
  end
  decide(self, step)
  self.asked.open = step.verb == "cannot" or step.source:find "^wait" ~= nil
end

own.cannot = own.decides

function own.opens(self, step)
  local name, result = next_event(self)
  expect(step.line, "event", "open", name)
  expect(step.line, "protocol", step.protocol, result.protocol)
  expect(step.line, "extensions", step.extensions, format_extensions(result.extensions))
  self.is_open = true
end

function own.fails(self, step)
  local name, message, code, detail = next_event(self)
  expect(step.line, "event", "failed", name)
  expect(step.line, "code (" .. tostring(message) .. ")", step.code, code)
  for _, field in ipairs { "status", "attempts", "permanent" } do
    if step[field] ~= nil then
      expect(step.line, field, step[field], detail[field])
    end
  end
end

function own.redirects(self, step)
  local name, location = next_event(self)
  expect(step.line, "event", "redirect", name)
  expect(step.line, "location", step.location, location)
end

function own.close(self, step)
  local name, code, reason = next_event(self)
  expect(step.line, "event", "close", name)
  expect(step.line, "close code", step.code, code)
  expect(step.line, "close reason", step.reason, reason)
end

local theirs = {}

function theirs.message(self, step)
  for _, piece in ipairs(self.cut(step.bytes)) do
    self.machine:message(piece, step.kind)
  end
end

function theirs.close(self, step)
  self.machine:finish(step.code, step.reason)
end

local function take_step(self, step)
  if self.is_open then -- the rest is the application's
    assert(step.verb == "message" or step.verb == "close" or step.verb == "opens", "nothing else after the handshake")
  elseif step.who == "time" then
    self.now = self.now + step.seconds
    self.machine:tick(self.now)
  elseif step.who == self.letter then
    if self.role == "client" and not self.started and step.verb == "message" then
      self.started = true
      assert(self.machine:start())
      pump(self)
    end
    own[step.verb](self, step)
  elseif theirs[step.verb] then
    theirs[step.verb](self, step)
  end
end

local function play(self)
  for place, step in ipairs(self.steps) do
    self.place = place + 1
    take_step(self, step)
    pump(self)
  end
  local name, a, b = next_event(self)
  if name then
    error(("after the last line: an event %s %s %s"):format(name, show(a), show(b)), 0)
  end
end

--- Plays an exchange against the machine of one side.
---@param exchange khp.Exchange
---@param role "client"|"server"
---@param cut (fun(bytes: string): string[])? how the messages of the other side come; default: whole
---@return true? ok, string? message
function transcript.run(exchange, role, cut)
  local self = {
    steps = exchange.steps, opening = exchange.opening, role = role, letter = role == "client" and "C" or "S",
    cut = cut or transcript.whole, now = 0, place = 1, events = {},
  }
  self.machine = new_machine(self)
  local ok, message = pcall(play, self)
  if not ok then
    return nil, ("%s: %s: %s"):format(exchange.path, role, message)
  end
  return true
end

return transcript
