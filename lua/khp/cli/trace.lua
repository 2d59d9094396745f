-- Shows handshakes as they go by, one block a piece: when, which way, in which of the handshakes, the first line and
-- the fields. What proves who somebody is is left out. This file must not know what the messages mean.

local terminal = require "khp.cli.terminal"

local trace = {}

local concat, find, gsub, lower, match, sub = table.concat, string.find, string.gsub, string.lower, string.match,
  string.sub
local harmless = terminal.harmless

local HIDDEN = "(not shown)"
local MOST_BODY = 200

-- What is left out ---------------------------------------------------------------------------------------------------

-- The first word of these says how; the rest is a secret.
local has_scheme = { ["authorization"] = true, ["proxy-authorization"] = true }

-- A field whose name has one of these words is a secret as a whole, except those whose values everybody may know.
local words = { "token", "key", "secret", "password", "auth", "session", "cookie" }
local open = { ["sec-websocket-key"] = true, ["www-authenticate"] = true, ["proxy-authenticate"] = true }

local function is_secret(name)
  name = lower(name)
  for _, word in ipairs(open[name] and {} or words) do
    if find(name, word, 1, true) then
      return true
    end
  end
  return false
end

local function hide_values(mark, parameters)
  return mark .. gsub(parameters, "[^&;#?]+", function(parameter)
    return (match(parameter, "^[^=]*=") or "") .. "…"
  end)
end

--- A text without the values in the queries and fragments of the URLs in it, and without their user names and
--- passwords.
---@param text string
---@return string
function trace.without_queries(text)
  text = gsub(text, "(://)[^/%s\"'<>?#]*@", "%1…@")
  text = gsub(text, "(%?)([^%s\"'<>]+)", hide_values)
  return (gsub(text, "(#)([^%s\"'<>]*=[^%s\"'<>]*)", hide_values))
end

--- The value of a header field as it may be shown.
---@param name string
---@param value string
---@return string
function trace.value(name, value)
  if not is_secret(name) then
    return trace.without_queries(value)
  end
  local scheme = has_scheme[lower(name)] and match(value, "^%S+%s") or ""
  if lower(scheme) == "application " then -- KHP: Application Basic …
    scheme = match(value, "^%S+%s+%S+%s") or scheme
  end
  return scheme .. HIDDEN
end

-- Messages as they come ----------------------------------------------------------------------------------------------

---@class khp.cli.trace.Reader  shows the lines of one message, which comes in pieces
---@field place "first"|"fields"|"body"|"over"
---@field rest string the beginning of a line that has not ended
---@field hidden boolean? something was left out of the last field: what continues it is left out, too
---@field status string?
---@field request boolean?
---@field begun boolean? some of it was shown
---@field secrets boolean? nothing is left out
local Reader = {}
Reader.__index = Reader

local function new_reader(secrets)
  return setmetatable({ place = "first", rest = "", secrets = secrets }, Reader)
end

local function show_field(self, line)
  if self.secrets then
    return harmless(line)
  elseif find(line, "^[ \t]") then -- RFC 7230 3.2.4: a folded line belongs to the one before it
    return not self.hidden and harmless(trace.without_queries(line)) or nil
  end
  local name, colon, value = match(line, "^([^:]-)(%s*:%s*)(.*)$")
  local shown = name and name .. colon .. trace.value(name, value) or trace.without_queries(line)
  self.hidden = shown ~= line or name ~= nil and is_secret(name)
  return harmless(shown)
end

