-- What a call of connect() keeps secret, and who may hear it: credentials and the headers that identify a user go to
-- the origin that they were given for, those of a proxy to the proxy alone. Nothing of it stands in a message or in a
-- log. This file must not know connections, nor when anything is tried again.

local auth = require "khp.auth"
local basic = require "khp.auth.basic"
local common = require "khp.opening.common"
local http = require "khp.http"
local log = require "khp.log"
local uri = require "khp.uri"

local credentials = {}

---@class khp.Secrets
---@field package hooks khp.Hooks
---@field package home khp.Uri the origin that the secrets were given for
---@field package answerer khp.auth.Answerer?
---@field package asks string? the function that gives credentials, if one does
---@field proxy khp.Proxy?
local methods = {}
local metatable = { __name = "khp.credentials", __index = methods }

---@class khp.Proxy
---@field url string without user and password
---@field host string
---@field port integer
---@field authorization string? value of Proxy-Authorization; nil: there are no credentials
---@field asked boolean whether the credentials are sent: only to a proxy that asked, or where the policy says so

local function anything()
  return false
end

-- Where credentials come from: the policy, the option, the URL; the first that is there.
local function new_answerer(self, given)
  for _, what in ipairs { "challenge", "credentials" } do
    if self.hooks:has(what) then
      self.asks = what
      return auth.new(function(realm, location, scheme, challenge)
        if what == "credentials" then
          return self.hooks:secret(what, realm, location, scheme)
        end
        challenge.location = location
        return self.hooks:secret(what, challenge, self.count, self.hooks.session)
      end)
    end
  end
  if given then
    return auth.new(given)
  elseif self.home.userinfo then
    local username, password = uri.credentials(self.home)
    return auth.new { username = username, password = password }
  end
  return nil
end

--- What there is to keep for one call.
---@param hooks khp.Hooks
---@param home khp.Uri the URL that the user gave
---@param options { credentials: khp.Credentials|function|nil, headers: table?, share_credentials: boolean? }
---@param proxy khp.Proxy?
---@return khp.Secrets? secrets, string? message what is wrong with the headers
function credentials.new(hooks, home, options, proxy)
  local self = setmetatable({ hooks = hooks, home = home, proxy = proxy, fields = {}, count = 0 }, metatable)
  self.shared = options.share_credentials
  local wrong = common.add_headers(self.fields, options.headers, anything)
  if wrong then
    return nil, wrong
  end
  self.answerer = new_answerer(self, options.credentials)
  return self
end

--- Reads a proxy's URL.
---@param text string http://[user:password@]host[:port]
---@return khp.Proxy? proxy, string? message
function credentials.proxy(text)
  local u, message = uri.parse(text)
  if not u and text:find "^http://" then
    return nil, message
  elseif not u or u.scheme ~= "http" or u.target ~= "/" then
    local bad = message and message:match "^bad URL '.-': " or "" -- without its password
    return nil, bad .. "must be http://[user:password@]host:port"
  end
  local proxy = { url = uri.format(u):gsub("/$", ""), host = u.host, port = u.port, asked = false }
  local username, password = uri.credentials(u)
  if username then
    proxy.authorization, message = basic.answer(nil, { username = username, password = password or "" })
    if not proxy.authorization then
      return nil, message
    end
  end
  return proxy
end

-- 'Basic, realm "members"; Digest, realm "members"'
local function describe(challenges)
  local names = {}
  for i, challenge in ipairs(challenges) do
    local realm = challenge.parameters.realm
    names[i] = challenge.scheme .. (type(realm) == "string" and ', realm "' .. realm .. '"' or "")
  end
  return log.quote(table.concat(names, "; "))
end

--- The value of Authorization for these challenges at this place. Credentials are for the first origin and no other;
--- a function may be asked for others, too, where the caller says so, and is told where.
---@param challenges khp.auth.Challenge[]
---@param target khp.Uri
---@param count integer how often a request has been refused with 401 here
---@return string? authorization
---@return string? message, string? code EAUTH, or EPOLICY when the function failed
---@return table? detail
function methods:authorize(challenges, target, count)
  local why = "none were given"
  self.count = count
  if self.answerer and (self.asks and self.shared or uri.same_origin(self.home, target)) then
    local answer, message = self.answerer:answer(challenges,
      { method = "GET", target = target.target, location = uri.format(target) })
    local failure = self.hooks.failure
    if failure then
      return nil, failure[1], failure[2], failure[3]
    elseif answer then
      return answer
    end
    why = message
  elseif self.answerer then
    why = "those that there are were given for another origin"
  end
  return nil, ("the server asks for credentials (%s): %s"):format(describe(challenges), why), "EAUTH", {}
end

--- A request with credentials was not refused: the same may be used where they are asked for next.
function methods:accepted()
  if self.answerer then
    self.answerer:accepted()
  end
end

--- The origin has another address from now on: the same server over TLS.
---@param from khp.Uri
---@param to khp.Uri
function methods:moved(from, to)
  if uri.same_origin(self.home, from) then
    self.home = to
  end
end

local secret = { authorization = true, cookie = true, ["proxy-authorization"] = true }

--- The headers of an opening request to this place: what is secret goes to the first origin alone.
---@param target khp.Uri
---@param authorization string? instead of one among the user's headers
---@return string[] name, value, name, value …
function methods:headers(target, authorization)
  local list, same = {}, uri.same_origin(self.home, target)
  for i = 1, #self.fields, 2 do
    local name, value = self.fields[i], self.fields[i + 1]
    local known = name:lower()
    if (same or not secret[known]) and not (authorization and known == "authorization") then
      common.append(list, name, value)
    end
  end
  if authorization then
    common.append(list, "Authorization", authorization)
  end
  return list
end

--- The proxy answered 407: may it be tried again, with credentials?
---@param headers table of the response
---@return true? again, string? why_not
function methods:answer_proxy(headers)
  local challenges = http.challenges(headers["proxy-authenticate"] or "") or {}
  local known = false
  for _, challenge in ipairs(challenges) do
    known = known or challenge.scheme:lower() == "basic"
  end
  local why
  if not self.proxy.authorization then
    why = "none were given"
  elseif self.proxy.asked then
    why = "they were refused"
  elseif not known then
    why = "the only known scheme is Basic"
  else
    self.proxy.asked = true
    return true
  end
  local asked = challenges[1] and " (" .. describe(challenges) .. ")" or ""
  return nil, "the proxy asks for credentials" .. asked .. ": " .. why
end

--- The policy wants credentials to go to the proxy that has not asked for them (KHP S407).
---@return true? again, string? why_not
function methods:offer_proxy()
  if not self.proxy then
    return nil, "there is no proxy"
  elseif not self.proxy.authorization then
    return nil, "there are no credentials for the proxy"
  elseif self.proxy.asked then
    return nil, "the proxy has its credentials already"
  end
  self.proxy.asked = true
  return true
end

return credentials
