-- What is settled about an opening before any policy is asked: whether there is such a place, and whether this page may
-- connect to it. This file must not know policies, nor how an answer is sent.

local common = require "khp.opening.common"
local decision = require "khp.policy.decision"
local kaazing = require "khp.kaazing"
local origin = require "khp.origin"

local reception = {}

--- Finds the place that an opening asks for, and enters it into the state of the connection.
---@param state table place, functions, captures and cors are set
---@param request table
---@return khp.Decision? refused the answer, where there is nothing left to ask
function reception.admit(state, request)
  local place, captures = state.place, nil
  if not place then
    place, captures = state.server.places:find(request)
  end
  if not place then
    return decision.reject(404)
  end
  state.place, state.captures, state.functions = place, captures, place.policy.functions
  local allowed, cross = true, false
  if place.origins then
    allowed, cross = place.origins:allows(request)
  end
  if not allowed then
    return decision.reject(403, "This origin is not allowed.\n")
  elseif cross then
    state.cors = place.origins:headers(request)
    if not request.upgrade then
      state.cors.Vary = "Origin"
    end
    if origin.is_preflight(request) then
      state.cors["Access-Control-Allow-Methods"] = origin.METHODS
      return decision.reject(204)
    end
  end
  if kaazing.asks_for_cookies(request) then -- there are none; the opening that follows is what is decided
    return decision.reject(200)
  end
  return nil
end

-- In the order in which they are sent.
local CORS = {
  "Access-Control-Allow-Origin", "Access-Control-Allow-Credentials", "Access-Control-Allow-Headers",
  "Access-Control-Allow-Methods", "Vary",
}

--- The answer with the headers for the page's browser, as far as the policy does not give them itself.
---@param decided khp.Decision checked, so its headers are a flat list; it stays as it is
---@param cors table<string, string|string[]>
---@return khp.Decision
function reception.tell(decided, cors)
  local list, headers = {}, decided.answer.headers or {}
  for i = 1, #headers do
    list[i] = headers[i]
  end
  for _, name in ipairs(CORS) do
    local values = not common.has_header(headers, name:lower()) and cors[name] or {}
    for _, value in ipairs(type(values) == "table" and values or { values }) do
      list[#list + 1], list[#list + 2] = name, value
    end
  end
  local answer = {}
  for name, value in pairs(decided.answer) do
    answer[name] = value
  end
  answer.headers = list
  return decision.new(decided.action, decided.subject, answer)
end

return reception
