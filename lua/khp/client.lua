-- The client: khp.connect. It makes an attempt (khp.attempt), and where a response asks for it and the rules allow
-- it, another one: a redirect, credentials for the opening or for a proxy, TLS after a 426. This file must not know
-- the handshakes, nor how credentials are kept.

local attempt = require "khp.attempt"
local credentials = require "khp.credentials"
local extension = require "khp.extension"
local hooks = require "khp.policy.hooks"
local http = require "khp.http"
local limits = require "khp.limits"
local options = require "khp.options"
local policies = require "khp.policy"
local redirect = require "khp.redirect"
local session = require "khp.policy.session"
local task = require "khp.task"
local tls = require "khp.tls"
local uri = require "khp.uri"
local world = require "khp.policy.world"

local client = {}

local function is_rule(value)
  if type(value) == "string" and not redirect.rules[value] then
    return false, "must be never, same-origin, same-domain, sub-domain, peer-domain, always or a function"
  end
  return true
end

local declaration = options.declare("khp.connect", {
  protocols = { type = "strings", default = {} },
  extensions = { type = "table", default = {} },
  headers = { type = "table" },
  origin = { type = "string" },
  policy = { type = "string|table" },
  trusted = { type = "boolean", default = false },
  credentials = { type = "table|function" },
  share_credentials = { type = "boolean", default = false },
  proxy = { type = "string" },
  redirects = { type = "string|function", check = is_rule },
  khp = { type = "boolean", default = true },
  extended_kind = { type = "string", choices = { "binary", "text" }, default = "binary" },
  require_khp = { type = "boolean", default = false },
  tls = { type = "table" },
  timeout = { type = "number", min = 0 },
  on_message = { type = "function" },
  on_close = { type = "function" },
  on_drain = { type = "function" },
  limits = { type = "table" },
  trace = { type = "function" },
})

---@class khp.Call  what connect() was asked for, checked; shared by its attempts
---@field options table
---@field limits table
---@field extensions khp.Extensions
---@field wires khp.Wires
---@field session khp.Session what the policy sees, and what becomes conn.data
---@field hooks khp.Hooks
---@field secrets khp.Secrets
---@field proxy khp.Proxy?
---@field first khp.Uri where it begins
---@field tracker khp.redirect.Tracker
---@field urls string[] every URL tried, in order
---@field openings integer openings that were refused with 401
---@field authorization string? for the next opening
---@field due number? when the option `timeout` is over
local Call = {}
Call.__index = Call

-- Another attempt after one that failed. Each of these takes the attempt's target, message, code and detail, and
-- returns the next target, or nil and the four returns' rest.
local again = {}

function again.redirect(self, _, _, _, detail) -- KHP E12
  detail.permanent, detail.attempts = true, detail.attempts or 1
  if not detail.location then
    return nil, "a redirect without Location", "EREDIRECT", detail
  end
  self.secrets:accepted()
  local url, parsed, code, why = self.tracker:follow(detail.location)
  local failure = self.hooks.failure
  if failure then
    parsed, code, why = failure[1], failure[2], failure[3]
  end
  if url and not failure then
    return parsed
  end
  for name, value in pairs(why) do
    detail[name] = value
  end
  return nil, parsed, code, detail
end

-- A 401 in the opening itself: the same again on a fresh connection, with credentials.
function again.authenticate(self, target, message, code, detail)
  if code ~= "EHANDSHAKE" then -- the extended handshake's: it has been answered there, as far as it could be
    return nil, message, code, detail
  end
  self.openings = self.openings + 1
  detail.attempts = self.openings
  local challenges = http.challenges(detail.headers["www-authenticate"] or "")
  if not challenges or not challenges[1] then
    return nil, message .. " without a challenge that can be read", "EAUTH", detail
  elseif self.openings >= self.limits.attempts then
    return nil, ("not authorized after %d attempts"):format(self.openings), "EAUTH", detail
  end
  local answer, why, what, more = self.secrets:authorize(challenges, target, self.openings)
  if not answer then
    detail.traceback = more.traceback
    return nil, why, what, detail
  end
  self.authorization = answer
  return target
end

-- Does a response ask for TLS? RFC 2817 4.2 wants Upgrade to say so; extended responses may say nothing.
local function asks_for_tls(headers)
  local value = headers.upgrade
  for product in (value or ""):gmatch "[^,%s]+" do
    if (product:lower() .. "/"):match "^tls/" then
      return true
    end
  end
  return value == nil
end

function again.upgrade(self, target, message, code, detail) -- KHP S426
  if target.secure then
    return nil, message .. ": the connection has TLS already", code, detail
  elseif not asks_for_tls(detail.headers) then
    return nil, message .. ": it asks for something else than TLS", code, detail
  end
  local to = uri.over_tls(target)
  self.secrets:moved(target, to)
  self.tracker:moved(to)
  return to
