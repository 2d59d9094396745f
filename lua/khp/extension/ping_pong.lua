-- x-kaazing-ping-pong; <8 hex digits>: pings and pongs that a browser's script can see. They are text messages which
-- begin with four control bytes; a text of the application's that begins with them is announced by a message of just
-- these bytes. Binary messages are left alone. Anything else behind the control bytes is a violation.

local options = require "khp.options"

local ping_pong = {}

local NAME = "x-kaazing-ping-pong"
local CONTROL = "01010102" -- what Kaazing's gateway always answers
local PING, PONG = "\9\0", "\10\0"
local sub = string.sub

local declaration = options.declare(NAME, {
  control = { type = "string", default = CONTROL },
})

-- The control bytes that the one parameter stands for. Above 0x7F they would be no text.
local function bytes_of(parameters)
  local digits = parameters[1]
  if not digits or parameters[2] or not digits:match "^[0-7]%x[0-7]%x[0-7]%x[0-7]%x$" then
    return nil
  end
  return (digits:gsub("%x%x", function(byte)
    return string.char(tonumber(byte, 16))
  end))
end

--- The options that the parameters of a header mean.
---@param parameters table
---@return table? options, string? message
function ping_pong.parse(parameters)
  if parameters[1] and not bytes_of(parameters) then
    return nil, "the control bytes are eight hexadecimal digits, each byte below 80"
  end
  return { control = parameters[1] }
end

local Session = {}
Session.__index = Session

local function begins(self, message)
  return sub(message, 1, 4) == self.control
end

function Session:send(message, kind)
  if kind == "text" and begins(self, message) then
    local ok, why, code = self.link:send(self.control, "text")
    if not ok then
      return nil, why, code
    end
  end
  return message, kind
end

function Session:receive(message, kind)
  local special = kind == "text" and begins(self, message)
  if self.escaped then
    self.escaped = false
    if not special then
      return nil, NAME .. ": an escape before a message that needs none", 1002
    end
    return message, kind
  elseif not special then
    return message, kind
  end
  local rest = sub(message, 5)
  if rest == "" then
    self.escaped = true
  elseif rest == PING then
    if not self.link:send(self.control .. PONG, "text") then
      self.link:close(1008, NAME .. ": pings arrive, but their pongs are not read")
    end
  elseif rest ~= PONG then
    return nil, NAME .. ": neither ping nor pong", 1002
  end
  return nil
end

--- Sends an extended ping, to which the peer's extension answers with a pong that its application does not see.
---@return true? sent
---@return string? message, string? code, table? detail
function Session:ask()
  return self.link:send(self.control .. PING, "text")
end

--- Sends an extended pong: something that the peer's script sees, and answers nothing to.
function Session:beat()
  self.link:send(self.control .. PONG, "text")
end

--- The extension.
---@param given { control: string? }? control: eight hexadecimal digits, the control bytes that a server announces;
---  default "01010102"
---@return khp.Extension
function ping_pong.new(given)
  local checked = options.check(declaration, given or {}, 2)
  if not bytes_of { checked.control } then
    error(NAME .. ": option 'control': eight hexadecimal digits expected, each byte below 80", 2)
  end
  return {
    name = NAME,
    handshake = "extended",
    control = bytes_of,
    answer = function()
      return { checked.control, [checked.control] = true }
    end,
    start = function(link, parameters)
      local control = bytes_of(parameters)
      if not control then
        return nil, NAME .. " without control bytes that can be a text"
      end
      return setmetatable({ link = link, control = control, escaped = false }, Session)
    end,
  }
end

return ping_pong
