-- Whether a client follows a redirect: rules by name or a function, the maximum of redirects in a row, loops, and how
-- Location becomes a WebSocket URL (KHP E12). A redirect from TLS to plaintext is followed only if a function returns
-- the URL itself; no rule and no `true` is enough. One tracker serves one attempt to connect.
-- This file must not know connections, responses or status codes.

local options = require "khp.options"
local uri = require "khp.uri"

local redirect = {}

local find, format, match, sub = string.find, string.format, string.match, string.sub
local setmetatable, type = setmetatable, type

local function same_host(from, to)
  return from.host == to.host and from.unix == to.unix and from.zone == to.zone
end

local function is_name(u)
  return not (u.ipv6 or u.unix or find(u.host, "^[%d.]+$"))
end

-- What two peers share: "example.org" for "a.example.org". A parent of one label, "org", is shared with strangers.
local function parent(u)
  local rest = is_name(u) and match(u.host, "^[^.]+%.(.+)$")
  return rest and find(rest, ".", 1, true) and rest or nil
end

--- The rules by name, each called with the URL that redirects and the target, as Kaazing's clients have them. A parent
--- domain has at least two labels: "org" does not count.
---
---     never         follows no redirect
---     same-origin   the same scheme, host and port
---     same-domain   the same host; scheme and port may change
---     sub-domain    the same host, or one below it: example.org to a.example.org
---     peer-domain   the same host, or one with the same parent domain: a.example.org to b.example.org
---     always        any host (the default)
---@type table<string, fun(from: khp.Uri, to: khp.Uri): boolean>
redirect.rules = {
  never = function()
    return false
  end,
  ["same-origin"] = uri.same_origin,
  ["same-domain"] = same_host,
  ["sub-domain"] = function(from, to)
    return same_host(from, to) or is_name(from) and sub(to.host, -#from.host - 1) == "." .. from.host
  end,
  ["peer-domain"] = function(from, to)
    local shared = parent(from)
    return same_host(from, to) or shared ~= nil and shared == parent(to)
  end,
  always = function()
    return true
  end,
}

local declaration = options.declare("khp.redirect.new", {
  rule = {
    type = "string|function",
    default = "always",
    check = function(value)
      if type(value) == "string" and not redirect.rules[value] then
        return nil, "must be never, same-origin, same-domain, sub-domain, peer-domain, always or a function"
      end
      return true
    end,
  },
  limit = { type = "integer", default = 5, min = 0 },
  downgrade = { type = "boolean", default = false },
})

--- The redirects of one attempt to connect.
---@class khp.redirect.Tracker
---@field count integer redirects followed so far
---@field current khp.Uri where the connection is now
local methods = {}
local metatable = { __name = "khp.redirect.tracker", __index = methods }

---@class khp.redirect.Options
---@field rule string|(fun(location: string, from: string, count: integer): boolean|string|nil)|nil name of a rule, or a
---  function that returns true, false or another URL; default "always"
---@field limit integer? maximum of redirects in a row (RFC 2616 10.3); default 5
---@field downgrade boolean? whether redirects from TLS to plaintext may be followed; default false

--- Creates a tracker for one attempt to connect.
---@param from string|khp.Uri the URL of the first connection
---@param given khp.redirect.Options?
---@return khp.redirect.Tracker? tracker
---@return string? message
function redirect.new(from, given)
  given = options.check(declaration, given)
  local current = from
  if type(from) == "string" then
    local parsed, message = uri.parse(from)
    if not parsed then
      return nil, message
    end
    current = parsed
  end
  ---@cast current khp.Uri
  current = uri.websocket(current)
  return setmetatable({
    rule = given.rule,
    limit = given.limit,
    downgrade = given.downgrade,
    count = 0,
    current = current,
    seen = { [uri.format(current)] = true },
  }, metatable)
end

local function refuse(self, message, location)
  return nil, message, "EREDIRECT", { url = uri.format(self.current), location = location, redirects = self.count }
end

-- The WebSocket URL that a reference means from here.
local function resolve(self, reference)
  local to, message = uri.resolve(self.current, reference)
  if not to then
    return nil, message
  end
  to = uri.websocket(to)
  -- Only what the user wrote counts as credentials, and only where he wrote it for.
  to.userinfo = uri.same_origin(self.current, to) and self.current.userinfo or nil
  return to
end

-- Returns what forbids this URL, whoever wants it. From TLS to none leads only a URL that the caller's own function
-- has named (chosen), not one that it merely agrees to.
local function problem(self, to, chosen)
  if to.scheme ~= "ws" and to.scheme ~= "wss" and not to.unix then
    return "it is no WebSocket URL"
  elseif to.unix and to.unix ~= self.current.unix then
    return "no peer may lead to a unix socket"
  elseif self.current.secure and not to.secure and not (chosen or self.downgrade) then
    return "it leaves TLS"
  elseif self.seen[uri.format(to)] then
    return "it is a loop"
  end
  return nil
end

-- The URL that a rule makes of a reference, or nil and why it is not followed.
local function permit(self, reference, rule)
  local asks = type(rule) == "function"
  local to, message = resolve(self, reference)
  local wrong = not to and message or problem(self, to, asks)
  if wrong then
    return nil, wrong
  elseif not asks then
    return redirect.rules[rule](self.current, to) and to, "the rule is " .. rule
  end
  local answer = rule(uri.format(to), uri.format(self.current), self.count + 1)
  if type(answer) == "string" then
    to, message = resolve(self, answer)
    wrong = not to and message or problem(self, to, true)
  else
    wrong = not answer and "the rule's function refused" or problem(self, to)
  end
  return not wrong and to, wrong, type(answer) == "string" and answer or nil
end

--- Follows a redirect, if that is allowed.
---@param location string value of Location: absolute or relative, http(s) or ws(s)
---@return string? url
---@return khp.Uri|string parsed the parsed URL; on failure the error message
---@return string? code EREDIRECT
---@return table? detail
function methods:follow(location)
  local text = #location <= 200 and location or sub(location, 1, 197) .. "..."
  if self.count >= self.limit then -- KHP E12, RFC 2616 10.3
    local message = format("redirect to %s is not followed: it would be number %d in a row", text, self.count + 1)
    return refuse(self, message, location)
  end
  local to, wrong, named = permit(self, location, self.rule)
  if not to then
    return refuse(self, "redirect to " .. (named or text) .. " is not followed: " .. wrong, named or location)
  end
  local url = uri.format(to)
  self.seen[url] = true
  self.count = self.count + 1
  self.current = to
  return url, to
end

--- Records that the connection now leads elsewhere without a redirect.
---@param to khp.Uri
function methods:moved(to)
  self.current = to
  self.seen[uri.format(to)] = true
end

return redirect