end

function again.proxy(self, target, message, _, detail) -- KHP S407
  local ok, why = self.secrets:offer_proxy()
  if not ok then
    return nil, message .. ": " .. why, "EAUTH", detail
  end
  return target
end

-- The proxy's own 407, not the server's.
again["ask proxy"] = function(self, target, _, _, detail)
  local ok, why = self.secrets:answer_proxy(detail.headers)
  if not ok then
    return nil, why, "EAUTH", detail
  end
  return target
end

-- What is done only where the policy says so (KHP S407, S426: MAY).
local on_demand = { upgrade = true, proxy = true }

local function next_target(self, tried, message, code, detail)
  local try = again[detail.action]
  if not try or on_demand[detail.action] and tried.wanted ~= detail.action then
    return nil, message, code, detail
  end
  return try(self, tried.target, message, code, detail)
end

-- The name of a policy in messages: "joe.lua".
local function name_of(policy)
  return type(policy) == "string" and policy:match "[^/]*$" or "policy"
end

local function check_credentials(given, level)
  if type(given) == "table" then
    options.verify(hooks.credentials, given, level + 1)
  end
end

-- Mistakes are the caller's, and thrown where connect() was called. what: how that is called.
local function prepare(what, url, checked, wires, around)
  if type(url) ~= "string" then
    error(what .. ": a URL expected, not " .. type(url), 4)
  end
  local target, message = uri.parse(url)
  if not target then
    error(what .. ": " .. message, 4)
  elseif checked.require_khp and not checked.khp then
    error(what .. ": option 'require_khp' asks for what 'khp = false' leaves out", 4)
  end
  target = uri.websocket(target)
  check_credentials(checked.credentials, 4)
  if checked.tls then
    tls.check_client(checked.tls, 4)
  end
  local self = setmetatable({
    options = checked,
    limits = limits.resolve(checked.limits, 4),
    extensions = extension.list(checked.extensions, what, 4),
    wires = wires,
    session = session.new({}, around),
    first = target,
    urls = {},
    openings = 0,
  }, Call)
  if checked.proxy then
    self.proxy, message = credentials.proxy(checked.proxy)
    if not self.proxy or target.unix then
      message = message or "has no way to a unix socket"
      error(what .. ": option 'proxy'" .. (message:find "^bad" and ": " or " ") .. message, 4)
    end
  end
  local policy = {}
  if checked.policy then
    local code, detail
    policy, message, code, detail = policies.load(checked.policy, "client", nil, checked)
    if not policy then
      return nil, message, code, detail
    end
  end
  local budget = policies.budget(checked.policy, { trusted = checked.trusted, limits = self.limits, world = around },
    "client")
  self.hooks = hooks.new(policy, name_of(checked.policy), checked, self.session, budget)
  self.hooks.patience = self.limits.opening
  self.secrets, message = credentials.new(self.hooks, target, checked, self.proxy)
  if not self.secrets then
    error(what .. ": option 'headers': " .. message, 4)
  end
  message = attempt.problem(self)
  if message then
    error(what .. ": " .. message, 4)
  end
  self.tracker = redirect.new(target, { rule = self:rule(), limit = self.limits.redirects })
  return self
end

-- The rule of redirects: a function, or the name of one.
function Call:rule()
  for _, what in ipairs { "redirect", "redirects" } do
    if self.hooks:has(what) then
      return function(location, from, count)
        return self.hooks:leads(what, location, from, count, self.session)
      end
    end
  end
  return self.options.redirects or "always"
end

--- Seconds that a step may take: of so many what the option `timeout` leaves.
---@param most number
---@return number
function Call:left(most)
  return self.due and math.max(math.min(most, self.due - self.wires.now()), 0) or most
end

