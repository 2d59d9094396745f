-- permessage-deflate (RFC 7692): messages compressed one by one. Here is what is negotiated and which codec a
-- connection has; the codec itself is core.deflate. A direction with context takeover has a codec of its own for as
-- long as the connection lives, made with its first message; one without shares it with all connections of the same
-- definition and holds next to nothing.

local core = require "khp.core"
local options = require "khp.options"

local ipairs, min, setmetatable, tonumber, type = ipairs, math.min, setmetatable, tonumber, type

local permessage_deflate = {}

local NAME = "permessage-deflate"
local WINDOW = 15 -- bits, where nothing else is agreed (RFC 7692 7.1.2)
local LEAST = 9 -- zlib has no deflater with 8; an inflater with 9 understands what was deflated with 8

---@class khp.PermessageDeflateOptions
---@field level integer? 0 (no compression) to 9; default 6
---@field memory_level integer? memory of the compressor, 1 to 9; default 8
---@field threshold integer? bytes: shorter messages are not compressed; default 64
---@field server_no_context_takeover boolean? the server compresses each message separately; a client requests it;
---  default false
---@field client_no_context_takeover boolean? the client compresses each message separately; a server requests it;
---  default false
---@field server_max_window_bits integer? 9 to 15: window of what the server sends; a client requests it; default: no
---  limit
---@field client_max_window_bits integer|boolean|nil 9 to 15: window of what the client sends; a server requests it if
---  the client supports that; true: supported, no limit; false: a client does not offer it; default true

-- Without takeover a JSON text of 48 bytes grows, one of 64 loses two of them and one of 96 a quarter; deflating it
-- takes longer than sending it.
local THRESHOLD = 64

local declaration = options.declare("khp.extension.permessage_deflate", {
  level = { type = "integer", min = 0, max = 9, default = 6 },
  memory_level = { type = "integer", min = 1, max = 9, default = 8 },
  threshold = { type = "integer", min = 0, default = THRESHOLD },
  server_no_context_takeover = { type = "boolean", default = false },
  client_no_context_takeover = { type = "boolean", default = false },
  server_max_window_bits = { type = "integer", min = LEAST, max = WINDOW },
  client_max_window_bits = { type = "integer|boolean", min = LEAST, max = WINDOW, default = true },
})

-- Negotiation -------------------------------------------------------------------------------------------------------

-- RFC 7692 7.1.2: 8 to 15, without leading zeros.
local function bits_of(value)
  return type(value) == "string" and tonumber(value:match "^[89]$" or value:match "^1[0-5]$") or nil
end

-- The parameters of a header as name → true or number; nil and why there must be no agreement (RFC 7692 7.1).
local function read(parameters)
  local result = {}
  for _, name in ipairs(parameters) do
    local value = parameters[name]
    if result[name] then
      return nil, name .. " stands twice"
    elseif name == "server_no_context_takeover" or name == "client_no_context_takeover" then
      if value ~= true then
        return nil, name .. " has no value"
      end
      result[name] = true
    elseif name == "client_max_window_bits" and value == true then
      result[name] = true
    elseif name == "server_max_window_bits" or name == "client_max_window_bits" then
      result[name] = bits_of(value)
      if not result[name] then
        return nil, name .. " is a number from 8 to 15"
      end
    else
      return nil, "it has no parameter '" .. name .. "'"
    end
  end
  return result
end

--- The options that the parameters of a header mean.
---@param parameters table
---@return khp.PermessageDeflateOptions? options, string? message
function permessage_deflate.parse(parameters)
  local given, message = read(parameters)
  if not given then
    return nil, message
  end
  if given.server_max_window_bits == 8 or given.client_max_window_bits == 8 then
    return nil, "no window of 8 bits can be made here"
  end
  given.client_max_window_bits = given.client_max_window_bits or false
  return given
end

local function at_most(limit)
  return type(limit) == "number" and limit or WINDOW
end

-- The client's offer (RFC 7692 7.1).
local function offer(given)
  local text = NAME
  for _, name in ipairs { "server_no_context_takeover", "client_no_context_takeover" } do
    if given[name] then
      text = text .. "; " .. name
    end
  end
  for _, name in ipairs { "server_max_window_bits", "client_max_window_bits" } do
    if given[name] then
      text = text .. "; " .. name .. (given[name] == true and "" or ("=%d"):format(given[name]))
    end
  end
  return text
end

-- The server's answer to an offer; nil: declined.
local function answer(given, parameters)
  local offered = read(parameters)
  local bits = offered and min(at_most(given.server_max_window_bits), at_most(offered.server_max_window_bits))
  if not offered or bits < LEAST then
    return nil
  end
  local agreed = {}
  for _, name in ipairs { "server_no_context_takeover", "client_no_context_takeover" } do
    agreed[name] = offered[name] or given[name] or nil -- RFC 7692 7.1.1: the server may do and ask so unasked
  end
  if offered.server_max_window_bits or bits < WINDOW then -- RFC 7692 7.1.2.1: likewise
    agreed.server_max_window_bits = bits
  end
  if offered.client_max_window_bits then -- RFC 7692 7.1.2.2: only where the client has offered it
    bits = min(at_most(given.client_max_window_bits), at_most(offered.client_max_window_bits))
    agreed.client_max_window_bits = bits < WINDOW and bits or nil
  end
  return agreed
