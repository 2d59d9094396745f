-- Logging: one line per event, with a level, written to standard error or to a function of the program. Whatever bytes
-- a peer sends, a line stays one line. This file must not know what is logged, nor keep anything.

local core = require "khp.core"
local json = require "khp.json"

local log = {}

local levels = { off = 0, error = 1, warn = 2, info = 3, debug = 4 }

--- The least important level that is written: "error", "warn" (default), "info", "debug", or "off" for none. Assign to
--- change it; any other value throws.
---@type "error"|"warn"|"info"|"debug"|"off"
log.level = "warn"

--- The format of lines on standard error: "text" (default), or "json" for one JSON object per line. Assign to change
--- it; any other value throws.
---@type "text"|"json"
log.format = "text"

-- JSON ----------------------------------------------------------------------------------------------------------------

-- In a record every table is an array.
local function json_value(value)
  if type(value) ~= "table" then
    return json.write(value)
  end
  local list = {}
  for i = 1, #value do
    list[i] = json_value(value[i])
  end
  return "[" .. table.concat(list, ",") .. "]"
end

local function timestamp()
  local now = core.loop.time()
  local whole = math.floor(now)
  return os.date("!%Y-%m-%dT%H:%M:%S", whole) .. (".%03dZ"):format(math.floor((now - whole) * 1000))
end

--- Formats a JSON line without line end: time, level, message, then the fields, sorted by name.
---@param level string
---@param text string
---@param fields table<string, any>? strings, numbers, booleans and arrays of them
---@return string line
function log.json(level, text, fields)
  local list, names = {}, {}
  local function add(name, value)
    list[#list + 1] = json.string(name) .. ":" .. json_value(value)
  end
  add("time", timestamp())
  add("level", level)
  add("message", text)
  for name in pairs(fields or {}) do
    names[#names + 1] = name
  end
  table.sort(names)
  for _, name in ipairs(names) do
    add(name, fields[name])
  end
  return "{" .. table.concat(list, ",") .. "}"
end

-- Lines ---------------------------------------------------------------------------------------------------------------

--- Writes a line to standard error. Assign your own function to send lines elsewhere.
---@param level string
---@param text string may have several lines: what happened, then a traceback
---@param fields table<string, any>? the same as separate values, for programs; see log.record()
function log.sink(level, text, fields)
  if log.format == "json" then
    io.stderr:write(log.json(level, text, fields), "\n")
  else
    io.stderr:write("khp: ", level, ": ", (log.lines(text, math.huge):gsub("\n", "\n  ")), "\n")
  end
end

--- Whether lines of this level are written. Useful before building an expensive one.
---@param level string
---@return boolean
function log.enabled(level)
  local rank = levels[level]
  if not rank then
    error("log: a level expected, not " .. tostring(level), 2)
  end
  return rank > 0 and rank <= levels[log.level]
end

local function writer(level)
  return function(format, ...)
    if log.enabled(level) then
      log.sink(level, select("#", ...) > 0 and format:format(...) or format)
    end
  end
end

--- Writes a line of this level, if the level is enabled. With further arguments, `text` is a format as for
--- string.format(); without, it is written as it is.
---@type fun(text: string, ...: any)
log.error, log.warn, log.info, log.debug = writer "error", writer "warn", writer "info", writer "debug"

--- Writes a line of this level for people, with the same information as separate values for programs.
---@param level string
---@param text string
---@param fields table<string, any>
function log.record(level, text, fields)
  if log.enabled(level) then
    log.sink(level, text, fields)
  end
end

--- Logs an error that ended a coroutine, with its traceback.
---@param co thread
---@param message any
function log.traceback(co, message)
  if log.enabled "error" then
    log.sink("error", debug.traceback(co, tostring(message)))
  end
end

-- Peers ---------------------------------------------------------------------------------------------------------------

--- The peer of a connection as text: "192.0.2.1:8000", "[2001:db8::1]:8000", the path of a Unix socket, or "unix".
---@param conn userdata
---@return string
function log.peer(conn)
  local peer = conn.peer or {}
  if peer.host then
    return (peer.host:find(":", 1, true) and "[%s]:%d" or "%s:%d"):format(peer.host, peer.port)
  end
  return peer.path == "" and "unix" or peer.path and log.quote(peer.path) or "?"
end

local function shorten(text, most)
  return #text > most and text:sub(1, most) .. "…" or text
end

local function escape_bytes(some)
  return (some:gsub(".", function(one)
    return ("\\x%02X"):format(one:byte())
  end))
end

-- Without these controls, nor those of C1 (U+0080 to U+009F), which a terminal obeys as well.
local function escape(text, controls)
  return (text:gsub(controls, escape_bytes):gsub("\194[\128-\159]", escape_bytes))
end

--- Escapes a peer's bytes for a log line: no control characters, no line ends, shortened if necessary.
---@param text string
---@param most integer? bytes; default 200
---@return string
function log.quote(text, most)
  return escape(shorten(text, most or 200), "[%z\1-\31\127]")
end

--- The same in quotation marks, in which it cannot pass for our own words.
---@param text string
---@return string
function log.quoted(text)
  return '"' .. log.quote(text):gsub('["\\]', "\\%0") .. '"'
end

--- Like log.quote(), but keeps line ends and tabs: for text of several lines, such as an error with its traceback.
---@param text string
---@param most integer? bytes; default 8000
---@return string
function log.lines(text, most)
  return escape(shorten(text, most or 8000), "[%z\1-\8\11-\31\127]")
end

-- Settings ------------------------------------------------------------------------------------------------------------

local settings = {}

-- A setting that means nothing would silence what it is about.
local lawful = {
  level = function(value)
    return levels[value], "off, error, warn, info or debug"
  end,
  format = function(value)
    return value == "text" or value == "json", "text or json"
  end,
  sink = function(value)
    return type(value) == "function", "a function"
  end,
}

for name in pairs(lawful) do
  settings[name], log[name] = log[name], nil
end

return setmetatable(log, {
  __index = settings,
  __newindex = function(_, name, value)
    local check = lawful[name]
    if not check then
      error("log: there is no setting '" .. tostring(name) .. "'", 2)
    end
    local ok, expected = check(value)
    if not ok then
      error(("log.%s: %s expected, not %s"):format(name, expected, tostring(value)), 2)
    end
    settings[name] = value
  end,
})
