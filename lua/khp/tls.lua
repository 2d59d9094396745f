-- TLS settings as users write them, checked and turned into what the C core keeps. This file must not know who
-- connects or listens.

local core = require "khp.core"
local errors = require "khp.errors"
local options = require "khp.options"

local tls = {}

local server_declaration = options.declare("tls", {
  cert = { type = "string", required = true },
  key = { type = "string" },
  ca = { type = "string" },
  verify = { type = "string", choices = { "none", "optional", "required" }, default = "none" },
  names = { type = "table" },
})

local name_declaration = options.declare("tls.names", {
  name = { type = "string", required = true },
  cert = { type = "string", required = true },
  key = { type = "string" },
})

local client_declaration = options.declare("tls", {
  cert = { type = "string" },
  key = { type = "string" },
  ca = { type = "string" },
  verify = { type = "boolean", default = true },
  server_name = { type = "string" },
})

local function new(checked)
  local settings, message, code = core.tls.new(checked)
  if not settings then
    return errors.fail(message, code)
  end
  return settings
end

---@class khp.ServerTls
---@field cert string PEM file with the certificate and its chain
---@field key string? PEM file with the private key; default: the same file
---@field ca string? PEM file or folder with the authorities that sign client certificates
---@field verify "none"|"optional"|"required"|nil whether to ask for a client certificate; default "none"
---@field names { name: string, cert: string, key: string? }[]? further certificates, by server name (SNI)

--- Settings of a server. Unknown options throw.
---@param given khp.ServerTls
---@param level integer whose line to blame
---@return userdata? settings
---@return string? message, string? code, table? detail
function tls.server(given, level)
  local checked = options.check(server_declaration, given, level + 1)
  for _, entry in ipairs(checked.names or {}) do
    options.check(name_declaration, entry, level + 1)
  end
  if checked.verify ~= "none" and not checked.ca then
    error("tls: option 'verify' needs 'ca': who signs the clients' certificates", level + 1)
  end
  checked.role = "server"
  return new(checked)
end

---@class khp.ClientTls
---@field ca string? PEM file or folder with trusted authorities; default: the system's
---@field cert string? PEM file with the client's certificate
---@field key string? PEM file with its private key; default: the same file
---@field verify boolean? whether to verify the server's certificate and name; false accepts any; default true
---@field server_name string? name to send (SNI) and to verify; default: the URL's host

-- Settings made before, by the table that they were made of: they hold the authorities, which take long to read, and
-- the sessions that can be resumed.
local made = setmetatable({}, { __mode = "k" })

local function same(a, b)
  for name in pairs(client_declaration.entries) do
    if a[name] ~= b[name] then
      return false
    end
  end
  return true
end

local defaults = {}

--- Looks for mistakes in the settings of a client, and throws them.
---@param given khp.ClientTls
---@param level integer whose line to blame
function tls.check_client(given, level)
  options.verify(client_declaration, given, level + 1)
end

--- Settings of a client, and the server name it asks for. Unknown options throw. The same table given again means
--- the same settings, with the sessions that can be resumed; files are not read again then.
---@param given khp.ClientTls?
---@param level integer whose line to blame
---@return userdata? settings
---@return string? server_name_or_message, string? code, table? detail
function tls.client(given, level)
  given = given or defaults
  local checked = options.check(client_declaration, given, level + 1)
  local known = made[given]
  if known and same(known.checked, checked) then
    return known.settings, checked.server_name
  end
  local settings, message, code, detail = new {
    role = "client",
    cert = checked.cert,
    key = checked.key,
    ca = checked.ca,
    verify = checked.verify and "required" or "none",
  }
  if not settings then
    return nil, message, code, detail
  end
  made[given] = { checked = checked, settings = settings }
  return settings, checked.server_name
end

return tls
