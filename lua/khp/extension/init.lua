-- Extensions as they are named, offered and agreed: what khp.listen and khp.connect take in their option `extensions`,
-- and what becomes of it in either handshake. What an agreed extension does to messages is the pipeline's matter. This
-- file must not know connections.

local http = require "khp.http"
local options = require "khp.options"

local error, ipairs, pairs, setmetatable, tostring, type = error, ipairs, pairs, setmetatable, tostring, type

local extension = {}

---@class khp.Extension  an extension of one's own, or one of khp's made with options
---@field name string a token
---@field offer string|string[]|(fun(): string|string[])|nil client: "name; parameter=value", or alternatives in order
---  of preference; default the bare name
---@field answer (fun(parameters: table, offer: string): table|true|nil)? server: what to agree to, name → value, or
---  true for no parameters; nil declines. Asked for each alternative until one is answered; default: agrees, without
---  parameters
---@field start fun(link: khp.Link, parameters: table): khp.ExtensionSession?, string? both: begins to work on a
---  connection; nil and a message: what was agreed cannot be
---@field rsv 1|2|3|nil the reserved bit of frames that it uses
---@field control string|(fun(parameters: table): string?)|nil the bytes that its control messages begin with
---@field handshake "opening"|"extended"|nil where it is negotiated; "extended": in the opening where there is no other;
---  nil: in both, until it is agreed

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
---@field [integer] { name: string, texts: string[], definition: khp.Extension? }
---@field package stock table<string, khp.Extension> those of khp's own that a policy has named
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

local function texts_of(definition)
  local offer = definition.offer
  if type(offer) == "function" then
    offer = offer()
  end
  if offer == nil then
    return { definition.name }
  end
  return type(offer) == "table" and offer or { offer }
end

local function read_definition(given, level)
  options.verify(options.declare("extension", fields), given, level + 1)
  if not http.is_token(given.name) then
    return nil, ("'%s' is no name of an extension"):format(given.name)
  end
  local texts = texts_of(given)
  local parsed, message = http.extensions(table.concat(texts, ", "))
  if not parsed or #parsed < #texts then
    return nil, ("%s: offer: %s"):format(given.name, message or "an empty one")
  end
  for _, one in ipairs(parsed) do
    if one.name ~= given.name then
      return nil, ("%s: its offer names '%s'"):format(given.name, one.name)
    end
  end
  return { { name = given.name, texts = texts, definition = given } }
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
  local list = { stock = {} }
  for i = 1, #given do
    local some, message = read(given[i], level + 1)
    if not some then
      error(("%s: option 'extensions': %s"):format(what, message), level + 1)
    end
    for _, one in ipairs(some) do
      list[#list + 1] = one
    end
  end
  return setmetatable(list, List)
end

-- Client ------------------------------------------------------------------------------------------------------------

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
    return control(parameters)
  end
  return control
end

-- What extensions that work on one connection have for themselves: bits and control bytes → who has them.
local function claim(claims, definition, parameters)
  local bit = definition.rsv and "RSV" .. definition.rsv
  local control = control_of(definition, parameters)
  local other, what = claims[bit or false], bit
  if not other and control then
    other, what = claims["=" .. control], "control bytes"
  end
  if other then
    return ("%s and %s use the same %s"):format(other, definition.name, bit == what and "bit " .. bit or what)
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
    if one.name == name then
      found[#found + 1] = one.definition
    end
  end
  if not found[1] then
    if not self.stock[name] then -- one for all connections, which may share what it holds
      self.stock[name] = stock_definition(name)
    end
    found[1] = self.stock[name]
  end
  return found
end

---@class khp.Agreed
---@field definition khp.Extension
---@field alternatives khp.Extension[] likewise: the first that can start with these parameters is the one
---@field parameters table

--- Those of the negotiated extensions that do something here.
---@param negotiated table[] parsed, in the order of the header
---@param claims table<string, string> what is taken; it is added to
---@return khp.Agreed[]? agreed
---@return string? message two of them cannot be together
function List:agreed(negotiated, claims)
  local agreed = {}
  for _, one in ipairs(negotiated) do
    local alternatives = definitions_of(self, one.name)
    local definition = alternatives[1]
    if definition then
      local problem = claim(claims, definition, one.parameters)
      if problem then
        return nil, problem
      end
      agreed[#agreed + 1] = { definition = definition, alternatives = alternatives, parameters = one.parameters }
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

-- One parsed, as the header has it and as it is read there; nil: declined.
local function answer(definition, offer)
  local parameters = true
  if definition.answer then
    parameters = definition.answer(offer.parameters, http.format_extensions { offer })
  end
  if not parameters then
    return nil
  end
  local one = { name = offer.name, parameters = parameters ~= true and parameters or {} }
  if one.parameters[1] == nil then -- a map: in the order of the names
    local ordered = {}
    for name, value in pairs(one.parameters) do
      ordered[#ordered + 1], ordered[name] = name, type(value) == "number" and ("%d"):format(value) or value
    end
    table.sort(ordered)
    one.parameters = ordered
  end
  local text, message = http.format_extensions { one }
  if not text then
    error(("extension %s: its answer: %s"):format(offer.name, message), 0)
  end
  return text, http.extensions(text)[1].parameters
end

--- What a server agrees to of what a client offers, in the client's order; of alternatives the first that can be.
---@param offers table[] parsed
---@param step "opening"|"extended"
---@param khp boolean there is an extended handshake
---@param claims table<string, string> what is taken; it stays as it is
---@return string[] texts for the header
function List:choose(offers, step, khp, claims)
  local texts, chosen = {}, {}
  claims = copy(claims)
  for _, offer in ipairs(offers) do
    for _, one in ipairs(not chosen[offer.name] and self or {}) do
      local definition = one.name == offer.name and one.definition
      local here = definition and (not definition.handshake or definition.handshake == step
        or definition.handshake == "extended" and not khp)
      local text, parameters
      if here then
        text, parameters = answer(definition, offer)
      elseif one.name == offer.name and not one.definition then -- known by name alone: as the server's option has it
        text, parameters = one.texts[1], {}
      end
      if text and not (definition and claim(claims, definition, parameters)) then
        texts[#texts + 1], chosen[offer.name] = text, true
        break
      end
    end
  end
  return texts
end

--- What is wrong with a policy's own choice.
---@param texts string[]
---@param claims table<string, string> what is taken; it stays as it is
---@return string?
function List:problem(texts, claims)
  local parsed = http.extensions(table.concat(texts, ", "))
  local agreed, message = self:agreed(parsed or {}, copy(claims))
  return not agreed and tostring(message) or nil
end

--- khp's own with options: see the file of each.
for _, name in ipairs { "idle_timeout", "ping_pong", "permessage_deflate" } do
  extension[name] = function(given)
    return require("khp.extension." .. name).new(given)
  end
end

--- No extensions but khp's own, where a policy names one.
---@package
extension.none = setmetatable({ stock = {} }, List)

return extension
