-- One question to another server by HTTP, for policies that ask somebody else: a connection of its own for each, a
-- bounded answer, no redirects. It waits where it is called, like connect(). This file must not know who asks.

local core = require "khp.core"
local errors = require "khp.errors"
local http = require "khp.http"
local limits = require "khp.limits"
local options = require "khp.options"
local reader = require "khp.opening.reader"
local task = require "khp.task"
local tls = require "khp.tls"
local uri = require "khp.uri"

local conn, loop = core.conn, core.loop
local unpack = table.unpack or unpack

local fetch = {}

local declaration = options.declare("fetch", {
  method = { type = "string", default = "GET" },
  headers = { type = "table" },
  body = { type = "string" },
  timeout = { type = "number", default = 5, min = 0 },
})

-- Of a connection's events, the place where fetch() waits gets those that matter, in order.
local events = {}

local function push(place, ...)
  place[#place + 1] = { ... }
  task.wake(place)
end

function events.open(_, place)
  push(place, "open")
end

function events.bytes(_, place, bytes)
  push(place, "bytes", bytes)
end

function events.closed(_, place, _, reason, _, _, code)
  push(place, "closed", reason, code)
end

local function next_event(place, due)
  while not place[1] do
    local left = due - loop.clock()
    if left <= 0 then
      return "timeout"
    end
    task.wait(place, left)
  end
  return unpack(table.remove(place, 1), 1, 3)
end

-- The response, or nil, message, code.
local function receive(place, due, bounds)
  local read = reader.new(bounds)
  while true do
    local what, bytes, code = next_event(place, due)
    local response, message
    if what == "timeout" then
      return nil, "no answer in time", "ETIMEOUT"
    elseif what == "closed" and not read.response then
      return nil, bytes ~= "" and bytes or "the server closed the connection without an answer", code or "ECLOSED"
    elseif what == "closed" then
      return read:finish "server"
    elseif read.response then
      response, message, code = read:body(bytes)
    else
      response, message, code = read:head(bytes)
      if response then
        response, message, code = read:body()
      end
    end
    if response and response.truncated then
      return nil, ("the answer has more than %d bytes"):format(bounds.body), "ELIMIT"
    elseif response or message then
      return response, message, code
    end
  end
end

local function exchange(place, request, due, bounds)
  local what, reason, code = next_event(place, due)
  if what == "timeout" then
    return nil, "connecting took too long", "ETIMEOUT"
  elseif what == "closed" then
    return nil, reason, code or "ECONNECT"
  end
  conn.write(place.conn, request)
  return receive(place, due, bounds)
end

-- The bytes of the request, or nil and what is wrong with it.
local function write(target, checked)
  local list = { "Host", uri.host(target), "Connection", "close" }
  for name, value in pairs(checked.headers or {}) do
    list[#list + 1] = name
    list[#list + 1] = tostring(value)
  end
  return http.write_request {
    method = checked.method, target = target.target, headers = list, body = checked.body,
  }
end

---@class khp.FetchOptions
---@field method string? default "GET"
---@field headers table<string, string|number>? further header fields; khp sets Host and Connection
---@field body string? khp sets Content-Length; default: none
---@field timeout number? seconds for the whole exchange, from 0; default 5

--- Checks what is asked, and throws what is wrong with it.
---@param url string http:// or https://
---@param given khp.FetchOptions?
---@param level integer? whose line to blame, as error() counts; default 2
---@return khp.Uri target, string request, khp.FetchOptions checked
function fetch.prepare(url, given, level)
  level = level or 2
  local checked = options.check(declaration, given, level)
  local target, request, message
  if type(url) == "string" then
    target, message = uri.parse(url)
  end
  if not target or target.scheme ~= "http" and target.scheme ~= "https" then
    error("fetch: " .. (message or "http:// or https:// expected, not " .. tostring(url)), level)
  end
  request, message = write(target, checked)
  if not request then
    error("fetch: " .. message, level)
  end
  return target, request, checked
end

--- Asks, and waits for the answer.
---@param url string http:// or https://; the server's certificate must be one that the system trusts
---@param given khp.FetchOptions?
---@param level integer? as for prepare()
---@return table? response status, reason, headers, body; whatever the status is
---@return string? message, string? code, table? detail
function fetch.fetch(url, given, level)
  level = level or 2
  local target, request, checked = fetch.prepare(url, given, level + 1)
  task.check_waiting(level)
  local settings, message, code, detail
  if target.secure then
    settings, message, code, detail = tls.client(nil, level)
    if not settings then
      return nil, message, code, detail
    end
  end
  local bounds, place = limits.defaults, {}
  place.conn = conn.connect({
    host = target.host, port = target.port, tls = settings, timeout = checked.timeout,
  }, events, place, bounds)
  local function close()
    conn.on_event(place.conn, {}, nil)
    conn.abort(place.conn)
  end
  task.at_end(close) -- where the task is cancelled while it waits
  local response
  response, message, code = exchange(place, request, loop.clock() + checked.timeout, bounds)
  close()
  if not response then
    return errors.fail(message, code, { url = url })
  end
  return response
end

return fetch
