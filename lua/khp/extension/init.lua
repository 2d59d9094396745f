-- WebSocket extensions: those that khp has, for the option `extensions` of khp.listen and khp.connect. This file must
-- not know connections. It checks that option and negotiates in both handshakes; what an extension does to messages is
-- the pipeline's matter.

local http = require "khp.http"
local log = require "khp.log"
local options = require "khp.options"

local concat, format, sort, sub = table.concat, string.format, table.sort, string.sub
local error, ipairs, pairs, pcall, setmetatable, tostring, type, xpcall =
  error, ipairs, pairs, pcall, setmetatable, tostring, type, xpcall

---@class khp.extension
--- permessage-deflate (RFC 7692) with options, for the option `extensions`; the string "permessage-deflate" is the same
--- with defaults. A connection that uses it needs up to 300 KB. With server_no_context_takeover and
--- client_no_context_takeover it needs almost nothing, but messages are compressed separately, and so less.
---@field permessage_deflate fun(options?: khp.PermessageDeflateOptions): extension: khp.Extension
--- x-kaazing-idle-timeout with options. The server makes sure that its client receives something at least once per
--- `timeout` (seconds from 0.1 to 2147483; default 30); a client closes the connection when nothing has arrived for
--- that long. The server sends an extended pong if x-kaazing-ping-pong is in use, too, else a native ping.
---@field idle_timeout fun(options?: { timeout: number? }): extension: khp.Extension
--- x-kaazing-ping-pong with options: pings and pongs as text messages, which a script in a browser can see. They begin
--- with four control bytes; a text message of the application that begins with them is escaped. `control` is those
--- bytes as eight hexadecimal digits; default "01010102".
---@field ping_pong fun(options?: { control: string? }): extension: khp.Extension
local extension = {}

--- A custom extension, or one that khp.extension made.
---@class khp.Extension
---@field name string a token, as in the header
---@field offer string|string[]|(fun(): string|string[], any)|nil client: what to offer: "name; parameter=value", or
---  alternatives in order of preference. A function is called for each connection; its second result is passed to
---  start(). Default: the name
---@field answer (fun(parameters: table, offer: string, request: table): table|true|nil, any)? server: what to accept: a
---  table from name to value, true for no parameters, or nil to decline. Called for each alternative until one is
---  accepted; its second result is passed to start(). Default: accepts without parameters
---@field start fun(link: khp.Link, parameters: table, memory: any): khp.ExtensionSession?, string? starts the extension
---  on a connection. `memory` is the second result of offer() or answer(). nil and a message: cannot work with these
---  parameters
---@field rsv 1|2|3|nil the reserved bit of frames that it uses
---@field control string|(fun(parameters: table): string?)|nil the bytes that its control messages begin with
---@field handshake "opening"|"extended"|nil the handshake in which it is negotiated; "extended": in the opening if
---  there is no extended handshake; nil: in both, until it is accepted

local fields = {
  name = { type = "string", required = true },
  offer = { type = "string|strings|function" },
  answer = { type = "function" },
  start = { type = "function", required = true },
  rsv = { type = "integer", min = 1, max = 3 },
  control = { type = "string|function" },
  handshake = { type = "string", choices = { "opening", "extended" } },
}

local stock = {
  ["x-kaazing-idle-timeout"] = "khp.extension.idle_timeout",
  ["x-kaazing-ping-pong"] = "khp.extension.ping_pong",
  ["permessage-deflate"] = "khp.extension.permessage_deflate",
}

-- khp's own of this name, with parameters as they stand in a header; nil: khp has none, or nil and what is wrong.
local function stock_definition(name, parameters)
  if not stock[name] then
    return nil
  end
  local module = require(stock[name])
  local given, message = module.parse(parameters or {})
  if not given then
    return nil, message
  end
  return module.new(given)
end

---@class khp.Extensions  the option `extensions`, checked
---@field [integer] { name: string, texts: string[], definition: khp.Extension?, memory: any }
---@field package stock table<string, khp.Extension> those of khp's own that a policy has named
---@field package made boolean the offers of functions were made for nobody yet
local List = {}
List.__index = List

-- "name; parameter=value", or several, each of which is one by itself.
local function read_text(text)
  local parsed, message = http.extensions(text)
  if not parsed or not parsed[1] then
    return nil, ("'%s': %s"):format(text, message or "an empty one")
  end
  local list = {}
  for i, one in ipairs(parsed) do
    local definition
    definition, message = stock_definition(one.name, one.parameters)
    if message then
      return nil, ("'%s': %s"):format(text, message)
    end
    list[i] = { name = one.name, texts = { http.format_extensions { one } }, definition = definition }
  end
  return list
end

-- A function of a definition. What it does wrong is told with its name.
local function ask(definition, what, ...)
  local ok, a, b = xpcall(definition[what], debug.traceback, ...)
  if not ok then
    error(format("extension %s: %s: %s", definition.name, what, a), 0)
  end
  return a, b
end

