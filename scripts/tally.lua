-- Runs the programs that make up a check, one after the other, and adds up what they say.
--
--   lua5.4 scripts/tally.lua [--limit SECONDS] [--log FILE] [--tap NAME COMMAND | --run NAME COMMAND] ...
--
-- The file of --log gets a line for each test of a --tap command: NAME, "ok", "not ok" or "skip", and the test's title,
-- with tabs between them.
-- A --tap command speaks the Test Anything Protocol; a --run command is one test, passed when it ends with status 0.
-- A program that crashes, takes too long, runs fewer tests than it planned or none at all is one more failure. The last
-- line is `N passed, N failed`, with `, N skipped` where there are any; the status is 0 when nothing failed.
-- Knows nothing of what is tested.

local total = { passed = 0, failed = 0, skipped = 0 }
local failures = {}
local limit = 600
local results -- path of the log

local has_timeout = os.execute("command -v timeout >/dev/null 2>&1")

local function bounded(command)
  local quoted = "'" .. command:gsub("'", "'\\''") .. "'"
  if has_timeout == true or has_timeout == 0 then
    return ("timeout -k 5 %d sh -c %s 2>&1 </dev/null"):format(limit, quoted)
  end
  return ("sh -c %s 2>&1 </dev/null"):format(quoted)
end

--- What is wrong with the way a program ended, or nil.
---@param how "exit"|"signal"
---@param status integer
---@return string|nil
local function bad_end(how, status)
  if how == "exit" and status == 0 then
    return nil
  elseif how == "exit" and status == 124 then
    return ("took longer than %d s"):format(limit)
  elseif how == "signal" or status > 128 then
    return ("was ended by signal %d"):format(how == "signal" and status or status - 128)
  end
  return ("ended with status %d"):format(status)
end

---@class khp.tally.suite
---@field passed integer
---@field failed integer
---@field skipped integer
---@field planned integer|nil
---@field output string[]  what the program said apart from the results of tests that passed
---@field failures string[]
---@field skips string[]
---@field log string[]

-- Notes what became of a test; title: what stands behind its number.
local function note(suite, outcome, title)
  title = title:gsub("^%- ", ""):gsub("\t", " ")
  suite.log[#suite.log + 1] = suite.name .. "\t" .. outcome .. "\t" .. title .. "\n"
end

--- Takes one line of TAP into account.
---@param suite khp.tally.suite
---@param line string
local function read_tap(suite, line)
  local planned = line:match "^1%.%.(%d+)"
  local good = line:match "^ok %d+%s*(.*)$"
  local bad = line:match "^not ok %d+%s*(.*)$"
  local skip = (good or bad or ""):match "^%-? ?# [Ss][Kk][Ii][Pp]%a*%s*(.*)$" -- older cmocka: not ok
  if planned then
    suite.planned = (suite.planned or 0) + tonumber(planned)
  elseif skip then
    note(suite, "skip", skip)
    suite.skipped = suite.skipped + 1
    suite.skips[#suite.skips + 1] = skip
  elseif bad then
    note(suite, "not ok", bad)
    suite.failed = suite.failed + 1
    suite.failures[#suite.failures + 1] = (bad:gsub("^%- ", ""))
    suite.output[#suite.output + 1] = line
  elseif good then
    note(suite, "ok", good)
    suite.passed = suite.passed + 1
  elseif not line:find "^ok %- " then -- cmocka's word on a whole group
    suite.output[#suite.output + 1] = line
  end
end

--- What the end of a TAP program tells beyond its tests: at most one more failure.
---@param suite khp.tally.suite
---@param complaint string|nil
---@return string|nil
local function judge_tap(suite, complaint)
  local seen = suite.passed + suite.failed + suite.skipped
  if complaint and suite.failed == 0 then
    return complaint
  elseif not suite.planned then
    return complaint or "printed no result"
  elseif suite.planned ~= seen then
    return ("planned %d tests and ran %d"):format(suite.planned, seen) .. (complaint and ", " .. complaint or "")
  elseif seen == 0 then
    return "ran no test"
  end
end

local function counts(t)
  local skipped = t.skipped > 0 and (", %d skipped"):format(t.skipped) or ""
  return ("%d passed, %d failed"):format(t.passed, t.failed) .. skipped
end

---@param kind "tap"|"run"
---@param name string
---@param command string
local function run(kind, name, command)
  io.write(name, " ... ")
  local suite = {
    name = name, passed = 0, failed = 0, skipped = 0, planned = nil, output = {}, failures = {}, skips = {}, log = {},
  }
  local began = os.time()
  local pipe = assert(io.popen(bounded(command)))
  for line in pipe:lines() do
    if kind == "tap" then
      read_tap(suite, line)
    else
      suite.output[#suite.output + 1] = line
    end
  end
  local _, how, status = pipe:close()
  local complaint = bad_end(how, status)
  if kind == "tap" then
    complaint = judge_tap(suite, complaint)
  elseif not complaint then
    suite.passed = 1
  end
  if complaint then
    suite.failed = suite.failed + 1
    suite.failures[#suite.failures + 1] = complaint
  end

  if results and kind == "tap" then
    local file = assert(io.open(results, "ab"))
    file:write(table.concat(suite.log))
    file:close()
  end
  local seconds = os.time() - began
  io.write(counts(suite), seconds > 0 and (" (%d s)"):format(seconds) or "", "\n")
  for _, skip in ipairs(suite.skips) do
    io.write("  skipped: ", skip, "\n")
  end
  if suite.failed > 0 then
    for _, line in ipairs(suite.output) do
      io.write("  ", line, "\n")
    end
    for _, failure in ipairs(suite.failures) do
      failures[#failures + 1] = name .. ": " .. failure
    end
    if complaint then
      io.write("  ", name, " ", complaint, "\n")
    end
  end
  for key in pairs(total) do
    total[key] = total[key] + suite[key]
  end
end

io.stdout:setvbuf "no"
local i = 1
while arg[i] do
  if arg[i] == "--limit" then
    limit = assert(tonumber(arg[i + 1]), "--limit wants a number of seconds")
    i = i + 2
  elseif arg[i] == "--log" then
    results = assert(arg[i + 1], "--log wants a file")
    assert(io.open(results, "wb")):close()
    i = i + 2
  elseif arg[i] == "--tap" or arg[i] == "--run" then
    run(arg[i]:sub(3), assert(arg[i + 1], "a name is missing"), assert(arg[i + 2], "a command is missing"))
    i = i + 3
  else
    error("unknown argument " .. arg[i], 0)
  end
end

if #failures > 0 then
  io.write("\nfailed:\n  ", table.concat(failures, "\n  "), "\n")
end
io.write("\n", counts(total), "\n")
os.exit(total.failed == 0 and total.passed > 0)
