-- Reads the one response that a client of the opening awaits, of a server or of a proxy: interim responses are passed
-- over, the head comes first, and the body of a response that refuses follows, bounded. This file must not know what
-- was asked, or which response is the one hoped for.

local common = require "khp.opening.common"
local http = require "khp.http"

local reader = {}

local concat, format, setmetatable, sub, tonumber = table.concat, string.format, setmetatable, string.sub, tonumber
local show = common.show

---@class khp.opening.Reader
---@field response table? from its head on
---@field received integer bytes, in all
local methods = {}
local metatable = { __name = "khp.opening.reader", __index = methods }

-- Interim responses (100, 102, 103) that may come before the answer.
local INTERIM = 16

-- What the parser is told of the body's limit: it is kept here, because a response whose body is too long has status
-- and headers all the same, and these are what one decides by.
local UNJUDGED = 1073741824

---@param bounds table of khp.limits: opening_head, fields, line, body
---@return khp.opening.Reader
function reader.new(bounds)
  return setmetatable({
    bounds = bounds,
    parser = http.parser("response", {
      head = bounds.opening_head,
      fields = bounds.fields,
      line = bounds.line,
      body = UNJUDGED,
    }),
    interim = 0,
    received = 0,
    response = nil,
    pieces = nil, -- of a body that ends with the stream
    size = 0, -- of these
  }, metatable)
end

--- Takes bytes until there is a head.
---@param bytes string
---@return table? response without its body; nil alone: more bytes are needed
---@return string? message, string? code
function methods:head(bytes)
  self.received = self.received + #bytes
  local parser = self.parser
  local response, message, code = parser:head(bytes)
  while response and response.status < 200 and response.status ~= 101 do -- RFC 2616 10.1: interim
    self.interim = self.interim + 1
    if self.interim > INTERIM then
      return nil, "more than " .. INTERIM .. " interim responses", "ELIMIT"
    end
    response, message, code = parser:head(parser:rest())
  end
  self.response = response
  return response, message, code
end

--- The bytes behind the head, of which none belong to a body.
---@return string
function methods:rest()
  return self.parser:rest()
end

local function complete(self, body, truncated)
  local response = self.response
  response.body, response.truncated = body, truncated
  return response
end

local function read_unsized(self, bytes)
  local pieces, room = self.pieces, self.bounds.body - self.size
  pieces[#pieces + 1] = sub(bytes, 1, room)
  self.size = self.size + #bytes
  return #bytes > room and complete(self, concat(pieces), true) or nil
end

-- The parser does not tell how much of a body it has, so until it has all, bytes on the wire are what counts: a head
-- and a body as long as they may be. The framing of many small chunks counts with them.
local function read_sized(self, bytes)
  local bounds, parser = self.bounds, self.parser
  local body, message, code = parser:body(bytes)
  local whole = self.received - (body and #parser:rest() or 0)
  if body and #body > bounds.body or whole > bounds.opening_head + bounds.body then
    return complete(self, "", true)
  elseif body then
    return complete(self, body, false)
  end
  return nil, message, code
end

--- Takes bytes until there is a body; the first time without any.
---@param bytes string?
---@return table? response with its body, or a part of one that is too long (`truncated`); nil alone: more is needed
---@return string? message, string? code
function methods:body(bytes)
  if bytes then
    self.received = self.received + #bytes
    if self.pieces then
      return read_unsized(self, bytes)
    end
    return read_sized(self, bytes)
  end
  local headers, status = self.response.headers, self.response.status
  if status == 204 or status == 304 or headers["content-length"] or headers["transfer-encoding"] then
    if status ~= 304 and (tonumber(headers["content-length"]) or 0) > self.bounds.body then
      return complete(self, "", true)
    end
    return read_sized(self, "")
  end
  self.pieces = {} -- RFC 2616 4.4: the end of the stream is the end of the body
  return read_unsized(self, self.parser:rest())
end

--- The stream ended.
---@param who string who was to answer: "server", "proxy"
---@return table? response whose body ended with the stream
---@return string? message what is missing
---@return string? code
function methods:finish(who)
  if self.pieces then
    return complete(self, concat(self.pieces), false)
  elseif self.received == 0 then
    return nil, "the " .. who .. " closed the connection without an answer", "ECLOSED"
  end
  return nil, "the " .. who .. " closed the connection in the middle of its answer", "ECLOSED"
end

--- Says what a response was: the server answered '403 Forbidden'.
---@param who string
---@param response table
---@return string
function reader.describe(who, response)
  local phrase = response.reason ~= "" and response.reason or http.reason(response.status)
  return "the " .. who .. " answered " .. show(format("%d %s", response.status, phrase))
end

return reader
