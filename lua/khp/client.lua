-- The client: khp.connect. It makes an attempt (khp.attempt), and where a response asks for it and the rules allow
-- it, another one: a redirect, credentials for the opening, TLS after a 426. This file must not know the handshakes.

local attempt = require "khp.attempt"
local auth = require "khp.auth"
local http = require "khp.http"
local limits = require "khp.limits"
local options = require "khp.options"
local policies = require "khp.policy"
local redirect = require "khp.redirect"
local task = require "khp.task"
local tls = require "khp.tls"
local uri = require "khp.uri"

local client = {}

local function is_rule(value)
  if type(value) == "string" and not redirect.rules[value] then
    return false, "must be never, same-origin, same-domain, sub-domain, peer-domain, always or a function"
  end
  return true
end

local declaration = options.declare("khp.connect", {
  protocols = { type = "strings", default = {} },
  extensions = { type = "strings", default = {} },
  headers = { type = "table" },
  origin = { type = "string" },
  policy = { type = "string|table" },
  credentials = { type = "table|function" },
  redirects = { type = "string|function", check = is_rule },
  khp = { type = "boolean", default = true },
  require_khp = { type = "boolean", default = false },
  tls = { type = "table" },
  timeout = { type = "number", min = 0 },
  on_message = { type = "function" },
  on_close = { type = "function" },
  on_drain = { type = "function" },
  limits = { type = "table" },
  trace = { type = "function" },
})

---@class khp.Call
---@field answerer khp.auth.Answerer?
---@field tracker khp.redirect.Tracker
---@field urls string[] every URL tried, in order
local Call = {}
Call.__index = Call

-- Where credentials come from: the policy, the option, the URL.
local function answerer(self, first)
  local ask = self.policy.challenge
  if ask then
    return auth.new(function(_, _, _, challenge)
      return ask(challenge, self.count)
    end)
  elseif self.options.credentials then
    return auth.new(self.options.credentials)
  elseif first.userinfo then
    local username, password = uri.credentials(first)
    return auth.new { username = username, password = password }
  end
  return nil
end

-- 'Basic, realm "members"; Digest, realm "members"'
local function describe(challenges)
  local names = {}
  for i, challenge in ipairs(challenges) do
    local realm = challenge.parameters.realm
    names[i] = challenge.scheme .. (type(realm) == "string" and (", realm %q"):format(realm) or "")
  end
  return table.concat(names, "; ")
end

-- The value of Authorization for these challenges at this place, or nil and why not. Credentials that were given
-- for the first origin are for no other; a function or a policy is told where it is asked.
function Call:authorize(challenges, target, count)
  self.count = count
  local why = "there are none"
  local given = self.policy.challenge or type(self.options.credentials) == "function"
  if self.answerer and (given or uri.same_origin(self.first, target)) then
    local ok, answer, message = pcall(self.answerer.answer, self.answerer, challenges,
      { method = "GET", target = target.target, location = uri.format(target) })
    if not ok then
      return nil, "policy: challenge: " .. tostring(answer), "EPOLICY"
    elseif answer then
      return answer
    end
    why = message
  end
  return nil, ("the server asks for credentials (%s): %s"):format(describe(challenges), why), "EAUTH"
end

local secret = { authorization = true, cookie = true, ["proxy-authorization"] = true }

