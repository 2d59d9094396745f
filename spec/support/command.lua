-- For specs of the command line: runs khp as a process of its own, to its end.

local command = {}

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "*a"
  file:close()
  os.remove(path)
  return text
end

--- A file with this text; the caller removes it.
---@param text string
---@return string path
function command.file(text)
  local path = os.tmpname()
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
  return path
end

--- What the words of a shell's command line mean: nothing but themselves.
---@param word string
---@return string
function command.quote(word)
  return "'" .. word:gsub("'", "'\\''") .. "'"
end

--- Runs khp with these arguments, as a shell reads them.
---@param arguments string may redirect standard input
---@param before string? stands before the program: settings of the environment
---@return string output, string errors, integer status
function command.khp(arguments, before)
  local errors = os.tmpname()
  local pipe = assert(io.popen(("%s %s bin/khp %s 2>%s"):format(before or "", os.getenv "LUA" or "lua5.4", arguments,
    errors)))
  local output = pipe:read "*a"
  local _, _, status = pipe:close()
  return output, read(errors), status
end

return command
