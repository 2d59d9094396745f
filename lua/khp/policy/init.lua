-- Loads policies: a file that returns a table of functions, or such a table as it is. A policy is checked when it is
-- loaded, so that a misspelt function is found then and not in the middle of a handshake. This file must not know
-- when its functions are called.

local errors = require "khp.errors"
local options = require "khp.options"
local sandbox = require "khp.policy.sandbox"

local policy = {}

---@class khp.ServerPolicy
---@field opening (fun(request: table, session: table): khp.Decision?)?
---@field extended (fun(request: table, session: table): khp.Decision?)?

---@class khp.ClientPolicy
---@field request (fun(request: table, attempt: integer): khp.RequestAdditions?)?  what is added to it
---@field challenge (fun(challenge: table, attempt: integer): khp.Credentials?)?  nil gives up; challenge.location asks
---@field redirect (fun(location: string, from: string, count: integer): boolean|string)?
---@field response (fun(response: table, action: khp.Action): khp.Action?)?  the last word on what to do; nil: as it is

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

--- Loads and checks a policy.
---@param from string|table a path, or the table of functions itself
---@param side "server"|"client"|nil nil: whosever it is by its functions
---@param text string? what stands in the file, where it was read already
---@return khp.ServerPolicy|khp.ClientPolicy|nil functions
---@return string? message or the side
---@return string? code EPOLICY
---@return table? detail
function policy.load(from, side, text)
  local what, functions = "policy", from
  if type(from) == "string" then
    what = from
    local folder = from:match "^(.*)/[^/]*$" or "."
    local chunk, message = load_text(from, sandbox.new(folder, load_text), text)
    if not chunk then
      return errors.fail(message, "EPOLICY", { path = from })
    end
    local ok, result = pcall(chunk)
    if not ok then
      return errors.fail(tostring(result), "EPOLICY", { path = from })
    end
    functions = result
  end
  side = side or side_of(functions)
  local wrong = check(what, functions, side)
  if wrong then
    return errors.fail(wrong, "EPOLICY", { path = type(from) == "string" and from or nil })
  end
  return functions, side
end

return policy