-- The headers that go to this place: what is secret goes to the first origin alone.
local function headers_for(self, target)
  local list = {}
  local same = uri.same_origin(self.first, target)
  for key, value in pairs(self.options.headers or {}) do
    local name = type(key) == "number" and value[1] or key
    if same or not secret[name:lower()] then
      list[#list + 1] = type(key) == "number" and value or { key, value }
    end
  end
  if self.authorization then
    list[#list + 1] = { "Authorization", self.authorization }
    self.authorization = nil
  end
  return list
end

-- Another attempt after a failed one, if it is wanted: the next target, or nil and the four returns.
local function redirected(self, detail)
  if not detail.location then
    return nil, "a redirect without Location", "EREDIRECT", detail
  end
  local ok, url, parsed, code, why = pcall(self.tracker.follow, self.tracker, detail.location)
  if not ok then
    return nil, "policy: redirect: " .. tostring(url), "EPOLICY", detail
  elseif not url then
    for name, value in pairs(why) do
      detail[name] = value
    end
    return nil, parsed, code, detail
  end
  return parsed
end

-- A 401 in the opening itself: the same again, with credentials.
local function challenged(self, target, message, detail)
  self.openings = (self.openings or 0) + 1
  local challenges = http.challenges(detail.headers["www-authenticate"] or "")
  if not challenges or not challenges[1] or self.openings >= self.limits.attempts then
    return nil, message, "EAUTH", detail
  end
  local answer, why, code = self:authorize(challenges, target, self.openings)
  if not answer then
    return nil, why, code, detail
  end
  self.authorization = answer
  return target
end

local function again(self, tried, message, code, detail)
  local action = detail.action
  if action == "redirect" then
    return redirected(self, detail)
  elseif action == "authenticate" and code == "EHANDSHAKE" then
    return challenged(self, tried.target, message, detail)
  elseif action == "upgrade" and tried.wanted == "upgrade" and not tried.target.secure then -- KHP S426
    local target = {}
    for name, value in pairs(tried.target) do
      target[name] = value
    end
    target.scheme, target.secure = "wss", true
    target.port = target.port == 80 and 443 or target.port
    return target
  end
  return nil, message, code, detail
end

local function prepare(url, checked)
  if type(url) ~= "string" then
    error("khp.connect: a URL expected, not " .. type(url), 3)
  end
  local target, message = uri.parse(url)
  if not target then
    error("khp.connect: " .. message, 3)
  end
  target = uri.websocket(target)
  local self = setmetatable({
    options = checked,
    limits = limits.resolve(checked.limits, 3),
    first = target,
    policy = {},
    urls = {},
  }, Call)
  if checked.policy then
    local policy, code, detail
    policy, message, code, detail = policies.load(checked.policy, "client")
    if not policy then
      return nil, message, code, detail
    end
    self.policy = policy
  end
  self.answerer = answerer(self, target)
  self.tracker = redirect.new(target, {
    rule = self.policy.redirect or checked.redirects or "always",
    limit = self.limits.redirects,
  })
  return self
end

local function attempts(self)
  local target = self.first
  while true do
    local settings, server_name, code, detail
    if target.secure then
      settings, server_name, code, detail = tls.client(self.options.tls, 3)
      if not settings then
        return nil, server_name, code, detail
      end
    end
    self.urls[#self.urls + 1] = uri.format(target)
    local tried = attempt.new(self, target, headers_for(self, target), settings, server_name)
    local opened, message
    opened, message, code, detail = tried:run()
    if opened then
      return opened
    end
    target, message, code, detail = again(self, tried, message, code, detail or {})
    if not target then
      return nil, message, code, detail
    end
  end
end

--- Connects and makes the handshakes. Waits: in a task it yields, in the main chunk it turns the loop.
---@param url string ws:// wss:// http:// https:// or ws+unix:///path.sock:/resource
---@param given table? see the reference
---@return khp.Connection?
---@return string? message
---@return string? code
---@return table? detail status, headers, body, url, urls (all that were tried), attempts, permanent
function client.connect(url, given)
  local checked = options.check(declaration, given, 2)
  task.check_waiting(2)
  local self, message, code, detail = prepare(url, checked)
  if not self then
    return nil, message, code, detail
  end
  local opened
  opened, message, code, detail = attempts(self)
  if not opened then
    detail = detail or {}
    detail.urls = self.urls
    detail.url = self.urls[#self.urls]
    return nil, message, code, detail
  end
  return opened
end

return client
