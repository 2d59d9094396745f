-- The way through an HTTP proxy, before the opening handshake: CONNECT (RFC 7231 4.3.6) as a machine without sockets
-- and clocks. It writes one request and judges one response; after a 2xx the stream is the server's. What goes to the
-- proxy is made here and nowhere else: the place, and credentials for the proxy. This file must not know what goes
-- through the tunnel, or where credentials come from.

local common = require "khp.opening.common"
local http = require "khp.http"
local limits = require "khp.limits"
local options = require "khp.options"
local reader = require "khp.opening.reader"

local push, enter = common.push, common.enter
local error, setmetatable = error, setmetatable

local proxy = {}

---@class khp.opening.Proxy
---@field state string
local methods = {}
local Machine = { __name = "khp.opening.proxy", __index = methods }

methods.legal = {
  head = { body = true, open = true, failed = true },
  body = { failed = true }, -- of a response that refuses
  open = {},
  failed = {},
}

local declaration = options.declare("khp.opening.proxy", {
  authority = { type = "string", required = true },
  authorization = { type = "string" },
  limits = { type = "table" },
  now = { type = "number" },
  timeout = { type = "number", min = 0 },
})

---@class khp.opening.ProxyOptions
---@field authority string host and port of the server: "example.org:443", "[::1]:80"
---@field authorization string? value of Proxy-Authorization
---@field limits table? opening_head, fields, line, body
---@field now number? without it there is no deadline
---@field timeout number? seconds; default limits.opening

--- A machine for one way through a proxy. Its events are:
---   "send", bytes                    write these
---   "open", { response }             what follows on the stream is between us and the server
---   "failed", message, code, detail  detail: status headers body; a 407 has the code EAUTH
---   "close"                          the stream is of no use any more
--- Throws for options that make no lawful request.
---@param given khp.opening.ProxyOptions
---@return khp.opening.Proxy
function proxy.new(given)
  local checked = options.check(declaration, given)
  local bounds = limits.resolve(checked.limits)
  local self = setmetatable({
    state = "head",
    first = 0,
    last = 0,
    reader = reader.new(bounds),
    due = checked.now and checked.now + (checked.timeout or bounds.opening),
  }, Machine)
  local list = { { "Host", checked.authority } }
  if checked.authorization then
    list[2] = { "Proxy-Authorization", checked.authorization }
  end
  local bytes, message = http.write_request { method = "CONNECT", target = checked.authority, headers = list }
  if not bytes then
    error("khp.opening.proxy: " .. message, 2)
  end
  push(self, "send", bytes)
  return self
end

local function fail(self, message, code)
  local response = self.reader.response
  push(self, "failed", message, code, response and {
    status = response.status, headers = response.headers, body = response.body,
  } or {})
  push(self, "close")
  enter(self, "failed")
  self.reader = nil
end

local function take_body(self, response, message, code)
  if not response then
    return message and fail(self, message, code)
  elseif response.status == 407 then
    return fail(self, "the proxy asks for credentials", "EAUTH")
  end
  return fail(self, reader.describe("proxy", response), "EHANDSHAKE")
end

-- RFC 7231 4.3.6: a 2xx has no body, whatever its headers say.
local function take_tunnel(self, response)
  if self.reader:rest() ~= "" then -- they cannot be the server's, to which nothing was said yet
    return fail(self, "the proxy sent bytes after its answer", "EPROTOCOL")
  end
  self.reader = nil
  enter(self, "open")
  push(self, "open", { response = response })
end

local function take_head(self, response, message, code)
  if not response then
    return message and fail(self, message, code)
  elseif response.status >= 200 and response.status < 300 then
    return take_tunnel(self, response)
  elseif response.status == 101 then
    return fail(self, "the proxy answered 101 to CONNECT", "EPROTOCOL")
  end
  enter(self, "body")
  return take_body(self, self.reader:body())
end

--- Takes bytes from the proxy, as many as there are.
---@param bytes string
function methods:feed(bytes)
  local state = self.state
  if state == "head" then
    take_head(self, self.reader:head(bytes))
  elseif state == "body" then
    take_body(self, self.reader:body(bytes))
  elseif state == "open" then
    error("the tunnel is open: these bytes are the server's", 2)
  end -- else it is over: what still comes is nobody's
end

--- The proxy ended its stream. A refusal counts even where its body is cut short.
function methods:finish()
  local response, message, code
  if self.state == "head" or self.state == "body" then
    response, message, code = self.reader:finish "proxy"
    take_body(self, response or self.reader.response, message, code)
  end
end

methods.poll = common.poll

--- When tick() has something to do, or nil.
---@return number?
function methods:deadline()
  return (self.state == "head" or self.state == "body") and self.due or nil
end

--- Tells the time, on the clock of `now`.
---@param now number seconds
function methods:tick(now)
  local due = self:deadline()
  if due and now >= due then
    fail(self, "the proxy did not answer in time", "ETIMEOUT")
  end
end

return proxy
