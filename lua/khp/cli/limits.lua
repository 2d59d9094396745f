-- khp limits: lists every limit, with its default and its unit.

local bounds = require "khp.limits"
local cli = require "khp.cli"

local limits = {
  summary = "lists every limit, with its default",
  usage = "",
  description = [[
Lists the limits that khp.listen and khp.connect accept as limits = { NAME = VALUE }: name, default, unit, and
what is bounded by it.]],
  examples = [[
khp limits
khp limits | grep seconds]],
}

---@return integer status
function limits.run()
  for _, limit in ipairs(bounds.list) do
    local default = ("%.14g"):format(limit.default)
    cli.write(("%-18s %10s %-12s %s\n"):format(limit.name, default, limit.unit, limit.what))
  end
  return cli.OK
end

return limits
