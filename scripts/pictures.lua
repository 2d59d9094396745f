-- Draws docs/pictures/*.svg: who sends what in a handshake, from the transcripts that the tests play.
--
--   lua5.4 scripts/pictures.lua [--check]
--
-- A picture is an exchange of spec/conformance, found by its heading, or the steps in this file; extended_only leaves
-- out the opening. Of a message it shows the first line and the headers that matter. With --check nothing is written;
-- the status is 1 if a picture is out of date. The colours are readable on white and on black. It knows nothing about
-- WebSockets but words.

package.path = "lua/?.lua;lua/?/init.lua;" .. package.path
local reader = require "khp.transcript.reader"

local FOLDER = "docs/pictures/"

local PLAIN = [[
C http
| GET /chat HTTP/1.1
| Host: example.com
| Upgrade: websocket
| Connection: Upgrade
| Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==
| Sec-WebSocket-Version: 13
| Sec-WebSocket-Protocol: chat
|
S http
| HTTP/1.1 101 Switching Protocols
| Upgrade: websocket
| Connection: Upgrade
| Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=
| Sec-WebSocket-Protocol: chat
|
C opens protocol=chat
C text
+ hello
]]

local PICTURES = {
  { name = "plain", title = "A WebSocket without KHP", text = PLAIN },
  { name = "negotiation", title = "The extended handshake: protocols and extensions",
    file = "negotiation", heading = "What is left to ask for is asked for in the extended request" },
  { name = "challenge", title = "A challenge inside the WebSocket",
    file = "credentials", heading = "One challenge, one replay" },
  { name = "login", title = "A login inside an open WebSocket",
    file = "credentials", heading = "One challenge, one replay", extended_only = true },
  { name = "redirect", title = "A redirect inside the WebSocket", file = "refusals", heading = "A redirect" },
  { name = "kaazing", title = "The dialect of Kaazing's clients",
    file = "kaazing_javascript", heading = "It connects" },
}

-- Headers that are shown, of messages in the opening and in the extended handshake.
local HTTP = "upgrade sec-websocket-protocol sec-websocket-extensions location www-authenticate authorization"
local EXTENDED = "sec-websocket-protocol sec-websocket-extensions location www-authenticate authorization"

-- Measures, in pixels.
local WIDTH, LEFT, RIGHT, EDGE = 800, 140, 710, 12
local LINE, CHARACTER, MARGIN = 17, 7.25, 14
local MOST = 72 -- characters between the two sides

-- What is shown ------------------------------------------------------------------------------------------------------

local function matters(name, list)
  return (" " .. list .. " "):find(" " .. name:lower() .. " ", 1, true) ~= nil
end

-- Bytes as they can be read: the first character of a directive by its name.
local function readable(bytes)
  return (bytes:gsub("\239\131\191", "U+F0FF "):gsub("[%c\127-\255]", function(c)
    return c:find "[\128-\255]" and c or ("\\x%02X"):format(c:byte())
  end))
end

-- A long value goes on in the next line.
local function wrap(lines, text)
  local indent = ""
  while #text > MOST do
    local cut
    for at = 1, MOST - #indent do
      cut = text:sub(at, at) == " " and at or cut
    end
    if not cut then
      break
    end
    lines[#lines + 1] = indent .. text:sub(1, cut - 1)
    text, indent = text:sub(cut + 1), "  "
  end
  lines[#lines + 1] = indent .. text
end

-- The lines of a message, of which the first is its title.
local function lines_of(step)
  local bytes, lines = step.bytes or "", {}
  if bytes == "" then
    return { "(an empty message)" }
  elseif not bytes:find "HTTP/1%.[01]" then
    return { readable(bytes) }
  end
  local list = step.verb == "http" and HTTP or EXTENDED
  for line in bytes:gmatch "(.-)\r\n" do
    local name = line:match "^([%w-]+):%s*%S"
    if #lines == 0 or name and matters(name, list) then
      wrap(lines, line)
    end
  end
  return lines
end

-- Where a redirect leads: another connection, of which the beginning is shown.
local function lead_to(list, url)
  local host, path = url:match "^%w+://([^/]+)(.*)$"
  local lines = { "GET " .. path .. " HTTP/1.1", "Host: " .. host, "Upgrade: websocket", "…" }
  list[#list + 1] = { kind = "server", name = host }
  list[#list + 1] = { kind = "phase", name = "new connection" }
  list[#list + 1] = { kind = "message", who = "C", lines = lines, http = true }
end

-- What happens, in order: { kind =, who =, … }.
local function events_of(steps, extended_only)
  local list, phase = {}, nil
  local function enter(name)
    if phase ~= name then
      phase = name
      list[#list + 1] = { kind = "phase", name = name }
    end
  end
  local opened, elsewhere = false, nil
  for _, step in ipairs(steps) do
    local is_message = step.parts or step.kind
    if step.verb == "http" then
      enter "opening handshake"
    elseif is_message or step.verb == "close" then
      enter(opened and "open" or "extended handshake")
    end
    if is_message then
      list[#list + 1] = { kind = "message", who = step.who, lines = lines_of(step), http = step.verb == "http" }
    elseif step.verb == "close" then
      list[#list + 1] = { kind = "message", who = step.who, lines = { "Close " .. (step.code or "") } }
    elseif step.verb == "decides" then
      list[#list + 1] = { kind = "note", who = step.who, text = step.source:match "^%s*(%a+)" }
    elseif step.verb == "redirects" then
      elsewhere = step.location
    elseif step.verb == "opens" then
      opened = true
    end
  end
  if opened and not extended_only then
    enter "open"
  end
  if elsewhere then
    lead_to(list, elsewhere)
  end
  return list
end

-- Drawing ------------------------------------------------------------------------------------------------------------

local STYLE = [[
    text { font: 12px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #6e7781 }
    .name, .phase { font: 600 13px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif }
    .phase { font-weight: 400; font-size: 12px }
    .note { font: italic 12px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; fill: #b35900 }
    .first { font-weight: 600 }
    .inside { fill: #3178c6 }
    line, path { stroke: #6e7781; fill: none }
    .life { stroke-dasharray: 2 4 }
    .http { stroke-width: 1.5 }
    .frame { stroke: #3178c6; stroke-width: 3 }
    .tip { fill: #6e7781; stroke: none }
    .tip.inside { fill: #3178c6 }]]

local function escape(text)
  return (text:gsub("[&<>\"]", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;" }))
end

local function width_of(lines)
  local most = 0
  for _, line in ipairs(lines) do
    most = math.max(most, utf8.len(line) or #line)
  end
  return math.ceil(most * CHARACTER)
end

local function draw_message(out, event, y)
  local from_client = event.who == "C"
  local x = from_client and LEFT + MARGIN or RIGHT - MARGIN - width_of(event.lines)
  for i, line in ipairs(event.lines) do
    local class = (i == 1 and "first " or "") .. (event.http and "" or "inside")
    out[#out + 1] = ('  <text xml:space="preserve" x="%d" y="%d" class="%s">%s</text>'):format(
      x, y + 12, class:match "^(.-) ?$", escape(line))
    y = y + LINE
  end
  y = y + 6
  local start, stop = from_client and LEFT or RIGHT, from_client and RIGHT or LEFT
  local back = from_client and -10 or 10
  out[#out + 1] = ('  <line class="%s" x1="%d" y1="%d" x2="%d" y2="%d"/>'):format(
    event.http and "http" or "frame", start, y, stop + back, y)
  out[#out + 1] = ('  <path class="tip%s" d="M%d %d l%d -5 v10 z"/>'):format(
    event.http and "" or " inside", stop, y, back)
  return y + 18
end

local function draw_note(out, event, y)
  local is_client = event.who == "C"
  out[#out + 1] = ('  <text class="note" x="%d" y="%d" text-anchor="%s">%s</text>'):format(
    is_client and LEFT - 10 or RIGHT + 10, y, is_client and "end" or "start", escape(event.text))
  return y
end

-- In the margin, one word below the other. What follows stands beside it.
local function draw_phase(out, event, y)
  local at = y + 12
  for word in event.name:gmatch "%S+" do
    out[#out + 1] = ('  <text class="phase" x="%d" y="%d">%s</text>'):format(EDGE, at, word)
    at = at + 15
  end
  return y
end

-- A line that hangs from a name: one side, as long as it takes part.
local function draw_life(out, x, name, top, bottom)
  out[#out + 1] = ('  <text class="name" x="%d" y="%d" text-anchor="middle">%s</text>'):format(
    x, top + 20, escape(name))
  out[#out + 1] = ('  <line class="life" x1="%d" y1="%d" x2="%d" y2="%d"/>'):format(x, top + 30, x, bottom)
end

local draw = { message = draw_message, note = draw_note, phase = draw_phase }

local function svg(picture, steps)
  local body, servers, y = {}, { { name = "server", top = 0 } }, 50
  for _, event in ipairs(events_of(steps, picture.extended_only)) do
    if event.kind == "server" then -- another one takes the place of the last
      servers[#servers].bottom = y - 8
      servers[#servers + 1] = { name = event.name, top = y }
      y = y + 34
    else
      if event.kind == "phase" and #body > 0 then
        y = y + 12
      end
      y = draw[event.kind](body, event, y)
    end
  end
  local height = y + 20
  servers[#servers].bottom = height
  local out = {
    ('<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img">'):format(
      WIDTH, height, WIDTH, height),
    "  <title>" .. escape(picture.title) .. "</title>",
    "  <style>\n" .. STYLE .. "\n  </style>",
  }
  draw_life(out, LEFT, "client", 0, height)
  for _, server in ipairs(servers) do
    draw_life(out, RIGHT, server.name, server.top, server.bottom)
  end
  return table.concat(out, "\n") .. "\n" .. table.concat(body, "\n") .. "\n</svg>\n"
end

-- The pictures -------------------------------------------------------------------------------------------------------

local function read_file(path)
  local file = io.open(path, "rb")
  local text = file and file:read "a"
  if file then
    file:close()
  end
  return text
end

local function steps_of(picture)
  if picture.text then
    return assert(reader.read(picture.text, picture.name))[1].steps
  end
  local path = "spec/conformance/" .. picture.file .. ".md"
  for _, exchange in ipairs(assert(reader.read(assert(read_file(path)), path))) do
    if exchange.title:sub(1, #picture.heading + 2) == picture.heading .. " [" then
      local steps = {}
      for _, list in ipairs { picture.extended_only and {} or exchange.prelude, exchange.steps } do
        for _, step in ipairs(list) do
          steps[#steps + 1] = step
        end
      end
      return steps
    end
  end
  error(path .. " has no exchange " .. picture.heading)
end

local check, wrong = arg[1] == "--check", 0
for _, picture in ipairs(PICTURES) do
  local path = FOLDER .. picture.name .. ".svg"
  local text = svg(picture, steps_of(picture))
  if not check then
    local file = assert(io.open(path, "wb"))
    file:write(text)
    file:close()
  elseif read_file(path) ~= text then
    io.stderr:write(path, " is not as it should be: make pictures\n")
    wrong = wrong + 1
  end
end
os.exit(wrong == 0)
