-- What khp has to say to the people who run it, and to their programs: one line per event, with a level, to one sink
-- that a host may replace. A line stays a line, whatever a peer has sent. This file must not know what is logged, nor
-- keep anything.

local core = require "khp.core"

local log = {}

local levels = { off = 0, error = 1, warn = 2, info = 3, debug = 4 }

--- The least important level that is written: "error", "warn" (default), "info", "debug", or "off". Another value
--- throws.
---@type string
log.level = "warn"

--- How the lines look that go to standard error: "text", or "json" for an object of JSON in each. Another value throws.
---@type "text"|"json"
log.format = "text"

-- JSON ----------------------------------------------------------------------------------------------------------------

local escapes = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\t"] = "\\t", ["\r"] = "\\r" }

local function escape(c)
  return escapes[c] or ("\\u%04x"):format(c:byte())
end

-- What some reader might take for the end of a line, or a terminal for an order: NEL and the other controls of C1, and
-- the separators of lines and paragraphs.
local function escape_high(text)
  text = text:gsub("\194([\128-\159])", function(c)
    return ("\\u%04x"):format(c:byte())
  end)
  return (text:gsub("\226\128([\168\169])", function(c)
    return ("\\u20%02x"):format(c:byte() - 128)
  end))
end

local function json_string(text)
  text = text:gsub('[%c"\\\127]', escape)
  if text:find "[\128-\255]" then
    text = core.conn.utf8(text) and escape_high(text) or text:gsub("[\128-\255]", "\\ufffd")
  end
  return '"' .. text .. '"'
end

local function json_value(value)
  if type(value) == "table" then
    local list = {}
    for i = 1, #value do
      list[i] = json_value(value[i])
    end
    return "[" .. table.concat(list, ",") .. "]"
  elseif type(value) == "number" then
    return value % 1 == 0 and ("%d"):format(value) or ("%.6f"):format(value)
  elseif type(value) == "boolean" then
    return tostring(value)
  end
  return json_string(tostring(value))
end

local function timestamp()
  local now = core.loop.time()
  local whole = math.floor(now)
  return os.date("!%Y-%m-%dT%H:%M:%S", whole) .. (".%03dZ"):format(math.floor((now - whole) * 1000))
end

--- A line of JSON, without its end: the time, the level, the message, and then the fields, by name.
---@param level string
---@param text string
---@param fields table<string, any>? strings, numbers, booleans and arrays of them
---@return string
function log.json(level, text, fields)
  local list, names = {}, {}
  local function add(name, value)
    list[#list + 1] = json_string(name) .. ":" .. json_value(value)
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

--- Where lines go; replace it to send them elsewhere.
---@param level string
---@param text string may have several lines: the first says what happened, a traceback follows
---@param fields table<string, any>? the same in parts, of a line that programs may want to read
function log.sink(level, text, fields)
  if log.format == "json" then
    io.stderr:write(log.json(level, text, fields), "\n")
  else
    io.stderr:write("khp: ", level, ": ", (log.lines(text, math.huge):gsub("\n", "\n  ")), "\n")
  end
end

--- Whether a line of this level would be written: ask before building an expensive one.
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

--- Each formats like string.format, or takes the text alone as it is.
log.error, log.warn, log.info, log.debug = writer "error", writer "warn", writer "info", writer "debug"

--- A line that programs may want to read: the text for people, and the same in parts.
---@param level string
---@param text string
---@param fields table<string, any>
function log.record(level, text, fields)
  if log.enabled(level) then
    log.sink(level, text, fields)
  end
end

--- An error that ended a coroutine, with the traceback of where it was.
---@param co thread
---@param message any
function log.traceback(co, message)
  if log.enabled "error" then
    log.sink("error", debug.traceback(co, tostring(message)))
  end
end

-- Peers ---------------------------------------------------------------------------------------------------------------

--- Whom a connection leads to: "192.0.2.1:8000", "[2001:db8::1]:8000", the path of a unix socket or "unix".
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

local function escape_byte(c)
  return (c:gsub(".", function(one)
    return ("\\x%02X"):format(one:byte())
  end))
end

--- What a peer's bytes look like in a log: nothing that a terminal would obey, and not too long.
---@param text string
---@param most integer? default 200 bytes
---@return string
function log.quote(text, most)
  text = shorten(text, most or 200):gsub("[%c\127]", escape_byte)
  return (text:gsub("\194[\128-\159]", escape_byte))
end

--- The same in quotation marks, in which it cannot pass for our own words.
---@param text string
---@return string
function log.quoted(text)
  return '"' .. log.quote(text):gsub('["\\]', "\\%0") .. '"'
end

--- A text of several lines in a log, an error with its traceback: likewise, with its lines and tabs as they are.
---@param text string
---@param most integer? default 8000 bytes
---@return string
function log.lines(text, most)
  text = shorten(text, most or 8000):gsub("[%z\1-\8\11-\31\127]", escape_byte)
  return (text:gsub("\194[\128-\159]", escape_byte))
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
