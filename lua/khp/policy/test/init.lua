-- A policy's own tests: transcripts in its table `tests`, played against the policy without a socket. Each test, all
-- that stands under one heading, has a fresh copy of the policy and a world of its own, so that no test leaves
-- anything behind, neither for another one nor for those who come in earnest. This file must not know how a
-- transcript is played.

local errors = require "khp.errors"
local policies = require "khp.policy"
local player = require "khp.transcript.player"
local reader = require "khp.transcript.reader"
local world = require "khp.policy.test.world"

local test = {}

local concat, find, format, gsub, sub = table.concat, string.find, string.format, string.gsub, string.sub
local ipairs, pairs, require, sort, type = ipairs, pairs, require, table.sort, type

local sides = { server = "khp.policy.test.server", client = "khp.policy.test.client" }

---@class khp.test.Result
---@field title string
---@field place string path and line
---@field failure string? nil: passed; else what differs, in lines

-- Where a text stands in the policy's file: path and the lines before it. What is put together otherwise has lines of
-- its own.
local function place_of(text, path, source, name)
  local at = text ~= "" and find(source, text, 1, true)
  if not at then
    return format("%s (%s)", path, name), 0
  end
  local _, before = gsub(sub(source, 1, at - 1), "\n", "")
  return path, before
end

-- The exchanges of a policy, in order, or what is wrong with them.
local function read(tests, path, source)
  local names, all = {}, {}
  if type(tests) == "string" then
    tests = { tests = tests }
  elseif type(tests) ~= "table" then
    return nil, format("%s: tests: a transcript or a table of transcripts expected, not %s", path, type(tests))
  end
  for name, text in pairs(tests) do
    if type(name) ~= "string" or type(text) ~= "string" then
      return nil, format("%s: tests: a transcript expected under each name, not %s", path, type(text))
    end
    names[#names + 1] = name
  end
  sort(names)
  for _, name in ipairs(names) do
    local text = gsub(tests[name], "\r\n", "\n")
    local label, before = place_of(text, path, source, name)
    local exchanges, message = reader.read(text, label, name, before)
    if not exchanges then
      return nil, message
    end
    for _, exchange in ipairs(exchanges) do
      if not exchange.steps[1] then -- it would pass, whatever the policy does
        return nil, format("%s:%d: the test '%s' has no steps", label, exchange.line, exchange.title)
      end
      exchange.group = name .. exchange.group
      all[#all + 1] = exchange
    end
  end
  return all
end

-- One test: connections one after the other, with one copy of the policy in one world.
local function play(exchanges, path, side, text, given)
  local around = world.new()
  local own = { trusted = given.trusted, limits = given.limits, world = around }
  local functions, message = policies.load(path, side, text, own)
  if not functions then
    return message
  end
  local budget = policies.budget(path, own)
  budget.after = around.after
  local play_one = require(sides[side]).play
  for _, exchange in ipairs(exchanges) do
    local failure, notes = play_one(exchange, functions, around, budget, given.limits)
    if failure then
      local lines = { player.show(failure, exchange.path) }
      for _, more in ipairs { around.lines, notes } do
        for _, line in ipairs(more) do
          lines[#lines + 1] = line
        end
      end
      return concat(lines, "\n")
    end
  end
  return nil
end

-- Under one heading.
local function in_groups(exchanges)
  local groups, last = {}, nil
  for _, exchange in ipairs(exchanges) do
    if not last or exchange.group ~= last[1].group then
      last = {}
      groups[#groups + 1] = last
    end
    last[#last + 1] = exchange
  end
  return groups
end

--- Loads a policy file and runs its tests, as the file was at one moment.
---@param path string
---@param side "server"|"client"|nil nil: whosever it is by its functions
---@param given { trusted: boolean?, limits: table? }? as for khp.policy.load
---@return table? functions
---@return khp.test.Result[]|string|nil results none: it has no tests; or what is wrong, with it or with its tests
---@return string? side_or_code
---@return table? detail
function test.run(path, side, given)
  given = given or {}
  local text, message = policies.read(path)
  if not text then
    return errors.fail(message, "EPOLICY", { path = path })
  end
  local functions, code, detail
  functions, side, code, detail = policies.load(path, side, text, given)
  if not functions then
    return nil, side, code, detail
  end
  local results, exchanges = {}, {}
  if functions.tests ~= nil then
    exchanges, message = read(functions.tests, path, (gsub(text, "\r\n", "\n")))
  end
  if not exchanges then
    return errors.fail(message, "EPOLICY", { path = path })
  end
  for i, group in ipairs(in_groups(exchanges)) do
    local first = group[1]
    results[i] = {
      title = first.title,
      place = format("%s:%d", first.path, first.line),
      failure = play(group, path, side, text, given),
    }
  end
  return functions, results, side
end

--- Loads a policy, and refuses a file of which a test fails. A table is taken as it is.
---@param from string|table
---@param side "server"|"client"
---@param given { trusted: boolean?, limits: table? }? as for khp.policy.load
---@return table? functions
---@return string? message, string? code, table? detail
function test.load(from, side, given)
  if type(from) == "table" then
    return policies.load(from, side, nil, given)
  end
  local functions, results, code, detail = test.run(from, side, given)
  if not functions then
    return nil, results, code, detail
  end
  for _, result in ipairs(results) do
    if result.failure then
      local message = "%s: the policy's own test fails: %s\n%s"
      return errors.fail(format(message, result.place, result.title, result.failure), "EPOLICY", { path = from })
    end
  end
  return functions
end

return test
