-- What a server knows of its handshakes: how many ended how, how long policies took, and a line in the log for each,
-- with who, what was asked for, what was decided and by which function of which policy, and how long it took. This file
-- must not know how a handshake is made.

local core = require "khp.core"
local http = require "khp.http"
local log = require "khp.log"
local session = require "khp.policy.session"

local clock = core.loop.clock
local format = string.format

local account = {}

--- Upper bounds of the histogram's buckets, in seconds; one more is for all that took longer.
account.BOUNDS = { 0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10 }

local KHP = "x-kaazing-handshake"

---@class khp.Account
---@field accepted integer connections, since the server listens
---@field opened integer of them, that became WebSockets
---@field khp integer of these, with the extended handshake
---@field refused integer the answer was no
---@field failed integer the peer, the network or TLS
---@field timed_out integer
---@field answered integer ordinary HTTP requests
---@field decisions { count: integer, seconds: number, [integer]: integer } of policies; by bucket
local methods = {}
local mt = { __name = "khp.account", __index = methods }

---@return khp.Account
function account.new()
  local decisions = { count = 0, seconds = 0 }
  for i = 1, #account.BOUNDS + 1 do
    decisions[i] = 0
  end
  return setmetatable({
    accepted = 0, opened = 0, khp = 0, refused = 0, failed = 0, timed_out = 0, answered = 0, decisions = decisions,
  }, mt)
end

--- A policy is asked.
---@param state table of the connection
function methods:asked(state)
  state.by, state.asked = state.step, clock()
end

--- It has decided, or will not any more.
---@param state table
function methods:decided(state)
  local seconds = clock() - state.asked
  state.asked = nil
  local decisions, bounds, i = self.decisions, account.BOUNDS, 1
  while bounds[i] and seconds > bounds[i] do
    i = i + 1
  end
  decisions[i] = decisions[i] + 1
  decisions.count, decisions.seconds = decisions.count + 1, decisions.seconds + seconds
end

-- Lines ---------------------------------------------------------------------------------------------------------------

