-- Transcripts of the extended handshake whose decisions stand in them: read, and played against the real machines,
-- each side in turn. The notation is described in spec/conformance/README.md. This file must not know any particular
-- exchange, nor policies.

local auth = require "khp.auth"
local common = require "khp.opening.common"
local crypto = require "khp.crypto"
local extended = require "khp.extended.server"
local kaazing = require "khp.kaazing"
local http = require "khp.http"
local player = require "khp.transcript.player"
local reader = require "khp.transcript.reader"

local transcript = {}

local DATE = "Sun, 22 Nov 2026 12:00:00 GMT"

-- Openings -----------------------------------------------------------------------------------------------------------

---@class khp.transcript.Opening
---@field request table
---@field accept string the right Sec-WebSocket-Accept
---@field negotiated table[] extensions, parsed
---@field extensions string[] those that the opening names and did not negotiate
---@field protocols string[]

--- The opening that these steps show, and the steps that follow it. Throws what is wrong with it.
---@param steps khp.transcript.Step[]
---@return khp.transcript.Opening? opening nil: there is none
---@return khp.transcript.Step[] rest
function transcript.opening(steps)
  local request, response, rest = nil, nil, {}
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
    return nil, rest
  end
  assert(response.headers["sec-websocket-protocol"] == common.KHP, "the opening does not choose " .. common.KHP)
  local accept = crypto.accept(request.headers["sec-websocket-key"])
  assert(response.headers["sec-websocket-accept"] == accept, "the opening has a wrong Sec-WebSocket-Accept")
  request.protocols = http.tokens(request.headers["sec-websocket-protocol"])
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
  return {
    request = request, accept = accept, negotiated = negotiated, extensions = left, protocols = request.protocols,
  }, rest
end

---@class khp.Exchange
---@field title string the last heading, with the requirement IDs
---@field path string
---@field line integer
---@field roles table<"client"|"server", true> the sides that the exchange is for
---@field whole boolean the bounds of messages matter here: it is not played in pieces
---@field steps table[]
---@field opening khp.transcript.Opening

-- A block's opening: its own, or the one that the file has said once for all.
local function opening_of(read)
  local opening, steps = transcript.opening(read.steps)
  return opening or assert((transcript.opening(read.prelude)), "no opening"), steps
end

--- Reads the exchanges of one file. Throws what is wrong with it.
---@param path string
---@return khp.Exchange[]
function transcript.load(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "*a"
  file:close()
  local exchanges = {}
  for i, read in ipairs(assert(reader.read(text, path))) do
    local ok, opening, steps = pcall(opening_of, read)
    if not ok then
      error(("%s:%d: %s"):format(path, read.line, opening), 0)
    end
    exchanges[i] = {
      title = read.title, path = path, line = read.line, whole = read.words.whole, steps = steps, opening = opening,
      roles = { client = not read.words.server, server = not read.words.client },
    }
  end
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

-- A directive is what it is only as one message, and an empty one has no parts.
local function but_directives(cut)
  return cut and function(bytes)
    if bytes == "" or bytes:sub(1, #kaazing.MARK) == kaazing.MARK then
      return { bytes }
    end
    return cut(bytes)
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
    player.expect(step.line, step.source, step.code, code)
  elseif result == nil then
    player.fail(step.line, ("%s: %s"):format(step.source, tostring(message)))
  end
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

local questions = { server = { request = true }, client = { response = true, challenge = true } }

-- Responses are acted on as the status codes say, unless the transcript decides.
local function take(self, name, _, action)
  if name == "response" and not wants_to_act(self) then
    assert(self.machine:act(action))
    return true
  end
end

local own = {}

function own.message(self, step)
  if self.role == "client" and not self.started then
    self.started = true
    assert(self.machine:start())
    self:pump()
  end
  self:await_message(step)
end

function own.decides(self, step)
  if self.role == "client" and step.source:find "^start" then
    self.started = true
    return decide(self, step)
  end
  if not (self.asked and self.asked.open) then -- after wait, and after a refused decision, the question stands
    local name = self.events[1] and self.events[1][1]
    local wanted = questions[self.role][name] and name or self.role == "server" and "request" or "response or challenge"
    local a, b = self:await(step, wanted)
    self.asked = { challenges = name == "challenge" and a or nil, attempt = b }
  end
  decide(self, step)
  self.asked.open = step.verb == "cannot" or step.source:find "^wait" ~= nil
end

own.cannot = own.decides

local function new_machine(role, opening)
  if role == "server" then
    local settings = extended.settings {
      date = function()
        return DATE
      end,
    }
    local opened = { request = opening.request, accept = opening.accept, extensions = opening.negotiated }
    return kaazing.server(settings, opened, 0)
  end
  return kaazing.client {
    target = opening.request.target,
    protocols = opening.protocols,
    extensions = opening.extensions,
    accept = opening.accept,
    now = 0,
  }
end

--- Plays an exchange against the machine of one side.
---@param exchange khp.Exchange
---@param role "client"|"server"
---@param cut (fun(bytes: string): string[])? how the messages of the other side come; default: whole
---@return true? ok, string? message
function transcript.run(exchange, role, cut)
  local failure = player.new({
    role = role, steps = exchange.steps, opening = exchange.opening, machine = new_machine(role, exchange.opening),
    take = take, own = own, cut = but_directives(cut),
  }):play()
  if failure then
    return nil, role .. ": " .. player.show(failure, exchange.path)
  end
  return true
end

return transcript
