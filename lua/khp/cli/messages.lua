-- The messages of one direction, of which the frames are parts: inflates those that are compressed, and finds the HTTP
-- messages of the extended handshake and the directives around it. Which frames may be a part of that handshake is
-- decided with their first byte, so that who must not see it can leave them out. This file must not know how frames
-- look on the wire, nor how anything is shown.

local core = require "khp.core"
local http = require "khp.http"

local messages = {}

local concat, find, format, max, sub = table.concat, string.find, string.format, math.max, string.sub
local is_utf8 = core.conn.utf8

--- Of a payload, so much is kept and looked at.
messages.KEEP = 64 * 1024
local KEEP = messages.KEEP

-- A compressed message must be had as a whole, since the next one may refer to it: up to this size, and up to this size
-- inflated.
local MOST_DEFLATED, MOST_INFLATED = 8 * 1024 * 1024, 16 * 1024 * 1024

-- So much tells what a message may be.
local BEGINNING = 256

-- What a directive of Kaazing's servers begins with: U+F0FF. There is one after each of the two handshakes.
local MARK = "\239\131\191"

-- What the two directions tell each other about the connection.
---@class khp.cli.dissect.Shared
---@field negotiated boolean? an extension was agreed to; nil: not known
---@field khp boolean? whether the opening agreed to KHP; nil: not known
---@field completed integer? the extended handshake is over, with this response, from 1
---@field timed boolean? the directions are fed in order of time
---@field deflate table<"client"|"server", { window_bits: integer, takeover: boolean }>? how each of them compresses

---@class khp.cli.Messages
---@field from "client"|"server"
---@field shared khp.cli.dissect.Shared
---@field first table? the message that is not complete
---@field parser userdata? of the HTTP message that is not complete
---@field prefix string? messages that may be the beginning of an HTTP message
---@field plain boolean? an application's message has come
---@field headless boolean? the bytes begin with frames
---@field offers_khp boolean?
---@field count integer HTTP messages of the extended handshake so far
---@field directives integer likewise
---@field inflater userdata?
---@field lost boolean? what later messages may refer to is not known
local methods = {}
local mt = { __index = methods }

---@param shared khp.cli.dissect.Shared
---@return khp.cli.Messages
function messages.new(shared)
  return setmetatable({ shared = shared, count = 0, directives = 0 }, mt)
end

local function window_of(value)
  local bits = tonumber(value)
  return bits and bits >= 8 and bits <= 15 and bits % 1 == 0 and bits or 15
end

--- What the head of a 101 says about the messages that follow.
---@param shared khp.cli.dissect.Shared
---@param headers khp.http.Headers
function messages.learn(shared, headers)
  local value = headers["sec-websocket-extensions"]
  shared.negotiated = shared.negotiated or value ~= nil
  for _, extension in ipairs(http.extensions(value or "") or {}) do
    if extension.name == "permessage-deflate" then -- RFC 7692 7.1
      local parameters, deflate = extension.parameters, {}
      for _, from in ipairs { "client", "server" } do
        deflate[from] = {
          window_bits = window_of(parameters[from .. "_max_window_bits"]),
          takeover = not parameters[from .. "_no_context_takeover"],
        }
      end
      shared.deflate = deflate
    end
  end
end

-- Which messages may be part of the extended handshake ---------------------------------------------------------------

local function is_over(self)
  local completed = self.shared.completed
  return completed and (self.from == "server" or self.shared.timed or self.count >= completed)
end

local function is_possible(self)
  local shared = self.shared
  if self.parser then
    return true
  elseif is_over(self) or self.plain or shared.khp == false then
    return false
  end
  return shared.khp or self.offers_khp or self.headless or false
end

--- Is nothing of a handshake to be expected any more?
---@return boolean
function methods:is_settled()
  return not is_possible(self)
end

