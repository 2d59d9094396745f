-- Connects, shows both handshakes as they happen, echoes two messages and closes:
--   lua5.4 examples/client.lua URL [POLICY]
-- Exit status: 0 on success, 1 if the server refused.

local khp = require "khp"

local url, policy = arg[1], arg[2]
if not url then
  io.stderr:write("usage: client.lua URL [POLICY]\n")
  os.exit(2)
end

local colour = os.getenv "KHP_COLOUR" == "yes"

local function paint(code, text)
  return colour and ("\27[%sm%s\27[0m"):format(code, text) or text
end

local shown = {
  ["host"] = true, ["upgrade"] = true, ["connection"] = true, ["sec-websocket-key"] = true,
  ["sec-websocket-accept"] = true, ["sec-websocket-protocol"] = true, ["sec-websocket-extensions"] = true,
  ["www-authenticate"] = true, ["authorization"] = true, ["location"] = true,
}

local function arrow(direction)
  return direction == "send" and paint("36", "client ──▶ server") or paint("33", "client ◀── server")
end

local function show(direction, stage, bytes)
  local first = true
  for line in bytes:gmatch "([^\r\n]+)\r?\n" do
    local name = line:match "^([^:%s]+):"
    if first then
      print(("%s  %-8s  %s"):format(arrow(direction), stage, paint("1", line)))
    elseif name and shown[name:lower()] then
      local value = name:lower() == "authorization" and "Authorization: Basic (not shown)" or line
      print((" "):rep(29) .. value)
    end
    first = false
  end
end

local conn, message, code, detail = khp.connect(url, {
  protocols = { "echo" },
  extensions = { "x-echo-pace" },
  policy = policy,
  trace = show,
})
if not conn then
  print(paint("31", ("refused: %s (%s%s)"):format(message, code, detail.status and ", " .. detail.status or "")))
  os.exit(1)
end

local names = {}
for i, extension in ipairs(conn.extensions) do
  names[i] = extension.name .. "; ms=" .. extension.parameters.ms
end
print(paint("32", ("open: protocol %s, extension %s"):format(conn.protocol, table.concat(names, ", "))))

local function echo(sent, kind)
  assert(conn:send(sent, kind))
  local received, received_kind = assert(conn:receive(5))
  assert(received == sent and received_kind == kind, "the echo is another message")
  print(("%s  %-8s  %d bytes, echoed"):format(arrow "send", kind, #sent))
end

echo("Hello, Kaazing!", "text")
echo(("\0\1\2\255"):rep(256), "binary")
conn:close(1000, "done")
local manner = conn.closed.clean and "(clean)" or "(torn)"
print(("%s  %-8s  %d %s"):format(arrow "receive", "close", conn.closed.code, manner))
os.exit(conn.closed.clean and 0 or 1)
