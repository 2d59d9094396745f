-- Shows handshakes as they go by, one block a message: when, which way, in which of the handshakes, the first line and
-- the fields. What proves who somebody is is left out. This file must not know what the messages mean.

local terminal = require "khp.cli.terminal"

local trace = {}

-- The first word of these says how; the rest is a secret. Of a cookie all is.
local secret = { ["authorization"] = "scheme", ["proxy-authorization"] = "scheme", ["cookie"] = "all",
  ["set-cookie"] = "all" }

local MOST_BODY = 200

--- One line of a message as it may be shown.
---@param line string
---@return string
function trace.discreet(line)
  local name, colon, value = line:match "^([^:%s]+)(:%s*)(.*)$"
  local how = name and secret[name:lower()]
  if not how then
    return terminal.harmless(line)
  end
  local scheme = how == "scheme" and value:match "^%S+%s" or ""
  if scheme:lower() == "application " then -- KHP: Application Basic …
    scheme = value:match "^%S+%s+%S+%s" or scheme
  end
  return terminal.harmless(name .. colon .. scheme) .. "(not shown)"
end

--- The lines of a handshake's message: the first line, the fields, and the beginning of the body.
---@param bytes string
---@param secrets boolean? show those, too
---@return string first
---@return string[] others
function trace.lines(bytes, secrets)
  local head, body = bytes:match "^(.-\r?\n)\r?\n(.*)$"
  local lines, hidden = {}, false
  for line in (head or bytes):gmatch "([^\r\n]+)\r?\n?" do
    if secrets then
      lines[#lines + 1] = terminal.harmless(line)
    elseif not line:find "^[ \t]" then
      lines[#lines + 1] = trace.discreet(line)
      hidden = lines[#lines]:find "%(not shown%)$" ~= nil
    elseif not hidden then -- RFC 7230 3.2.4: a folded line belongs to the one before it
      lines[#lines + 1] = terminal.harmless(line)
    end
  end
  if (lines[1] or ""):find "^HTTP/%S+ 101" then -- what follows is not HTTP
    body = nil
  end
  local first = table.remove(lines, 1) or ("%d bytes"):format(#bytes)
  if body and body ~= "" then
    local shown = terminal.harmless(body:sub(1, MOST_BODY)):gsub("%s+$", "")
    lines[#lines + 1] = shown .. (#body > MOST_BODY and (" … (%d bytes)"):format(#body) or "")
  end
  return first, lines
end

--- The function for the option `trace` of khp.connect and khp.listen.
---@param given { write: fun(text: string), paint: khp.cli.Paint, clock: fun(): number, peer: string?, us: string? }
---@return fun(direction: string, stage: string, bytes: string)
function trace.new(given)
  local us, peer = given.us or "client", given.peer or "server"
  local sends, receives = us .. " ──▶ " .. peer, us .. " ◀── " .. peer
  local began = given.clock()
  return function(direction, stage, bytes)
    local now = given.clock()
    local arrow = direction == "send" and given.paint("cyan", sends) or given.paint("yellow", receives)
    local first, others = trace.lines(bytes)
    local lines = { ("%8.3f s  %s  %-8s  %s"):format(now - began, arrow, stage, given.paint("bold", first)) }
    for _, line in ipairs(others) do
      lines[#lines + 1] = (" "):rep(41) .. line:gsub("\n", "\n" .. (" "):rep(41))
    end
    given.write(table.concat(lines, "\n") .. "\n")
  end
end

return trace
