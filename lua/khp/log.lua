-- What khp has to say to the people who run it: one line per event, with a level, to one sink that a host may
-- replace. This file must not know what is logged, nor keep anything.

local log = {}

local levels = { error = 1, warn = 2, info = 3, debug = 4 }

--- The least important level that is written: "error", "warn" (default), "info", "debug", or "off".
---@type string
log.level = "warn"

--- Where lines go; replace it to send them elsewhere.
---@param level string
---@param text string may have several lines: the first says what happened, a traceback follows
function log.sink(level, text)
  io.stderr:write("khp: ", level, ": ", text, "\n")
end

--- Whether a line of this level would be written: ask before building an expensive one.
---@param level string
---@return boolean
function log.enabled(level)
  return levels[level] <= (levels[log.level] or 0)
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

--- An error that ended a coroutine, with the traceback of where it was.
---@param co thread
---@param message any
function log.traceback(co, message)
  if log.enabled "error" then
    log.sink("error", debug.traceback(co, tostring(message)))
  end
end

--- What a peer's bytes look like in a log: nothing that a terminal would obey, and not too long.
---@param text string
---@param most integer? default 200 bytes
---@return string
function log.quote(text, most)
  most = most or 200
  local short = #text > most and text:sub(1, most) .. "…" or text
  return (short:gsub("[%c\127]", function(c)
    return ("\\x%02X"):format(c:byte())
  end))
end

--- A text of several lines in a log, an error with its traceback: likewise, with its lines and tabs as they are.
---@param text string
---@param most integer? default 8000 bytes
---@return string
function log.lines(text, most)
  most = most or 8000
  local short = #text > most and text:sub(1, most) .. "…" or text
  return (short:gsub("[%z\1-\8\11-\31\127]", function(c)
    return ("\\x%02X"):format(c:byte())
  end))
end

return log
