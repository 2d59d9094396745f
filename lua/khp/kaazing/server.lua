-- The server's side of the extended handshake as the clients of Kaazing know it: the machine of khp.extended.server,
-- and around it the directives and empty messages without which these clients go no further. A redirect, which they
-- follow in a directive alone, becomes one. What was decided stays decided: only its form is theirs.
-- This file must not know sockets, clocks, policies, or who drives the machine.

local common = require "khp.opening.common"
local dialect = require "khp.kaazing.dialect"
local extended = require "khp.extended.server"

local server = {}

local lower, match = string.lower, string.match
local ipairs, pairs, setmetatable, type = ipairs, pairs, setmetatable, type
local push = common.push
local PHRASE = dialect.PHRASE

---@class khp.kaazing.Server: khp.extended.Server
---@field machine khp.extended.Server
---@field opened table as khp.opening.server tells with "open"
---@field request table? that awaits an answer
---@field directives boolean empty messages alone are asked for, where false
---@field secure boolean
---@field leads string|false where the client is led instead of being let in
---@field ended boolean it has been led away
local methods = {}

local metatable = { __name = "khp.kaazing.server" }

function metatable.__index(self, name)
  if name == "state" then
    return self.ended and "closed" or self.machine.state
  elseif name == "request" then
    return self.machine.request
  end
  return methods[name]
end

local function lead_away(self)
  push(self, "send", dialect.MARK .. "R" .. self.leads, "binary")
  push(self, "close", 1000, "")
  self.ended = true
end

--- A machine for one connection, whose opening handshake has chosen KHP: of the dialect where the opening's query asks
--- for it, else the plain one.
---@param settings khp.extended.Settings
---@param opened { request: table, accept: string, extensions: table[]? }
---@param now number? seconds; without it there is no deadline
---@param secure boolean? is the connection under TLS? A relative redirect stays so
---@param leads string? a URL, from khp.kaazing.opening: the client is sent there at once
---@return khp.extended.Server
function server.new(settings, opened, now, secure, leads)
  local query = opened.request.query
  local machine = extended.new(settings, opened, now)
  if not query or not dialect.has_ends(query) then
    return machine
  end
  local self = setmetatable({
    machine = machine,
    opened = opened,
    directives = dialect.has_directives(query),
    secure = secure or false,
    leads = leads or false,
    ended = false,
    first = 0,
    last = 0,
  }, metatable)
  if leads then
    lead_away(self)
  elseif self.directives then
    push(self, "send", dialect.GO_ON, "binary")
  end
  return self
end

-- A response after which another one comes to the same request. Clients read a response when it has ended, and of
-- several they take the last; so these have no end of their own.
local provisional = { ["100"] = true, ["202"] = true }

-- What the inner machine says, and what goes before and after it.
local function relay(self)
  local machine = self.machine
  local name, a, b, c = machine:poll()
  while name do
    if name == "open" and self.leads then
      return lead_away(self)
    elseif name == "open" and self.directives then
      push(self, "send", dialect.GO_ON, "binary")
    end
    push(self, name, a, b, c)
    if name == "send" and not provisional[match(a, "^HTTP/1%.1 (%d+)")] then
      push(self, "send", "", "binary")
    end
    name, a, b, c = machine:poll()
  end
end

--- As khp.extended.server; each event "send" is a message, and an empty one among them.
function methods:poll()
  if self.first == self.last and not self.ended then
    relay(self)
  end
  return common.poll(self)
end

local function over()
  return nil, "the extended handshake is over", "ECLOSED"
end

for _, name in ipairs { "message", "tick", "finish", "deadline" } do
  methods[name] = function(self, ...)
    if not self.ended then
      local machine = self.machine
      return machine[name](machine, ...)
    end
  end
end

for _, name in ipairs { "reject", "wait" } do
  methods[name] = function(self, ...)
    if self.ended then
      return over()
    end
    local machine = self.machine
    return machine[name](machine, ...)
  end
end

--- As khp.extended.server; the reason phrase is the clients' own where none is given.
---@param answer khp.extended.Acceptance?
---@return true? ok, string? message, string? code
function methods:accept(answer)
  local machine, phrased = self.machine, { reason = PHRASE }
  if self.ended then
    return over()
  elseif answer ~= nil and type(answer) ~= "table" then -- a mistake of the driver's
    return machine:accept(answer)
  elseif machine.state == "deciding" and machine.request.version == "1.0" then -- KHP H6: it gets no 101
    phrased.reason = nil
  end
  for name, value in pairs(answer or {}) do
    phrased[name] = value
  end
  return machine:accept(phrased)
end

-- Schemes that have an application's form. A client hands these to the application, whatever its own stack would do.
local application = { basic = true, token = true, negotiate = true }

local function prefixed(value)
  local scheme = type(value) == "string" and match(value, "^%S+")
  return scheme and application[lower(scheme)] and "Application " .. value or value
end

--- As khp.extended.server; Basic, Token and Negotiate become "Application Basic" and so on.
---@param challenge string|string[]
---@param given { reason: string?, headers: table?, body: string? }?
---@return true? ok, string? message, string? code
function methods:challenge(challenge, given)
  if self.ended then
    return over()
  elseif type(challenge) ~= "table" then
    return self.machine:challenge(prefixed(challenge), given)
  end
  local list = {}
  for i, value in ipairs(challenge) do
    list[i] = prefixed(value)
  end
  return self.machine:challenge(list, given)
end

--- Sends the client elsewhere: it is accepted, and gets the URL in the second directive's place. Status, reason and
--- body have no place there. Whoever asked for empty messages alone gets a redirect as the protocol has it.
---@param location string
---@param given { status: integer?, reason: string?, headers: table?, body: string? }?
---@return true? ok, string? message, string? code
function methods:redirect(location, given)
  local machine = self.machine
  if self.ended then
    return over()
  elseif not self.directives then
    return machine:redirect(location, given)
  end
  local url, problem = dialect.destination(location, self.opened.request, self.secure)
  if not url then
    return nil, problem, "EPOLICY"
  end
  self.leads = url
  local ok, message, code = self:accept { headers = given and given.headers }
  if ok then
    relay(self)
  else
    self.leads = false
  end
  return ok, message, code
end

return server
