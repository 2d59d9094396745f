-- The body of an HTTP answer on its way to the peer, piece by piece, as fast as the peer takes it: no more than one
-- piece waits, however long the body. A peer that takes nothing for as long as the limit `stall` says is given up. This
-- file must not know what the body is, nor who asked for it.

local core = require "khp.core"
local log = require "khp.log"

local conn = core.conn
local min = math.min

local delivery = {}

local PIECE = 64 * 1024

-- So many pieces in one turn, where the system takes them all at once; then others have theirs.
local PIECES = 4

---@class khp.Delivery  conn.state of a connection that delivers
---@field body khp.Body? until all of it is sent
---@field length integer bytes
---@field left integer of them, not read yet
---@field queued integer when it was last looked at
---@field due number when nothing taken is too little
---@field stall number seconds
---@field on_gone fun(conn: userdata)

local events = {}

local function stop(state)
  if state.body then
    state.body:close()
    state.body = nil
  end
end

local function give_up(self, state, reason)
  if state.body and log.enabled "info" then
    log.info("%s: a body of %d bytes was not taken to its end: %s", log.peer(self), state.length, log.quote(reason))
  end
  stop(state)
  conn.abort(self)
end

-- Waits for `drained`, or for the next turn, but no longer than the peer may take nothing.
local function wait(self, state, seconds)
  state.queued, state.due = conn.queued(self), core.loop.now() + state.stall
  conn.deadline(self, seconds or state.stall)
end

local function go_on(self, state)
  for _ = 1, PIECES do
    if state.left == 0 then
      stop(state)
      conn.close(self)
      return
    end
    local piece, message = state.body:read(min(state.left, PIECE))
    if not piece then
      log.error("%s: a body cannot be read on: %s", log.peer(self), message)
      return give_up(self, state, message)
    end
    state.left = state.left - #piece
    local taken = conn.pour(self, piece)
    if taken == nil then
      return give_up(self, state, "the client is gone, or memory is")
    elseif not taken then
      return wait(self, state)
    end
  end
  wait(self, state, 0)
end

function events.drained(self, state)
  go_on(self, state)
end

function events.deadline(self, state)
  local queued = conn.queued(self)
  if queued == 0 then
    go_on(self, state)
  elseif queued < state.queued or core.loop.now() < state.due then
    wait(self, state)
  else
    give_up(self, state, "the peer does not read")
  end
end

function events.closed(self, state, _, reason)
  give_up(self, state, reason)
end

function events.gone(self, state)
  state.on_gone(self)
end

--- Sends a body, whose head is queued already, and ends the connection in order. The connection's events are its own
--- from now on.
---@param self userdata a connection that is raw
---@param body khp.Body is closed in any case
---@param stall number seconds
---@param on_gone fun(conn: userdata) the stream is gone
function delivery.begin(self, body, stall, on_gone)
  local state = {
    body = body, length = body.length, left = body.length, queued = 0, due = 0, stall = stall, on_gone = on_gone,
  }
  conn.on_event(self, events, state)
  go_on(self, state)
end

return delivery
