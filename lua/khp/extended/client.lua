-- The client's side of the extended handshake as a state machine without I/O: WebSocket messages and time go in,
-- messages to send and events come out. khp.status says what to do on a status code; whether to do it, which
-- credentials to use and where a redirect may lead is up to the driver.
-- This file must not know sockets, clocks, URLs, policies or authentication schemes.
--
-- The driver feeds messages until "open", "failed" or "close" comes; later ones belong to the application.
-- What the application sends before "open" is the driver's matter: none of it may go out (KHP E2).

local assembly = require "khp.extended.assembly"
local common = require "khp.opening.common"
local http = require "khp.http"
local limits = require "khp.limits"
local options = require "khp.options"
local reason = require "khp.extended.reason"
local status = require "khp.status"
local verify = require "khp.extended.verify"

local client = {}

local format, lower, min, remove = string.format, string.lower, math.min, table.remove
local error, setmetatable, tostring = error, setmetatable, tostring
local append, enter, join, push, show = common.append, common.enter, common.join, common.push, common.show
local KHP = common.KHP

local declaration = options.declare("khp.extended.client.new", {
  target = { type = "string", required = true },
  method = { type = "string", default = "GET" },
  protocols = { type = "strings" },
  extensions = { type = "strings" },
  accept = { type = "string" },
  kind = { type = "string", choices = { "binary", "text" }, default = "binary" },
  limits = { type = "table" },
  now = { type = "number" },
  timeout = { type = "number", min = 0 },
})

local request_declaration = options.declare("request", {
  headers = { type = "table" },
  body = { type = "string" },
  expect = { type = "boolean" },
})

local READY, WAITING, JUDGING, CHALLENGED = "ready", "waiting", "judging", "challenged"
local OPEN, CLOSED = "open", "closed"

--- The client's side of one extended handshake.
---@class khp.extended.Client
---@field state "ready"|"waiting"|"judging"|"challenged"|"open"|"closed"
local methods = {}
local metatable = { __name = "khp.extended.client", __index = methods }

methods.legal = {
  [READY] = { [WAITING] = true, [CLOSED] = true },
  [WAITING] = { [JUDGING] = true, [CLOSED] = true },
  [JUDGING] = { [WAITING] = true, [CHALLENGED] = true, [OPEN] = true, [CLOSED] = true },
  [CHALLENGED] = { [WAITING] = true, [CLOSED] = true },
  [OPEN] = {},
  [CLOSED] = {},
}

-- Messages that come while a response is being judged are kept; so many of them and no more.
local MOST_HELD = 256


---@class khp.extended.ClientOptions
---@field target string path and query of the URL
---@field method string? default "GET"
---@field protocols string[]? those of the opening, in order of preference, without KHP's own
---@field extensions string[]? those that the opening offered and did not negotiate: "name; parameter=value"
---@field accept string? the valid Sec-WebSocket-Accept for the opening's key
---@field kind "binary"|"text"|nil type of the messages that carry requests; default "binary"
---@field limits table? extended_message, line, fields, body, attempts, wait; see khp.limits
---@field now number? the present time in seconds, of any clock; nil: no deadline
---@field timeout number? seconds for the whole handshake; default: limits.extended

