-- The client's side of the opening handshake (RFC 6455 4.1) as a machine without sockets and clocks: it writes one
-- request and judges one response. Each check of the response has a message of its own; a response other than 101
-- goes to the driver as it is. This file must not know redirects, credentials, or what follows an opening.

local common = require "khp.opening.common"
local crypto = require "khp.crypto"
local http = require "khp.http"
local limits = require "khp.limits"
local options = require "khp.options"

local push, enter, show = common.push, common.enter, common.show
local concat = table.concat
local lower, sub = string.lower, string.sub
local error, ipairs, setmetatable, tonumber = error, ipairs, setmetatable, tonumber

local client = {}

---@class khp.opening.Client
---@field state string
local methods = {}
local Machine = { __name = "khp.opening.client", __index = methods }

methods.legal = {
  head = { sized = true, unsized = true, open = true, answered = true, failed = true },
  sized = { answered = true, failed = true }, -- reads a body whose end can be told
  unsized = { answered = true, failed = true }, -- reads a body that ends with the stream
  open = {},
  answered = {},
  failed = {},
}

-- Interim responses (100, 102, 103) that a server may send before its answer.
local INTERIM = 16

-- What the parser is told of the body's limit: it is kept here, because a response whose body is too long has status
-- and headers all the same, and these are what the driver decides by.
local UNJUDGED = 1073741824

local declaration = options.declare("khp.opening.client", {
  host = { type = "string", required = true },
  target = { type = "string", default = "/" },
  key = { type = "string" },
  protocols = { type = "strings", default = {} },
  extensions = { type = "strings", default = {} },
  headers = { type = "table" },
  origin = { type = "string" },
  khp = { type = "boolean", default = true },
  limits = { type = "table" },
  now = { type = "number" },
  timeout = { type = "number", min = 0 },
})

-- The request ---------------------------------------------------------------------------------------------------------

local owned = {
  host = true, upgrade = true, connection = true, ["content-length"] = true, ["transfer-encoding"] = true,
  expect = true, te = true, trailer = true,
}

local function is_owned(name)
  return owned[name] or sub(name, 1, 14) == "sec-websocket-"
end

local function is_owned_with_origin(name)
  return name == "origin" or is_owned(name)
end

