-- khp connect URL: a client for people and for pipes. Here stand its options and what they mean for khp.connect; what
-- is done with the connection stands in dialogue.lua.

local advice = require "khp.cli.advice"
local cli = require "khp.cli"
local console = require "khp.cli.console"
local core = require "khp.core"
local dialogue = require "khp.cli.dialogue"
local frame = require "khp.cli.frame"
local limits = require "khp.limits"
local terminal = require "khp.cli.terminal"
local trace = require "khp.cli.trace"
local uri = require "khp.uri"

local connect = {
  summary = "a WebSocket client for people, pipes and programs",
  usage = "[OPTION …] URL",
  description = [[
Sends each line of standard input as a message and prints each message that arrives on a line of its own. On a
terminal, lines can be edited (with the keys of most shells) while messages appear above them. Ctrl-D and Ctrl-C close
the connection, Ctrl-C again ends at once, Ctrl-Z suspends. Input is read only when there is room to send it, and
messages only when standard output has taken the ones before, so files of any size go through in little memory.

After the end of standard input, or after everything that --send and --binary give, the connection stays open until
nothing has arrived for --wait seconds. Exit status: 0 when the connection was closed cleanly, 1 when it was not or
could not be made, 2 for wrong usage, 128 and the signal's number when a signal ended it before it was open or while
it was closing.]],
  environment = [[
KHP_PASSWORD           the password for --user
KHP_HISTORY            a file for the lines that you type; created with mode 0600
NO_COLOR               if set and not empty: no colours]],
  examples = [[
khp connect ws://127.0.0.1:8000/
khp connect --send hello --wait 0.2 ws://127.0.0.1:8000/echo
khp connect wss://example.org/feed < requests > answers
khp connect --bytes ws://127.0.0.1:8000/ < image > copy
khp connect --user joe --trace wss://example.org/chat
khp connect --json --wait forever wss://example.org/feed | jq .text
khp connect --reconnect --protocol chat wss://example.org/chat]],
}

-- Options ------------------------------------------------------------------------------------------------------------

local function wait_seconds(text)
  if text == "forever" then
    return math.huge
  end
  local value, problem = frame.number("--wait", 0)(text)
  return value, problem and problem:gsub("a number from 0 on", "a number of seconds, or 'forever'")
end

-- --send and --binary keep their order.
local function appends(kind)
  return function(result, _, value)
    result.sends = result.sends or {}
    table.insert(result.sends, { kind = kind, value = value })
  end
end

local function describe_talk(command)
  command:option("--send", "Send TEXT instead of standard input. Can be repeated."):argname "TEXT":count "*"
    :action(appends "text")
  command:option("--binary", "Send the contents of FILE as one binary message. Can be repeated.")
    :argname "FILE":count "*":action(appends "binary")
  command:flag("--bytes", "Send standard input as binary messages, in pieces, and write messages without adding " ..
    "line ends.")
  command:flag("--json", "Print each event as one line of JSON: open, message, close, error, …")
  command:option("--wait", "After sending everything, wait until nothing has arrived for this long, or 'forever'. " ..
    "Default: 1; 0 where lines are typed.")
    :argname "SECONDS":convert(wait_seconds)
  command:option("--ping", "Measure the round-trip time this often, on standard error.")
    :argname "SECONDS":convert(frame.number("--ping", 0.001))
end

local function describe_handshake(command)
  command:option("--protocol", "Offer this subprotocol. Can be repeated, in order of preference.")
    :argname "NAME":count "*":target "protocols"
  command:option("--extension", "Offer this extension, with its parameters: 'permessage-deflate'. " ..
    "Can be repeated."):argname "TEXT":count "*":target "extensions"
  command:option("-H --header", "Add a header to the opening request: 'Name: value'. Can be repeated.")
    :argname "HEADER":count "*":target "headers"
  command:option("--user", "The user name, if the server asks for one. The password is asked for, or taken " ..
    "from the environment variable KHP_PASSWORD."):argname "NAME"
  command:option("--policy", "A client policy: a Lua file."):argname "FILE"
  command:flag("--trace", "Show both handshakes on standard error, with times, without what may be secret: the values "
    .. "of queries, of Authorization, Cookie and fields that are named like them.")
  command:flag("--secrets", "With --trace: leave nothing out.")
end

local function describe_way(command)
  command:option("--ca", "Trust these certificate authorities, not the system's: a PEM file or a folder.")
    :argname "FILE"
  command:option("--cert", "The client certificate, a PEM file."):argname "FILE"
  command:option("--key", "Its private key, a PEM file. Default: in the file of --cert."):argname "FILE"
  command:flag("--insecure", "Accept any certificate: for tests only.")
  command:option("--proxy", "Connect through this HTTP proxy: http://[USER:PASSWORD@]HOST:PORT"):argname "URL"
  command:option("--timeout", "How long connecting may take, with all redirects."):argname "SECONDS"
    :convert(frame.number("--timeout", 0.001))
  command:flag("--reconnect", "Connect again when the connection is lost, with growing delays.")
end

---@param command table
function connect.describe(command)
  command:argument "URL":target "url":description "ws:// wss:// or ws+unix:///path.sock:/resource"
  describe_talk(command)
  describe_handshake(command)
  describe_way(command)
end

-- What they mean -----------------------------------------------------------------------------------------------------

local PIECES = 1024 * 1024

local TRY = "khp connect --help tells more."

local function misuse(message, ...)
  cli.finish(cli.misuse("connect: " .. message, ...))
end

-- A URL without its scheme, unless there is a password in it: that is shown to nobody.
local function guess(url)
  local found = url:find "^[%w.%-]+:?%d*[/%w]*" and not url:find "://" and not url:find "@" and "ws://" .. url
  return found and uri.parse(found) and "Did you mean " .. found .. "?" or nil
end

local function find_target(url)
  local target, message = uri.parse(url)
  if not target then
    misuse(message, guess(url) or TRY)
  end
  target = uri.websocket(target)
  return {
    url = url, host = target.host, port = target.port, unix = target.unix, target = target.target,
    secure = target.secure,
  }
end

local function read_file(path)
  local file, message = io.open(path, "rb")
  local text
  if file then
    text, message = file:read "*a"
    file:close()
  end
  if not text then
    message = message:sub(1, #path) == path and message or path .. ": " .. message
    cli.finish(cli.fail("connect: " .. message, advice.file "--binary"))
  end
  return text
end

local function sends_of(given)
  local sends = {}
  for i, one in ipairs(given.sends or {}) do
    sends[i] = one.kind == "text" and { kind = "text", message = one.value, what = "--send" } or
      { kind = "binary", message = read_file(one.value), what = "--binary " .. one.value }
  end
  return sends
end

local function headers_of(given)
  local headers, origin = {}, nil
  for _, text in ipairs(given.headers) do
    local name, value = text:match "^%s*([^:%s]+)%s*:%s*(.-)%s*$"
    if not name then
      misuse(("--header wants 'Name: value', not '%s'"):format(text), TRY)
    elseif name:lower() == "origin" then
      origin = value
    else
      local before = headers[name]
      headers[name] = before and before .. ", " .. value or value
    end
  end
  return headers, origin
end

local function credentials_of(given)
  if not given.user then
    return nil
  end
  local password, problem, status = os.getenv "KHP_PASSWORD", nil, nil
  if not password then
    password, problem, status = console.ask(("Password of %s: "):format(given.user))
  end
  if status then
    cli.finish(status)
  end
  if not password then
    misuse(("--user %s needs a password, and %s"):format(given.user, problem),
      "Put it into the environment variable KHP_PASSWORD.")
  end
  return { username = given.user, password = password }
end

-- Options that say nothing about a connection without TLS. A redirect may lead to one that has it, so they are allowed.
local function check_tls(given, target)
  if given.key and not given.cert then
    misuse("--key needs --cert: the certificate that it belongs to", TRY)
  end
  for _, name in ipairs { "ca", "cert", "insecure" } do
    if given[name] and not target.secure then
      cli.complain(("connect: --%s has no effect on %s, unless the server leads to wss://"):format(name,
        target.unix and "ws+unix://" or "ws://"))
    end
  end
end

-- What may wait to be sent: little where it comes in pieces, as much as a message may have where it is lines, and where
-- there are whole messages each of them has room.
local function queue_of(given)
  local size = given.bytes and PIECES or limits.defaults.queue
  for _, one in ipairs(given.sends) do
    size = math.max(size, #one.message + core.frame.HEADER_MAX)
  end
  return size
end

local function options_of(given)
  local headers, origin = headers_of(given)
  local has_tls = given.ca or given.cert or given.key or given.insecure
  return {
    protocols = given.protocols,
    extensions = given.extensions,
    headers = headers,
    origin = origin,
    policy = given.policy,
    credentials = credentials_of(given),
    proxy = given.proxy,
    limits = { queue = queue_of(given) },
    timeout = given.timeout,
    tls = has_tls and { ca = given.ca, cert = given.cert, key = given.key, verify = not given.insecure } or nil,
  }
end

-- What shows the handshakes, and what shows the rest at the end.
local function trace_of(given)
  if given.secrets and not given.trace then
    misuse("--secrets is for what --trace shows", TRY)
  elseif not given.trace then
    return nil, function() end
  end
  return trace.new {
    clock = core.loop.clock, paint = terminal.painter(2), secrets = given.secrets,
    write = function(text)
      io.stderr:write(text)
    end,
  }
end

-- What khp.connect() says about an option, with its name as it is written here.
local function as_written(message)
  return (message:gsub("^option '(%w+)'", function(name)
    return "--" .. name:gsub("s$", "")
  end))
end

---@param given table
---@return integer status
function connect.run(given)
  local target = find_target(given.url)
  check_tls(given, target)
  given.sends = sends_of(given)
  given.wait = given.wait or terminal.at(0) and not given.sends[1] and 0 or 1
  local options = options_of(given)
  local show_trace, finish_trace = trace_of(given)
  options.trace = show_trace
  local ok, status = xpcall(dialogue.run, function(problem)
    local what = type(problem) == "string" and problem:match "khp%.connect: ([^\n]*)" or
      type(problem) == "string" and problem:match "khp%.keep: ([^\n]*)"
    return what and { misuse = what } or problem
  end, given, target, options)
  finish_trace()
  if ok then
    return status
  elseif type(status) == "table" and status.misuse then
    return cli.misuse("connect: " .. as_written(status.misuse), TRY)
  end
  error(status, 0)
end

return connect
