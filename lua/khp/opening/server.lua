-- The server's side of the opening handshake (RFC 6455 4.2) as a state machine without sockets and clocks: bytes and
-- time go in, events come out. Invalid requests are answered here; the decision on a valid one, opening or ordinary
-- HTTP request, is left to the driver, which may answer at any later time. This file must not know policies,
-- connections, or what follows an opening.

local common = require "khp.opening.common"
local crypto = require "khp.crypto"
local http = require "khp.http"
local limits = require "khp.limits"
local options = require "khp.options"
local rules = require "khp.opening.request"

local append, push, enter, show = common.append, common.push, common.enter, common.show
local lower, sub = string.lower, string.sub
local assert, error, pairs, setmetatable, tostring, type = assert, error, pairs, setmetatable, tostring, type

local server = {}

--- The server's side of one opening handshake.
---@class khp.opening.Server
---@field state "head"|"body"|"deciding"|"open"|"rejected"|"failed"
local methods = {}
local Machine = { __name = "khp.opening.server", __index = methods }

methods.legal = {
  head = { body = true, deciding = true, failed = true },
  body = { deciding = true, failed = true },
  deciding = { open = true, rejected = true, failed = true },
  open = {},
  rejected = {},
  failed = {},
}

local NONE = {}

local declaration = options.declare("khp.opening.server", {
  limits = { type = "table" },
  timeout = { type = "number", min = 0 },
  server = { type = "string|boolean", default = "khp" },
  date = { type = "function|boolean", default = http.date },
})

--- What all openings of a server have in common; made by settings().
---@class khp.opening.Settings
---@field head integer maximum size of a head in bytes
---@field codec userdata the parsers' limits
---@field timeout number seconds
---@field server string|false value of the Server header
---@field date (fun(): string)|false makes the value of the Date header
---@field idle userdata? a parser that is free for the next opening

--- Checks once what all openings of a server have in common. `limits`: opening_head, fields, line, body. `timeout`:
--- seconds, default limits.opening. `server`: value of the Server header, false for none. `date`: a function that
--- returns the value of the Date header, false for none.
---@param given { limits: table?, timeout: number?, server: string|boolean|nil, date: function|boolean|nil }?
---@return khp.opening.Settings
function server.settings(given)
  local checked = options.check(declaration, given)
  local bounds = limits.resolve(checked.limits)
  return {
    head = bounds.opening_head,
    codec = http.limits {
      head = bounds.opening_head, fields = bounds.fields, line = bounds.line, body = bounds.body,
    },
    timeout = checked.timeout or bounds.opening,
    server = checked.server == true and "khp" or checked.server,
    date = checked.date == true and http.date or checked.date,
  }
end

--- Creates a machine for one opening.
---@param settings khp.opening.Settings
---@param now number? the present time in seconds, of any clock; nil: no deadline
---@return khp.opening.Server
function server.new(settings, now)
  return setmetatable({
    nil, nil, nil, nil, nil, nil, nil, nil, -- room for two events
    state = "head",
    first = 0,
    last = 0,
    settings = settings,
    due = now and now + settings.timeout,
    parser = nil, -- while there is something to parse
    request = nil, -- from its head on
    rest = nil, -- bytes after the request, from the question on
  }, Machine)
end

-- Answers ------------------------------------------------------------------------------------------------------------

local TEXT = "text/plain; charset=utf-8"