-- The list that goes onto the wire: KHP first (KHP O1), wherever the application put it.
local function all_protocols(protocols, khp)
  local all = { khp and common.KHP or nil }
  for i = 1, #protocols do
    if not khp or protocols[i] ~= common.KHP then
      all[#all + 1] = protocols[i]
    end
  end
  return all
end

-- Fills the machine with what is offered, and returns the request's bytes, or nil and what is wrong.
local function write_request(self, checked)
  self.protocols = all_protocols(checked.protocols, checked.khp)
  local twice = common.duplicate(self.protocols)
  if twice then
    return nil, "the protocol '" .. twice .. "' is there twice"
  end
  for _, protocol in ipairs(self.protocols) do
    if not http.is_token(protocol) then
      return nil, "a protocol must be a token, not '" .. protocol .. "'"
    end
  end
  local message
  self.offered, message = http.extensions(concat(checked.extensions, ", "))
  if not self.offered or #self.offered < #checked.extensions then
    return nil, "malformed extensions: " .. (message or "an empty one")
  end
  local list = {
    { "Host", checked.host },
    { "Upgrade", "websocket" },
    { "Connection", "Upgrade" },
    { "Sec-WebSocket-Key", checked.key },
    { "Sec-WebSocket-Version", "13" },
  }
  if checked.origin then
    list[#list + 1] = { "Origin", checked.origin }
  end
  if self.protocols[1] then
    list[#list + 1] = { "Sec-WebSocket-Protocol", common.join(self.protocols) }
  end
  if checked.extensions[1] then
    list[#list + 1] = { "Sec-WebSocket-Extensions", common.join(checked.extensions) }
  end
  message = common.add_headers(list, checked.headers, checked.origin and is_owned_with_origin or is_owned)
  if message then
    return nil, message
  end
  return http.write_request { method = "GET", target = checked.target, headers = list }
end

---@class khp.opening.ClientOptions
---@field host string value of the Host header
---@field target string? path and query; default "/"
---@field key string? 16 bytes in base64; default: random
---@field protocols string[]? in order of preference, without KHP
---@field extensions string[]? as they go onto the wire, in order of preference
---@field headers table? further ones: a list of pairs or a map
---@field origin string?
---@field khp boolean? ask for the extended handshake; default true
---@field limits table? opening_head, fields, line, body
---@field now number? without it there is no deadline
---@field timeout number? seconds; default limits.opening

--- A machine for one opening; its first event is the request. Throws for options that make no lawful request.
---@param given khp.opening.ClientOptions
---@param level integer? whose line to blame, as error() counts from the caller of new; default 1: the caller
---@return khp.opening.Client
function client.new(given, level)
  level = (level or 1) + 1
  local checked = options.check(declaration, given, level)
  local bounds = limits.resolve(checked.limits, level)
  checked.key = checked.key or crypto.base64(crypto.random(16))
  local self = setmetatable({
    nil, nil, nil, nil, -- room for an event
    state = "head",
    first = 0,
    last = 0,
    limits = bounds,
    due = checked.now and checked.now + (checked.timeout or bounds.opening),
    parser = http.parser("response", {
      head = bounds.opening_head,
      fields = bounds.fields,
      line = bounds.line,
      body = UNJUDGED,
    }),
    accept = crypto.accept(checked.key),
    interim = 0,
    received = 0, -- bytes from the server
    protocols = nil, -- all that were asked for
    offered = nil, -- extensions, parsed
    response = nil, -- from its head on
    body = nil, -- pieces, in state "unsized"
    size = nil, -- of these
  }, Machine)
  local bytes, message = write_request(self, checked)
  if not bytes then
    error("khp.opening.client: " .. message, level)
  end
  push(self, "send", bytes)
  return self
end

-- The response --------------------------------------------------------------------------------------------------------

local function fail(self, message, code)
  local response = self.response
  push(self, "failed", message, code, response and {
    status = response.status, headers = response.headers, body = response.body,
  } or {})
  push(self, "close")
  enter(self, "failed")
  self.parser, self.body = nil, nil
end

local function check_upgrade(headers)
  local value = headers.upgrade
  if not value then
    return "the Upgrade header is missing"
  elseif lower(value) ~= "websocket" then
    return "the Upgrade header is not websocket: " .. show(value)
  end
  value = headers.connection
  if not value then
    return "the Connection header is missing"
  elseif not common.names_upgrade(value) then
    return "the Connection header does not name Upgrade: " .. show(value)
  end
end

local function check_accept(headers, expected)
  local value = headers["sec-websocket-accept"]
  if not value then
    return "the Sec-WebSocket-Accept header is missing"
  elseif common.is_repeated(headers, "sec-websocket-accept", value) then
    return "the Sec-WebSocket-Accept header is there more than once"
  elseif value ~= expected then
    return "the Sec-WebSocket-Accept header is wrong: " .. show(value)
  end
end

-- Returns what is wrong, or nil and the protocol, which may be nil.
local function check_protocol(headers, requested)
  local value = headers["sec-websocket-protocol"]
  if not value then
    return nil, nil
  elseif common.is_repeated(headers, "sec-websocket-protocol", value) then
    return "the Sec-WebSocket-Protocol header is there more than once"
  elseif not requested[1] then
    return "the server chose the protocol " .. show(value) .. ", but none was requested"
  elseif not common.index(requested, value) then -- KHP O6
    return "the server chose the protocol " .. show(value) .. ", which was not requested"
  end
  return nil, value
end

-- Returns what is wrong, or nil and the extensions, parsed.
local function check_extensions(headers, offered)
  local value = headers["sec-websocket-extensions"]
  if not value then
    return nil, {}
  end
  local chosen, message = http.extensions(value)
  if not chosen then
    return "Sec-WebSocket-Extensions is malformed: " .. message
  elseif not chosen[1] then
    return "Sec-WebSocket-Extensions is empty"
  end
  return common.check_extensions(chosen, offered), chosen -- KHP O6
end

-- RFC 6455 4.1, the client's checks of a 101.
local function take_switch(self, response)
  local headers = response.headers
  local problem, protocol, extensions
  if response.version == "1.0" then -- 1xx is not known to HTTP/1.0, RFC 2616 10.1
    problem = "the server answered 101 as HTTP/1.0"
  end
  problem = problem or check_upgrade(headers) or check_accept(headers, self.accept)
  if not problem then
    problem, extensions = check_extensions(headers, self.offered)
  end
  if not problem then
    problem, protocol = check_protocol(headers, self.protocols)
  end
  if problem then
    return fail(self, problem, "EHANDSHAKE")
  end
  local rest = self.parser:rest()
  self.parser = nil
  enter(self, "open")
  push(self, "open", {
    response = response, protocol = protocol, extensions = extensions, khp = protocol == common.KHP,
    accept = self.accept, rest = rest,
  })
end

local function answer(self, body, truncated)
  local response = self.response
  response.body, response.truncated = body, truncated
  enter(self, "answered")
  push(self, "response", response)
  push(self, "close")
  self.parser, self.body = nil, nil
end

-- The parser does not tell how much of a body it has, so until it has all, bytes on the wire are what counts: a head
-- and a body as long as they may be. The framing of many small chunks counts with them.
local function take_sized(self, bytes)
  local bounds, parser = self.limits, self.parser
  local body, message, code = parser:body(bytes)
  local whole = self.received - (body and #parser:rest() or 0)
  if body and #body > bounds.body or whole > bounds.opening_head + bounds.body then
    answer(self, "", true)
  elseif body then
    answer(self, body, false)
  elseif message then
    fail(self, message, code)
  end
end

local function take_unsized(self, bytes)
  local room = self.limits.body - self.size
  self.body[#self.body + 1] = sub(bytes, 1, room)
  self.size = self.size + #bytes
  if #bytes > room then
    answer(self, concat(self.body), true)
  end
end

local function take_response(self, response)
  local headers, status = response.headers, response.status
  self.response = response
  if status == 101 then
    return take_switch(self, response)
  elseif status == 204 or status == 304 or headers["content-length"] or headers["transfer-encoding"] then
    enter(self, "sized")
    if status ~= 304 and (tonumber(headers["content-length"]) or 0) > self.limits.body then
      return answer(self, "", true)
    end
    return take_sized(self, "")
  end
  enter(self, "unsized") -- RFC 2616 4.4: the end of the stream is the end of the body
  self.body, self.size = {}, 0
  return take_unsized(self, self.parser:rest())
end

local function take_head(self, bytes)
  local response, message, code = self.parser:head(bytes)
  while response and response.status < 200 and response.status ~= 101 do -- RFC 2616 10.1: interim
    self.interim = self.interim + 1
    if self.interim > INTERIM then
      return fail(self, "more than " .. INTERIM .. " interim responses", "ELIMIT")
    end
    response, message, code = self.parser:head(self.parser:rest())
  end
  if response then
    take_response(self, response)
  elseif message then
    fail(self, message, code)
  end
end

--- Takes bytes from the server, as many as there are.
---@param bytes string
function methods:feed(bytes)
  local state = self.state
  self.received = self.received + #bytes
  if state == "head" then
    take_head(self, bytes)
  elseif state == "sized" then
    take_sized(self, bytes)
  elseif state == "unsized" then
    take_unsized(self, bytes)
  elseif state == "open" then
    error("the opening is complete: these bytes are the connection's", 2)
  end -- else it is over: what still comes is nobody's
end

--- The server ended its stream.
function methods:finish()
  local state = self.state
  if state == "unsized" then
    answer(self, concat(self.body), false)
  elseif state == "head" and self.received == 0 then
    fail(self, "the server closed the connection without an answer", "ECLOSED")
  elseif state == "head" or state == "sized" then
    fail(self, "the server closed the connection in the middle of its answer", "ECLOSED")
  end
end

methods.poll = common.poll

--- When tick() has something to do, or nil.
---@return number?
function methods:deadline()
  local state = self.state
  return (state == "head" or state == "sized" or state == "unsized") and self.due or nil
end

--- Tells the time, on the clock of `now`.
---@param now number seconds
function methods:tick(now)
  local due = self:deadline()
  if due and now >= due then
    fail(self, "the server did not answer in time", "ETIMEOUT")
  end
end

return client
