-- What the tests of both sides' policies have in common: the steps of a connection from its opening on, and those
-- steps that are for policies alone. This file must not know the sides' machines.

local KHP = require("khp.opening.common").KHP
local crypto = require "khp.crypto"
local http = require "khp.http"
local player = require "khp.transcript.player"

local steps = {}

local concat, format, ipairs = table.concat, string.format, ipairs

local KEY = "dGhlIHNhbXBsZSBub25jZQ=="

-- What is asked once the WebSocket is open, as far as the transcript says it in one message.
local function first_request(list)
  for _, step in ipairs(list) do
    if step.who == "C" and step.verb == "message" then
      return step.bytes and http.parse_request(step.bytes)
    end
  end
  return nil
end

local function http_step(who, line, lines)
  local bytes = concat(lines, "\r\n") .. "\r\n\r\n"
  local parts = { { text = bytes } }
  return { who = who, verb = "http", kind = "http", line = line, usual = true, bytes = bytes, parts = parts }
end

-- The opening of a connection that goes on with this extended request, and what a server answers that agrees to KHP.
local function usual_opening(exchange)
  local request = first_request(exchange.steps)
  local headers = request and request.headers or {}
  local lines = {
    format("GET %s HTTP/1.1", request and request.target or "/"),
    "Host: example.com",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: " .. KEY,
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Protocol: " .. concat({ KHP, headers["sec-websocket-protocol"] }, ", "),
  }
  if headers["sec-websocket-extensions"] then
    lines[#lines + 1] = "Sec-WebSocket-Extensions: " .. headers["sec-websocket-extensions"]
  end
  return http_step("C", exchange.line, lines), http_step("S", exchange.line, {
    "HTTP/1.1 101 Switching Protocols",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Accept: " .. crypto.accept(KEY),
    "Sec-WebSocket-Protocol: " .. KHP,
  })
end

--- The steps of one connection, from its opening on: its own, else the one that the file has said once for all, else
--- the usual one.
---@param exchange khp.transcript.Exchange
---@param answered boolean does the usual opening have its answer, too?
---@return khp.transcript.Step[]
function steps.of(exchange, answered)
  local list, opening, place = {}, {}, 1
  for _, step in ipairs(exchange.prelude) do
    local to = step.verb == "http" and opening or list
    to[#to + 1] = step
  end
  if not opening[1] then
    local request, response = usual_opening(exchange)
    opening = { request, answered and response or nil }
  end
  local its = exchange.steps
  local first = its[place]
  while first and (first.verb == "given" or first.verb == "wait") do
    list[#list + 1] = first
    place = place + 1
    first = its[place]
  end
  if not (first and first.verb == "http" and first.who == "C") then
    for _, step in ipairs(opening) do
      list[#list + 1] = step
    end
  end
  for i = place, #its do
    list[#list + 1] = its[i]
  end
  return list
end

--- A policy asks another server, and the transcript says what that answers.
---@param self khp.transcript.Player with a `world`
function steps.asks(self, step)
  local method, url = self:await(step, "asks")
  player.expect(step.line, "method", step.method, method)
  player.expect(step.line, "URL", step.url, url)
  local wrong = self.world:answer(step.bytes or player.fail(step.line, "an answer has no gaps"))
  if wrong then
    player.fail(step.line, wrong)
  end
end

local function nothing() end

--- Whatever is due at this moment happens.
---@param self khp.transcript.Player with a `world`
function steps.turn(self)
  self.world:advance(0, nothing, nothing)
  self:pump()
end

--- What the test gives, for all that follows in it.
---@param self khp.transcript.Player with a `world`
function steps.given(self, step)
  local wrong = self.world:give(step.values)
  if wrong then
    player.fail(step.line, wrong)
  end
end

return steps