-- What a client offers, and what start() is given besides; nil and what is wrong.
local function offer_of(definition)
  local texts, memory = definition.offer, nil
  if type(texts) == "function" then
    texts, memory = ask(definition, "offer")
  end
  texts = type(texts) == "table" and texts or { texts or definition.name }
  local parsed, message = http.extensions(concat(texts, ", "))
  if not parsed or #parsed < #texts then
    return nil, format("%s: offer: %s", definition.name, message or "an empty one")
  end
  for _, one in ipairs(parsed) do
    if one.name ~= definition.name then
      return nil, format("%s: its offer names '%s'", definition.name, one.name)
    end
  end
  return texts, memory
end

local function read_definition(given, level)
  options.verify(options.declare("extension", fields), given, level + 1)
  if not http.is_token(given.name) then
    return nil, ("'%s' is no name of an extension"):format(given.name)
  end
  local texts, memory = offer_of(given)
  if not texts then
    return nil, memory
  end
  return { { name = given.name, texts = texts, definition = given, memory = memory } }
end

local function read(given, level)
  if type(given) == "table" then
    local list, message = read_definition(given, level + 1) -- no tail call: the levels count
    return list, message
  elseif type(given) ~= "string" then
    return nil, "a string or a table expected, not " .. type(given)
  end
  return read_text(given)
end

