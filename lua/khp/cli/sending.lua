-- What khp connect sends: what options say, the lines or bytes of standard input, or what a person types. Nothing is
-- read before there is room for it, so nothing piles up here. This file must not know how connections come and go, nor
-- how anything is shown.

local core = require "khp.core"
local input = require "khp.cli.input"
local progress = require "khp.cli.progress"

local sending = {}

-- One message. Waits for room. false: it was not sent, and why has been told, or dialogue.lost says that the connection
-- is no more.
local function send(dialogue, message, kind, what)
  local most = dialogue.bounds.queue - core.frame.HEADER_MAX
  if #message > most then
    dialogue.show:trouble("ELIMIT", ("%s has %d bytes, and a message may have %d"):format(what, #message, most),
      "--bytes sends standard input in pieces: khp connect --bytes URL < FILE")
    return false
  end
  while not dialogue.leaving do
    local conn = dialogue:line()
    if not conn then
      dialogue.lost = true
      return false
    end
    local sent, problem, code = conn:send(message, kind)
    if sent then
      dialogue.sent = dialogue.sent + #message
      return true
    elseif code == "ELIMIT" then
      conn:drain()
    elseif code ~= "ECLOSED" then
      dialogue.show:trouble(code, what .. ": " .. problem,
        code == "EPROTOCOL" and not dialogue.console and
          "--bytes sends standard input as it is, --binary FILE a file." or nil)
      return false
    elseif not dialogue.kept then
      dialogue.lost = true
      return false
    end
  end
  return false
end

-- What --send and --binary say.
local function send_given(dialogue)
  for _, one in ipairs(dialogue.given.sends) do
    if not send(dialogue, one.message, one.kind, one.what) then
      return false
    end
  end
  return true
end

local function send_lines(dialogue, from)
  local count = 0
  local next_line = from:lines(dialogue.bounds.queue)
  while true do
    local text, problem, is_long = next_line()
    if problem then
      dialogue.show:trouble(is_long and "ELIMIT" or nil, "standard input: " .. problem,
        is_long and "--bytes sends standard input as it is, in pieces." or nil)
    end
    if not text then
      return not problem
    end
    count = count + 1
    if not send(dialogue, text, "text", ("line %d of standard input"):format(count)) then
      return false
    end
  end
end

local function send_bytes(dialogue, from)
  while true do
    local piece, problem = from:read()
    if not piece then
      if problem then
        dialogue.show:trouble(nil, "standard input: " .. problem)
      end
      return not problem
    elseif not send(dialogue, piece, "binary", "standard input") then
      return false
    end
  end
end

--- Sends all that is to be sent and is not typed. Waits.
---@param dialogue khp.cli.Dialogue
---@return boolean good all of it was sent
function sending.all(dialogue)
  if dialogue.given.sends[1] then
    return send_given(dialogue)
  end
  local from = input.new(0)
  progress.begin(dialogue, from)
  local good = (dialogue.given.bytes and send_bytes or send_lines)(dialogue, from)
  from:close()
  return good
end

-- With --reconnect a line that is typed while there is no connection is kept for the next one.
local function send_typed(dialogue, text)
  local kept = dialogue.kept
  if not kept then
    return send(dialogue, text, "text", "this line")
  end
  local sent, problem, code = kept:send(text)
  if not sent and code ~= "ECLOSED" then
    dialogue.show:trouble(code, "this line: " .. problem)
  elseif sent and not dialogue.conn then
    dialogue.show:note "your lines are kept until there is a connection"
  end
  return sent or code ~= "ECLOSED"
end

--- Sends what a person types. Waits until that has ended.
---@param dialogue khp.cli.Dialogue
---@return boolean quit the program is to end at once
function sending.typed(dialogue)
  local lines, ended, quit
  repeat
    lines, ended, quit = dialogue.console:read()
    for _, text in ipairs(lines) do
      send_typed(dialogue, text)
    end
  until ended or quit or dialogue.leaving or dialogue.lost
  return quit
end

return sending
