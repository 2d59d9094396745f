-- A server's places: which policy and which callbacks a request meets, by its path, host and origin. A server without
-- routes has one place for everything. What a route does not say it takes from the server. This file must not know
-- connections or handshakes.

local errors = require "khp.errors"
local library = require "khp.policy.library"
local options = require "khp.options"
local origin = require "khp.origin"
local policies = require "khp.policy"
local static = require "khp.static"
local test = require "khp.policy.test"

local routes = {}

--- A route applies if all its conditions are met: one of `path`, `prefix` and `pattern`, and `host`, `origin`. A route
--- without conditions matches every request.
---@class khp.Route
---@field path string? the exact path
---@field prefix string? start of the path: "/api" matches "/api" itself and everything below "/api/"
---@field pattern string? Lua pattern for the path; its captures are in session.captures and conn.captures
---@field host string|string[]|nil host names: "example.org", "*.example.org"
---@field origin string|string[]|nil origins, written as in khp.OriginList; never matches a request without Origin
---@field policy string|khp.ServerPolicy|false|nil path or table; false: no policy; default: the server's
---@field trusted boolean? gives the policy file the program's whole environment; default: the server's `trusted`
---  where the server's policy applies, else false
---@field origins khp.OriginList|false|nil the web pages that may connect; others get 403; false: all; default: the
---  server's
---@field root string|false|nil folder of static files, served below `prefix`; false: none; default: the server's
---@field on_open fun(conn: khp.Connection)? default: the server's
---@field on_message fun(conn: khp.Connection, message: string, kind: "text"|"binary")? default: the server's
---@field on_close fun(conn: khp.Connection, code: integer, reason: string)? default: the server's
---@field on_drain fun(conn: khp.Connection)? default: the server's

---@class khp.RoutePlace  what a route has become
---@field policy { functions: table, name: string, budget: khp.Budget }
---@field origins khp.Origins?
---@field root string? the folder of
---@field files khp.Static?
---@field on_open function?
---@field handlers table

local fields = {
  path = { type = "string" },
  prefix = { type = "string" },
  pattern = { type = "string" },
  host = { type = "string|strings" },
  origin = { type = "string|strings" },
  policy = { type = "string|table|boolean" },
  trusted = { type = "boolean" },
  origins = { type = "table|boolean" },
  root = { type = "string|boolean|table" },
  on_open = { type = "function" },
  on_message = { type = "function" },
  on_close = { type = "function" },
  on_drain = { type = "function" },
}

-- Conditions --------------------------------------------------------------------------------------------------------
-- Each takes what the route says and returns a function that is given the request, its path and its host.

local conditions = {}

-- Kaazing's clients ask for cookies and the like below the path that they mean.
local function path_of(request)
  local path = request.path
  local own = path:match "^(.-)/;%w+/[%w_.-]*$"
  return own == "" and "/" or own or path
end

local function needs_slash(what, value)
  if value:sub(1, 1) ~= "/" then
    return nil, ("%s: must begin with '/', not '%s'"):format(what, value)
  end
  return true
end

function conditions.path(value)
  local ok, wrong = needs_slash("path", value)
  return ok and function(_, path)
    return path == value
  end, wrong
end