end

-- What is wrong with a server's answer to what was offered (RFC 7692 7.1, 7.1.1.1, 7.1.2), or nil.
local function refusal(given, agreed)
  local asked, got = given.server_max_window_bits, agreed.server_max_window_bits
  if given.server_no_context_takeover and not agreed.server_no_context_takeover then
    return "server_no_context_takeover was asked for and not granted"
  elseif asked and not got then
    return "server_max_window_bits was asked for and not granted"
  elseif asked and got > asked then
    return ("server_max_window_bits is %d, and %d was asked for"):format(got, asked)
  elseif agreed.client_max_window_bits and not given.client_max_window_bits then
    return "client_max_window_bits was not offered"
  elseif agreed.client_max_window_bits == true then
    return "client_max_window_bits is a number from 8 to 15"
  end
  return nil
end

-- Codecs ------------------------------------------------------------------------------------------------------------

---@class khp.PermessageDeflate: khp.ExtensionSession
---@field link khp.Link
---@field shared table the definition's: makes codecs, and keeps those without takeover
---@field threshold integer
---@field out_bits integer window of what is sent
---@field out_takeover boolean
---@field in_bits integer likewise of what is received
---@field in_takeover boolean
---@field deflater userdata?
---@field inflater userdata?
local Session = {}
Session.__index = Session

-- nil: no memory.
local function make_deflater(self)
  local shared = self.shared
  local deflater = not self.out_takeover and shared.deflaters[self.out_bits] or core.deflate.deflater {
    window_bits = self.out_bits,
    level = shared.level,
    memory_level = shared.memory_level,
    takeover = self.out_takeover,
  }
  if not self.out_takeover then
    shared.deflaters[self.out_bits] = deflater
  end
  self.deflater = deflater
  return deflater
end

-- Or nil, message, close code. The largest window does for every other, so that one is enough for all without takeover.
local function make_inflater(self)
  local inflater, text, code
  if self.in_takeover then
    inflater, text, code = core.deflate.inflater { window_bits = self.in_bits }
  else
    inflater = self.shared.inflater
    if not inflater then
      inflater, text, code = core.deflate.inflater { window_bits = WINDOW, takeover = false }
      self.shared.inflater = inflater
    end
  end
  self.inflater = inflater
  return inflater, text, code
end

-- A message may go as it is at any time (RFC 7692 6): when it is short, when there is no memory for more, and when it
-- would only grow, unless the next message would refer to its compressed form.
function Session:send(message, kind)
  if #message < self.threshold then
    return message, kind
  end
  local deflater = self.deflater or make_deflater(self)
  local deflated = deflater and deflater:message(message)
  if not deflated or #deflated >= #message and not self.out_takeover then
    return message, kind
  end
  return deflated, kind, true
end

function Session:receive(message, kind, marked)
  if not marked then
    return message, kind
  end
  if not self.inflater then
    local made, text, code = make_inflater(self)
    if not made then
      return nil, text, code
    end
  end
  local inflated, text, code = self.inflater:message(message, self.link:limit())
  if not inflated then
    return nil, text, code
  end
  return inflated, kind
end

-- The memory of zlib is nothing that the collector would know of.
function Session:closed()
  if self.deflater and self.out_takeover then
    self.deflater:close()
  end
  if self.inflater and self.in_takeover then
    self.inflater:close()
  end
  self.deflater, self.inflater = nil, nil
end

local function start(given, shared, link, parameters)
  local agreed, wrong = read(parameters)
  local server = link.role == "server"
  wrong = wrong or not server and refusal(given, agreed)
  if wrong then
    return nil, NAME .. ": " .. wrong
  end
  local session = setmetatable({ link = link, shared = shared, threshold = given.threshold }, Session)
  local server_takeover = not agreed.server_no_context_takeover
  local client_takeover = not agreed.client_no_context_takeover
  local server_bits = at_most(agreed.server_max_window_bits)
  local client_bits = at_most(agreed.client_max_window_bits)
  if server then
    session.out_bits, session.out_takeover = server_bits, server_takeover and not given.server_no_context_takeover
    session.in_bits, session.in_takeover = client_bits, client_takeover
  else
    session.out_bits = min(client_bits, at_most(given.client_max_window_bits))
    session.out_takeover = client_takeover and not given.client_no_context_takeover
    session.in_bits, session.in_takeover = server_bits, server_takeover
  end
  if session.out_bits < LEAST then -- lawful, and zlib cannot: every message goes as it is
    session.threshold = math.huge
  end
  session.in_bits = math.max(session.in_bits, LEAST)
  return session
end

--- The extension. A server that agrees to it without more is asked for up to 300 KB by each connection that uses it;
--- server_no_context_takeover and client_no_context_takeover bring that to next to nothing, at the price of
--- compressing each message for itself.
---@param given khp.PermessageDeflateOptions?
---@return khp.Extension
function permessage_deflate.new(given)
  local checked = options.check(declaration, given or {}, 2)
  local shared = { level = checked.level, memory_level = checked.memory_level, deflaters = {}, inflater = nil }
  return {
    name = NAME,
    handshake = "opening",
    rsv = 1,
    offer = offer(checked),
    answer = function(parameters)
      return answer(checked, parameters)
    end,
    start = function(link, parameters)
      return start(checked, shared, link, parameters)
    end,
  }
end

return permessage_deflate