--- Creates a machine for one connection whose opening handshake has negotiated KHP (KHP E1).
---@param given khp.extended.ClientOptions
---@return khp.extended.Client
function client.new(given)
  given = options.check(declaration, given)
  local bounds = limits.resolve(given.limits)
  if given.method == "HEAD" then -- RFC 2616 4.4: the length of its response means nothing
    error("khp.extended.client.new: option 'method' cannot be HEAD", 2)
  end
  local protocols, names = {}, {}
  for i = 1, given.protocols and #given.protocols or 0 do
    local name = given.protocols[i]
    if not http.is_token(name) then
      error("khp.extended.client.new: option 'protocols': '" .. name .. "' is no token", 2)
    elseif name ~= KHP then
      protocols[#protocols + 1] = name
    end
  end
  for i = 1, given.extensions and #given.extensions or 0 do
    local text = given.extensions[i]
    local list, message = http.extensions(text)
    if not list or #list == 0 then
      error("khp.extended.client.new: option 'extensions': '" .. text .. "': " .. (message or "empty"), 2)
    end
    for j = 1, #list do
      names[list[j].name] = true
    end
  end
  return setmetatable({
    false, false, false, false, false, false, false, false, -- room for events
    state = READY,
    target = given.target,
    method = given.method,
    protocols = protocols,
    extensions = given.extensions or {},
    extension_names = names,
    accept = given.accept,
    send_kind = given.kind,
    limits = bounds,
    reader = assembly.reader("response", bounds),
    now = given.now,
    expires = given.now and given.now + (given.timeout or bounds.extended) or nil,
    waits_until = nil,
    attempt = 0,
    headers = nil,
    authorization = nil,
    body = nil,
    expect = false,
    withheld = nil, -- the body, while 100 is awaited
    response = nil,
    assembly = nil,
    rest = nil,
    closed_with = nil, -- code and reason, when the WebSocket is closed
    held = nil,
    held_size = 0,
    first = 0,
    last = 0,
  }, metatable)
end

--- Takes the next event; nil: there is none. Poll until nil after each call that may cause events:
---
---     "send", bytes, kind                          send this as one message
---     "response", response, action                 answer with act(action), or with another action
---     "challenge", challenges, response, attempt   answer with authorize() or give_up()
---     "redirect", location, response               the target, as the server wrote it; "close" follows
---     "open", { protocol, extensions, response }   the handshake is complete
---     "message", bytes, kind                       an application message that followed the last response
---     "failed", message, code, detail              detail: status, headers, body, action, attempts, permanent
---     "close", code, reason                        close the WebSocket with this
---@type fun(self: khp.extended.Client): event: string?, any, any, any
methods.poll = common.poll

local function close(self, code, message)
  self.assembly, self.held, self.rest = nil, nil, nil
  if not self.closed_with then
    push(self, "close", code, reason(message))
  end
  enter(self, CLOSED)
end

-- Ends the handshake without success. permanent: the same again cannot help.
local function fail(self, message, code, permanent, action)
  local response = self.response
  push(self, "failed", message, code, {
    status = response and response.status,
    headers = response and response.headers,
    body = response and response.body,
    action = action,
    attempts = self.attempt,
    permanent = permanent,
    code = self.closed_with and self.closed_with[1],
    reason = self.closed_with and self.closed_with[2],
  })
  close(self, 1011, message) -- KHP E10, E16
end

-- Requests ---------------------------------------------------------------------------------------------------------

-- Header fields that no policy sets: what frames the message, what is negotiated, and the opening's own, which
-- deployed servers refuse here (KHP E7).
local ours = {
  ["content-length"] = true,
  ["transfer-encoding"] = true,
  ["expect"] = true,
  ["upgrade"] = true,
  ["sec-websocket-key"] = true,
  ["sec-websocket-version"] = true,
  ["sec-websocket-protocol"] = true,
  ["sec-websocket-extensions"] = true,
}

local function is_ours(name)
  return ours[name] == true
end

-- KHP E3-E7: the request as bytes, with its body, or the body apart when a 100 is to be awaited.
---@return string? bytes, string? body_or_message
local function write(self, headers, authorization)
  local list = {}
  if #self.protocols > 0 then -- KHP E4
    append(list, "Sec-WebSocket-Protocol", join(self.protocols))
  end
  if #self.extensions > 0 then -- KHP E5, E6
    append(list, "Sec-WebSocket-Extensions", join(self.extensions))
  end
  local message = common.add_headers(list, headers, is_ours)
  if message then
    return nil, message
  end
  if authorization then
    for i = #list - 1, 1, -2 do -- the replay has one Authorization, not an old one as well
      if lower(list[i]) == "authorization" then
        remove(list, i + 1)
        remove(list, i)
      end
    end
    append(list, "Authorization", authorization)
  end
  local body, apart = self.body, nil
  if self.expect then
    append(list, "Content-Length", format("%d", #body))
    append(list, "Expect", "100-continue")
    body, apart = nil, body
  end
  local bytes
  bytes, message = http.write_request { method = self.method, target = self.target, headers = list, body = body }
  if not bytes then
    return nil, message
  end
  return bytes, apart
end

local function send(self, headers, authorization)
  local bytes, apart = write(self, headers, authorization)
  if not bytes then
    return nil, apart, "EPOLICY"
  end
  self.headers, self.withheld = headers, apart
  self.attempt = self.attempt + 1
  enter(self, WAITING)
  push(self, "send", bytes, self.send_kind)
  return true
end

--- What the user adds to a request.
---@class khp.extended.Request
---@field headers table? further header fields
---@field body string?
---@field expect boolean? sends the body only when the server asks for it (KHP S100)

-- Takes what is the user's in this request and in those that repeat it. Mistakes are the driver's.
local function take(self, given)
  given = options.check(request_declaration, given, 3)
  if given.expect and (given.body or "") == "" then
    error("request: option 'expect' needs a body", 3)
  end
  self.body, self.expect = given.body, given.expect or false
  return given.headers
end

--- Sends the extended request.
---@param given khp.extended.Request?
---@return true? ok
---@return string? message
---@return string? code EPOLICY: cannot be written; nothing is sent
function methods:start(given)
  if self.state ~= READY then
    error("the extended handshake has begun already", 2)
  end
  return send(self, take(self, given), nil)
end

-- Responses --------------------------------------------------------------------------------------------------------

local read

-- What came while the driver made up its mind, now that another response is awaited.
local function resume(self)
  local rest, held = self.rest, self.held
  self.rest, self.held, self.held_size = nil, nil, 0
  if rest then
    read(self, rest)
  end
  for i = 1, held and #held or 0, 2 do
    self:message(held[i], held[i + 1])
  end
end

function read(self, bytes)
  local response, rest, code = assembly.read(self, bytes)
  if response then
    self.response = response
    self.rest = rest ~= "" and rest or nil
    enter(self, JUDGING)
    push(self, "response", response, status.action(response.status, self.method, self.expect))
  elseif rest then -- KHP E2
    fail(self, rest, code, true)
  end
end

--- Takes a WebSocket message. After "close" it is ignored; after "open" it belongs to the application, and this throws.
---@param bytes string
---@param kind "text"|"binary"|nil both are understood (KHP E3)
function methods:message(bytes, kind)
  local state = self.state
  if state == OPEN then
    error("the extended handshake is completed: messages are the application's now", 2)
  elseif state == CLOSED then
    return
  elseif state == WAITING then
    read(self, bytes)
  elseif state == JUDGING then
    local held = self.held or {}
    self.held_size = self.held_size + #bytes
    if #held >= 2 * MOST_HELD or self.held_size > self.limits.extended_message then
      return fail(self, "too many messages after a response", "ELIMIT", false)
    end
    held[#held + 1] = bytes
    held[#held + 1] = kind or "binary"
    self.held = held
  else -- KHP E2
    fail(self, "a message before the request that it could answer", "EPROTOCOL", true)
  end
end

local actions = {}

function actions.complete(self, response)
  local chosen, problem, code = verify.chosen(response, self.accept, self.protocols, self.extension_names)
  if chosen and self.rest then -- an application message is a message of its own
    chosen, problem, code = nil, "bytes after the extended response, in the same message", "EPROTOCOL"
  end
  if not chosen then
    return fail(self, problem, code, true)
  end
  enter(self, OPEN)
  push(self, "open", chosen)
  local held = self.held
  self.held = nil
  for i = 1, held and #held or 0, 2 do
    push(self, "message", held[i], held[i + 1])
  end
end

actions["continue"] = function(self)
  local body = self.withheld
  enter(self, WAITING)
  if body then -- KHP S100, RFC 2616 8.2.3
    self.withheld = nil
    push(self, "send", body, self.send_kind)
  end
  resume(self)
end

function actions.wait(self)
  if self.now and not self.waits_until then -- one bound for all 202 together (KHP S202)
    self.waits_until = self.now + self.limits.wait
  end
  enter(self, WAITING)
  resume(self)
end

function actions.redirect(self, response)
  local values = http.values(response.headers, "location")
  local location = values[1]
  if not location or location == "" then
    return fail(self, format("a redirect (%d) without Location", response.status), "EREDIRECT", true)
  end
  for i = 2, #values do
    if values[i] ~= location then
      return fail(self, "a redirect to more than one Location", "EREDIRECT", true)
    end
  end
  push(self, "redirect", location, response) -- KHP E12
  close(self, 1000, "")
end

function actions.authenticate(self, response)
  if self.attempt >= self.limits.attempts then -- KHP E13
    return fail(self, format("not authorized after %d attempts", self.attempt), "EAUTH", true)
  end
  local value = response.headers["www-authenticate"]
  local challenges, message
  if value then
    challenges, message = http.challenges(value)
  end
  if not challenges or #challenges == 0 then
    message = "a 401 without a challenge that can be read" .. (message and ": " .. message or "")
    return fail(self, message, "EAUTH", true)
  elseif self.rest or self.held then -- KHP E2
    return fail(self, "a message before the request that it could answer", "EPROTOCOL", true)
  end
  enter(self, CHALLENGED)
  push(self, "challenge", challenges, response, self.attempt)
end

local function refused(self, response, action)
  local phrase = response.reason ~= "" and response.reason or http.reason(response.status)
  local answer = show(format("%d %s", response.status, phrase))
  fail(self, "the server answered " .. answer, "EHANDSHAKE", not status.is_temporary(response.status), action)
end

-- Actions that have no sense once the WebSocket is closed.
local needs_connection = { complete = true, ["continue"] = true, wait = true, authenticate = true }

actions.close, actions.proxy, actions.upgrade = refused, refused, refused

--- Carries out the action for a response.
---@param action khp.Action
---@return true? ok
---@return string? message
---@return string? code EPOLICY: no such action; the response still awaits one
function methods:act(action)
  local state = self.state
  if state == CLOSED then
    return nil, "the extended handshake is over", "ECLOSED"
  elseif state ~= JUDGING then
    error("no extended response awaits an action (state: " .. state .. ")", 2)
  end
  local act = actions[action]
  if not act then
    return nil, "there is no action '" .. tostring(action) .. "'", "EPOLICY"
  end
  if self.closed_with and needs_connection[action] then -- KHP E16
    fail(self, "the server closed during the extended handshake", "ECLOSED", false)
  else
    act(self, self.response, action)
  end
  return true
end

local function challenged(self)
  local state = self.state
  if state == CLOSED then
    return false, "the extended handshake is over", "ECLOSED"
  elseif state ~= CHALLENGED then
    error("no challenge awaits an answer (state: " .. state .. ")", 3)
  end
  return true
end

--- Replays the request with credentials (KHP E13).
---@param authorization string value of Authorization
---@param given khp.extended.Request? replaces what the user added to the earlier request
---@return true? ok
---@return string? message
---@return string? code EPOLICY: cannot be written; the challenge still awaits an answer
function methods:authorize(authorization, given)
  local awaited, why, code = challenged(self)
  if not awaited then
    return nil, why, code
  end
  local headers = self.headers
  if given then
    headers = take(self, given)
  end
  return send(self, headers, authorization)
end

--- Ends the handshake for lack of credentials.
---@param message string? the reason
---@return true? ok
---@return string? message
---@return string? code
function methods:give_up(message)
  local awaited, why, code = challenged(self)
  if not awaited then
    return nil, why, code
  end
  fail(self, message or "no credentials for the challenge", "EAUTH", true, "authenticate")
  return true
end

-- Time and end -----------------------------------------------------------------------------------------------------

--- When tick() has to be called; nil: never.
---@return number? time
function methods:deadline()
  local state, expires = self.state, self.expires
  if not expires or state == OPEN or state == CLOSED then
    return nil
  elseif state == WAITING and self.waits_until then
    return min(expires, self.waits_until)
  end
  return expires
end

--- Tells the present time. Call it before message(), too, so that the wait after a 202 is counted from then.
---@param now number seconds
function methods:tick(now)
  self.now = now
  local deadline = self:deadline()
  if deadline and now >= deadline then
    local what = self.state == WAITING and "no extended response in time" or "the extended handshake took too long"
    fail(self, what, "ETIMEOUT", false)
  end
end

--- Call this when the WebSocket has closed (KHP E16). Nothing can be sent any more; a response that is already complete
--- still takes effect.
---@param code integer? the peer's close code
---@param text string? the peer's close reason
function methods:finish(code, text)
  local state = self.state
  if state == OPEN or state == CLOSED then
    return
  end
  self.closed_with = { code, text }
  if state ~= JUDGING then
    fail(self, "the server closed during the extended handshake", "ECLOSED", false)
  end
end

return client
