-- khp limits: lists every limit, with its default and its unit.

local bounds = require "khp.limits"
local cli = require "khp.cli"

local limits = {}

local HELP = [[
usage: khp limits

Lists what khp.listen and khp.connect take in their option limits = { NAME = VALUE }: name, default, unit, and what is
bounded by it.
]]

---@param arguments string[]
---@return integer status
function limits.run(arguments)
  if arguments[1] == "--help" or arguments[1] == "-h" then
    io.stdout:write(HELP)
    return cli.OK
  elseif arguments[1] then
    return cli.misuse("limits: what is '" .. arguments[1] .. "'? khp limits takes no arguments")
  end
  for _, limit in ipairs(bounds.list) do
    local default = ("%.14g"):format(limit.default)
    io.stdout:write(("%-18s %10s %-12s %s\n"):format(limit.name, default, limit.unit, limit.what))
  end
  return cli.OK
end

return limits
