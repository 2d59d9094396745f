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

--- Listens on `host` and `port`, on `path`, or on `fd`.
---@class khp.ListenOptions
---@field host string? host name or IP address; default: all addresses of the machine
---@field port integer? 0 to 65535; 0 (default): a free port, which server:address() returns
---@field path string? path of a Unix socket; created now, removed on close
---@field fd integer? a file descriptor that is already listening
---@field reuse_port boolean? lets several processes listen on the same port (SO_REUSEPORT); default false
---@field backlog integer? maximum number of connections waiting to be accepted, at least 1; default: the system's
---  maximum
---@field tls khp.ServerTls? certificates; default: no TLS
---@field policy string|khp.ServerPolicy|nil path of a policy file, which server:reload() reloads, or a table of
---  functions; default: accepts everybody, with the extended handshake if the client asks for it
---@field trusted boolean? gives the policy file the program's whole environment instead of a sandbox; default false
---@field root string? folder of static files, served to GET and HEAD requests that the policy does not answer; default:
---  none, such requests get 426
---@field routes khp.Route[]? routes, each with its own policy and callbacks; the first match wins, no match is 404
---@field origins khp.OriginList? the web pages that may connect; others get 403; default: all
---@field protocols string[]? subprotocols to accept, in order of preference, where the policy chooses none; default:
---  none
---@field extensions (string|khp.Extension)[]? extensions to accept where the policy chooses none: "name;
---  parameter=value" or a custom extension; default: only those that Kaazing's clients require of a gateway
---@field on_open fun(conn: khp.Connection)? runs in its own task for each connection. When it returns, the connection
---  is closed, unless there is an on_message callback; when it throws, it is closed with code 1011
---@field on_message fun(conn: khp.Connection, message: string, kind: "text"|"binary")? callback for each message; must
---  not wait
---@field on_close fun(conn: khp.Connection, code: integer, reason: string)? callback after the connection has closed;
---  must not wait
---@field on_drain fun(conn: khp.Connection)? callback when a send queue that was full has fallen below half its limit;
---  must not wait
---@field limits table<string, number>? limits on what peers may make the server store or wait for: see Limits
---@field server_header string|false|nil value of the Server header in responses; no control characters;
---  false: no such header; default "khp"
---@field trace (fun(direction: "send"|"receive", stage: "opening"|"extended", bytes: string))? callback for all bytes
---  of the handshakes as sent on the wire, including credentials

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
