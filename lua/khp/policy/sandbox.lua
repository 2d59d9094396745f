-- The environment of a policy file: the library that policies have, the decisions, khp as far as it is theirs, and
-- require() for khp's helpers and the policy's own folder; all of it read-only. Where a policy is trusted, all that the
-- host has. This file must not know what a policy may contain.

local core = require "khp.core"
local decision = require "khp.policy.decision"
local htpasswd = require "khp.auth.htpasswd"
local library = require "khp.policy.library"
local log = require "khp.log"
local promise = require "khp.promise"
local task = require "khp.task"

local sandbox = {}

-- khp's modules that a policy may require, and of which only some functions: what a function gives must be a value,
-- or made afresh, and never a table that the host uses.
local helpers = {
  ["khp.auth.basic"] = true,
  ["khp.auth.bearer"] = true,
  ["khp.auth.digest"] = true,
  ["khp.auth.digest_server"] = true,
  ["khp.auth.users"] = true,
  ["khp.crypto"] = true,
  ["khp.http"] = true,
  ["khp.origin"] = true,
  ["khp.status"] = { action = true, is_temporary = true, rows = true },
  ["khp.uri"] = true,
}

-- The tables in it are read-only, too.
local function read_only(name, content)
  local view = {}
  for key, value in pairs(content) do
    view[key] = type(value) == "table" and read_only(name, value) or value
  end
  return setmetatable({}, {
    __index = view,
    __newindex = function()
      error(name .. " is read-only in a policy", 2)
    end,
    __len = function()
      return #view
    end,
    __pairs = function()
      return function(_, key)
        return next(view, key)
      end, nil, nil
    end,
    __metatable = false,
  })
end

local function only(content, names)
  if names == true then
    return content
  end
  local part = {}
  for name in pairs(names) do
    part[name] = content[name]
  end
  return part
end

-- What crypt(3) may be asked for: hashes that take some tenths of a second at most. It cannot be interrupted, and the
-- hash says itself how long it takes.
local function is_affordable(hash)
  local kind, first = hash:match "^%$([%w-]+)%$([^$]*)"
  if kind and kind:find "^2[abxy]$" then
    return (tonumber(first) or 99) <= 13
  elseif kind == "5" or kind == "6" then
    return tonumber(first:match "^rounds=(%d+)$" or 5000) <= 500000
  end
  return kind == "1" or kind == "y" and first:find "^j[789AB]5?T$" ~= nil
end

local function affordable(crypt)
  return crypt and function(password, hash)
    if type(hash) ~= "string" or not is_affordable(hash) then
      error("crypt: a policy has no time for such a hash: " .. tostring(hash):sub(1, 20), 0)
    end
    core.budget.charge(1)
    return crypt(password, hash)
  end
end

-- Password files of the policy's folder and of no other.
local function password_files(folder)
  local crypt = affordable(require("khp.crypto").crypt) or false
  local function with_crypt(given)
    return given and given.crypt ~= nil and given or { crypt = crypt }
  end
  return {
    parse = function(text, given)
      return htpasswd.parse(text, with_crypt(given))
    end,
    load = function(path, given)
      local outside = type(path) ~= "string" or path:find("^[/\\]") or path:find("%z") or path:find "^%a:"
      for part in (outside and "" or path):gmatch "[^/\\]+" do
        outside = outside or part == ".."
      end
      if outside or not folder then
        error("htpasswd.load: a policy may not read '" .. tostring(path) .. "'", 2)
      end
      return htpasswd.load(folder .. "/" .. path, with_crypt(given))
    end,
  }
end

-- khp itself --------------------------------------------------------------------------------------------------------

-- In instructions, so that a decision makes only so many of them.
local LINE_COSTS, CONNECTION_COSTS = 10000, 100000

local function logger(name, level)
  return function(format, ...)
    core.budget.charge(LINE_COSTS)
    local text = select("#", ...) > 0 and format:format(...) or tostring(format)
    library.world().log(level, name .. ": " .. log.quote(text, 1000))
  end
end

-- Of khp.connect's options, those that are nobody's code and read no files.
local connect_options = {
  protocols = true, extensions = true, headers = true, origin = true, credentials = true, redirects = true,
  proxy = true, khp = true, require_khp = true, extended_kind = true, timeout = true,
}

-- A connection of the policy's own; it lives as long as the decision.
local function connect(url, given)
  core.budget.charge(CONNECTION_COSTS)
  for name, value in pairs(type(given) == "table" and given or {}) do
    if not connect_options[name] or type(value) == "function" then
      error("khp.connect: no policy may give the option '" .. tostring(name) .. "'"
        .. (connect_options[name] and " a function" or ""), 2)
    end
  end
  local conn, message, code, detail = library.world().connect(url, given)
  if conn then
    task.at_end(function()
      core.conn.close(conn, 1000, "")
    end)
  end
  return conn, message, code, detail
