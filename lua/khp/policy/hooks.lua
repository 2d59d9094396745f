-- A client's policy as its driver asks it: each function in one place, its answer checked, its errors caught and named
-- ("joe.lua: challenge: …", code EPOLICY). A policy's functions run under its budget; those among connect()'s options
-- are the program's own and run as they are. Any of them may wait. This file must not know when they are asked, nor
-- what is done with the answers.

local common = require "khp.opening.common"
local options = require "khp.options"
local task = require "khp.task"

local hooks = {}

--- Credentials for a challenge: user and password, or a token.
---@class khp.Credentials
---@field username string? for Basic and Digest
---@field password string? for Basic and Digest
---@field token string? for Bearer and Token

--- What a policy adds to an extended request.
---@class khp.RequestAdditions
---@field headers table? further header fields: a table from name to value or array of values
---@field body string? body of the request
---@field expect boolean? sends the body only when the server asks for it: Expect: 100-continue

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
---@field patience number? seconds that a function of the policy may take, waiting included; nil: any time
---@field left (fun(): number)? likewise, while a handshake's time runs
local methods = {}
local metatable = { __name = "khp.policy.hooks", __index = methods }

--- What a client asks: the functions of its policy, and those among its options.
---@param policy khp.ClientPolicy
---@param name string of the policy, as it stands in messages: "joe.lua"
---@param given { credentials: any, redirects: any } options of connect()
---@param session khp.Session what each function is given besides
---@param budget khp.Budget of each decision
---@return khp.Hooks
function hooks.new(policy, name, given, session, budget)
  local self = setmetatable({
    functions = {}, labels = {}, bounded = {}, session = session, budget = budget,
  }, metatable)
  for what, f in pairs(policy) do
    self.functions[what], self.labels[what], self.bounded[what] = f, name .. ": " .. what, true
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
---@param code string? default EPOLICY
---@return nil, string message, string code, table detail
function methods:fail(what, message, traceback, code)
  message, code = self.labels[what] .. ": " .. message, code or "EPOLICY"
  local detail = { traceback = traceback, permanent = code == "EPOLICY" }
  self.failure = self.failure or { message, code, detail }
  return nil, message, code, detail
end

-- A tail call, so that a traceback names the function by its place and not by what it is called here.
local function named(f, ...)
  return f(...)
end

-- What a policy returned is looked at and copied where it cannot run on: in the same bounded turn.
local function call(f, take, ...)
  return take((named(f, ...)))
end

local function call_as_it_is(...)
  local traceback
  local ok, answer, wrong = xpcall(call, function(message)
    message = tostring(message)
    traceback = debug.traceback(message, 2)
    return message
  end, ...)
  return ok, answer, ok and wrong or traceback
end

-- true and the answer as take(answer) returns it, or false after a failure. take gives nil and what is wrong, too.
local function ask(self, what, take, ...)
  if self.failure then
    return false
  end
  local f = self.functions[what]
  local ok, answer, wrong
  if self.bounded[what] then
    ok, answer, wrong = task.call_bounded(self.budget, self.left and self.left() or self.patience, call, f, take, ...)
  else
    ok, answer, wrong = call_as_it_is(f, take, ...)
  end
  if ok == nil then
    self:fail(what, answer, nil, "ETIMEOUT")
  elseif not ok then
    self:fail(what, answer, wrong)
  elseif wrong then
    self:fail(what, wrong)
  end
  return ok and not wrong or false, answer
end

-- What is wrong with an answer that should be nil or such a table.
local function problem(declaration, answer)
  if answer ~= nil and type(answer) ~= "table" then
    return "a table or nil expected, not " .. type(answer)
  end
  local ok, message = pcall(options.verify, declaration, answer, 1)
  return not ok and message:sub(#declaration.what + 3) or nil -- whose answer it is stands before it already
end

local function anything()
  return false
end

local function take_additions(answer)
  local wrong = problem(additions, answer)
  if not wrong and answer and answer.expect and (answer.body or "") == "" then
    wrong = "expect needs a body"
  end
  if wrong or not answer then
    return {}, wrong
  end
  local headers = {}
  wrong = common.add_headers(headers, answer.headers, anything)
  return { headers = headers, body = answer.body, expect = answer.expect }, wrong
end

--- What goes into an extended request besides what the handshake puts there. Asked for each, replays included.
---@param request table
---@param attempt integer 1 for the first
---@return khp.RequestAdditions? additions nil: there was a failure
function methods:request(request, attempt)
  if not self.functions.request then
    return {}
  end
  local ok, answer = ask(self, "request", take_additions, request, attempt, self.session)
  return ok and answer or nil
end

local function take_credentials(answer)
  local wrong = problem(hooks.credentials, answer)
  if wrong or not answer then
    return nil, wrong
  end
  return { username = answer.username, password = answer.password, token = answer.token }
end

--- Credentials for a challenge, or nil.
---@param what "challenge"|"credentials"
---@return khp.Credentials?
function methods:secret(what, ...)
  local ok, answer = ask(self, what, take_credentials, ...)
  return ok and answer or nil
end

local function take_place(answer)
  if answer ~= nil and type(answer) ~= "boolean" and type(answer) ~= "string" then
    return nil, "true, false or a URL expected, not " .. type(answer)
  end
  return answer or false
end

--- May this redirect be followed?
---@param what "redirect"|"redirects"
---@return boolean|string answer yes, no, or another URL
function methods:leads(what, ...)
  local ok, answer = ask(self, what, take_place, ...)
  return ok and answer
end

local function take_action(answer)
  if answer ~= nil and (type(answer) ~= "string" or not actions[answer]) then
    local said = type(answer) == "string" and common.show(answer) or type(answer)
    return nil, "an action or nil expected, not " .. said
  end
  return answer
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
  local ok, answer = ask(self, "response", take_action, response, action, self.session)
  if not ok then
    return nil
  elseif answer == nil then
    return action, false
  elseif possible and not possible[answer] then
    self:fail("response", ("'%s' cannot be done about a response that refuses the opening"):format(answer))
    return nil
  end
  return answer, true
end

return hooks
