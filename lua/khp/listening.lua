-- What khp.listen takes: the options of a server, and what is wrong with them. This file must not know what becomes of
-- them.

local limits = require "khp.limits"
local options = require "khp.options"

local listening = {}

-- It goes into every response (RFC 2616 14.38).
local function is_header(value)
  if type(value) == "string" and (value:find "[%c\127]" or value:find "^%s*$") then
    return false, "must be a header's value: not empty, and without control characters"
  end
  return true
end

local declaration = options.declare("khp.listen", {
  host = { type = "string" },
  port = { type = "integer", min = 0, max = 65535 },
  path = { type = "string" },
  fd = { type = "integer", min = 0 },
  reuse_port = { type = "boolean", default = false },
  backlog = { type = "integer", min = 1 },
  tls = { type = "table" },
  policy = { type = "string|table" },
  trusted = { type = "boolean", default = false },
  root = { type = "string" },
  routes = { type = "table" },
  origins = { type = "table" },
  protocols = { type = "strings" },
  extensions = { type = "table" },
  on_open = { type = "function" },
  on_message = { type = "function" },
  on_close = { type = "function" },
  on_drain = { type = "function" },
  limits = { type = "table" },
  server_header = { type = "string|boolean", default = "khp", check = is_header },
  trace = { type = "function" },
})

---@class khp.ListenOptions  where: `host` and `port`, or `path`, or `fd`
---@field host string? a name or an address; default: every address of the machine
---@field port integer? 0 to 65535; 0 (default): one that is free, see server:address()
---@field path string? of a unix socket, which is made, and removed at the end
---@field fd integer? a descriptor that listens already
---@field reuse_port boolean? several processes may listen on the same port (SO_REUSEPORT); default false
---@field backlog integer? connections that wait to be accepted, at least 1; default: what the system allows
---@field tls khp.ServerTls? certificates; default: no TLS
---@field policy string|khp.ServerPolicy|nil a file, which server:reload() reads again, or the table of functions;
---  default: agrees to everybody, with KHP where the client asks for it
---@field trusted boolean? the policy's file has the program's whole environment; default false
---@field root string? a folder whose files are shown to ordinary GET and HEAD requests that the policy leaves to khp;
---  default: none, such requests get a 426
---@field routes khp.Route[]? several places, each with a policy and callbacks of its own; the first that fits decides,
---  and where none does, the answer is 404
---@field origins khp.OriginList? the web pages that may connect, else 403; default: all
---@field protocols string[]? subprotocols that are agreed to where the policy names none, in order of preference;
---  default: none
---@field extensions (string|khp.Extension)[]? agreed to where the policy does not say: "name; parameter=value", or an
---  extension of one's own; default: none, but what Kaazing's own clients expect of a gateway
---@field on_open fun(conn: khp.Connection)? in a task of its own for each connection, which is closed when it returns;
---  with 1011 when it throws
---@field on_message fun(conn: khp.Connection, message: string, kind: "text"|"binary")? hears each message, inside the
---  loop: it must not wait
---@field on_close fun(conn: khp.Connection, code: integer, reason: string)? the connection has ended; must not wait
---@field on_drain fun(conn: khp.Connection)? a send queue that was full is below half of its limit; must not wait
---@field limits table<string, number>? what peers may make the server keep or wait for: the table of limits
---@field server_header string|false|nil the value of Server in responses; false: none; default "khp"
---@field trace (fun(direction: "send"|"receive", stage: "opening"|"extended", bytes: string))? hears every byte of the
---  handshakes as it is on the wire, credentials included

--- The options, checked, with `limits` complete. Mistakes are thrown.
---@param given khp.ListenOptions
---@param level integer whose line to blame, as error() counts
---@return table
function listening.check(given, level)
  local checked = options.check(declaration, given, level)
  checked.limits = limits.resolve(checked.limits, level)
  local places = (checked.host or checked.port) and 1 or 0
  places = places + (checked.path and 1 or 0) + (checked.fd and 1 or 0)
  if places > 1 then
    error("khp.listen: one of 'host' and 'port', 'path', or 'fd', not several", level)
  end
  return checked
end

return listening
