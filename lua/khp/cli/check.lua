-- khp check FILE…: loads each policy, checks it against the contract and runs its own tests, without a socket. Speaks
-- the Test Anything Protocol: one line for each file and for each test, and below a failure what differs. This file
-- must not know how policies are tested.

local cli = require "khp.cli"
local test = require "khp.policy.test"

local check = {}

local HELP = [[
usage: khp check FILE…

Loads each policy, checks it against the contract and runs its own tests, without a socket. The output is TAP; below a
test that failed stands what differs: "-" was expected and did not come, "+" came and was not expected.

Exit status: 0 when all is well, 1 when something failed, 2 when the command was called in a wrong way.
]]

-- Takes one result after the other.
local function new_report()
  local report = { count = 0, failed = 0 }
  function report.add(what, failure)
    report.count = report.count + 1
    report.failed = report.failed + (failure and 1 or 0)
    io.stdout:write(failure and "not ok " or "ok ", report.count, " - ", what, "\n")
    for line in (failure and failure .. "\n" or ""):gmatch "([^\n]*)\n" do
      io.stdout:write("# ", line, "\n")
    end
  end
  return report
end

local function check_file(report, path)
  local functions, results, side = test.run(path)
  if not functions then
    return report.add(path, results)
  end
  report.add(("%s: a %s's policy"):format(path, side))
  for _, result in ipairs(results) do
    report.add(("%s: %s"):format(result.place, result.title), result.failure)
  end
end

---@param arguments string[]
---@return integer status
function check.run(arguments)
  for _, argument in ipairs(arguments) do
    if argument == "--help" or argument == "-h" then
      io.stdout:write(HELP)
      return cli.OK
    elseif argument:find "^%-" then
      return cli.misuse("check: there is no option " .. argument)
    end
  end
  if not arguments[1] then
    return cli.misuse "check: which files? khp check FILE…"
  end
  local report = new_report()
  for _, path in ipairs(arguments) do
    check_file(report, path)
  end
  io.stdout:write("1..", report.count, "\n")
  return report.failed == 0 and cli.OK or cli.FAILED
end

return check
