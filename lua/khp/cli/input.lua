-- Standard input, read by a task while everything else goes on: a pipe or a terminal is watched, a file is read a piece
-- at a time. Nothing is read before it is asked for, so whoever writes waits when the reader does. This file must not
-- know what the bytes mean.

local core = require "khp.core"
local task = require "khp.task"

local input = {}

local PIECE = 64 * 1024

-- Pieces of a file after which everything else has its turn.
local TURN = 16

-- Seconds after which a terminal is tried again whose keys are for somebody else.
local PATIENCE = 0.1

local descriptor = core.descriptor

---@class khp.cli.Input: khp.Place
---@field fd integer
---@field watch userdata? nil: a file, or what else is always ready
---@field count integer? pieces of a file
---@field is_over boolean? nothing more is read
local methods = {}
local mt = { __index = methods, __name = "khp.cli.input" }

---@param fd integer 0: standard input
---@return khp.cli.Input
function input.new(fd)
  local self = setmetatable({ fd = fd }, mt)
  self.watch = descriptor.watch(fd, function()
    self.watch:pause()
    task.wake(self)
  end)
  return self
end

--- The next bytes. Waits for them.
---@return string? bytes nil: the end, or stop() was called
---@return string? problem nil: the end is all there is to tell
function methods:read()
  while not self.is_over do
    if self.watch then
      self.watch:resume()
      task.wait(self)
    else
      self.count = (self.count or 0) + 1
      if self.count % TURN == 0 then
        task.sleep(0)
      end
    end
    if self.is_over then
      return nil
    end
    local bytes, problem = descriptor.read(self.fd, PIECE)
    if bytes == "" then
      return nil
    elseif bytes or bytes == nil then
      return bytes, problem
    end
    task.sleep(PATIENCE)
  end
end

-- A line that came in many pieces is put together once.
local function take_rest(parts, last)
  parts[#parts + 1] = last
  return table.concat(parts)
end

--- The next lines, without their ends: `for line in input:lines() do … end`, in a task. The last one may lack its end.
---@param most integer bytes that a line may have
---@return fun(): string?, string?, boolean?  nil at the end; the problem if there is one; whether a line was too long
function methods:lines(most)
  local bytes, at, parts, size = "", 1, {}, 0
  return function()
    while true do
      local last = bytes:find("\n", at, true)
      if last then
        local line = take_rest(parts, bytes:sub(at, last - 1))
        parts, size, at = {}, 0, last + 1
        return line
      end
      parts[#parts + 1] = bytes:sub(at)
      size = size + #bytes - at + 1
      if size > most then
        return nil, ("a line of more than %d bytes"):format(most), true
      end
      local problem
      bytes, problem = self:read()
      if not bytes then
        bytes, at = "", 1
        local line = take_rest(parts, "")
        parts, size = {}, 0
        return line ~= "" and line or nil, problem
      end
      at = 1
    end
  end
end

--- Where a file is: the bytes that are left of it. nil for a pipe or a terminal.
---@return integer?
function methods:size()
  if self.watch then
    return nil
  end
  local here = io.stdin:seek "cur"
  local size = here and io.stdin:seek "end"
  if size then
    io.stdin:seek("set", here)
    return size - here
  end
  return nil
end

--- Whoever waits for bytes, or asks for more, gets the end.
function methods:stop()
  self.is_over = true
  task.wake(self)
end

--- Reads no more.
function methods:close()
  if self.watch then
    self.watch:close()
  end
end

return input
