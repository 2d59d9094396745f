-- The server's side of the extended handshake as a state machine without I/O: WebSocket messages and time go in,
-- messages to send and events come out. Decisions are left to the driver: each request is an event, and its answer a
-- method call at any later time. Answers that the protocol does not allow are refused.
-- This file must not know sockets, clocks, policies or authentication schemes.
--
-- The driver feeds messages until "open", "failed" or "close" comes; later ones belong to the application.
-- What the application sends before "open" is the driver's matter: none of it may go out (KHP E2).

local assembly = require "khp.extended.assembly"
local common = require "khp.opening.common"
local http = require "khp.http"
local limits = require "khp.limits"
local options = require "khp.options"
local reason = require "khp.extended.reason"
local requests = require "khp.extended.request"
local responses = require "khp.extended.response"
local status = require "khp.status"

local server = {}

local find = string.find
local assert, error, setmetatable, tostring, type = assert, error, setmetatable, tostring, type
local append, enter, push, show = common.append, common.enter, common.push, common.show
local NONE = {}

local declaration = options.declare("khp.extended.server", {
  limits = { type = "table" },
  timeout = { type = "number", min = 0 },
  server = { type = "string|boolean", default = "khp" },
  date = { type = "function|boolean", default = http.date },
})

local READING, DECIDING, OPEN, CLOSED = "reading", "deciding", "open", "closed"

--- The server's side of one extended handshake.
---@class khp.extended.Server
---@field state "reading"|"deciding"|"open"|"closed"
local methods = {}
local metatable = { __name = "khp.extended.server", __index = methods }

methods.legal = {
  [READING] = { [DECIDING] = true, [CLOSED] = true },
  [DECIDING] = { [READING] = true, [OPEN] = true, [CLOSED] = true },
  [OPEN] = {},
  [CLOSED] = {},
}

-- Messages that come while an answer is awaited are kept for later, so that it makes no difference how long the
-- answer takes; so many of them and no more.
local MOST_HELD = 256

local TEXT = "text/plain; charset=utf-8"

--- What all extended handshakes of a server have in common; made by settings().
---@class khp.extended.Settings
---@field limits table<string, number>
---@field package reader khp.extended.Reader
---@field timeout number seconds for a whole handshake
---@field server string|false value of the Server header
---@field date (fun(): string)|false makes the value of the Date header

--- Checks once what all extended handshakes of a server have in common. `limits`: extended_message, line, fields, body,
--- attempts. `timeout`: seconds, default limits.extended. `server`: value of the Server header, false for none. `date`:
--- a function that returns the value of the Date header, false for none.
---@param given { limits: table?, timeout: number?, server: string|boolean|nil, date: function|boolean|nil }?
---@return khp.extended.Settings
function server.settings(given)
  local checked = options.check(declaration, given)
  local bounds = limits.resolve(checked.limits)
  return {
    limits = bounds,
    reader = assembly.reader("request", bounds),
    timeout = checked.timeout or bounds.extended,
    server = checked.server == true and "khp" or checked.server,
    date = checked.date == true and http.date or checked.date,
  }
end

local function set_of_names(extensions)
  local names = {}
  for i = 1, #extensions do
    names[extensions[i].name] = true
  end
  return names
end

--- Creates a machine for one connection whose opening handshake has negotiated KHP (KHP E1).
---@param settings khp.extended.Settings
---@param opened { request: table, accept: string, extensions: table[]? } from the "open" event of khp.opening.server
---@param now number? the present time in seconds, of any clock; nil: no deadline
---@return khp.extended.Server
function server.new(settings, opened, now)
  local negotiated = opened.extensions
  return setmetatable({
    false, false, false, false, false, false, false, false, -- room for events
    state = READING,
    settings = settings,
    reader = settings.reader,
    opened = opened,
    negotiated = negotiated and negotiated[1] and set_of_names(negotiated) or NONE,
    expires = now and now + settings.timeout,
    attempt = 0,
    request = nil,
    protocols = nil, -- set of what may be chosen in the answer to the present request
    extensions = nil, -- likewise
    assembly = nil, -- of a request that is not complete
    continued = false,
    held = nil, -- messages that came before the answer
    held_size = 0,
    first = 0,
    last = 0,
  }, metatable)