-- May this be the beginning of a request or a response?
local function is_http(bytes)
  return sub("HTTP/", 1, #bytes) == sub(bytes, 1, 5) or find(bytes, "^[%u%-]+$") ~= nil or
    find(bytes, "^[%u%-]+ ") ~= nil
end

-- A line of the head, without its end; nil: nothing of it is shown.
local function take_line(self, line)
  if self.place == "first" then
    self.place = "fields"
    self.status, self.request = match(line, "^HTTP/%S+ (%d+)"), find(line, " HTTP/%d") ~= nil
    return harmless(self.secrets and line or trace.without_queries(line))
  elseif line == "" then
    self.place = self.status == "101" and "over" or "body" -- what follows a 101 is not HTTP
    return nil
  end
  return show_field(self, line)
end

local function show_body(self, bytes)
  if self.request and not self.secrets then -- a form may have anything in it
    return ("(%d byte%s, not shown)"):format(#bytes, #bytes == 1 and "" or "s")
  end
  local shown = sub(bytes, 1, MOST_BODY)
  shown = harmless(self.secrets and shown or trace.without_queries(shown))
  return gsub(shown, "%s+$", "") .. (#bytes > MOST_BODY and (" … (%d bytes)"):format(#bytes) or "")
end

-- The lines that these bytes end.
function Reader:feed(bytes)
  local lines = {}
  bytes = self.rest .. bytes
  self.rest = ""
  if self.place == "first" and bytes ~= "" and not is_http(bytes) and not find(bytes, "\n", 1, true) then
    lines[1] = harmless(self.secrets and bytes or trace.without_queries(bytes))
    return lines
  end
  local at = 1
  while self.place == "first" or self.place == "fields" do
    local last = find(bytes, "\n", at, true)
    if not last then
      self.rest = sub(bytes, at)
      return lines
    end
    lines[#lines + 1] = take_line(self, (gsub(sub(bytes, at, last - 1), "\r$", "")))
    at = last + 1
  end
  if self.place == "body" and at <= #bytes then
    lines[#lines + 1] = show_body(self, sub(bytes, at))
  end
  return lines
end

-- What is left: of a line that did not end nobody can say whether it is a secret.
function Reader:finish()
  local rest = self.rest
  self.rest = ""
  if rest == "" then
    return {}
  elseif self.secrets then
    return { harmless(rest) }
  end
  return { ("(%d byte%s of a line that does not end, not shown)"):format(#rest, #rest == 1 and "" or "s") }
end

--- The lines of a handshake's message: the first line, the fields, and the beginning of the body.
---@param bytes string
---@param secrets boolean? show those, too
---@return string first
---@return string[] others
function trace.lines(bytes, secrets)
  local reader = new_reader(secrets)
  local lines = reader:feed(bytes)
  for _, line in ipairs(reader:finish()) do
    lines[#lines + 1] = line
  end
  return table.remove(lines, 1) or ("%d bytes"):format(#bytes), lines
end

local other = { send = "receive", receive = "send" }

--- The function for the option `trace` of khp.connect and khp.listen, and one that says, at the end, what has come of
--- a line that did not end.
---@param given { write: fun(text: string), paint: khp.cli.Paint, clock: (fun(): number), peer: string?, us: string?,
---  secrets: boolean? }
---@return fun(direction: "send"|"receive", stage: string, bytes: string)
---@return fun()
function trace.new(given)
  local us, peer = given.us or "client", given.peer or "server"
  local arrows = { send = given.paint("cyan", us .. " ──▶ " .. peer),
    receive = given.paint("yellow", us .. " ◀── " .. peer) }
  local began = given.clock()
  local readers, stages = {}, {}

  local function show(direction, first, others)
    local lines = { ("%8.3f s  %s  %-8s  %s"):format(given.clock() - began, arrows[direction], stages[direction],
      given.paint("bold", first)) }
    for _, line in ipairs(others) do
      lines[#lines + 1] = (" "):rep(41) .. gsub(line, "\n", "\n" .. (" "):rep(41))
    end
    given.write(concat(lines, "\n") .. "\n")
  end

  local function finish(direction)
    local left = readers[direction] and readers[direction]:finish() or {}
    readers[direction] = nil
    if left[1] then
      show(direction, left[1], {})
    end
  end

  -- A head goes on until it ends, a body until the other side speaks or the next response begins.
  local function finish_before(direction, stage, bytes)
    local own, others = readers[direction], readers[other[direction]]
    if stage ~= "extended" or others and others.place == "body" then
      finish(other[direction])
    end
    if stages[direction] ~= stage or own and own.place == "body" and find(bytes, "^HTTP/1%.%d %d%d%d") then
      finish(direction)
    end
  end

  return function(direction, stage, bytes)
    finish_before(direction, stage, bytes)
    stages[direction] = stage
    local reader = readers[direction] or new_reader(given.secrets)
    local lines = reader:feed(bytes)
    local is_over = reader.place == "over" or reader.place == "first" and reader.rest == ""
    readers[direction] = not is_over and reader or nil
    if reader.begun and lines[1] then
      show(direction, "(continued)", lines)
    elseif lines[1] or bytes == "" then
      show(direction, table.remove(lines, 1) or "0 bytes", lines)
      reader.begun = bytes ~= ""
    end
  end, function()
    finish "send"
    finish "receive"
  end
end

return trace
