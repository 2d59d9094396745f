-- The client's side of the opening handshake (RFC 6455 4.1) as a state machine without sockets and clocks: it writes
-- one request and judges one response. Each failed check of the response has its own message; a response other than 101
-- goes to the driver as it is. This file must not know redirects, credentials, or what follows an opening.

local common = require "khp.opening.common"
local crypto = require "khp.crypto"
local http = require "khp.http"
local limits = require "khp.limits"
local options = require "khp.options"
local reader = require "khp.opening.reader"

local append, push, enter, show = common.append, common.push, common.enter, common.show
local concat = table.concat
local find, lower, sub = string.find, string.lower, string.sub
local error, ipairs, setmetatable = error, ipairs, setmetatable

local client = {}

--- The client's side of one opening handshake.
---@class khp.opening.Client
---@field state "head"|"body"|"answered"|"open"|"failed"
local methods = {}
local Machine = { __name = "khp.opening.client", __index = methods }

methods.legal = {
  head = { body = true, open = true, answered = true, failed = true },
  body = { answered = true, failed = true }, -- of a response that is no 101
  open = {},
  answered = {},
  failed = {},
}

-- RFC 6455 4.1: 16 bytes in base64.
local function is_key(value)
  if not find(value, "^[%w+/]+==$") or #value ~= 24 then
    return false, "must be 16 bytes in base64"
  end
  return true
end

local declaration = options.declare("khp.opening.client", {
  host = { type = "string", required = true },
  target = { type = "string", default = "/" },
  key = { type = "string", check = is_key },
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
    "Host", checked.host,
    "Upgrade", "websocket",
    "Connection", "Upgrade",
    "Sec-WebSocket-Key", checked.key,
    "Sec-WebSocket-Version", "13",
  }
  if checked.origin then
    append(list, "Origin", checked.origin)
  end
  if self.protocols[1] then
    append(list, "Sec-WebSocket-Protocol", common.join(self.protocols))
  end
  if checked.extensions[1] then
    append(list, "Sec-WebSocket-Extensions", common.join(checked.extensions))
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
---@field key string? value of Sec-WebSocket-Key: 16 bytes in Base64; default: random
---@field protocols string[]? in order of preference, without KHP's own
---@field extensions string[]? as in the header, in order of preference
---@field headers table? further header fields: khp.http.WritableHeaders
---@field origin string? value of the Origin header
---@field khp boolean? whether to ask for the extended handshake; default true
---@field limits table? opening_head, fields, line, body
---@field now number? the present time in seconds, of any clock; nil: no deadline
---@field timeout number? seconds; default: limits.opening

--- Creates a machine for one opening. Its first event is the request. Throws if the options do not make a valid
--- request.
---@param given khp.opening.ClientOptions
---@param level integer? stack level to blame for a mistake, as in error(); default 1, the caller
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
    reader = reader.new(bounds),
    accept = crypto.accept(checked.key),
    protocols = nil, -- all that were asked for
    offered = nil, -- extensions, parsed
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
  local response = self.reader.response
  push(self, "failed", message, code, response and {
    status = response.status, headers = response.headers, body = response.body,
  } or {})
  push(self, "close")
  enter(self, "failed")
  self.reader = nil
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
  local rest = self.reader:rest()
  self.reader = nil
  enter(self, "open")
  push(self, "open", {
    response = response, protocol = protocol, extensions = extensions, khp = protocol == common.KHP,
    accept = self.accept, rest = rest,
  })
end

local function take_body(self, response, message, code)
  if response then
    enter(self, "answered")
    push(self, "response", response)
    push(self, "close")
    self.reader = nil
  elseif message then
    fail(self, message, code)
  end
end

local function take_head(self, response, message, code)
  if response and response.status == 101 then
    take_switch(self, response)
  elseif response then
    enter(self, "body")
    take_body(self, self.reader:body())
  elseif message then
    fail(self, message, code)
  end
end

--- Takes bytes from the server.
---@param bytes string
function methods:feed(bytes)
  local state = self.state
  if state == "head" then
    take_head(self, self.reader:head(bytes))
  elseif state == "body" then
    take_body(self, self.reader:body(bytes))
  elseif state == "open" then
    error("the opening is complete: these bytes are the connection's", 2)
  end -- else it is over: what still comes is nobody's
end

--- Call this when the server has ended its stream.
function methods:finish()
  local state = self.state
  if state == "head" or state == "body" then
    take_body(self, self.reader:finish("server"))
  end
end

--- Takes the next event; nil: there is none. Poll until nil after new() and after each call that may cause events:
---
---     "send", bytes                    send these bytes
---     "open", { response, protocol, extensions, khp, accept, rest }  the handshake is complete; rest: bytes after it
---     "response", response             the server answered with another status than 101
---     "failed", message, code, detail  detail: status, headers, body, if there was a response
---     "close"                          end the stream
---@type fun(self: khp.opening.Client): event: string?, any, any, any
methods.poll = common.poll

--- When tick() has to be called; nil: never.
---@return number? time
function methods:deadline()
  local state = self.state
  return (state == "head" or state == "body") and self.due or nil
end

--- Tells the present time, of the same clock as the option `now`.
---@param now number seconds
function methods:tick(now)
  local due = self:deadline()
  if due and now >= due then
    fail(self, "the server did not answer in time", "ETIMEOUT")
  end
end

return client
