-- The table of all limits: how much a peer may make us store, and how long it may keep us waiting. Each limit is an
-- option (`limits = { message = 1024 }`) with a default; `khp limits` lists them from here.
-- This file must not know who enforces a limit, or how.

local options = require "khp.options"

local limits = {}

local getmetatable, huge, ipairs, setmetatable = getmetatable, math.huge, ipairs, setmetatable

---@class khp.Limit
---@field name string
---@field default number
---@field unit string "bytes", "seconds" or what is counted
---@field max number? the largest value; nil: any integer from 1, or any number of seconds from 0 to math.huge
---@field what string what it limits

local GIB = 1073741824

--- All limits, in the order in which a connection meets them.
---@type khp.Limit[]
limits.list = {
  { name = "connections", default = 65536, max = 4294967295, unit = "connections",
    what = "open connections of one server" },
  { name = "opening", default = 10, unit = "seconds", what = "the opening handshake, from the first byte expected" },
  { name = "opening_head", default = 16384, max = GIB, unit = "bytes", what = "head of a message of the opening" },
  { name = "line", default = 8192, max = GIB, unit = "bytes", what = "one line of a head" },
  { name = "fields", default = 100, max = 65536, unit = "fields", what = "header fields of one head" },
  { name = "body", default = 65536, max = GIB, unit = "bytes", what = "body of an HTTP message, in both handshakes" },
  { name = "extended", default = 15, unit = "seconds", what = "the extended handshake, all its rounds together" },
  { name = "extended_message", default = 65536, max = GIB, unit = "bytes", what = "one message of that handshake" },
  { name = "policy_instructions", default = 10000000, unit = "instructions", what = "one decision of a policy" },
  { name = "policy_memory", default = 67108864, unit = "bytes", what = "memory that one decision of a policy takes" },
  { name = "policy_time", default = 0.8, unit = "seconds", what = "one decision of a policy, without its waiting" },
  { name = "attempts", default = 5, unit = "attempts", what = "requests that one extended handshake may take" },
  { name = "wait", default = 10, unit = "seconds", what = "wait for another response after a 202" },
  { name = "redirects", default = 5, unit = "redirects", what = "redirects followed in a row" },
  { name = "message", default = 16777216, unit = "bytes", what = "one message, all its fragments together" },
  { name = "fragments", default = 1024, max = 4294967295, unit = "fragments", what = "frames of one message" },
  { name = "queue", default = 16777216, unit = "bytes", what = "sent messages that the peer has not taken yet" },
  { name = "stall", default = 30, unit = "seconds", what = "a peer that takes nothing of a file" },
  { name = "ping", default = 30, unit = "seconds", what = "silence before a ping is sent; math.huge: never" },
  { name = "pong", default = 20, unit = "seconds", what = "wait for the answer to a ping" },
  { name = "close", default = 5, unit = "seconds", what = "wait for the answer to a close" },
}

local entries = {}
for _, limit in ipairs(limits.list) do
  if limit.unit == "seconds" then
    entries[limit.name] = { type = "number", default = limit.default, min = 0, max = huge }
  else
    entries[limit.name] = { type = "integer", default = limit.default, min = 1, max = limit.max or 9007199254740991 }
  end
end

local declaration = options.declare("limits", entries)

-- Marks a table that is checked and complete, so that what is made per connection does not check it again.
local Limits = { __name = "khp.limits" }

--- Checks limits, and adds the defaults of those not given. Throws on a mistake. The result is shared: do not change
--- it. A table that resolve() returned is returned unchanged.
---@param given table<string, number>?
---@param level integer? stack level to blame for a mistake, as in error(); default 2, the caller of the function that
---  calls resolve()
---@return table<string, number>
function limits.resolve(given, level)
  if given == nil then
    return limits.defaults
  elseif getmetatable(given) == Limits then
    return given
  end
  return setmetatable(options.check(declaration, given, (level or 2) + 1), Limits)
end

--- The default of every limit.
---@type table<string, number>
limits.defaults = limits.resolve({})

return limits
