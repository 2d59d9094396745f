-- khp decode: shows the handshakes and the frames in captured bytes. Here is where the bytes come from; dissect.lua
-- takes them apart, and decoded.lua shows what is in them. This file must not know what the bytes mean, only whose they
-- are.

local cli = require "khp.cli"
local decoded = require "khp.cli.decoded"
local dissect = require "khp.cli.dissect"
local pcap = require "khp.cli.pcap"
local terminal = require "khp.cli.terminal"

local decode = {
  summary = "shows the handshakes and frames in captured bytes",
  usage = "[OPTION …] [FILE]",
  description = [[
Shows what is in the bytes of a WebSocket connection: the opening, the HTTP messages of the extended handshake, and
each frame with its place, its bits and the beginning of what it holds. Without a file it reads standard input: the
bytes of one direction, whichever; --client and --server are for both. --pcap reads captured packets, with tshark.

What breaks the rules is told with its place and the rule, and ends the direction. Exit status: 0 when all bytes
were understood, 1 when not.

Messages that permessage-deflate has compressed are inflated where the answer that agreed to it is among the bytes.

Without --secrets these are left out of handshakes: the values of Authorization, Proxy-Authorization and all header
fields whose names contain token, key, secret, password, auth, session or cookie; the values in queries and fragments
of URLs, and the user names and passwords in them; the bodies of requests; the payloads of the frames that carry the
extended handshake, or may. What else is in responses, and the application's messages, are shown as they are.]],
  environment = [[
NO_COLOR               anything: no colours]],
  examples = [[
khp decode < bytes
khp decode --client sent.bin --server received.bin
khp decode --pcap capture.pcapng
khp decode --json --pcap capture.pcapng | jq 'select(.event == "error")']],
}

---@param command table
function decode.describe(command)
  command:argument "FILE":target "file":args "?":description "The bytes of one direction. Default: standard input."
  command:option("--client", "What the client sent."):argname "FILE"
  command:option("--server", "What the server sent."):argname "FILE"
  command:option("--pcap", "Captured packets, of any number of connections; tshark puts them together."):argname "FILE"
  command:flag("--json", "Print one JSON object a line for each head, frame and error.")
  command:flag("--secrets", "Leave nothing out.")
end

-- Shows events in order; false when there was an error among them.
local function show_all(show, events)
  show:all(events)
  return show.good
end

-- Where the bytes come from ------------------------------------------------------------------------------------------

local PIECE = 64 * 1024

local function open(path)
  local file, message = io.open(path, "rb")
  if not file then
    cli.finish(cli.fail("decode: " .. message, "Is the path right, may you read it?"))
  end
  return file
end

-- The bytes of one direction, as they come.
local function decode_stream(show, file)
  local machine, good, size = dissect.new(), true, 0
  while true do
    local bytes, message = file:read(PIECE)
    if not bytes then
      if message then
        return cli.fail("decode: " .. message)
      end
      break
    end
    size = size + #bytes
    good = show_all(show, machine:feed(bytes)) and good
  end
  good = show_all(show, machine:finish()) and good
  if size == 0 then
    return cli.fail("decode: there are no bytes", "khp decode --help tells where they may come from.")
  end
  return good and cli.OK or cli.FAILED
end

local function events_of(path, from, shared)
  local file = open(path)
  local machine = dissect.new(from, shared)
  local events = machine:feed(file:read "*a")
  file:close()
  for _, one in ipairs(machine:finish()) do
    events[#events + 1] = one
  end
  return events
end

-- Two directions without times: the handshakes' messages answer each other, the rest follows, the client's first.
local function interleave(client, server)
  local list, lists, places = {}, { client, server }, { 1, 1 }
  local turn = 1
  while lists[1][places[1]] or lists[2][places[2]] do
    local one = lists[turn][places[turn]]
    if one then
      list[#list + 1] = one
      places[turn] = places[turn] + 1
    end
    if not one or one.what == "head" or one.what == "extended" then
      turn = 3 - turn
    end
  end
  return list
end

local function decode_both(show, given)
  local shared = {}
  local server = given.server and events_of(given.server, "server", shared) or {}
  shared.completed = nil
  local client = given.client and events_of(given.client, "client", shared) or {}
  return show_all(show, interleave(client, server)) and cli.OK or cli.FAILED
end

local function decode_connection(show, connection)
  local shared, machines, good = {}, {}, true
  for _, from in ipairs { "client", "server" } do
    machines[from] = dissect.new(from, shared)
  end
  for _, piece in ipairs(connection.pieces) do
    good = show_all(show, machines[piece.from]:feed(piece.bytes)) and good
  end
  for _, from in ipairs { "client", "server" } do
    good = show_all(show, machines[from]:finish()) and good
  end
  return good
end

-- Others than WebSockets are in a capture, too.
local function is_websocket(connection)
  for _, piece in ipairs(connection.pieces) do
    if piece.bytes:lower():find "\nupgrade:[ \t]*websocket" then
      return true
    end
  end
  return false
end

local function decode_pcap(show, path)
  if not pcap.is_possible() then
    return cli.fail("decode: --pcap needs tshark, which is not installed",
      "Install it (apt-get install tshark), or give the bytes of each direction: --client FILE --server FILE")
  end
  open(path):close()
  local connections, problem = pcap.connections(path)
  if not connections then
    return cli.fail(("decode: tshark cannot read %s: %s"):format(path, problem), "Is it a file of captured packets?")
  end
  local good, found = true, 0
  for _, connection in ipairs(connections) do
    if is_websocket(connection) then
      found = found + 1
      show:connection(connection)
      good = decode_connection(show, connection) and good
    end
  end
  if found == 0 then
    return cli.fail(("decode: there is no opening of a WebSocket in %s"):format(path),
      "TLS hides it: tshark needs the session's keys to see inside.")
  end
  return good and cli.OK or cli.FAILED
end

---@param given table
---@return integer status
function decode.run(given)
  local show = decoded.new(given)
  if given.pcap then
    return decode_pcap(show, given.pcap)
  elseif given.client or given.server then
    return decode_both(show, given)
  elseif given.file then
    return decode_stream(show, open(given.file))
  elseif terminal.at(0) then
    return cli.misuse("decode: which bytes? There is a terminal at standard input",
      "khp decode < FILE, or khp decode --pcap FILE; khp decode --help tells more.")
  end
  return decode_stream(show, io.stdin)
end

return decode
