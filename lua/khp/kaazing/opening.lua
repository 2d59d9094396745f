-- An opening from a client of Kaazing: what it asks for before, and how it is told what was decided. The decision stays
-- what it is; only its form is the client's. This file must not know machines or connections.

local common = require "khp.opening.common"
local decision = require "khp.policy.decision"
local dialect = require "khp.kaazing.dialect"
local extension = require "khp.extension"

local opening = {}

local find, pairs = string.find, pairs

local usual = extension.list({ "x-kaazing-idle-timeout", "x-kaazing-ping-pong" }, "khp.kaazing", 1)

--- What is agreed to in the extended handshake: with a client that expects a gateway, also what that would agree to,
--- unless the server says that it wants no extensions.
---@param request table the opening
---@param given khp.Extensions? the server's
---@return khp.Extensions
function opening.extensions(request, given)
  if not dialect.has_directives(request.query) or given and not given[1] then
    return given or extension.none
  end
  return given and given:with(usual) or usual
end

--- Is this a request of the Java client before its opening, which goes on only after a 200?
---@param request table of the opening's machine
---@return boolean
function opening.asks_for_cookies(request)
  local query = request.query
  return query ~= nil and request.method == "GET" and not request.upgrade
    and find(request.path, "/;e/cookies$") ~= nil
    and (dialect.has_directives(query) or find("&" .. query, "&.krn=", 1, true) ~= nil)
end

--- A decision of the opening in the form that the client understands. No browser tells its page of a redirect in
--- HTTP, so the opening is accepted instead, and what follows it leads away.
---@param decided khp.Decision checked
---@param request table the opening
---@param secure boolean is it under TLS?
---@return khp.Decision decided
---@return string? leads where the connection is to be led once it is open: the machine's `leads`
function opening.translate(decided, request, secure)
  local query, given = request.query, decided.answer
  if not query or not request.upgrade or not dialect.has_ends(query) then
    return decided
  elseif decided.action == "accept" and given.reason == nil then
    local answer = { reason = dialect.PHRASE }
    for name, value in pairs(given) do
      answer[name] = value
    end
    return decision.new("accept", nil, answer)
  elseif decided.action == "redirect" and dialect.has_directives(query)
    and common.index(request.protocols, common.KHP) then
    local leads = dialect.destination(decided.subject, request, secure)
    if leads then
      local answer = {
        protocol = common.KHP, extensions = {}, headers = given.headers, reason = dialect.PHRASE,
      }
      return decision.new("accept", nil, answer), leads
    end
  end
  return decided
end

return opening
