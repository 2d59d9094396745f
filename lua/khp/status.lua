-- What a client does on each status code of an extended response: the table of the protocol. Each row has the
-- protocol's word (MUST, SHOULD, MAY) for the action and for closing first. This file must not know messages, sockets
-- or policies. Whoever needs to know what a status means for the handshake reads it here; no other file compares status
-- codes for that.

local status = {}

local floor = math.floor

--- What a client does on a response.
---@alias khp.Action
---| "complete"      # complete the extended handshake
---| "continue"      # send the request's body
---| "wait"          # wait for another response
---| "authenticate"  # replay the request with credentials
---| "redirect"      # close, then start a new opening handshake elsewhere
---| "upgrade"       # close; an opening handshake over TLS may help
---| "proxy"         # close; credentials for the proxy may help
---| "close"         # close: the handshake failed

---@class khp.StatusRow
---@field action khp.Action
---@field must "MUST"|"SHOULD"|"MAY" the protocol's word for the action
---@field close "MUST"? the protocol's word for closing the WebSocket, if the action is more than that
---@field only string? the action applies only to requests with this method; for others: "close"
---@field asked boolean? the action applies only to requests with Expect: 100-continue; for others: "close"
---@field temporary boolean? whether the same request may succeed later

local CLOSE = { action = "close", must = "MUST" }
local LATER = { action = "close", must = "MUST", temporary = true }
local COMPLETE = { action = "complete", must = "MUST" }

--- By status code. A code without a row is treated as the x00 of its class.
---@type table<integer, khp.StatusRow>
status.rows = {
  [100] = { action = "continue", must = "MUST", asked = true },
  [101] = COMPLETE,
  [102] = CLOSE,
  [103] = CLOSE,
  [122] = CLOSE,

  [200] = CLOSE,
  [201] = COMPLETE,
  [202] = { action = "wait", must = "MAY", temporary = true },
  [203] = CLOSE,
  [204] = COMPLETE,
  [205] = COMPLETE,
  [206] = CLOSE,
  [207] = CLOSE,
  [226] = CLOSE,

  [300] = { action = "redirect", must = "SHOULD", close = "MUST" },
  [301] = { action = "redirect", must = "SHOULD", close = "MUST" },
  [302] = { action = "redirect", must = "SHOULD", close = "MUST" },
  [303] = { action = "redirect", must = "MUST", close = "MUST" },
  [304] = CLOSE,
  [305] = CLOSE,
  [306] = CLOSE,
  [307] = { action = "redirect", must = "MUST", close = "MUST", only = "GET" },
  [308] = CLOSE,

  [400] = CLOSE,
  [401] = { action = "authenticate", must = "SHOULD" },
  [402] = CLOSE,
  [403] = CLOSE,
  [404] = LATER,
  [405] = CLOSE,
  [406] = CLOSE,
  [407] = { action = "proxy", must = "MAY", close = "MUST" },
  [408] = LATER,
  [409] = CLOSE,
  [410] = CLOSE,
  [411] = CLOSE,
  [412] = CLOSE,
  [413] = CLOSE,
  [414] = CLOSE,
  [415] = CLOSE,
  [416] = CLOSE,
  [417] = CLOSE,
  [418] = CLOSE,
  [422] = CLOSE,
  [423] = LATER,
  [424] = CLOSE,
  [425] = CLOSE,
  [426] = { action = "upgrade", must = "MAY", close = "MUST" },
  [428] = CLOSE,
  [429] = LATER,
  [431] = CLOSE,
  [444] = CLOSE,
  [449] = CLOSE,
  [450] = CLOSE,
  [499] = CLOSE,

  [500] = LATER,
  [501] = CLOSE,
  [502] = LATER,
  [503] = LATER,
  [504] = LATER,
  [505] = CLOSE,
  [506] = CLOSE,
  [507] = LATER,
  [509] = LATER,
  [510] = CLOSE,
  [511] = CLOSE,
  [598] = LATER,
  [599] = LATER,
}

local rows = status.rows

--- The row of a status code, or that of the x00 of its class (RFC 2616 6.1.1).
---@param code integer
---@return khp.StatusRow
function status.row(code)
  return rows[code] or rows[floor(code / 100) * 100] or CLOSE
end

--- What a client does on a status code.
---@param code integer
---@param method string? of the request; default "GET"
---@param asked boolean? whether the request had Expect: 100-continue; default false
---@return khp.Action
function status.action(code, method, asked)
  local row = status.row(code)
  if row.only and row.only ~= (method or "GET") or row.asked and not asked then
    return "close"
  end
  return row.action
end

--- Whether the same request may succeed later.
---@param code integer
---@return boolean
function status.is_temporary(code)
  return status.row(code).temporary == true
end

return status
