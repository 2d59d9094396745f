-- Loads policies: a file that returns a table of functions, or such a table as it is. A policy is checked when it is
-- loaded, so that a misspelt function is found then and not in the middle of a handshake. This file must not know
-- when its functions are called.

local decision = require "khp.policy.decision"
local errors = require "khp.errors"
local limits = require "khp.limits"
local options = require "khp.options"
local sandbox = require "khp.policy.sandbox"
local task = require "khp.task"

local policy = {}

--- What a server's policy file returns. All functions may wait.
---@class khp.ServerPolicy
---@field opening (fun(request: khp.PolicyRequest, session: khp.Session): khp.Decision?)? decides every HTTP request,
---  both opening handshakes and ordinary requests; nil: as khp does without a policy
---@field extended (fun(request: khp.PolicyRequest, session: khp.Session): khp.Decision?)? decides every extended
---  request, including replays; nil: accepts
---@field tests string|table<string, string>|nil transcripts that must pass before the policy is used

--- What a client's policy file returns. All functions may wait, and get the khp.Session as a last argument.
---@class khp.ClientPolicy
---@field request (fun(request: khp.PolicyRequest, attempt: integer): khp.RequestAdditions?)? what to add to an extended
---  request
---@field challenge (fun(challenge: table, attempt: integer): khp.Credentials?)? credentials for a challenge; nil gives
---  up. challenge.location is the URL that asks
---@field redirect (fun(location: string, from: string, count: integer): boolean|string)? whether to follow a redirect:
---  true, false, or another URL
---@field response (fun(response: table, action: khp.Action): khp.Action?)? what to do on a response, instead of
---  `action`; nil: `action`
---@field tests string|table<string, string>|nil transcripts that must pass before the policy is used

local contracts = {
  server = { opening = true, extended = true },
  client = { request = true, challenge = true, redirect = true, response = true },
}

--- The text of a policy's file.
---@param path string
---@return string? text, string? message
function policy.read(path)
  local file, message = io.open(path, "rb")
  if not file then
    return nil, message
  end
  local text = file:read "*a"
  file:close()
  if not text then
    return nil, path .. ": cannot be read"
  end
  return text
end

-- Text only: bytecode can break out of anything.
local function load_text(path, environment, text)
  local message
  if not text then
    text, message = policy.read(path)
  end
  if not text then
    return nil, message
  elseif text:byte() == 27 then
    return nil, path .. ": bytecode is not loaded, only text"
  end
  local name = "@" .. path
  if setfenv then -- Lua 5.1
    local chunk, wrong = loadstring(text, name)
    return chunk and setfenv(chunk, environment), wrong
  end
  return load(text, name, "t", environment)
end

-- Whose policy it is, by the first function that only one side has.
local function side_of(functions)
  for name in pairs(type(functions) == "table" and functions or {}) do
    for side, contract in pairs(contracts) do
      if contract[name] then
        return side
      end
    end
  end
  return "server"
end

local function check(what, functions, side)
  if type(functions) ~= "table" then
    return what .. ": a policy returns a table of functions, not " .. type(functions)
  end
  for name, value in pairs(functions) do
    if name ~= "tests" then
      if not contracts[side][name] then
        local near = type(name) == "string" and options.nearest(name, contracts[side])
        return ("%s: a %s's policy has no '%s'%s"):format(
          what, side, tostring(name), near and ", did you mean '" .. near .. "'?" or "")
      elseif type(value) ~= "function" then
        return ("%s: %s: a function expected, not %s"):format(what, name, type(value))
      end
    end
  end
  return nil
end

--- What one decision of a policy may take.
---@param from string|table the policy, as for load()
---@param given { trusted: boolean?, limits: table?, world: khp.World? }?
---@param side "server"|"client"|nil a client's own program may keep it waiting, for somebody to type a password
---@return khp.Budget
function policy.budget(from, given, side)
  given = given or {}
  local bounds = limits.resolve(given.limits)
  local guarded = type(from) == "string" and not given.trusted
  return {
    instructions = bounds.policy_instructions,
    memory = bounds.policy_memory,
    time = (guarded or side ~= "client") and bounds.policy_time or math.huge,
    guarded = guarded,
    world = given.world,
    after = given.world and given.world.after,
  }
end

-- What a file returns, under the budget of a decision; or nil and what is wrong.
local function run(path, text, given)
  local folder = path:match "^(.*)/[^/]*$" or "."
  local ok, result, message = task.run_bounded(policy.budget(path, given), function()
    local environment = given.trusted and sandbox.trusted(folder, load_text)
      or sandbox.new(path, folder, load_text)
    local chunk, wrong = load_text(path, environment, text)
    if not chunk then
      return nil, wrong
    end
    return { chunk() }
  end)
  if not ok then
    return nil, result:find(path, 1, true) and result or path .. ": " .. result, message
  elseif not result then
    return nil, message
  end
  return result
end

--- Loads and checks a policy.
---@param from string|table a path, or the table of functions itself
---@param side "server"|"client"|nil nil: whosever it is by its functions
---@param text string? what stands in the file, where it was read already
---@param given { trusted: boolean?, limits: table? }? trusted: the file has the host's whole environment
---@return khp.ServerPolicy|khp.ClientPolicy|nil functions
---@return string? message or the side
---@return string? code EPOLICY
---@return table? detail
function policy.load(from, side, text, given)
  local what, functions = "policy", from
  if type(from) == "string" then
    what = from
    local returned, message, traceback = run(from, text, given or {})
    if not returned then
      return errors.fail(message, "EPOLICY", { path = from, traceback = traceback })
    end
    functions = returned[1]
  end
  side = side or side_of(functions)
  local wrong = check(what, functions, side)
  if wrong then
    return errors.fail(wrong, "EPOLICY", { path = type(from) == "string" and from or nil })
  end
  local own = {} -- the policy may do what it likes with its table
  for name, value in pairs(functions) do
    own[name] = side == "server" and type(value) == "function" and decision.returned(value) or value
  end
  return own, side
end

return policy
