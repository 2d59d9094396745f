-- The world of a policy file: the safe part of the standard library, read-only, the decisions, and require() for
-- khp's helpers and the policy's own folder. This file must not know what a policy may contain.

local decision = require "khp.policy.decision"
local htpasswd = require "khp.auth.htpasswd"
local task = require "khp.task"

local sandbox = {}

-- khp's modules that a policy may require, as they are but for writing to them.
local helpers = {
  ["khp.auth"] = true,
  ["khp.auth.basic"] = true,
  ["khp.auth.bearer"] = true,
  ["khp.auth.digest"] = true,
  ["khp.auth.digest_server"] = true,
  ["khp.auth.users"] = true,
  ["khp.crypto"] = true,
  ["khp.http"] = true,
  ["khp.status"] = true,
  ["khp.uri"] = true,
}

local base = {
  "assert", "error", "ipairs", "math", "next", "pairs", "pcall", "select", "string", "table", "tonumber",
  "tostring", "type", "unpack", "utf8", "xpcall", "_VERSION",
}

-- The tables in it are read-only, too.
local function read_only(name, content)
  local view = {}
  for key, value in pairs(content) do
    view[key] = type(value) == "table" and read_only(name, value) or value
  end
  return setmetatable({}, {
    __index = view,
    __newindex = function()
      error(name .. " is read-only in a policy", 2)
    end,
    __len = function()
      return #view
    end,
    __pairs = function()
      return next, view, nil
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

-- Password files of the policy's folder and of no other.
local function password_files(folder)
  return {
    parse = htpasswd.parse,
    load = function(path, given)
      local outside = type(path) ~= "string" or path:find("^[/\\]") or path:find("%z") or path:find "^%a:"
      for part in (outside and "" or path):gmatch "[^/\\]+" do
        outside = outside or part == ".."
      end
      if outside or not folder then
        error("htpasswd.load: a policy may not read '" .. tostring(path) .. "'", 2)
      end
      return htpasswd.load(folder .. "/" .. path, given)
    end,
  }
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
  local loaded = {
    ["khp"] = read_only("khp", { sleep = task.sleep }),
    ["khp.auth.htpasswd"] = read_only("khp.auth.htpasswd", password_files(folder)),
  }
  function environment.require(name)
    if type(name) ~= "string" then
      error("require: a name expected, not " .. type(name), 2)
    elseif loaded[name] ~= nil then
      return loaded[name]
    elseif helpers[name] then
      loaded[name] = read_only(name, require(name))
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
