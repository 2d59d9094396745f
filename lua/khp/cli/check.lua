-- khp check FILE…: loads each policy, checks it against the contract and runs its own tests, without a socket. Speaks
-- the Test Anything Protocol: one line for each file and for each test, and below a failure what differs. This file
-- must not know how policies are tested.

local cli = require "khp.cli"
local frame = require "khp.cli.frame"
local test = require "khp.policy.test"

local check = {
  summary = "loads policies and runs their own tests",
  usage = "FILE…",
  description = [[
Loads each policy, checks it against the contract and runs its own tests, without a socket. The output is TAP;
below a failed test are the differences: "-" was expected and is missing, "+" is there and was not expected.
Exit status: 0 when all is well, 1 when something failed. docs/policies.md describes tests of policies.]],
  examples = [[
khp check members.lua
khp check policies/*.lua | grep '^not ok']],
}

---@param command table
function check.describe(command)
  command:argument "FILE":target "files":args "+":description "A policy."
    :convert(frame.filled("FILE", "a file"))
end

-- Takes one result after the other.
local function new_report()
  local report = { count = 0, failed = 0 }
  function report.add(what, failure)
    report.count = report.count + 1
    report.failed = report.failed + (failure and 1 or 0)
    cli.write(failure and "not ok " or "ok ", report.count, " - ", what, "\n")
    for line in (failure and failure .. "\n" or ""):gmatch "([^\n]*)\n" do
      cli.write("# ", line, "\n")
    end
  end
  return report
end

local function is_unreadable(message)
  return message:find "No such file" or message:find "Permission denied" or message:find ": cannot be read$"
end

local function check_file(report, path)
  local functions, results, side = test.run(path)
  if not functions then
    return report.add(path, is_unreadable(results) and results .. "\nIs the path right, may you read it?" or results)
  end
  report.add(("%s: a %s's policy"):format(path, side))
  for _, result in ipairs(results) do
    report.add(("%s: %s"):format(result.place, result.title), result.failure)
  end
end

---@param given table
---@return integer status
function check.run(given)
  local report = new_report()
  for _, path in ipairs(given.files) do
    check_file(report, path)
  end
  cli.write("1..", report.count, "\n")
  return report.failed == 0 and cli.OK or cli.FAILED
end

return check
