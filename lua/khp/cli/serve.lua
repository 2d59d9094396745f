-- khp serve [POLICY]: a server from the command line: an echo, or a script's; reloaded on SIGHUP and drained on SIGINT
-- and SIGTERM. This file must not know what a policy is, nor how files or metrics are shown.

local cli = require "khp.cli"
local core = require "khp.core"
local decision = require "khp.policy.decision"
local frame = require "khp.cli.frame"
local http = require "khp.http"
local khp = require "khp"
local limits = require "khp.limits"
local script = require "khp.cli.script"

local serve = {
  summary = "a WebSocket server: an echo, or your script, with a policy or without",
  usage = "[OPTION …] [POLICY]",
  description = [[
Without a script it answers each message with the same message. It prints its URL on standard output and logs to
standard error: one line for each handshake.

SIGHUP loads the policy, the script's callbacks and the certificates again: they are checked, the policy's own
tests are run, and if anything is wrong the server keeps all of the old ones. SIGINT and SIGTERM shut down
gracefully: no new connections, 1001 to the open ones, and some time for their answers; a second signal ends at
once.]],
  examples = [[
khp serve
khp serve --port 9000 members.lua
kill -HUP %1                 members.lua was changed
khp serve --script app.lua --root public --metrics
khp serve --tls cert.pem key.pem --host 0.0.0.0 --port 443 --log json]],
}

local TRY = "khp serve --help tells more."

local HOST, PORT = "127.0.0.1", 8000

local function token(text)
  if not http.is_token(text) then
    return nil, "--protocol wants a name without spaces and commas, not '" .. text .. "'"
  end
  return text
end

-- As in URLs, an IPv6 address may stand in brackets.
local function address(text)
  return frame.filled("--host", "a name or an address")(text:match "^%[(.*)%]$" or text)
end

---@param command table
function serve.describe(command)
  command:argument "POLICY":target "policy":args "?":description "A policy file: who may connect (default: everybody)."
    :convert(frame.filled("POLICY", "a file"))
  command:option("--script", "A file that returns on_open(conn), or a table of khp.listen's options, to serve other "
    .. "than an echo."):argname "APP.lua":convert(frame.filled("--script", "a file"))
  command:option("--host", "The address to listen on (default: " .. HOST .. ")."):argname "ADDRESS"
    :convert(address)
  command:option("--port", "0 picks a free one (default: " .. PORT .. ")."):argname "PORT"
    :convert(frame.number("--port", 0, 65535, true))
  command:option("--unix", "Listen on a unix socket instead."):argname "PATH"
    :convert(frame.filled("--unix", "a path"))
  command:option("--tls", "TLS with this certificate (and its chain) and its key, in PEM files."):args(2)
    :argname { "CERT", "KEY" }:convert(frame.filled("--tls", "two files"))
  command:option("--client-ca", "Accept only clients with a certificate that this authority signed."):argname "FILE"
    :convert(frame.filled("--client-ca", "a file"))
  command:option("--protocol", "A subprotocol to accept. May be repeated, in order of preference.")
    :count "*":argname "NAME":target "protocols":convert(token)
  command:option("--root", "Serve the files of this folder to ordinary HTTP requests."):argname "DIR"
    :convert(frame.filled("--root", "a folder"))
  command:flag("--metrics", "Serve metrics at /metrics, for Prometheus and others (OpenMetrics).")
  command:option("--drain", "The time that open connections have to close when the server ends.", "5"):argname "SECONDS"
    :convert(frame.number("--drain", 0))
  command:option("--log", "The format of the log: text, or json (one object per line).", "text"):argname "FORM"
    :choices { "text", "json" }
  command:option("--level", "The least important messages to log: error, warn, info, debug, or off.", "info")
    :argname "LEVEL"
    :choices { "error", "warn", "info", "debug", "off" }
end

-- Nothing more is read from who does not read the answers.
local function echo(conn)
  for message, kind in conn:each() do
    if #message > limits.defaults.queue - core.frame.HEADER_MAX then
      return conn:close(1009, "larger than what can be sent")
    end
    while not conn:send(message, kind) do
      if not conn:drain() then
        return
      end
    end
  end
end