end

local function own_khp(name)
  local own_log = {}
  for _, level in ipairs { "error", "warn", "info", "debug" } do
    own_log[level] = logger(name, level)
  end
  return read_only("khp", {
    sleep = task.sleep,
    connect = connect,
    promise = promise.new,
    log = own_log,
    now = function()
      return library.world().now()
    end,
  })
end

-- Random bytes are the world's, and crypt(3) has its bounds.
local function own_crypto()
  local own = {}
  for name, f in pairs(require "khp.crypto") do
    own[name] = f
  end
  function own.random(n)
    return library.world().random(n)
  end
  own.crypt = affordable(own.crypt)
  return own
end

-- An answerer keeps the tables of its schemes: here they are views.
local function own_auth()
  local auth = require "khp.auth"
  local schemes = read_only("khp.auth", auth.schemes)
  return {
    schemes = auth.schemes,
    new = function(credentials, given)
      return auth.new(credentials, given or schemes)
    end,
  }
end

-- require -----------------------------------------------------------------------------------------------------------

-- Files of the policy's folder: "names" is names.lua, "keys.old" is keys/old.lua. The name cannot lead out of it.
local function path_of(folder, name)
  if folder and name:find "^[%w_][%w_%.]*$" and not name:find("..", 1, true) and not name:find "%.$" then
    return folder .. "/" .. name:gsub("%.", "/") .. ".lua"
  end
  return nil
end

-- others(name) → found, value: what is not a file of the folder.
local function new_require(folder, load_file, environment, others)
  local loaded, loading = {}, {} -- loading: name → the coroutine that does
  return function(name)
    local co = coroutine.running() or "main"
    if type(name) ~= "string" then
      error("require: a name expected, not " .. type(name), 2)
    elseif loading[name] == co then
      error("require: '" .. name .. "' requires itself", 2)
    elseif loaded[name] ~= nil then
      return loaded[name]
    end
    local found, value = others(name)
    if not found then
      local path = path_of(folder, name)
      local chunk, message = nil, "a policy may not load '" .. name .. "'"
      if path then
        chunk, message = load_file(path, environment)
      end
      if not chunk then
        error("require: " .. message, 2)
      end
      loading[name] = co
      local ok
      ok, value = pcall(chunk, name)
      loading[name] = nil
      if not ok then
        error(value, 0)
      end
    end
    loaded[name] = value == nil and true or value
    return loaded[name]
  end
end

-- Environments ------------------------------------------------------------------------------------------------------

local function add_decisions(environment)
  for _, name in ipairs { "accept", "challenge", "redirect", "reject" } do
    environment[name] = decision[name]
  end
  return environment
end

--- A fresh environment for one policy file: nothing in it leads to the host or to other policies.
---@param name string of the policy, for its lines in the log
---@param folder string? where its require() looks; nil: nowhere
---@param load_file fun(path: string, environment: table): function?, string?
---@return table
function sandbox.new(name, folder, load_file)
  local environment = add_decisions(library.new())
  for key, value in pairs(environment) do
    environment[key] = type(value) == "table" and read_only(key, value) or value
  end
  local own = {
    ["khp"] = own_khp(name),
    ["khp.auth"] = read_only("khp.auth", own_auth()),
    ["khp.auth.htpasswd"] = read_only("khp.auth.htpasswd", password_files(folder)),
    ["khp.crypto"] = read_only("khp.crypto", own_crypto()),
  }
  environment._G, environment.khp = environment, own.khp
  environment.require = new_require(folder, load_file, environment, function(module)
    if own[module] then
      return true, own[module]
    elseif helpers[module] then
      return true, read_only(module, only(require(module), helpers[module]))
    end
    return false
  end)
  return environment
end

--- An environment for a policy file that is trusted: all that the host has, and the decisions besides. What the file
--- makes global is its own; require() looks in its folder first.
---@param folder string?
---@param load_file fun(path: string, environment: table): function?, string?
---@return table
function sandbox.trusted(folder, load_file)
  local environment = add_decisions(setmetatable({ khp = require "khp" }, { __index = _G }))
  environment.require = new_require(folder, load_file, environment, function(module)
    local path = path_of(folder, module)
    local file = path and io.open(path)
    if file then
      file:close()
      return false
    end
    return true, require(module)
  end)
  return environment
end

return sandbox
