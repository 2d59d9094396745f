-- One HTTP message out of the WebSocket messages that carry it (KHP H10): usually one, possibly many, cut
-- anywhere, text or binary. The result does not depend on where the cuts are.
-- This file must not know what the message means, or who sent it.

local http = require "khp.http"

local assembly = {}

local find, match = string.find, string.match
local whole = { request = http.parse_request, response = http.parse_response }

--- How the messages of one side are read.
---@class khp.extended.Reader
---@field kind "request"|"response"
---@field parse fun(bytes: string, limits: userdata): table?, string?, string?, table? khp.http.parse_request or
---  parse_response
---@field limits userdata the codec's limits
---@field most integer maximum size of a message in bytes

--- Can be shared by any number of machines.
---@param kind "request"|"response"
---@param limits table as khp.limits resolves them
---@return khp.extended.Reader
function assembly.reader(kind, limits)
  return {
    kind = kind,
    parse = whole[kind],
    limits = http.limits {
      head = limits.extended_message, line = limits.line, fields = limits.fields, body = limits.body,
    },
    most = limits.extended_message,
  }
end

-- Can a request begin like this? Asked while its first line is incomplete: "Hello" has to be refused at once (KHP
-- E2), and not waited on until the deadline. So a method that has not ended yet is taken for one only in capitals;
-- in a line that came whole any token will do (KHP H1). A response that cannot be one the codec refuses by itself.
local function judge(self, bytes)
  local prefix = self.prefix
  if not prefix then
    return nil
  end
  prefix = match(prefix .. bytes, "[^\r\n].*") or "" -- RFC 2616 4.1: empty lines before the message
  if find(match(prefix, "^[^ ]*"), "[^%u%d!#$%%&'*+.^_`|~-]") then
    return nil, "this is no HTTP request", "EPROTOCOL", { status = 400 }
  end
  self.prefix = #prefix < 32 and not find(prefix, " ", 1, true) and prefix or nil
  return nil
end

local function too_long(most)
  return nil, "an HTTP message of more than " .. most .. " bytes", "ELIMIT", { status = 413 }
end

-- Goes on with a message that did not come in one piece.
local function continue(self, most, bytes)
  local parser, head = self.parser, self.head
  local body, message, code, detail
  self.size = self.size + #bytes
  if not head then
    head, message, code, detail = parser:head(bytes)
    if not head then
      if message then
        return nil, message, code, detail
      end
      return judge(self, bytes)
    end
    self.head, bytes = head, nil
  end
  body, message, code, detail = parser:body(bytes)
  if body then
    local rest = parser:rest()
    if self.size - #rest > most then
      return too_long(most)
    end
    return head, rest
  elseif message then
    return nil, message, code, detail
  elseif self.size > most then
    return too_long(most)
  end
  return nil
end

--- Reads the bytes of one WebSocket message on behalf of a machine, which has a `reader`. While a message is
--- incomplete it stands in `machine.assembly`, whose `head` is the message table as
--- soon as the head is complete.
---@param machine table
---@param bytes string
---@return table? message complete; nil: it goes on, or it is wrong
---@return string? rest what follows the message, or what is wrong with it
---@return string? code, table? detail
function assembly.read(machine, bytes)
  local reader, self = machine.reader, machine.assembly
  local most = reader.most
  if self then
    local message, rest, code, detail = continue(self, most, bytes)
    if message or rest then
      machine.assembly = nil
    end
    return message, rest, code, detail
  end
  local message, rest, code, detail = reader.parse(bytes, reader.limits)
  if message then
    if #bytes - #rest > most then
      return too_long(most)
    end
    return message, rest
  elseif rest then
    return nil, rest, code, detail
  elseif bytes == "" then
    return nil
  end
  self = {
    parser = http.parser(reader.kind, reader.limits),
    head = nil,
    prefix = reader.kind == "request" and "" or nil, -- until it has been judged
    size = 0,
  }
  machine.assembly = self
  message, rest, code, detail = continue(self, most, bytes)
  if message or rest then
    machine.assembly = nil
  end
  return message, rest, code, detail
end

return assembly