-- A place that tells the server's numbers, before all others. No policy decides about it, so that none is counted.
local function with_metrics(options, server_of)
  local numbers = { alone = true }
  function numbers.answer(_, request)
    if request.upgrade then -- no way around the policy
      return decision.reject(404)
    elseif request.method ~= "GET" and request.method ~= "HEAD" then
      return decision.reject(405, { headers = { "Allow", "GET, HEAD" } })
    end
    local text, kind = server_of():metrics()
    return decision.reject(200, { headers = { "Content-Type", kind }, body = text })
  end
  local routes = {
    { path = "/metrics", policy = false, origins = false, root = numbers },
  }
  if options.routes ~= nil and type(options.routes) ~= "table" then
    return -- khp.listen says what is wrong with it
  end
  for _, route in ipairs(options.routes or { {} }) do
    routes[#routes + 1] = route
  end
  options.routes = routes
end

-- What khp.listen is told: what the script says, and what the command line says instead.
local function gather(given, app, server_of)
  local options = {}
  for name, value in pairs(app and app.options or { on_open = echo }) do
    options[name] = value
  end
  options.policy = given.policy or options.policy
  options.root = given.root or options.root
  options.protocols = given.protocols[1] and given.protocols or options.protocols
  if given.tls then
    options.tls = {
      cert = given.tls[1], key = given.tls[2], ca = given.client_ca, verify = given.client_ca and "required" or nil,
    }
  end
  if given.unix then
    options.host, options.port, options.path, options.fd = nil, nil, given.unix, nil
  elseif given.host or given.port or not options.path and not options.fd then
    options.path, options.fd = nil, nil
    options.host, options.port = given.host or options.host or HOST, given.port or options.port or PORT
  end
  if given.metrics then
    with_metrics(options, server_of)
  end
  return options
end

-- Hints ---------------------------------------------------------------------------------------------------------------

local IS_IT_THERE = "Is the path right, may you read it?"
local TRY_PAIR = "--tls CERT KEY wants two PEM files that belong together. A pair to try with:\n"
  .. "openssl req -x509 -nodes -newkey rsa:2048 -subj /CN=localhost -keyout key.pem -out cert.pem"
local SCRIPT_WANTED = "--script wants a Lua file that returns on_open(conn), or a table of the options of khp.listen."
local TABLE_WANTED = "The file returns on_open(conn), or a table of the options of khp.listen."

local function begins_with(text, beginning)
  return beginning ~= nil and beginning ~= "" and text:sub(1, #beginning) == beginning
end

-- The policy that a message begins with: it may be a route's of a script.
local function policy_of(message, options)
  local paths = { options.policy }
  for _, route in ipairs(options.routes or {}) do
    paths[#paths + 1] = route.policy or nil
  end
  for _, path in ipairs(paths) do
    if type(path) == "string" and begins_with(message, path) then
      return path
    end
  end
  return nil
end

local function about_policy(message, options)
  local path = policy_of(message, options)
  if message:find "No such file" or message:find "Permission denied" or message:find "cannot be read$" then
    return IS_IT_THERE
  end
  return path and "khp check " .. path .. " loads it and runs its own tests."
end

local function about_tls(message, given)
  if given.client_ca and begins_with(message, given.client_ca) then
    return "--client-ca wants a PEM file with the certificates of the authorities that signed the clients'."
  end
  return given.tls and TRY_PAIR or "It is a file that the script's option tls names: is it there, is it in PEM?"
end

local OF_SOCKETS = {
  { "Address already in use", "Something is there: the socket of a server that runs, or a file. Remove it if nothing "
    .. "needs it, or choose another path." },
  { "Permission denied", "You may not create a socket in that folder: choose another path." },
  { "No such file", "The folder of the socket does not exist: create it, or choose another path." },
  { "has 1 to %d+ bytes", "Choose a shorter path." },
}

local OF_ADDRESSES = {
  { "Address already in use", "Something listens there already: choose another --port, or 0 for any that is free." },
  { "Permission denied", "Ports below 1024 need privileges: choose another --port." },
  { "", "--host wants a name or an address of this machine: 127.0.0.1, ::1, or 0.0.0.0 for all." },
}

-- What to try, or nil.
local function hint(message, code, given, options)
  if code == "ETLS" then
    return about_tls(message, given)
  elseif code == "EPOLICY" then
    return about_policy(message, options)
  elseif message:find "^root: " then
    local option = given.root and "--root" or "The script's option root"
    return option .. " wants a folder that exists and that you may read."
  end
  for _, one in ipairs(options.path and OF_SOCKETS or OF_ADDRESSES) do
    if message:find(one[1]) then
      return one[2]
    end
  end
  return nil
end

-- A mistake in a script's table. With --metrics there is one route before the script's.
local function explain(problem, given)
  local message = problem:gsub("^[^\n]-:%d+: ", ""):gsub("^khp%.listen: ", "")
  if given.metrics then
    message = message:gsub("^routes%[(%d+)%]", function(i)
      return ("routes[%d]"):format(i - 1)
    end)
  end
  return (given.script and given.script .. ": " or "") .. message,
    message:find "^limits: " and "khp limits lists the limits." or TABLE_WANTED
end

local function fail(message, ...)
  return cli.fail("serve: " .. message, ...)
end

-- What can be loaded again, in words.
local function reloadable(options, app)
  local list = {}
  if type(options.policy) == "string" then
    list[#list + 1] = options.policy
  end
  for _, route in ipairs(options.routes or {}) do
    if type(route.policy) == "string" then
      list[#list + 1] = route.policy
    end
  end
  list[#list + 1] = app and app.path
  list[#list + 1] = options.tls and options.tls.cert
  return table.concat(list, ", ")
end

local function reload(server, app, what)
  local commit, ok, message, changed
  if app then
    commit, message = app:again()
    changed = commit and message
  end
  if commit or not app then
    ok, message = server:reload()
  end
  if not ok then
    khp.log.error("nothing has changed: %s", message)
    return
  elseif commit then
    commit()
  end
  if changed and changed[1] then
    khp.log.warn("%s: what has changed in %s takes effect after a restart", app.path, table.concat(changed, ", "))
  end
  khp.log.info(what ~= "" and "loaded again: " .. what or "there is nothing to load again")
end

local function drain(server, signal, seconds)
  khp.log.info("SIG%s: ending; connections: %d, at most %g s for them", signal, server:stats().connections, seconds)
  server:close(seconds)
  local left = server:stats().connections
  if left > 0 then
    khp.log.warn("connections that were cut off: %d", left)
  end
  khp.stop()
end

local function watch(server, given, app, what)
  local ending = false
  core.signal("HUP", function()
    if not ending then
      khp.spawn(reload, server, app, what)
    end
  end)
  for _, name in ipairs { "INT", "TERM" } do
    core.signal(name, function()
      if ending then
        khp.log.warn("SIG%s again: ending at once", name)
        return khp.stop()
      end
      ending = true
      khp.spawn(drain, server, name, given.drain)
    end)
  end
end

-- Where it listens.
local function urls(server, options)
  local host, port = server:address()
  local s = options.tls and "s" or ""
  if not port then
    local here = host:find "^/" and "" or (os.getenv "PWD" or "") .. "/"
    return ("ws%s+unix://%s%s:/\n"):format(s, here, host)
  end
  host = host:find(":", 1, true) and "[" .. host .. "]" or host
  local text = ("ws%s://%s:%d/\n"):format(s, host, port)
  if options.root then
    text = text .. ("http%s://%s:%d/\n"):format(s, host, port)
  end
  return text
end

---@param given table
---@return integer status
function serve.run(given)
  khp.log.level, khp.log.format = given.level, given.log
  if given.unix and (given.host or given.port) then
    return cli.misuse("serve: --unix is instead of --host and --port, not with them", TRY)
  elseif given.client_ca and not given.tls then
    return cli.misuse("serve: --client-ca needs --tls CERT KEY: without TLS there are no certificates", TRY)
  end
  local app, server, ok, message, code
  if given.script then
    app, message = script.load(given.script)
    if not app then
      return fail(message, SCRIPT_WANTED)
    end
  end
  local options = gather(given, app, function()
    return server
  end)
  ok, server, message, code = pcall(khp.listen, options)
  if not ok then
    return fail(explain(tostring(server), given))
  elseif not server then
    return fail(message, hint(message, code, given, options))
  end
  watch(server, given, app, reloadable(options, app))
  cli.write(urls(server, options))
  cli.flush()
  khp.run()
  return cli.OK
end

return serve
