-- How khp connect shows what happens: as lines, as bytes, as JSON, or on a terminal where somebody is typing. Messages
-- go to standard output, what is said about them to standard error. This file must not know connections: it is told.

local cli = require "khp.cli"
local core = require "khp.core"
local crypto = require "khp.crypto"
local json = require "khp.json"
local terminal = require "khp.cli.terminal"

local show = {}

---@class khp.cli.Show
---@field write fun(...: string) to standard output
---@field open fun(self: khp.cli.Show, conn: khp.Connection)
---@field message fun(self: khp.cli.Show, message: string, kind: "text"|"binary")
---@field closed fun(self: khp.cli.Show, closed: khp.Closed)
---@field down fun(self: khp.cli.Show, message: string, code: string, detail: table) with --reconnect
---@field note fun(self: khp.cli.Show, text: string) for people: a round trip, a reconnection
---@field failed fun(self: khp.cli.Show, code: string, detail: table, message: string, ...: string) no connection
---@field trouble fun(self: khp.cli.Show, code: string?, message: string, hint: string?) what cannot be sent

local MOST_HEX = 32

-- The beginning of a binary message, as a person may want to see it.
local function glimpse(message)
  local hex = message:sub(1, MOST_HEX):gsub(".", function(c)
    return ("%02x "):format(c:byte())
  end)
  return ("%d bytes: %s%s"):format(#message, hex, #message > MOST_HEX and "…" or ""):gsub("%s+$", "")
end

local function quoted(reason)
  return reason ~= "" and ": " .. terminal.harmless(reason) or ""
end

local names = { peer = "the server", ["local"] = "this side", network = "the network", timeout = "a timeout" }

--- Who ended a connection, for people.
---@param closed khp.Closed
---@return string
function show.who(closed)
  return names[closed.by]
end

local function again(detail)
  return detail.again and (", trying again in %.1f s"):format(detail.again) or ""
end

-- Lines and bytes ----------------------------------------------------------------------------------------------------

local plain = {}

function plain.open()
end

function plain.closed()
end

function plain:down(message, _, detail)
  self:note(terminal.harmless(message) .. again(detail))
end

function plain:note(text)
  io.stderr:write("khp: connect: ", text, "\n")
end

function plain:failed(_, _, message, ...)
  cli.complain("connect: " .. message, ...)
end

function plain:trouble(_, message, hint)
  cli.complain("connect: " .. message .. (hint and "\n" .. hint or ""))
end

local lines = setmetatable({}, { __index = plain })

-- Into a pipe or a file go the bytes as they came. A binary message has no line end of its own.
function lines:message(message, kind)
  if self.is_terminal then
    self.write(kind == "text" and terminal.harmless(message) or "binary, " .. glimpse(message), "\n")
  elseif kind == "text" then
    self.write(message, "\n")
  else
    self.write(message)
  end
end

--- A line for each text message.
---@param write fun(...: string)
---@return khp.cli.Show
function show.lines(write)
  return setmetatable({ write = write, is_terminal = terminal.at(1) ~= nil }, { __index = lines })
end

local bytes = setmetatable({}, { __index = plain })

function bytes:message(message)
  self.write(message)
end

--- What the messages hold, one behind the other.
---@param write fun(...: string)
---@return khp.cli.Show
function show.bytes(write)
  return setmetatable({ write = write }, { __index = bytes })
end

-- JSON ---------------------------------------------------------------------------------------------------------------

local objects = {}

function objects:event(name, members)
  members.event = name
  members.time = math.floor((core.loop.clock() - self.began) * 1e6 + 0.5) / 1e6
  self.write(json.write(members), "\n")
end

local function names_of(extensions)
  local list = json.array {}
  for i, extension in ipairs(extensions or {}) do
    local parameters = {}
    for _, name in ipairs(extension.parameters) do
      parameters[name] = extension.parameters[name]
    end
    list[i] = { name = extension.name, parameters = parameters }
  end
  return list
end

function objects:open(conn)
  self:event("open", {
    url = conn.url, khp = conn.khp, protocol = conn.protocol, extensions = names_of(conn.extensions),
  })
end

function objects:message(message, kind)
  if kind == "text" then
    self:event("message", { kind = kind, text = message })
  else
    self:event("message", { kind = kind, base64 = crypto.base64(message) })
  end
end

function objects:closed(closed)
  self:event("close", { code = closed.code, reason = closed.reason, clean = closed.clean, by = closed.by })
end

function objects:down(message, code, detail)
  self:event("down", { message = message, code = code, again = detail.again })
end

function objects:note(text)
  self:event("note", { text = text })
end

function objects:failed(code, detail, message)
  local urls = detail.urls and json.array(detail.urls)
  self:event("error", { message = message, code = code, status = detail.status, url = detail.url, urls = urls })
end

function objects:trouble(code, message)
  self:event("error", { message = message, code = code })
end

--- One object a line, for programs.
---@param write fun(...: string)
---@return khp.cli.Show
function show.json(write)
  return setmetatable({ write = write, began = core.loop.clock() }, { __index = objects })
end

-- A conversation -----------------------------------------------------------------------------------------------------

local talk = {}

-- Prints above the line that is being edited.
function talk:above(...)
  self.editor:hide()
  self.write(...)
  self.write "\n"
  self.editor:show()
end

function talk:open(conn)
  local parts = { "open: " .. conn.url }
  if conn.protocol then
    parts[#parts + 1] = "protocol " .. conn.protocol
  end
  for _, extension in ipairs(conn.extensions or {}) do
    parts[#parts + 1] = "extension " .. extension.name
  end
  parts[#parts + 1] = conn.khp and "with KHP" or "without KHP"
  self:above(self.paint("green", terminal.harmless(table.concat(parts, ", "))))
end

function talk:message(message, kind)
  if kind == "text" then
    self:above(self.paint("yellow", "< "), terminal.harmless(message))
  else
    self:above(self.paint("yellow", "< binary, "), glimpse(message))
  end
end

function talk:closed(closed)
  local manner = closed.clean and "" or ", without a closing handshake"
  self:above(self.paint("dim",
    ("closed by %s: %d%s%s"):format(show.who(closed), closed.code, quoted(closed.reason), manner)))
end

function talk:down(message, _, detail)
  self:above(self.paint("dim", terminal.harmless(message) .. again(detail)))
end

function talk:note(text)
  self:above(self.paint("dim", text))
end

function talk:failed(_, _, message, ...)
  self.editor:hide()
  cli.complain("connect: " .. message, ...)
end

function talk:trouble(_, message, hint)
  self.editor:hide()
  plain.trouble(self, nil, message, hint)
  self.editor:show()
end

--- For a person who types into this editor.
---@param write fun(...: string)
---@param editor khp.cli.Edit
---@return khp.cli.Show
function show.talk(write, editor)
  return setmetatable({ write = write, editor = editor, paint = terminal.painter(1) }, { __index = talk })
end

return show