function conditions.prefix(value)
  local ok, wrong = needs_slash("prefix", value)
  local below = value:sub(-1) == "/" and value or value .. "/"
  return ok and function(_, path)
    return path == value or path:sub(1, #below) == below
  end, wrong
end

-- A path is the peer's: where the pattern might take too long for it, it does not fit.
local MOST_STEPS = 1000000

function conditions.pattern(value)
  local ok, wrong = pcall(string.find, ("/"):rep(64), value)
  if not ok then
    return nil, "pattern: " .. tostring(wrong):gsub("^.-:%d+: ", "")
  end
  return function(_, path)
    if library.steps(value, #path) > MOST_STEPS then
      return false
    end
    local captures = { path:match(value) }
    return captures[1] ~= nil, captures
  end
end

local function list_of(value)
  return type(value) == "table" and value or { value }
end

function conditions.host(value)
  local patterns = {}
  for i, pattern in ipairs(list_of(value)) do
    patterns[i] = origin.host(pattern)
    if pattern:find "[/@%s]" or pattern:find "%]?:%d+$" or pattern == "" then
      return nil, ("host: a host expected, 'example.org' or '*.example.org', not '%s'"):format(pattern)
    end
  end
  return function(_, _, host)
    for _, pattern in ipairs(patterns) do
      if host and origin.fits(host, pattern) then
        return true
      end
    end
    return false
  end
end

function conditions.origin(value)
  local list = { absent = false, same = false }
  for i, one in ipairs(list_of(value)) do
    list[i] = one
  end
  local origins, wrong = origin.new(list)
  return origins and function(request)
    return (origins:allows(request))
  end, wrong and "origin" .. (type(value) == "table" and "" or ": ") .. wrong:gsub("^%[%d+%]: ",
    type(value) == "table" and "%0" or "")
end

local order = { "path", "prefix", "pattern", "host", "origin" }

-- All conditions of a route, or nil and what is wrong with one of them.
local function compile(route)
  local list, of_path = {}, nil
  for _, name in ipairs(order) do
    if route[name] ~= nil then
      local condition, wrong = conditions[name](route[name])
      if not condition then
        return nil, wrong
      elseif name == "path" or name == "prefix" or name == "pattern" then
        if of_path then
          return nil, ("%s and %s: a route has one of them"):format(of_path, name)
        end
        of_path = name
      end
      list[#list + 1] = condition
    end
  end
  return list
end

-- Places ------------------------------------------------------------------------------------------------------------

---@class khp.Routes
---@field only khp.RoutePlace? where there are no routes
local methods = {}
local mt = { __name = "khp.routes", __index = methods }

-- The policy of a place: one for all places that name the same file.
local function policy_of(self, from, trusted)
  for _, known in ipairs(self.policies) do
    if known.from == from and known.trusted == trusted then
      return known
    end
  end
  local given = { trusted = trusted, limits = self.limits, world = self.world }
  local policy = {
    from = from,
    trusted = trusted,
    given = given,
    name = type(from) == "string" and from or "policy",
    budget = policies.budget(from, given),
    functions = {},
  }
  self.policies[#self.policies + 1] = policy
  return policy
end

local function first(a, b)
  if a ~= nil then
    return a
  end
  return b
end

-- Returns a place, or nil and what is wrong. given: the route's options; server: those of listen().
local function new_place(self, given, server)
  local from = first(given.policy, server.policy)
  if from == true then
    return nil, "policy: must be a path, a table or false, not true"
  end
  local trusted = given.policy == nil and server.trusted or given.trusted or false
  local allowed = first(given.origins, server.origins)
  if allowed == true then
    return nil, "origins: must be a list or false, not true"
  end
  local origins, wrong
  if allowed then
    origins, wrong = origin.new(allowed)
    if not origins then
      return nil, "origins" .. (wrong:sub(1, 1) == "[" and "" or ": ") .. wrong
    end
  end
  local root = first(given.root, server.root)
  if root == true then
    return nil, "root: must be a folder or false, not true"
  end
  return {
    root = root or nil,
    prefix = given.root and given.prefix or nil,
    policy = policy_of(self, from or nil, trusted),
    origins = origins,
    on_open = given.on_open or server.on_open,
    handlers = {
      on_message = given.on_message or server.on_message,
      on_close = given.on_close or server.on_close,
      on_drain = given.on_drain or server.on_drain,
    },
  }
end

local function open_folder(place)
  if type(place.root) == "table" then -- it answers as what khp.static.new() gives; `alone`: to all, without a policy
    place.files, place.root = place.root, nil
  elseif place.root then
    local message
    place.files, message = static.new(place.root, place.prefix)
    if not place.files then
      return errors.fail("root: " .. message, "ECONNECT", { root = place.root })
    end
  end
  return true
end

local function open_folders(self)
  local ok, message, code, detail = true, nil, nil, nil
  if self.only then
    return open_folder(self.only)
  end
  for _, route in ipairs(self) do
    if ok then
      ok, message, code, detail = open_folder(route.place)
    end
  end
  return ok, message, code, detail
end

local function complain(level, ...)
  error("khp.listen: " .. string.format(...), level + 1)
end

local function add_routes(self, server, level)
  if #server.routes == 0 then
    complain(level + 1, "routes: an array of routes expected; it is empty, or not an array")
  end
  for i, route in ipairs(server.routes) do
    if type(route) ~= "table" then
      complain(level + 1, "routes[%d]: a table expected, not %s", i, type(route))
    end
    options.verify(options.declare(("khp.listen: routes[%d]"):format(i), fields), route, level + 1)
    local list, wrong = compile(route)
    local place
    if list then
      place, wrong = new_place(self, route, server)
    end
    if wrong then
      complain(level + 1, "routes[%d]: %s", i, wrong)
    end
    self[i] = { conditions = list, place = place }
  end
end

--- The places of a server. What is wrong with the routes is thrown.
---@param server table the options of listen(), checked
---@param limits table
---@param world khp.World
---@param level integer whose line to blame, as error() counts from the function that calls this
---@return khp.Routes? places
---@return string? message, string? code, table? detail of a policy that cannot be loaded, or a folder that is none
function routes.new(server, limits, world, level)
  local self = setmetatable({ policies = {}, limits = limits, world = world }, mt)
  if server.routes then
    add_routes(self, server, level + 1)
  else
    local wrong
    self.only, wrong = new_place(self, {}, server)
    if not self.only then
      complain(level + 1, "%s", wrong)
    end
  end
  local ok, message, code, detail = open_folders(self)
  if not ok then
    return nil, message, code, detail
  end
  local commit
  commit, message, code, detail = self:load()
  if not commit then
    return nil, message, code, detail
  end
  commit()
  return self
end

--- Where a request belongs: the first route that it meets.
---@param request table of the opening
---@return khp.RoutePlace? place
---@return string[]? captures of its pattern
function methods:find(request)
  local path = path_of(request)
  local host = request.host and origin.host((request.host:gsub(":%d+$", "")))
  for _, route in ipairs(self) do
    local meets, captures = true, nil
    for _, condition in ipairs(route.conditions) do
      local met, captured = condition(request, path, host)
      if not met then
        meets = false
        break
      end
      captures = captured or captures
    end
    if meets then
      return route.place, captures
    end
  end
  return nil
end

--- Loads every policy, and runs the tests that it has. Nothing changes until the function that this returns is called.
---@param files boolean? only those that are files
---@return function? commit
---@return string? message, string? code, table? detail of the first that is wrong
function methods:load(files)
  local loaded = {}
  for _, policy in ipairs(self.policies) do
    if policy.from and (type(policy.from) == "string" or not files) then
      local functions, message, code, detail = test.load(policy.from, "server", policy.given)
      if not functions then
        return errors.fail(message, code, detail)
      end
      loaded[policy] = functions
    end
  end
  return function()
    for policy, functions in pairs(loaded) do
      policy.functions = functions
    end
  end
end

return routes
