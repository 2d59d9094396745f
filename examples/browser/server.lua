-- Serves a page that does the extended handshake on the browser's own WebSocket:
--   lua5.4 examples/browser/server.lua [PORT]
-- One port serves both the page and its WebSocket, which echoes messages for clients that know the password.

local decision = require "khp.policy.decision"
local khp = require "khp"

local folder = arg[0]:match "^(.*/)" or ""
local members = { joe = "open sesame" }

local pages = {
  ["/"] = { file = "index.html", type = "text/html; charset=utf-8" },
  ["/khp.mjs"] = { file = "khp.mjs", type = "text/javascript; charset=utf-8" },
}

local policy = {}

-- Called for every HTTP request; khp decides about those that ask for a WebSocket.
function policy.opening(request)
  local page = pages[request.path]
  if request.upgrade then
    return nil
  elseif not page or request.method ~= "GET" then
    return decision.reject(404)
  end
  local file = assert(io.open(folder .. page.file))
  local body = file:read "*a"
  file:close()
  return decision.reject(200, { body = body, headers = { ["Content-Type"] = page.type } })
end

function policy.extended(request, session)
  if not session:basic(request, members) then
    return decision.challenge 'Basic realm="members"'
  end
  return decision.accept { protocol = request.protocols[1] }
end

local server, message = khp.listen {
  host = "127.0.0.1",
  port = tonumber(arg[1] or "8000"),
  policy = policy,
  on_message = function(conn, text, kind)
    conn:send(text, kind)
  end,
}
if not server then
  io.stderr:write(message, "\n")
  os.exit(1)
end
print(("http://%s:%d/"):format(server:address()))
io.stdout:flush()
khp.run()