end

--- Takes the next event; nil: there is none. Poll until nil after each call that may cause events:
---
---     "request", request, attempt      answer with accept(), challenge(), redirect() or reject(), now or later
---     "send", bytes, "binary"          send this as one message
---     "open", { protocol, extensions, request, extension_source }  the handshake is complete
---     "failed", message, code, detail  the peer's fault, or a timeout; for the log
---     "close", code, reason            close the WebSocket with this when all is sent
---@type fun(self: khp.extended.Server): event: string?, any, any, any
methods.poll = common.poll

local function close(self, code, message)
  self.assembly, self.held = nil, nil
  push(self, "close", code, reason(message))
  enter(self, CLOSED)
end

-- Ends the handshake because of what the peer did or did not do. The answer is one that explains itself.
local function fail(self, code, message, errcode, close_code)
  local bytes = assert(responses.write(self.settings, code, { "Content-Type", TEXT }, NONE, message .. "\n"))
  push(self, "send", bytes, "binary")
  push(self, "failed", message, errcode, { status = code, attempts = self.attempt })
  close(self, close_code, message)
end

local NOT_EXPECTED = "the expectation cannot be met"

-- A request is complete: is it one that a policy may see?
local function receive(self, request, rest)
  local headers = request.headers
  self.attempt = self.attempt + 1
  self.continued = false
  if requests.expects_more(headers) then
    return fail(self, 417, NOT_EXPECTED, "EPROTOCOL", 1000)
  end
  local protocols, protocol_names = requests.protocols(self.opened.request, headers)
  if not protocols then
    return fail(self, 400, protocol_names, "EPROTOCOL", 1000)
  end
  local extensions, extension_names = requests.extensions(headers)
  if not extensions then
    return fail(self, 400, extension_names, "EPROTOCOL", 1000)
  end
  for i = 1, #extensions do
    if self.negotiated[extensions[i].name] then -- KHP E9
      local message = "the opening handshake has negotiated extension " .. show(extensions[i].name) .. " already"
      return fail(self, 400, message, "EEXTENSION", 1011)
    end
  end
  request.protocols, request.extensions = protocols, extensions
  self.request, self.protocols, self.extensions = request, protocol_names, extension_names
  enter(self, DECIDING)
  push(self, "request", request, self.attempt)
  if rest ~= "" then
    self.held, self.held_size = { rest }, #rest
  end
end

local function read(self, bytes)
  local request, rest, code, detail = assembly.read(self, bytes)
  if request then
    return receive(self, request, rest)
  elseif rest then -- KHP E2, E8: whatever it is, it gets an answer
    return fail(self, detail and detail.status or 400, rest, code, 1000)
  end
  local head = self.assembly and self.assembly.head
  if head and not self.continued and head.headers.expect then
    if requests.expects_more(head.headers) then
      self.attempt = self.attempt + 1
      return fail(self, 417, NOT_EXPECTED, "EPROTOCOL", 1000)
    elseif head.version ~= "1.0" then -- KHP H6: no 1xx to an HTTP/1.0 client
      push(self, "send", "HTTP/1.1 100 Continue\r\n\r\n", "binary")
    end
    self.continued = true
  end
end

