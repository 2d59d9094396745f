-- A client's policy as its driver asks it: each function in one place, its answer checked, its errors caught and named
-- ("joe.lua: challenge: …", code EPOLICY). The functions among connect()'s options are asked in the same way. Any of
-- them may wait. This file must not know when they are asked, nor what is done with the answers.

local options = require "khp.options"

local hooks = {}

---@class khp.Credentials what a function may give for a challenge
---@field username string?
---@field password string?
---@field token string?

---@class khp.RequestAdditions what a policy adds to an extended request
---@field headers table? further fields
---@field body string?
---@field expect boolean? the body waits until the server wants it: Expect: 100-continue

hooks.credentials = options.declare("khp.connect: credentials", {
  username = { type = "string" },
  password = { type = "string" },
  token = { type = "string" },
})

local additions = options.declare("request", {
  headers = { type = "table" },
  body = { type = "string" },
  expect = { type = "boolean" },
})

local actions = {
  complete = true, continue = true, wait = true, authenticate = true, redirect = true, upgrade = true, proxy = true,
  close = true,
}

---@class khp.Hooks
---@field failure table? { message, code, detail } of the first function that failed; none is asked after it
local methods = {}
local metatable = { __name = "khp.policy.hooks", __index = methods }

--- What a client asks: the functions of its policy, and those among its options.
---@param policy khp.ClientPolicy
---@param name string of the policy, as it stands in messages: "joe.lua"
---@param given { credentials: any, redirects: any } options of connect()
---@param session khp.Session what each function is given besides
---@return khp.Hooks
function hooks.new(policy, name, given, session)
  local self = setmetatable({ functions = {}, labels = {}, session = session }, metatable)
  for what, f in pairs(policy) do
    self.functions[what], self.labels[what] = f, name .. ": " .. what
  end
  for what, replaced in pairs { credentials = "challenge", redirects = "redirect" } do
    if type(given[what]) == "function" and not policy[replaced] then
      self.functions[what], self.labels[what] = given[what], what
    end
  end
  return self
end

--- Is there such a function?
---@param what string "request" "challenge" "redirect" "response" "credentials" "redirects"
---@return boolean
function methods:has(what)
  return self.functions[what] ~= nil
end

--- Records a failure of one of the functions, and returns it.
---@param what string
---@param message string
---@param traceback string?
---@return nil, string message, string code, table detail
function methods:fail(what, message, traceback)
  message = self.labels[what] .. ": " .. message
  local detail = { traceback = traceback, permanent = true }
  self.failure = self.failure or { message, "EPOLICY", detail }
  return nil, message, "EPOLICY", detail
end

-- true and the answer, or false after a failure.
local function ask(self, what, ...)
  if self.failure then
    return false
  end
  local traceback
  local ok, answer = xpcall(self.functions[what], function(message)
    message = tostring(message)
    traceback = debug.traceback(message, 2)
    return message
  end, ...)
  if not ok then
    self:fail(what, answer, traceback)
  end
  return ok, answer
end

-- What is wrong with an answer that should be nil or such a table.
local function problem(declaration, answer)
  if answer ~= nil and type(answer) ~= "table" then
    return "a table or nil expected, not " .. type(answer)
  end
  local ok, message = pcall(options.verify, declaration, answer, 1)
  return not ok and message:sub(#declaration.what + 3) or nil -- whose answer it is stands before it already
end

--- What goes into an extended request besides what the handshake puts there. Asked for each, replays included.
---@param request table
---@param attempt integer 1 for the first
---@return khp.RequestAdditions? additions nil: there was a failure
function methods:request(request, attempt)
  if not self.functions.request then
    return {}
  end
  local ok, answer = ask(self, "request", request, attempt, self.session)
  if not ok then
    return nil
  end
  local wrong = problem(additions, answer)
  if not wrong and answer and answer.expect and (answer.body or "") == "" then
    wrong = "expect needs a body"
  end
  if wrong then
    self:fail("request", wrong)
    return nil
  end
  return answer or {}
end

--- Credentials for a challenge, or nil.
---@param what "challenge"|"credentials"
---@return khp.Credentials?
function methods:secret(what, ...)
  local ok, answer = ask(self, what, ...)
  if not ok or not answer then
    return nil
  end
  local wrong = problem(hooks.credentials, answer)
  if wrong then
    self:fail(what, wrong)
    return nil
  end
  return answer
end

--- May this redirect be followed?
---@param what "redirect"|"redirects"
---@return boolean|string answer yes, no, or another URL
function methods:leads(what, ...)
  local ok, answer = ask(self, what, ...)
  if ok and answer ~= nil and type(answer) ~= "boolean" and type(answer) ~= "string" then
    self:fail(what, "true, false or a URL expected, not " .. type(answer))
    return false
  end
  return ok and answer or false
end

--- The last word on what to do about a response.
---@param response table
---@param action khp.Action what its status asks for
---@param possible table<string, boolean>? the actions that there are here; default: all
---@return khp.Action? action nil: there was a failure
---@return boolean? wanted it is the policy's own word
function methods:response(response, action, possible)
  if not self.functions.response then
    return action, false
  end
  local ok, answer = ask(self, "response", response, action, self.session)
  if not ok then
    return nil
  elseif answer == nil then
    return action, false
  elseif type(answer) ~= "string" or not actions[answer] then
    local said = type(answer) == "string" and "'" .. answer .. "'" or type(answer)
    self:fail("response", "an action or nil expected, not " .. said)
    return nil
  elseif possible and not possible[answer] then
    self:fail("response", ("'%s' cannot be done about a response that refuses the opening"):format(answer))
    return nil
  end
  return answer, true
end

return hooks
