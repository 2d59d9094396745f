-- Shows what khp decode has found in captured bytes, to people and, as JSON, to programs; without secrets, unless they
-- are asked for. This file must not know where the bytes come from.

local cli = require "khp.cli"
local core = require "khp.core"
local crypto = require "khp.crypto"
local http = require "khp.http"
local json = require "khp.json"
local terminal = require "khp.cli.terminal"
local trace = require "khp.cli.trace"

local decoded = {}

local is_utf8 = core.conn.utf8

local MOST = 60

-- For people ---------------------------------------------------------------------------------------------------------

-- The beginning of a payload.
local function glimpse(payload, is_text)
  if is_text then
    local shown = payload:sub(1, MOST):gsub("[\r\n\t]", { ["\r"] = "\\r", ["\n"] = "\\n", ["\t"] = "\\t" })
    return terminal.harmless(shown) .. (#payload > MOST and "…" or "")
  end
  local hex = payload:sub(1, MOST / 3):gsub(".", function(c)
    return ("%02x "):format(c:byte())
  end)
  return (hex .. (#payload > MOST / 3 and "…" or "")):gsub(" $", "")
end

local function bytes_of(n)
  return ("%.0f byte%s"):format(n, n == 1 and "" or "s")
end

local function describe_frame(one, secrets)
  local header, inflated = one.frame, one.inflated
  local parts = { bytes_of(header.length) }
  parts[#parts + 1] = header.masked and "masked" or "not masked"
  parts[#parts + 1] = not header.fin and "more to come" or nil
  if header.compressed then
    parts[#parts + 1] = "compressed"
  elseif header.rsv ~= 0 then
    parts[#parts + 1] = ("reserved bits %d"):format(header.rsv)
  end
  parts[#parts + 1] = inflated and bytes_of(inflated.length) .. " inflated" or nil
  local text = table.concat(parts, ", ")
  if one.code then
    return text .. (": %d%s"):format(one.code, one.reason ~= "" and " " .. terminal.harmless(one.reason) or "")
  elseif one.directive then
    local directive = secrets and one.directive or trace.without_queries(one.directive)
    return text .. ": " .. glimpse(directive, true)
  elseif one.inside and not secrets then
    return text
  elseif inflated then
    return text .. (inflated.payload ~= "" and ": " .. glimpse(inflated.payload, inflated.opcode == 1) or "")
  end
  local shown = glimpse(header.payload, header.opcode ~= 2 and header.rsv == 0)
  return text .. (shown ~= "" and ": " .. shown or "")
end

local people = {}

function people:line(one, what, first, others)
  local arrow = one.from == "client" and self.paint("cyan", "client ──▶ server") or
    self.paint("yellow", "client ◀── server")
  cli.write(("%10.0f  %s  %-12s  %s\n"):format(one.offset, arrow, what, first))
  for _, line in ipairs(others or {}) do
    cli.write((" "):rep(45), (line:gsub("\n", "\n" .. (" "):rep(45))), "\n")
  end
end

function people:message(one, what)
  local first, others = trace.lines(one.raw, self.secrets)
  self:line(one, what, self.paint("bold", first), others)
end

function people:head(one)
  self:message(one, "opening")
end

function people:extended(one)
  self:message(one, "extended")
end

function people:frame(one)
  self:line(one, one.frame.name, describe_frame(one, self.secrets))
end

people["error"] = function(self, one)
  self:line(one, self.paint("red", "error"), one.text)
end

function people:connection(one)
  cli.write(self.paint("bold", ("%s ── %s"):format(one.client, one.server)), "\n")
end

-- For programs -------------------------------------------------------------------------------------------------------

local programs = {}

function programs:event(one, members)
  members.event, members.from, members.offset, members.connection = one.what, one.from, one.offset, self.number
  cli.write(json.write(members), "\n")
end

function programs:discreet(text)
  return text and (self.secrets and text or trace.without_queries(text))
end

-- The body of a request may have anything in it.
function programs:body(message)
  if not message.body or message.body == "" or message.method and not self.secrets then
    return nil
  end
  return self:discreet(message.body)
end

function programs:head(one)
  local message, headers = one.message, json.array {}
  for name, value in http.fields(message.headers) do
    headers[#headers + 1] = json.array { name, self.secrets and value or trace.value(name, value) }
  end
  self:event(one, {
    method = message.method, target = self:discreet(message.target), status = message.status,
    reason = self:discreet(message.reason), headers = headers, body = self:body(message),
  })
end

programs.extended = programs.head

-- Puts a payload into a table: as text, where it is text.
local function put(members, payload, is_text)
  if is_text and is_utf8(payload) then
    members.text = payload
  elseif payload ~= "" then
    members.base64 = crypto.base64(payload)
  end
end

function programs:frame(one)
  local header, inflated = one.frame, one.inflated
  local members = {
    opcode = header.opcode, name = header.name, fin = header.fin, rsv = header.rsv, masked = header.masked,
    length = header.length, compressed = header.compressed or nil, code = one.code, reason = one.reason,
    directive = one.directive and self:discreet(one.directive:sub(4)),
    hidden = one.inside and not self.secrets or nil,
  }
  if inflated then
    members.inflated = { length = inflated.length }
  end
  if not members.hidden then
    if not one.code then
      put(members, header.payload, header.opcode == 1 and header.rsv == 0)
    end
    if inflated then
      put(members.inflated, inflated.payload, inflated.opcode == 1)
    end
  end
  self:event(one, members)
end

programs["error"] = function(self, one)
  self:event(one, { text = one.text })
end

function programs:connection(one)
  self.number = (self.number or 0) + 1
  self:event({ what = "connection" }, { client = one.client, server = one.server })
end

---@class khp.cli.Decoded
---@field shower table
---@field good boolean there was no error among the events so far
local Decoded = {}
Decoded.__index = Decoded

--- What shows events, in the order in which they are given.
---@param given { json: boolean?, secrets: boolean? }
---@return khp.cli.Decoded
function decoded.new(given)
  local shower = { secrets = given.secrets, paint = terminal.painter(1) }
  return setmetatable({
    good = true, shower = setmetatable(shower, { __index = given.json and programs or people }),
  }, Decoded)
end

---@param one khp.cli.dissect.Event
function Decoded:event(one)
  self.good = self.good and one.what ~= "error"
  self.shower[one.what](self.shower, one)
end

---@param events khp.cli.dissect.Event[]
function Decoded:all(events)
  for _, one in ipairs(events) do
    self:event(one)
  end
end

--- What follows is of this connection.
---@param one khp.cli.pcap.Connection
function Decoded:connection(one)
  self.shower:connection(one)
end

return decoded
