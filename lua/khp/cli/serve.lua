-- khp serve [POLICY]: an echo server under a policy, reloaded on SIGHUP and drained on SIGINT and SIGTERM. This file
-- must not know what a policy is.

local cli = require "khp.cli"
local core = require "khp.core"
local khp = require "khp"

local serve = {}

local HELP = [[
usage: khp serve [--host ADDRESS] [--port PORT] [--level LEVEL] [POLICY]

Answers each message with itself, under the policy if there is one. Says on standard output where it listens.
SIGHUP loads the policy again: it is checked and its own tests are run, and if anything is wrong the old one stays.
SIGINT and SIGTERM end in order: no new connections, 1001 to the open ones, at most 5 seconds.

  --host ADDRESS   default 127.0.0.1
  --port PORT      default 8000; 0 picks a free one
  --level LEVEL    of the log: error, warn, info (default), debug, off
]]

local levels = { error = true, warn = true, info = true, debug = true, off = true }

-- The options, or nil and what is wrong.
local function parse(arguments)
  local given = { host = "127.0.0.1", port = 8000, level = "info" }
  local i = 1
  while arguments[i] do
    local name = arguments[i]:match "^%-%-(%w+)$"
    if name == "host" or name == "port" or name == "level" then
      i = i + 1
      given[name] = arguments[i]
      if not arguments[i] then
        return nil, "--" .. name .. " wants a value"
      end
    elseif arguments[i]:find "^%-" then
      return nil, "there is no option " .. arguments[i]
    elseif given.policy then
      return nil, "one policy, not two: " .. arguments[i]
    else
      given.policy = arguments[i]
    end
    i = i + 1
  end
  given.port = tonumber(given.port)
  if not given.port or given.port % 1 ~= 0 or given.port < 0 or given.port > 65535 then
    return nil, "--port wants a number from 0 to 65535"
  elseif not levels[given.level] then
    return nil, "--level wants error, warn, info, debug or off"
  end
  return given
end

local function watch(server)
  core.signal("HUP", function()
    khp.spawn(function()
      local ok, message = server:reload()
      if ok then
        khp.log.info "the policy was loaded again"
      else
        khp.log.error("the old policy stays: %s", message)
      end
    end)
  end)
  for _, name in ipairs { "INT", "TERM" } do
    core.signal(name, function()
      khp.spawn(function()
        khp.log.info("SIG%s: ending", name)
        server:close(5)
        khp.stop()
      end)
    end)
  end
end

---@param arguments string[]
---@return integer status
function serve.run(arguments)
  if arguments[1] == "--help" or arguments[1] == "-h" then
    io.stdout:write(HELP)
    return cli.OK
  end
  local given, wrong = parse(arguments)
  if not given then
    return cli.misuse("serve: " .. wrong .. "; khp serve --help tells more")
  end
  khp.log.level = given.level
  local server, message = khp.listen {
    host = given.host,
    port = given.port,
    policy = given.policy,
    on_message = function(conn, text, kind)
      conn:send(text, kind)
    end,
  }
  if not server then
    io.stderr:write("khp: serve: ", message, "\n")
    return cli.FAILED
  end
  watch(server)
  local host, port = server:address()
  io.stdout:write(("ws://%s:%d/\n"):format(host:find(":", 1, true) and "[" .. host .. "]" or host, port))
  io.stdout:flush()
  khp.run()
  return cli.OK
end

return serve