local function is_begun_by(whole, text)
  return sub(whole, 1, #text) == sub(text, 1, #whole)
end

local patterns = {
  server = "^HTTP/1%.%d %d%d%d", client = "^[%u%-]+ %S+ HTTP/1%.%d\r?\n",
}

-- May an HTTP message, or a directive, begin with this?
local function could_begin(from, text)
  if from == "server" then
    return is_begun_by("HTTP/1.", text) or is_begun_by(MARK, text)
  end
  return find(text, "^[%u%-]*$") ~= nil or find(text, "^[%u%-]+ [^\r\n]*\r?$") ~= nil or
    find(text, patterns.client) ~= nil
end

-- KHP: as long as the extended handshake may go on, messages are parts of HTTP messages.
local function is_extended(self, payload)
  if not is_possible(self) then
    return false
  elseif self.parser then
    return true
  elseif payload ~= "" and self.shared.khp then -- where it is known to go on, a part of a line will do
    return could_begin(self.from, payload)
  end
  return find(payload, patterns[self.from]) ~= nil
end

-- Where it is not known whether the handshake goes on: may this be the first line of an HTTP message, or a part of it?
local function could_go_on(self, payload)
  if payload == "" or #payload > BEGINNING * 16 or not is_possible(self) then
    return false
  elseif self.from == "server" then
    return is_begun_by("HTTP/1.", payload) and find(payload, "^[%u/%.%d ]+$") ~= nil
  end
  return is_begun_by("GET ", payload) and find(payload, "^%u+ ?[^\r\n]*\r?$") ~= nil
end

local function is_directive(self, payload)
  return self.from == "server" and self.shared.khp ~= false and not self.plain and self.directives < 2 and
    is_begun_by(MARK, payload) and find(payload, "^...[NR]") ~= nil
end

--- May a frame with this payload, or the beginning of one, be part of the extended handshake?
---@param payload string
---@return boolean
function methods:is_inside(payload)
  local first = self.first
  if not is_possible(self) then
    return false
  elseif self.parser or self.prefix or first.rsv ~= 0 then -- what cannot be read may be anything
    return true
  end
  return could_begin(self.from, first.beginning .. sub(payload, 1, BEGINNING))
end

-- Messages -----------------------------------------------------------------------------------------------------------

-- The one for this direction, or nil.
local function inflater_of(self)
  local given = self.shared.deflate and self.shared.deflate[self.from]
  if given and not self.inflater and not self.lost then
    self.inflater = core.deflate.inflater(given)
  end
  return not self.lost and self.inflater or nil
end

-- A message was not inflated. Without context takeover (RFC 7692 7.1.1) that is of no consequence.
local function lose(self)
  local given = self.shared.deflate and self.shared.deflate[self.from]
  self.lost = not given or given.takeover
end

local function begin(self, header)
  local shared = self.shared
  local is_marked = header.rsv % 8 >= 4 -- RFC 7692 6
  header.compressed = is_marked and (shared.deflate ~= nil or not shared.negotiated)
  self.first = {
    opcode = header.opcode, rsv = header.rsv, parts = {}, kept = 0, length = 0, beginning = "",
    inflater = header.rsv == 4 and inflater_of(self) or nil,
  }
  if header.compressed and not self.first.inflater then
    lose(self)
  end
end

--- A frame of data begins. Returns how much of its payload is wanted.
---@param header table
---@return integer bytes
function methods:begin(header)
  if header.opcode ~= 0 then
    begin(self, header)
  end
  local first = self.first
  first.room = max((first.inflater and MOST_DEFLATED or KEEP) - first.kept, 0)
  return max(first.room, KEEP)
end

local function take_extended(self, one, payload)
  local kind = self.from == "server" and "response" or "request"
  if not self.parser then
    self.parser, self.raw, self.parsed, self.began = http.parser(kind), "", nil, one.offset
  end
  self.raw = self.raw .. payload
  local body, text
  if not self.parsed then
    self.parsed, text = self.parser:head(payload)
    payload = nil
  end
  if self.parsed and not text then
    body, text = self.parser:body(payload)
  end
  if not body and not text then
    return nil
  end
  self.parser = nil
  if text then
    return { what = "error", offset = self.began, text = "no HTTP " .. kind .. ": " .. text }
  end
  self.count = self.count + 1
  if self.parsed.status == 101 then
    self.shared.completed = self.count
    messages.learn(self.shared, self.parsed.headers)
  end
  return { what = "extended", offset = self.began, raw = self.raw, message = self.parsed }
end

local function problem(one, text)
  return { what = "error", offset = one.offset, text = text }
end

-- The content of a whole message, as far as it can be read; or nil, and an error's text where there is one.
local function content_of(self, one, first)
  local payload = concat(first.parts)
  if #payload ~= first.length then
    if first.inflater then
      lose(self)
    end
    return nil
  elseif first.rsv == 0 then
    return payload
  elseif not first.inflater then
    return nil
  end
  local inflated, text, code = first.inflater:message(payload, MOST_INFLATED)
  if not inflated then
    lose(self)
    return nil, code == 1007 and text or nil
  end
  one.inflated = { length = #inflated, payload = sub(inflated, 1, KEEP), opcode = first.opcode }
  return inflated
end

local function finish(self, one)
  local first = self.first
  local content, wrong = content_of(self, one, first)
  self.first = nil
  if wrong then
    return problem(one, format("a compressed message cannot be inflated: %s (RFC 7692 7.2.2)", wrong))
  elseif not content then
    self.plain = self.plain or first.rsv == 0
    return nil
  elseif is_directive(self, content) then
    one.inside, one.directive, self.directives = true, content, self.directives + 1
    return nil
  end
  local joined = (self.prefix or "") .. content
  if #joined <= KEEP and is_extended(self, joined) then
    one.inside, self.prefix = true, nil
    return take_extended(self, one, joined)
  elseif could_go_on(self, joined) then
    one.inside, self.prefix = true, joined
    return nil
  end
  one.inside, self.prefix = false, nil
  self.plain = self.plain or content ~= "" -- an empty one may end a response
  if first.opcode == 1 and not is_utf8(content) then
    return problem(one, "a text message is not UTF-8 (RFC 6455 8.1)")
  end
  return nil
end

--- A frame of data has ended. What that has completed, if anything.
---@param one khp.cli.dissect.Event gets `inside`, `inflated` and `directive`
---@param payload string as much of it as begin() wanted
---@return khp.cli.dissect.Event?
function methods:take(one, payload)
  local first = self.first
  one.inside = self:is_inside(payload)
  local part = sub(payload, 1, first.room)
  first.parts[#first.parts + 1] = part
  first.kept, first.length = first.kept + #part, first.length + one.frame.length
  first.beginning = sub(first.beginning .. sub(part, 1, BEGINNING), 1, BEGINNING)
  return one.frame.fin and finish(self, one) or nil
end

--- Gives the memory of the codec back.
function methods:close()
  if self.inflater then
    self.inflater:close()
    self.inflater, self.lost = nil, true
  end
end

return messages
