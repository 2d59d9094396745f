-- A program's own part of a server: a Lua file that returns on_open, or a table of khp.listen's options. Its callbacks
-- are exchanged when it is loaded again. This file must not know servers, nor when that is.

local script = {}

local CALLBACKS = { "on_open", "on_message", "on_close", "on_drain" }

---@class khp.cli.Script
---@field path string
---@field options table for khp.listen
---@field current table<string, function>
local methods = {}
local mt = { __index = methods }

-- What the file returns, as a table of options; or nil and what is wrong, with file and line.
local function run(path)
  local chunk, message = loadfile(path)
  if not chunk then
    return nil, message:gsub("^cannot open ([^\n]-)$", "%1")
  end
  local ok, result = xpcall(chunk, function(problem)
    return type(problem) == "string" and problem or path .. ": an error that is a " .. type(problem)
  end, path)
  if not ok then
    return nil, result
  elseif type(result) == "function" then
    return { on_open = result }
  elseif type(result) ~= "table" then
    return nil, ("%s: must return a function on_open(conn), or a table of khp.listen's options, not %s"):format(path,
      type(result) == "nil" and "nothing" or type(result))
  end
  local copy = {}
  for name, value in pairs(result) do
    copy[name] = value
  end
  for _, name in ipairs(CALLBACKS) do
    if copy[name] ~= nil and type(copy[name]) ~= "function" then
      return nil, ("%s: %s: a function expected, not %s"):format(path, name, type(copy[name]))
    end
  end
  return copy
end

--- Runs a script. It may require what lies beside it.
---@param path string
---@return khp.cli.Script?
---@return string? message
function script.load(path)
  local folder = path:match "^(.*)/[^/]*$" or "."
  package.path = folder .. "/?.lua;" .. folder .. "/?/init.lua;" .. package.path
  local options, message = run(path)
  if not options then
    return nil, message
  end
  local self = setmetatable({ path = path, options = options, current = {} }, mt)
  for _, name in ipairs(CALLBACKS) do
    self.current[name] = options[name]
    options[name] = options[name] and function(...)
      return self.current[name](...)
    end
  end
  return self
end

--- Runs it again. Nothing changes until the function that this returns is called; then its callbacks are the new ones,
--- for connections that are open, too. All else that it returns is as it was.
---@return function? commit
---@return string? message
function methods:again()
  local options, message = run(self.path)
  if not options then
    return nil, message
  end
  local current = {}
  for _, name in ipairs(CALLBACKS) do
    current[name] = options[name]
    if (options[name] == nil) ~= (self.current[name] == nil) then
      return nil, ("%s: %s is %s: that takes a restart"):format(self.path, name, options[name] and "new" or "missing")
    end
  end
  return function()
    self.current = current
  end
end

return script