--- Checks the option. Mistakes are thrown at the caller's line.
---@package
---@param given (string|khp.Extension)[]
---@param what string whose option it is: "khp.listen"
---@param level integer whose line to blame, as error() counts from the function that calls list
---@return khp.Extensions
function extension.list(given, what, level)
  local list = { stock = {}, made = true }
  local function refuse(message)
    error(("%s: option 'extensions': %s"):format(what, message), level + 2)
  end
  for i = 1, #given do
    local some, message = read(given[i], level + 1)
    if not some then
      refuse(message)
    end
    for _, one in ipairs(some) do
      list[#list + 1] = one
    end
  end
  local bits = {}
  for _, one in ipairs(list) do -- alternatives are one extension to the peer
    local bit = one.definition and one.definition.rsv or 0
    if one.definition and (bits[one.name] or bit) ~= bit then
      refuse(one.name .. ": alternatives must use the same reserved bit")
    end
    bits[one.name] = bit
  end
  return setmetatable(list, List)
end

--- These, and those of another list that have other names.
---@param other khp.Extensions
---@return khp.Extensions
function List:with(other)
  local names, list = {}, { stock = self.stock, made = self.made }
  for i = 1, #self do
    list[i], names[self[i].name] = self[i], true
  end
  for i = 1, #other do
    list[#list + 1] = not names[other[i].name] and other[i] or nil
  end
  return setmetatable(list, List)
end

-- Client ------------------------------------------------------------------------------------------------------------

--- What is offered on one connection more: functions are asked again.
---@return khp.Extensions
function List:renew()
  if self.made then
    self.made = false
    return self
  end
  local list = { stock = self.stock, made = false }
  for i, one in ipairs(self) do
    list[i] = one
    if one.definition and type(one.definition.offer) == "function" then
      local texts, memory = offer_of(one.definition)
      if not texts then
        error("extension " .. memory, 0)
      end
      list[i] = { name = one.name, texts = texts, definition = one.definition, memory = memory }
    end
  end
  return setmetatable(list, List)
end

--- What the opening offers.
---@param khp boolean an extended handshake is asked for, too
---@return string[]
function List:for_opening(khp)
  local texts = {}
  for _, one in ipairs(self) do
    if not (khp and one.definition and one.definition.handshake == "extended") then
      for _, text in ipairs(one.texts) do
        texts[#texts + 1] = text
      end
    end
  end
  return texts
end

--- What the extended request asks for: what the opening has not negotiated (KHP E5).
---@param negotiated table[] parsed
---@return string[]
function List:for_extended(negotiated)
  local taken, texts = {}, {}
  for _, one in ipairs(negotiated) do
    taken[one.name] = true
  end
  for _, one in ipairs(self) do
    if not (one.definition and one.definition.handshake == "opening") then
      for _, text in ipairs(one.texts) do
        if not taken[http.extensions(text)[1].name] then
          texts[#texts + 1] = text
        end
      end
    end
  end
  return texts
end

-- Both --------------------------------------------------------------------------------------------------------------

local function control_of(definition, parameters)
  local control = definition.control
  if type(control) == "function" then
    return (ask(definition, "control", parameters))
  end
  return control
end

-- Does one begin with the other? Then a message of one would be taken for the other's.
local function overlap(a, b)
  return sub(a, 1, #b) == b or sub(b, 1, #a) == a
end

-- What extensions that work on one connection have for themselves: bits and control bytes → who has them.
local function claim(claims, definition, parameters)
  local bit = definition.rsv and "RSV" .. definition.rsv
  local control = control_of(definition, parameters)
  local other, what = claims[bit or false], bit and "bit " .. bit
  for taken, who in pairs(not other and control and claims or {}) do
    if sub(taken, 1, 1) == "=" and overlap(sub(taken, 2), control) then
      other, what = who, "control bytes"
    end
  end
  if other then
    return format("%s and %s use the same %s", other, definition.name, what)
  end
  if bit then
    claims[bit] = definition.name
  end
  if control then
    claims["=" .. control] = definition.name
  end
  return nil
end

-- Several of one name are alternatives.
local function definitions_of(self, name)
  local found = {}
  for _, one in ipairs(self) do
    if one.name == name and one.definition then
      found[#found + 1] = { definition = one.definition, memory = one.memory }
    end
  end
  if not found[1] then
    if not self.stock[name] then -- one for all connections, which may share what it holds
      self.stock[name] = stock_definition(name)
    end
    found[1] = self.stock[name] and { definition = self.stock[name] }
  end
  return found
end

---@class khp.Agreed
---@field name string
---@field alternatives { definition: khp.Extension, memory: any }[] the first that can start with these parameters
---@field parameters table

--- Those of the negotiated extensions that do something here.
---@param negotiated table[] parsed, in the order of the header
---@param claims table<string, string> what is taken; it is added to
---@param chosen table<string, { definition: khp.Extension, memory: any }>? server: what choose() gave
---@return khp.Agreed[]? agreed
---@return string? message two of them cannot be together
function List:agreed(negotiated, claims, chosen)
  local agreed = {}
  for _, one in ipairs(negotiated) do
    local alternatives = chosen and chosen[one.name] and { chosen[one.name] } or definitions_of(self, one.name)
    if alternatives[1] then
      local ok, problem = pcall(claim, claims, alternatives[1].definition, one.parameters)
      if not ok then
        log.error("%s", problem)
        problem = tostring(problem):match "^[^\n]*"
      end
      if problem then
        return nil, problem
      end
      agreed[#agreed + 1] = { name = one.name, alternatives = alternatives, parameters = one.parameters }
    end
  end
  return agreed
end

-- Server ------------------------------------------------------------------------------------------------------------

local function copy(claims)
  local result = {}
  for name, who in pairs(claims) do
    result[name] = who
  end
  return result
end

local function shown(value)
  return type(value) == "number" and format("%.14g", value) or value
end

-- One parsed, as the header has it and as it is read there, and what start() is given besides; nil: declined.
local function answer(definition, offer, request)
  local parameters, memory = true, nil
  if definition.answer then
    parameters, memory = ask(definition, "answer", offer.parameters, http.format_extensions { offer }, request)
  end
  if not parameters then
    return nil
  elseif parameters ~= true and type(parameters) ~= "table" then
    error(format("extension %s: its answer: a table, true or nil expected, not %s", offer.name, type(parameters)), 0)
  end
  local one = { name = offer.name, parameters = parameters ~= true and parameters or {} }
  if one.parameters[1] == nil then -- a map: in the order of the names
    local ordered = {}
    for name, value in pairs(one.parameters) do
      ordered[#ordered + 1], ordered[name] = name, shown(value)
    end
    sort(ordered)
    one.parameters = ordered
  end
  local text, message = http.format_extensions { one }
  if not text then
    error(("extension %s: its answer: %s"):format(offer.name, message), 0)
  end
  return text, http.extensions(text)[1].parameters, memory
end

--- What a server agrees to of what a client offers, in the client's order; of alternatives the first that can be.
---@param request table whose `extensions` are offered
---@param step "opening"|"extended"
---@param khp boolean there is an extended handshake
---@param claims table<string, string> what is taken; it stays as it is
---@return string[] texts for the header
---@return table<string, { definition: khp.Extension, memory: any }> chosen which definition agreed to each name
function List:choose(request, step, khp, claims)
  local texts, named, chosen = {}, {}, {}
  claims = copy(claims)
  for _, offer in ipairs(request.extensions) do
    for _, one in ipairs(not named[offer.name] and self or {}) do
      local definition = one.name == offer.name and one.definition
      local here = definition and (not definition.handshake or definition.handshake == step
        or definition.handshake == "extended" and not khp)
      local text, parameters, memory
      if here then
        text, parameters, memory = answer(definition, offer, request)
      elseif one.name == offer.name and not one.definition then -- known by name alone: as the server's option has it
        text, parameters = one.texts[1], {}
      end
      if text and not (definition and claim(claims, definition, parameters)) then
        texts[#texts + 1], named[offer.name] = text, true
        chosen[offer.name] = definition and { definition = definition, memory = memory } or nil
        break
      end
    end
  end
  return texts, chosen
end

--- What is wrong with a policy's own choice.
---@param texts string[]
---@param claims table<string, string> what is taken; it stays as it is
---@return string?
function List:problem(texts, claims)
  local parsed = http.extensions(concat(texts, ", "))
  local agreed, message = self:agreed(parsed or {}, copy(claims))
  return not agreed and tostring(message) or nil
end

-- khp's own with options: see the file of each.
for _, name in ipairs { "idle_timeout", "ping_pong", "permessage_deflate" } do
  extension[name] = function(given)
    return require("khp.extension." .. name).new(given)
  end
end

--- No extensions but khp's own, where a policy names one.
---@package
extension.none = setmetatable({ stock = {}, made = false }, List)

return extension