--- Takes a WebSocket message. After "close" it is ignored; after "open" it belongs to the application, and this throws.
---@param bytes string
---@param kind "text"|"binary"|nil both are understood (KHP E3)
---@diagnostic disable-next-line: unused-local
function methods:message(bytes, kind) -- luacheck: no unused args
  local state = self.state
  if state == READING then
    read(self, bytes)
  elseif state == DECIDING then
    if bytes == "" then -- a part of no bytes: nothing came
      return
    end
    local held = self.held or {}
    self.held_size = self.held_size + #bytes
    if #held >= MOST_HELD or self.held_size > self.reader.most then
      return fail(self, 413, "too much before the answer to a request", "ELIMIT", 1000)
    end
    held[#held + 1] = bytes
    self.held = held
  elseif state == OPEN then
    error("the extended handshake is completed: messages are the application's now", 2)
  end
end

-- Answers ----------------------------------------------------------------------------------------------------------

-- An answer may be given while a request awaits one. It may come too late: then it is refused, and nothing else.
local function undecided(self)
  local state = self.state
  if state == DECIDING then
    return true
  elseif state == CLOSED then
    return false, "the extended handshake is over", "ECLOSED"
  end
  error("no extended request awaits an answer (state: " .. state .. ")", 3)
end

local function refuse(message)
  return nil, message, "EPOLICY"
end

-- The fields of a table of further arguments, checked.
local function further(given)
  if given == nil then
    return NONE
  elseif type(given) ~= "table" then
    error("a table expected, not " .. type(given), 3)
  end
  return given
end

---@class khp.extended.Acceptance
---@field protocol string? one of those in the request
---@field extensions string[]? each as in the header: "name; parameter=value"
---@field headers table? further header fields
---@field reason string? reason phrase

--- Completes the handshake. Fails, and leaves the request undecided, if the answer has what was not asked for.
---@param answer khp.extended.Acceptance?
---@return true? ok
---@return string? message
---@return string? code
function methods:accept(answer)
  local awaited, why, code = undecided(self)
  if not awaited then
    return nil, why, code
  end
  answer = further(answer)
  local protocol, wanted = answer.protocol, answer.extensions
  if protocol ~= nil and not self.protocols[protocol] then -- KHP E20
    return refuse("protocol " .. show(tostring(protocol)) .. " was not asked for")
  end
  local chosen, source = responses.extensions(self.extensions, wanted == nil and NONE or wanted)
  if not chosen then
    return refuse(source)
  end
  if self.held then -- KHP E2
    fail(self, 400, "a message before the extended handshake was completed", "EPROTOCOL", 1011)
    return nil, "the client sent more before it had the answer", "EPROTOCOL"
  end
  -- KHP H6: an HTTP/1.0 client gets no 1xx; 204 completes the handshake just as well (KHP S204).
  local switching = self.request.version ~= "1.0"
  local hash = self.opened.accept
  local list = switching
      and {
        "Upgrade", "websocket",
        "Connection", "Upgrade",
        "Sec-WebSocket-Accept", hash,
        nil, nil, nil, nil, nil, nil, -- room for the usual
      }
    or { "Sec-WebSocket-Accept", hash }
  if protocol then
    append(list, "Sec-WebSocket-Protocol", protocol)
  end
  if source then
    append(list, "Sec-WebSocket-Extensions", source)
  end
  local bytes, message = responses.write(self.settings, switching and 101 or 204, list, answer, nil)
  if not bytes then
    return refuse(message)
  end
  push(self, "send", bytes, "binary")
  push(self, "open", {
    protocol = protocol,
    extensions = chosen,
    request = self.request,
    extension_source = source,
  })
  enter(self, OPEN)
  return true
end

-- A final answer that does not complete the handshake: 1000 after it (KHP E19).
local function finish(self, code, given, list)
  local bytes, message = responses.write(self.settings, code, list, given, given.body or "")
  if not bytes then
    return refuse(message)
  end
  push(self, "send", bytes, "binary")
  close(self, 1000, "")
  return true
end

--- Asks for credentials with 401; the client replays its request (KHP E13). If that would exceed the limit `attempts`,
--- refuses with 403 instead.
---@param challenge string|string[] one or more values of WWW-Authenticate
---@param given { reason: string?, headers: table?, body: string? }?
---@return true? ok
---@return string? message
---@return string? code
function methods:challenge(challenge, given)
  local awaited, why, code = undecided(self)
  if not awaited then
    return nil, why, code
  end
  given = further(given)
  local challenges = type(challenge) == "table" and challenge or { challenge }
  local list = {}
  for i = 1, #challenges do
    local value = challenges[i]
    if type(value) ~= "string" or not http.is_challenge(value) then
      return refuse("not a challenge: " .. show(tostring(value)))
    end
    append(list, "WWW-Authenticate", value)
  end
  if #list == 0 then
    return refuse("a 401 without a challenge")
  end
  if self.attempt >= self.settings.limits.attempts then
    fail(self, 403, "too many attempts", "EAUTH", 1000)
    return true
  end
  local bytes, message = responses.write(self.settings, 401, list, given, given.body or "")
  if not bytes then
    return refuse(message)
  end
  push(self, "send", bytes, "binary")
  enter(self, READING)
  local held = self.held
  self.request, self.held, self.held_size = nil, nil, 0
  for i = 1, held and #held or 0 do
    self:message(held[i])
  end
  return true
end

--- Redirects the client. The connection is closed with 1000 (KHP E19).
---@param location string absolute URL (RFC 2616 14.30)
---@param given { status: integer?, reason: string?, headers: table?, body: string? }? status: 300-303, 307; default 302
---@return true? ok
---@return string? message
---@return string? code
function methods:redirect(location, given)
  local awaited, why, code = undecided(self)
  if not awaited then
    return nil, why, code
  end
  given = further(given)
  local number = given.status or 302
  if type(number) ~= "number" or status.row(number).action ~= "redirect" then
    return refuse("status " .. tostring(number) .. " is no redirect")
  elseif type(location) ~= "string" or location == "" or find(location, "[%c ]") then
    return refuse("not a location: " .. show(tostring(location)))
  end
  return finish(self, number, given, { "Location", location })
end

-- Actions of the client for which a final refusal can be sent.
local refusing = { close = true, proxy = true, upgrade = true, redirect = true }

--- Refuses the request. The connection is closed with 1000 (KHP E19).
---@param number integer a final status that does not complete the handshake
---@param given { reason: string?, headers: table?, body: string? }?
---@return true? ok
---@return string? message
---@return string? code
function methods:reject(number, given)
  local awaited, why, code = undecided(self)
  if not awaited then
    return nil, why, code
  end
  given = further(given)
  if type(number) ~= "number" or number < 200 or number > 599 or number % 1 ~= 0
    or not refusing[status.row(number).action] then
    return refuse("status " .. tostring(number) .. " is no refusal")
  end
  return finish(self, number, given, {})
end

--- Tells the client with 202 that the decision will take a while (KHP S202). The request still awaits its answer.
---@param given { reason: string?, headers: table?, body: string? }?
---@return true? ok
---@return string? message
---@return string? code
function methods:wait(given)
  local awaited, why, code = undecided(self)
  if not awaited then
    return nil, why, code
  end
  given = further(given)
  local bytes, message = responses.write(self.settings, 202, {}, given, given.body or "")
  if not bytes then
    return refuse(message)
  end
  push(self, "send", bytes, "binary")
  return true
end

-- Time and end -----------------------------------------------------------------------------------------------------

--- When tick() has to be called; nil: never.
---@return number? time
function methods:deadline()
  local state = self.state
  return (state == READING or state == DECIDING) and self.expires or nil
end

--- Tells the present time. A handshake that is not complete in time is closed (KHP E18, E13).
---@param now number seconds
function methods:tick(now)
  local expires = self:deadline()
  if not expires or now < expires then
    return
  end
  if self.state == DECIDING then -- KHP E8: this request is owed an answer
    return fail(self, 503, "no answer to the request in time", "ETIMEOUT", 1011)
  elseif self.assembly then
    return fail(self, 408, "the request was not complete in time", "ETIMEOUT", 1011)
  end
  push(self, "failed", "no extended request in time", "ETIMEOUT", { attempts = self.attempt })
  close(self, 1011, "no extended request in time")
end

--- Call this when the WebSocket has closed (KHP E16). Nothing can be sent any more.
---@param code integer? the peer's close code
---@param text string? the peer's close reason
function methods:finish(code, text)
  local state = self.state
  if state == READING or state == DECIDING then
    self.assembly, self.held = nil, nil
    push(self, "failed", "the client closed during the extended handshake", "ECLOSED",
      { code = code, reason = text, attempts = self.attempt })
    enter(self, CLOSED)
  end
end

return server
