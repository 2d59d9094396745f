-- What a policy may learn of the world outside its connection: the time, random bytes, the number of the connection,
-- the environment, what other servers answer. It reaches a policy through its session and in no other way, so that
-- tests can set it: they give a world of their own. This file must not know policies or connections.

local core = require "khp.core"
local crypto = require "khp.crypto"
local fetch = require "khp.fetch"

local world = {}

---@class khp.World
---@field now fun(): number seconds since 1970, with a fraction
---@field random fun(n: integer): string n random bytes
---@field sequence fun(): integer the number of one more connection: 1, 2, 3 …
---@field getenv fun(name: string): string?
---@field fetch fun(url: string, given: khp.FetchOptions?, level: integer?): table?, string?, string?, table?

local time, getenv, clock = os.time, os.getenv, core.loop.clock

-- Seconds since 1970 with the fraction that os.time() lacks: a finer clock counts on from a whole second, and is set
-- again when the two disagree.
local function wall_clock()
  local offset = 0
  return function()
    local whole, now = time(), clock()
    if now + offset < whole or now + offset >= whole + 1 then
      offset = whole - now
    end
    return now + offset
  end
end

--- The real one, for one server or one call of connect().
---@return khp.World
function world.new()
  local count = 0
  return {
    now = wall_clock(),
    random = crypto.random,
    getenv = getenv,
    fetch = fetch.fetch,
    sequence = function()
      count = count + 1
      return count
    end,
  }
end

return world