local function attempts(self)
  local target = self.first
  self.due = self.options.timeout and self.wires.now() + self.options.timeout
  while true do
    local settings, server_name, code, detail
    if target.secure then
      settings, server_name, code, detail = self.wires.tls(self.options.tls, 4)
      if not settings then
        return nil, server_name, code, detail
      end
    end
    self.session.url = uri.format(target)
    self.urls[#self.urls + 1] = self.session.url
    local headers = self.secrets:headers(target, self.authorization)
    self.authorization = nil
    local tried = attempt.new(self, target, headers, settings, server_name)
    local opened, message
    opened, message, code, detail = tried:run()
    if opened then
      return opened
    end
    target, message, code, detail = next_target(self, tried, message, code, detail or {})
    if not target then
      return nil, message, code, detail
    end
  end
end

local function make(self)
  local opened, message, code, detail = attempts(self)
  if not opened then
    detail = detail or {}
    detail.urls = self.urls
    detail.url = self.urls[#self.urls]
    return nil, message, code, detail
  end
  return opened
end

local function connect(url, checked, wires, around)
  local self, message, code, detail = prepare("khp.connect", url, checked, wires, around)
  if not self then
    return nil, message, code, detail
  end
  return make(self)
end

---@class khp.ConnectOptions
---@field protocols string[]? subprotocols to offer, in order of preference; default: none
---@field extensions (string|khp.Extension)[]? extensions to offer, in order of preference: "name; parameter=value" or a
---  custom extension; default: none. khp implements permessage-deflate, x-kaazing-idle-timeout and x-kaazing-ping-pong;
---  any other name is only negotiated and listed in conn.extensions
---@field headers table? further headers of the opening request. Authorization, Cookie and Proxy-Authorization are sent
---  only to the URL's own origin, the others to redirect targets, too
---@field origin string? value of the Origin header; default: not sent
---@field policy string|khp.ClientPolicy|nil path of a policy file, or a table of functions
---@field trusted boolean? gives the policy file the program's whole environment instead of a sandbox; default false
---@field credentials khp.Credentials|(fun(realm: string?, location: string, scheme: string): khp.Credentials?)|nil
---  credentials for a 401, used with the strongest scheme offered; default: user and password of the URL. They are sent
---  only to the URL's own origin. A function may wait, and is given the URL that asks as `location`. A policy's
---  `challenge` takes precedence
---@field share_credentials boolean? after a redirect, asks a function (or a policy's `challenge`) for credentials for
---  other origins, too; it must check `location`; default false
---@field proxy string? http://[user:password@]host:port, used with CONNECT; user and password are sent only to the
---  proxy, and only if it asks for them
---@field redirects string|function|nil whether to follow a redirect: the name of a rule of khp.redirect ("never",
---  "same-origin", "same-domain", "sub-domain", "peer-domain", "always") or a function; default "always"
---@field khp boolean? whether to ask for the extended handshake; default true
---@field extended_kind "binary"|"text"|nil type of the messages that carry extended requests; default "binary"
---@field require_khp boolean? fails if the server does not support the extended handshake; default false
---@field tls khp.ClientTls? how to verify the server of a wss URL; default: against the system's authorities
---@field timeout number? seconds for the whole call: name lookup, TCP, proxy, TLS, both handshakes and redirects;
---  default: only the limits of each step apply
---@field on_message fun(conn: khp.Connection, message: string, kind: "text"|"binary")? callback for each message; must
---  not wait. Such a connection has no receive()
---@field on_close fun(conn: khp.Connection, code: integer, reason: string)? callback after the connection has closed;
---  must not wait
---@field on_drain fun(conn: khp.Connection)? callback when a send queue that was full has fallen below half its limit;
---  must not wait
---@field limits table<string, number>? limits on what the peer may make us store or wait for: see Limits
---@field trace (fun(direction: "send"|"receive", stage: "proxy"|"opening"|"extended", bytes: string))? callback for all
---  bytes of the handshakes as sent on the wire, including credentials: keep its output secret

--- Connects and completes the handshakes. Waits.
---@param url string ws:// wss:// http:// https:// or ws+unix:///path.sock:/resource
---@param given khp.ConnectOptions?
---@return khp.Connection? conn
---@return string? message
---@return string? code any of the error codes
---@return table? detail where they apply: `url`, and `urls`, all that were tried; `permanent`: retrying cannot help;
---  `attempts`; of the response that decided, `status`, `headers`, `body`, and `action`, what the client does on it
---  (khp.Action); `location` and `redirects` of a redirect; `code` and `reason` of a close frame; `proxy`; `traceback`
---  of an error in a policy
function client.connect(url, given)
  local checked = options.check(declaration, given, 2)
  task.check_waiting(2)
  local opened, message, code, detail = connect(url, checked, attempt.wires, world.new())
  return opened, message, code, detail
end

--- The options of connect(), for who takes them, too (khp.keep).
client.declaration = declaration

--- A call that is checked and not made yet. Throws what connect() throws, at the line of its caller's caller.
---@param what string how the caller is called, for the messages
---@param url string
---@param checked table options, checked
---@param wires khp.Wires
---@param around khp.World
---@return khp.Call?
---@return string? message, string? code, table? detail
function client.prepare(what, url, checked, wires, around)
  local call, message, code, detail = prepare(what, url, checked, wires, around)
  return call, message, code, detail
end

--- Makes a call that was prepared, once. Waits.
---@param call khp.Call
---@return khp.Connection?
---@return string? message, string? code, table? detail
client.make = make

--- The same in another world, for tests of policies: over these wires, and what the policy learns comes from there.
---@param url string
---@param given table
---@param wires khp.Wires
---@param around khp.World
---@return khp.Connection?
---@return string? message, string? code, table? detail
function client.rehearse(url, given, wires, around)
  local opened, message, code, detail = connect(url, options.check(declaration, given, 2), wires, around)
  return opened, message, code, detail
end

return client
