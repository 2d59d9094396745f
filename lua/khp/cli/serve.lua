-- khp serve [POLICY]: an echo server under a policy, reloaded on SIGHUP and drained on SIGINT and SIGTERM. This file
-- must not know what a policy is.

local cli = require "khp.cli"
local core = require "khp.core"
local frame = require "khp.cli.frame"
local khp = require "khp"

local serve = {
  summary = "serves an echo, under a policy or none",
  usage = "[OPTION …] [POLICY]",
  description = [[
Answers each message with itself, under the policy if there is one. Says on standard output where it listens.
SIGHUP loads the policy again: it is checked and its own tests are run, and if anything is wrong the old one
stays. SIGINT and SIGTERM end in order: no new connections, 1001 to the open ones, at most 5 seconds.]],
  examples = [[
khp serve
khp serve --port 9000 members.lua
kill -HUP %1                 members.lua was changed]],
}

---@param command table
function serve.describe(command)
  command:argument "POLICY":target "policy":args "?":description "A file with the functions that decide."
  command:option("--host", "The address to listen on.", "127.0.0.1"):argname "ADDRESS"
  command:option("--port", "0 picks a free one.", "8000"):argname "PORT"
    :convert(frame.number("--port", 0, 65535, true))
  command:option("--level", "What the log tells.", "info"):choices { "error", "warn", "info", "debug", "off" }
    :argname "LEVEL"
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

---@param given table
---@return integer status
function serve.run(given)
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
    return cli.fail("serve: " .. message)
  end
  watch(server)
  local host, port = server:address()
  cli.write(("ws://%s:%d/\n"):format(host:find(":", 1, true) and "[" .. host .. "]" or host, port))
  cli.flush()
  khp.run()
  return cli.OK
end

return serve
