-- The world of a policy file: the safe part of the standard library, read-only, the decisions, and require() for
-- khp's helpers and the policy's own folder. This file must not know what a policy may contain.

local decision = require "khp.policy.decision"

local sandbox = {}

-- khp's modules that a policy may require.
local helpers = { ["khp.http"] = true, ["khp.crypto"] = true, ["khp.uri"] = true, ["khp.status"] = true }

local base = {
  "assert", "error", "ipairs", "math", "next", "pairs", "pcall", "select", "string", "table", "tonumber",
  "tostring", "type", "unpack", "utf8", "xpcall", "_VERSION",
}

local function read_only(name, content)
  return setmetatable({}, {
    __index = content,
    __newindex = function()
      error(name .. " is read-only in a policy", 2)
    end,
    __metatable = false,
  })
end

local function copy(of, without)
  local result = {}
  for key, value in pairs(of) do
    if not without[key] then
      result[key] = value
    end
  end
  return result
end

--- A fresh environment for one policy file.
---@param folder string? where its require() looks; nil: nowhere
---@param load_file fun(path: string, environment: table): function?, string?
---@return table
function sandbox.new(folder, load_file)
  local environment = {
    accept = decision.accept,
    challenge = decision.challenge,
    redirect = decision.redirect,
    reject = decision.reject,
    os = read_only("os", { time = os.time, date = os.date, clock = os.clock, difftime = os.difftime }),
  }
  for _, name in ipairs(base) do
    local value = _G[name]
    if type(value) == "table" then
      value = read_only(name, copy(value, { dump = true }))
    end
    environment[name] = value
  end
  environment._G = environment
  local loaded = {}
  function environment.require(name)
    if type(name) ~= "string" then
      error("require: a name expected, not " .. type(name), 2)
    elseif helpers[name] then
      return require(name)
    elseif loaded[name] ~= nil then
      return loaded[name]
    elseif not folder or not name:match "^[%w_][%w_%.]*$" or name:find("..", 1, true) then
      error("require: a policy may not load '" .. name .. "'", 2)
    end
    local chunk, message = load_file(folder .. "/" .. name:gsub("%.", "/") .. ".lua", environment)
    if not chunk then
      error("require: " .. message, 2)
    end
    local value = chunk(name)
    loaded[name] = value == nil and true or value
    return loaded[name]
  end
  return environment
end

return sandbox
