-- What a policy may learn of the world outside its connection: the time, random bytes, the number of the connection,
-- the environment, what other servers answer; and what it may do there: write to the log, connect. Tests of policies
-- bring a world of their own. This file must not know policies, nor whose connection it is.

local core = require "khp.core"
local crypto = require "khp.crypto"
local fetch = require "khp.fetch"
local log = require "khp.log"

local world = {}

---@class khp.World
---@field now fun(): number seconds since 1970, with a fraction
---@field random fun(n: integer): string n random bytes
---@field sequence fun(): integer the number of one more connection: 1, 2, 3 …
---@field getenv fun(name: string): string?
---@field fetch fun(url: string, given: khp.FetchOptions?, level: integer?): table?, string?, string?, table?
---@field connect fun(url: string, given: khp.ConnectOptions?): khp.Connection?, string?, string?, table?
---@field log fun(level: string, text: string)

local getenv = os.getenv

local function connect(url, given)
  return require("khp.client").connect(url, given) -- which gives its policy a world, too
end

local function write(level, text)
  log[level]("%s", text)
end

--- The real one, for one server or one call of connect().
---@return khp.World
function world.new()
  local count = 0
  return {
    now = core.loop.time,
    random = crypto.random,
    getenv = getenv,
    fetch = fetch.fetch,
    connect = connect,
    log = write,
    sequence = function()
      count = count + 1
      return count
    end,
  }
end

return world