-- The bytes of a response that ends the stream, or nil and what is wrong. The status line says HTTP/1.1 whatever
-- the request said (RFC 2145 2.3). list: the answer's own headers, name, value, name, value …; it is added to.
-- length: of a body that follows the head, in place of `body`.
local function write_final(self, status, reason, list, body, length)
  local request = self.request
  append(list, "Connection", status == 426 and "Upgrade, close" or "close")
  if status == 426 and not common.has_header(list, "upgrade") then -- RFC 7231 6.5.15
    append(list, "Upgrade", "websocket")
  end
  if body ~= "" and not common.has_header(list, "content-type") then
    append(list, "Content-Type", TEXT)
  end
  common.add_server_and_date(list, self.settings, true)
  if status ~= 204 and status ~= 304 then
    append(list, "Content-Length", ("%d"):format(length or #body))
  elseif body ~= "" then
    return nil, "a response with status " .. status .. " has no body"
  end
  if request and request.method == "HEAD" then -- RFC 2616 9.4
    body = nil
  end
  return http.write_response {
    status = status, reason = reason, headers = list, body = body ~= "" and body or nil,
  }
end

-- The peer's fault, or the time's: says so to the peer and to the driver, and ends the stream. header: a name and
-- its value, that the answer needs.
local function fail(self, status, message, code, header)
  local list = header and { header[1], header[2] } or {}
  push(self, "send", (assert(write_final(self, status, nil, list, message .. "\n"))))
  push(self, "failed", message, code, { status = status, request = self.request })
  push(self, "close")
  enter(self, "failed")
  self.parser, self.code = nil, code
end

-- From bytes to the question -----------------------------------------------------------------------------------------

local function ask(self)
  local request = self.request
  local parser = self.parser
  self.rest = parser:rest()
  self.parser, self.settings.idle = nil, parser
  enter(self, "deciding")
  push(self, "request", request)
end

-- The body of an ordinary request; an opening has none.
local function take_body(self, bytes)
  local body, message, code, detail = self.parser:body(bytes)
  if body then
    ask(self)
  elseif message then
    fail(self, detail.status, message, code)
  end
  return body ~= nil
end

local function take_ordinary(self)
  local request, headers = self.request, self.request.headers
  enter(self, "body")
  local waits = headers.expect and rules.is_modern(request.version)
  if not take_body(self) and self.state == "body" and waits then -- RFC 2616 8.2.3
    push(self, "send", "HTTP/1.1 100 Continue\r\n\r\n")
  end
end

local function take_head(self, request)
  self.request = request
  request.upgrade, request.protocols, request.extensions = false, {}, {}
  local headers = request.headers
  local upgrade, key, version = headers.upgrade, headers["sec-websocket-key"], headers["sec-websocket-version"]
  local status, message = rules.check_address(request)
  if status then
    return fail(self, status, message, "EPROTOCOL")
  end
  local expect = headers.expect
  if expect and lower(expect) ~= "100-continue" then -- KHP H8, RFC 2616 14.20
    return fail(self, 417, "an expectation that cannot be met: " .. show(expect), "EPROTOCOL")
  end
  if upgrade and common.lists(upgrade, "websocket") then
    local header
    status, message, header = rules.check_opening(request, key, version)
    if status then
      return fail(self, status, message, "EHANDSHAKE", header)
    end
    request.upgrade = true
    return ask(self)
  elseif key or version then -- meant as an opening; a proxy between may have dropped the rest
    message = upgrade and "the Upgrade header does not name websocket: " .. show(upgrade)
      or "the Upgrade header is missing"
    return fail(self, 400, message, "EHANDSHAKE")
  end
  return take_ordinary(self)
end

-- The first bytes have come: the parser that nobody uses, or a new one.
local function take_parser(self)
  local settings = self.settings
  local parser = settings.idle or http.parser("request", settings.codec)
  self.parser, settings.idle = parser, nil
  return parser
end

--- Takes bytes from the client.
---@param bytes string
function methods:feed(bytes)
  local state = self.state
  if state == "head" then
    local request, message, code, detail = (self.parser or take_parser(self)):head(bytes)
    if request then
      take_head(self, request)
    elseif message then
      fail(self, detail.status, message, code)
    end
  elseif state == "body" then
    take_body(self, bytes)
  elseif state == "deciding" then
    local most = self.settings.head
    if #self.rest + #bytes > most then
      return fail(self, 400, "more than " .. most .. " bytes before the answer", "ELIMIT")
    end
    self.rest = self.rest .. bytes
  elseif state == "open" then
    error("the opening is complete: these bytes are the connection's", 2)
  end -- else the answer was final: what still comes is nobody's
end

--- Call this when the client has ended its stream.
function methods:finish()
  local state = self.state
  if state == "head" or state == "body" or state == "deciding" and self.request.upgrade then
    push(self, "failed", "the client left before the opening was complete", "ECLOSED", { request = self.request })
    push(self, "close")
    enter(self, "failed")
    self.parser, self.code = nil, "ECLOSED"
  end
end

--- Takes the next event; nil: there is none. Poll until nil after each call that may cause events:
---
---     "request", request               answer with accept() or reject(), now or later
---     "send", bytes                    send these bytes
---     "open", { request, protocol, extensions, accept, rest }  the handshake is complete; rest: bytes after it
---     "body", body                     send this khp.Body, close it, then end the stream
---     "failed", message, code, detail  the request was invalid, late or cut off; for the log
---     "close"                          end the stream when all is sent
---@type fun(self: khp.opening.Server): event: string?, any, any, any
methods.poll = common.poll

--- When tick() has to be called; nil: never.
---@return number? time
function methods:deadline()
  local state = self.state
  return (state == "head" or state == "body" or state == "deciding") and self.due or nil
end

--- Tells the present time, of the same clock as the `now` of new().
---@param now number seconds
function methods:tick(now)
  local due = self:deadline()
  if not due or now < due then
    return
  elseif self.state == "deciding" then
    fail(self, 503, "the opening was not decided in time", "ETIMEOUT")
  else
    fail(self, 408, "the request did not come in time", "ETIMEOUT")
  end
end

-- The answer ---------------------------------------------------------------------------------------------------------

-- true where a decision is due; false where the opening ended meanwhile; anything else is the driver's mistake.
local function is_due(self)
  if self.state == "failed" then
    return false
  elseif self.state ~= "deciding" then
    error(self.request and "the request is already answered" or "there is no request to answer yet", 3)
  end
  return true
end

local function owned_by_accept(name)
  return name == "upgrade" or name == "connection" or name == "content-length" or name == "transfer-encoding"
    or sub(name, 1, 14) == "sec-websocket-"
end

local function owned_by_reject(name)
  return name == "connection" or name == "content-length" or name == "transfer-encoding"
    or name == "sec-websocket-accept"
end

-- The chosen extensions, parsed, or nil and what is wrong.
local function read_chosen(chosen, offered)
  local parsed = {}
  if type(chosen) ~= "table" then
    return nil, "extensions must be an array of strings, not " .. type(chosen)
  end
  for i = 1, #chosen do
    if type(chosen[i]) ~= "string" then
      return nil, "extensions must be an array of strings, not of " .. type(chosen[i])
    end
    local one, message = http.extensions(chosen[i])
    if not one or #one ~= 1 then
      return nil, "no extension: " .. show(chosen[i]) .. (message and ": " .. message or "")
    end
    parsed[i] = one[1]
  end
  local problem = common.check_extensions(parsed, offered)
  if problem then
    return nil, problem
  end
  return parsed
end

local accept_fields = { protocol = true, extensions = true, headers = true, reason = true }
local reject_fields = { headers = true, body = true, reason = true }

local function check_fields(answer, fields)
  if type(answer) ~= "table" then
    return "an answer is a table, not " .. type(answer)
  end
  for name in pairs(answer) do
    if not fields[name] then
      local near = type(name) == "string" and options.nearest(name, fields)
      return "unknown field '" .. tostring(name) .. "'" .. (near and ", did you mean '" .. near .. "'?" or "")
    end
  end
  if answer.reason ~= nil and type(answer.reason) ~= "string" then
    return "reason must be a string, not " .. type(answer.reason)
  end
end

--- Completes the handshake with 101. Causes the events "send" and "open". Fails with EPOLICY, and leaves the request
--- undecided, if the answer is invalid: a protocol or extension that was not offered, a header that belongs to the
--- handshake or cannot be written, or an ordinary request. Fails with another code if the opening has failed meanwhile.
---@param answer { protocol: string?, extensions: string[]?, headers: table?, reason: string? }?
---@return true? ok
---@return string? message
---@return string? code
function methods:accept(answer)
  if not is_due(self) then
    return nil, "the opening is over", self.code
  end
  local request = self.request
  answer = answer or NONE
  local problem = check_fields(answer, accept_fields)
  if problem then
    return nil, problem, "EPOLICY"
  elseif not request.upgrade then
    return nil, "an ordinary HTTP request cannot be accepted as a WebSocket", "EPOLICY"
  end
  local protocol = answer.protocol or nil
  if protocol and not common.index(request.protocols, protocol) then
    return nil, "the protocol " .. show(tostring(protocol)) .. " was not offered", "EPOLICY"
  end
  local chosen
  chosen, problem = read_chosen(answer.extensions or NONE, request.extensions)
  if not chosen then
    return nil, problem, "EPOLICY"
  end
  local accept, headers = crypto.accept(request.key), answer.headers
  local list = {
    "Upgrade", "websocket",
    "Connection", "Upgrade",
    "Sec-WebSocket-Accept", accept,
    nil, nil, nil, nil, nil, nil, -- room for the usual
  }
  if protocol then
    append(list, "Sec-WebSocket-Protocol", protocol)
  end
  if chosen[1] then
    append(list, "Sec-WebSocket-Extensions", common.join(answer.extensions))
  end
  problem = headers and common.add_headers(list, headers, owned_by_accept)
  if problem then
    return nil, problem, "EPOLICY"
  end
  common.add_server_and_date(list, self.settings, headers)
  local bytes, message = http.write_response { status = 101, reason = answer.reason, headers = list }
  if not bytes then
    return nil, message, "EPOLICY"
  end
  enter(self, "open")
  push(self, "send", bytes)
  push(self, "open", {
    request = request, protocol = protocol, extensions = chosen, accept = accept, rest = self.rest,
  })
  return true
end

--- A body that is read in pieces.
---@class khp.Body
---@field length integer bytes
---@field read fun(body: khp.Body, n: integer): string?, string? the next bytes, at most n; nil and a message on failure
---@field close fun(body: khp.Body)

--- Answers with a final status. Causes the events "send" and "close"; or, for a khp.Body, "send" and "body": the driver
--- then owns the body, and ends the stream after sending it. Fails with EPOLICY, and leaves the request undecided, if
--- the answer is invalid. Fails with another code if the opening has failed meanwhile.
---@param status integer 200 to 599
---@param answer { reason: string?, headers: table?, body: string|khp.Body|nil }?
---@return true? ok
---@return string? message
---@return string? code
function methods:reject(status, answer)
  if not is_due(self) then
    return nil, "the opening is over", self.code
  end
  answer = answer or NONE
  local problem = check_fields(answer, reject_fields)
  local body, list = answer.body or "", {}
  local reader = type(body) == "table" and type(body.length) == "number" and body or nil
  if not problem and not reader and type(body) ~= "string" then
    problem = "body must be a string, not " .. type(body)
  elseif type(status) ~= "number" or status % 1 ~= 0 or status < 200 or status > 599 then
    problem = "a final status is a whole number from 200 to 599, not " .. tostring(status)
  end
  problem = problem or common.add_headers(list, answer.headers, owned_by_reject)
  if problem then
    return nil, problem, "EPOLICY"
  end
  local bytes, message = write_final(self, status, answer.reason, list, reader and "" or body, reader and reader.length)
  if not bytes then
    return nil, message, "EPOLICY"
  end
  enter(self, "rejected")
  push(self, "send", bytes)
  if reader and reader.length > 0 and self.request.method ~= "HEAD" then
    push(self, "body", reader)
    return true
  elseif reader then
    reader:close()
  end
  push(self, "close")
  return true
end

return server
