-- A program's own part of a server: a Lua file that returns on_open, or a table of khp.listen's options. Its callbacks
-- are exchanged when it is loaded again. This file must not know servers, nor when that is.

local script = {}

local CALLBACKS = { "on_open", "on_message", "on_close", "on_drain" }

---@class khp.cli.Script
---@field path string
---@field options table for khp.listen
---@field current table<string, function>
---@field was table of the options, to see what changes
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

-- The file's lines, to find the text of its functions; none where it cannot be read twice, as a pipe.
local function lines_of(path)
  local lines = { source = "@" .. path }
  local file = io.open(path)
  if file then
    for line in file:lines() do
      lines[#lines + 1] = line
    end
    file:close()
  end
  return lines
end

local function text_of(about, lines)
  local text = {}
  for i = about.linedefined, about.lastlinedefined do
    text[#text + 1] = lines[i] or ""
  end
  return table.concat(text, "\n")
end

-- What a value of a script is compared by. Each run makes other functions: theirs is their text.
local function snapshot(value, lines, seen)
  if type(value) == "function" then
    local about = debug.getinfo(value, "S")
    return about.source == lines.source and text_of(about, lines) or value
  elseif type(value) ~= "table" or seen[value] then
    return seen[value] or value
  end
  local copy = {}
  seen[value] = copy
  for name, member in pairs(value) do
    copy[name] = snapshot(member, lines, seen)
  end
  return copy
end

local function same(a, b, seen)
  if a == b or type(a) ~= "table" or type(b) ~= "table" then
    return a == b
  elseif seen[a] then
    return true
  end
  seen[a] = true
  for name, value in pairs(a) do
    if not same(value, b[name], seen) then
      return false
    end
  end
  for name in pairs(b) do
    if a[name] == nil then
      return false
    end
  end
  return true
end

-- The names of the options that differ, but for the callbacks.
local function differences(before, after)
  local names, seen = {}, {}
  for _, name in ipairs(CALLBACKS) do
    seen[name] = true
  end
  for _, options in ipairs { before, after } do
    for name in pairs(options) do
      if not seen[name] and not same(before[name], after[name], {}) then
        names[#names + 1] = tostring(name)
      end
      seen[name] = true
    end
  end
  table.sort(names)
  return names
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
  local was = snapshot(options, lines_of(path), {})
  local self = setmetatable({ path = path, options = options, current = {}, was = was }, mt)
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
---@return string|string[] changed the names of options that are not as they were; or what is wrong
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
  end, differences(self.was, snapshot(options, lines_of(self.path), {}))
end

return script