-- What was asked for. A query may have secrets in it, so it is shown only to those who want to see everything.
local function add_request(fields, machine)
  local request = machine.opened and machine.opened.request or machine.request
  if not request then
    return nil
  end
  local target = request.path ~= "" and request.path or request.target
  if request.query then
    target = log.enabled "debug" and request.target or target .. "?…"
  end
  fields.method, fields.target = log.quote(request.method), log.quote(target)
  local what = fields.method .. " " .. fields.target
  if not request.upgrade then
    return what
  end
  local asked = {}
  fields.asked_khp = false
  for _, name in ipairs((machine.request or request).protocols) do
    asked[#asked + 1] = log.quote(name)
  end
  for _, name in ipairs(request.protocols) do
    fields.asked_khp = fields.asked_khp or name == KHP
  end
  for i = #asked, 1, -1 do
    if asked[i] == KHP then
      table.remove(asked, i)
    end
  end
  fields.asked_protocols = asked
  return format("%s (%s%s)", what, fields.asked_khp and "KHP" or "WebSocket",
    asked[1] and ", protocols " .. log.quote(table.concat(asked, ", ")) or "")
end

-- A user's name as it is where nothing in it could pass for our own words.
local function name_of(user)
  return user:find "^[%w._@+-]+$" and log.quote(user) or log.quoted(user)
end

-- Where an answer leads, without what may be a secret.
local function location_of(decided)
  if decided.action ~= "redirect" or type(decided.subject) ~= "string" then
    return nil
  end
  local location = decided.subject
  if not log.enabled "debug" then
    location = location:gsub("%?.*$", "?…"):gsub("//[^/@]*@", "//…@")
  end
  return log.quote(location)
end

-- The line of a handshake. outcome: in words, what comes before and after the number of a status.
local function write(self, state, machine, fields, outcome)
  local asked = add_request(fields, machine)
  local peer = self.peer or {}
  fields.event, fields.peer, fields.port = "handshake", peer.host or peer.path or "", peer.port
  fields.seconds = math.floor((clock() - state.began) * 1e6 + 0.5) / 1e6
  local words = { outcome }
  fields.user = state.session and session.user(state.session)
  if fields.user then
    words[#words + 1] = "as " .. name_of(fields.user)
    fields.user = log.quote(fields.user)
  end
  if state.attempt and state.attempt > 1 then
    fields.attempts = state.attempt
    words[#words + 1] = state.attempt .. " attempts"
  end
  if state.by then
    fields.policy, fields["function"] = state.place.policy.name, state.by
    words[#words + 1] = format("by %s: %s", fields.policy, state.by)
  end
  words[#words + 1] = format("in %.3f ms", fields.seconds * 1000)
  local before = log.peer(self) .. ": " .. (asked and asked .. ": " or "")
  log.record("info", before .. table.concat(words, ", "), fields)
end

--- A connection is the application's now.
---@param conn userdata
---@param state table
---@param machine khp.opening.Server|khp.extended.Server
---@param protocol string?
---@param khp boolean
function methods:open(conn, state, machine, protocol, khp)
  self.opened = self.opened + 1
  if khp then
    self.khp = self.khp + 1
  end
  if log.enabled "info" then
    write(conn, state, machine, { outcome = khp and "opened_khp" or "opened", protocol = protocol },
      format("opened%s%s", khp and " with KHP" or "", protocol and ", protocol " .. log.quote(protocol) or ""))
  end
end

local redirect_status = 302

local function status_of(decided)
  if decided.action == "challenge" then
    return 401
  elseif decided.action == "redirect" then
    return decided.answer.status or redirect_status
  end
  return decided.action == "reject" and decided.subject or 500
end

--- An answer ends it: a refusal, or what an ordinary request has asked for.
---@param conn userdata
---@param state table
---@param machine khp.opening.Server|khp.extended.Server
function methods:answer(conn, state, machine)
  local refused = machine.opened or machine.request.upgrade
  local outcome = refused and "refused" or "answered"
  self[outcome] = self[outcome] + 1
  if log.enabled "info" then
    local status = state.unlawful and 500 or status_of(state.decided)
    local location = not state.unlawful and location_of(state.decided) or nil
    write(conn, state, machine, { outcome = outcome, status = status, location = location },
      format("%s with %d %s%s", outcome, status, http.reason(status), location and " to " .. location or ""))
  end
end

--- It came to nothing.
---@param conn userdata
---@param state table
---@param machine khp.opening.Server|khp.extended.Server
---@param message string
---@param code string
---@param status integer? that the peer was told
function methods:fail(conn, state, machine, message, code, status)
  local outcome = code == "ETIMEOUT" and "timed_out" or code == "EAUTH" and "refused" or "failed"
  self[outcome] = self[outcome] + 1
  if log.enabled "info" then
    message = log.quote(message)
    write(conn, state, machine, { outcome = outcome, status = status, reason = message, code = code },
      format("%s handshake %s%s: %s (%s)", state.step, outcome:gsub("_", " "), status and " with " .. status or "",
        message, code))
  end
end

--- A connection was none before it was open: TLS.
---@param conn userdata
---@param message string
---@param code string?
function methods:miss(conn, message, code)
  local outcome = code == "ETIMEOUT" and "timed_out" or "failed"
  self[outcome] = self[outcome] + 1
  if log.enabled "info" then
    local peer = conn.peer or {}
    message = log.quote(message)
    local seconds = core.conn.silence(conn)
    log.record("info", format("%s: %s before it was open: %s (%s), in %.0f ms", log.peer(conn),
      (outcome:gsub("_", " ")), message, code or "ECLOSED", seconds * 1000), {
      event = "handshake", peer = peer.host or peer.path or "", port = peer.port, outcome = outcome, reason = message,
      code = code or "ECLOSED", seconds = seconds,
    })
  end
end

return account
