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
bytes of either direction; --client and --server are for both. --pcap reads captured packets, with tshark.

A violation is shown with its offset and the rule, and ends its direction. Exit status: 0 when all bytes
were understood, 1 when not.

Messages that permessage-deflate has compressed are inflated where the answer that agreed to it is among the bytes.

Without --secrets handshakes are shown without the values of Authorization, Proxy-Authorization and other fields whose
names contain token, key, secret, password, auth, session or cookie (except Sec-WebSocket-Key, WWW-Authenticate and
Proxy-Authenticate), the values in queries and fragments of URLs, the user names and passwords in URLs, the bodies of
requests, and the payloads of frames that are, or may be, part of the extended handshake. Everything else is shown as
it is: other fields, paths, bodies of responses, and the application's messages.]],
  environment = [[
NO_COLOR               if set and not empty: no colors]],
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

-- Where the bytes come from ------------------------------------------------------------------------------------------

local PIECE = 64 * 1024

-- As much of a file as fits in a piece; nil at its end.
local function read_piece(file, path)
  local bytes, message = file:read(PIECE)
  if message then -- a folder, for instance
    cli.finish(cli.fail(("decode: %s: %s"):format(path, (message:gsub("^.*: ", "")))))
  end
  return bytes
end

local function open(path)
  local file, message = io.open(path, "rb")
  if not file then
    cli.finish(cli.fail("decode: " .. message, "Is the path right, may you read it?"))
  end
  return file
end

-- The bytes of one direction, as they come.
local function decode_stream(show, file, path)
  local machine, size = dissect.new(), 0
  local bytes = read_piece(file, path)
  while bytes do
    size = size + #bytes
    show:all(machine:feed(bytes))
    bytes = read_piece(file, path)
  end
  show:all(machine:finish())
  if size == 0 then
    return cli.fail("decode: there are no bytes", "khp decode --help tells where they may come from.")
  end
  return show.good and cli.OK or cli.FAILED
end

-- Two directions without times ---------------------------------------------------------------------------------------

-- Whose bytes are these, if they begin with frames, as where a capture begins in the middle of a connection?
local function begins_with_frames(bytes)
  local from, is_frames = dissect.whose(bytes)
  if not is_frames then
    return nil
  end
  for _, one in ipairs(dissect.new(from):feed(bytes)) do
    if one.what == "error" or one.frame and one.frame.rsv ~= 0 and one.frame.rsv ~= 4 then
      return nil
    end
  end
  return from
end

-- What one direction holds, event by event, and no more of it than a piece.
---@class khp.cli.decode.Source
---@field from "client"|"server"
---@field path string?
---@field file userdata? until its end
---@field machine khp.cli.Dissect
---@field events khp.cli.dissect.Event[]
---@field place integer of the next one
local Source = {}
Source.__index = Source

local function new_source(path, from, shared)
  return setmetatable({
    from = from, path = path, file = path and open(path), machine = dissect.new(from, shared), events = {}, place = 1,
  }, Source)
end

function Source:read()
  local bytes = read_piece(self.file, self.path)
  if bytes and not self.others then
    local whose, is_frames = dissect.whose(bytes)
    whose = is_frames and begins_with_frames(bytes) or not is_frames and whose or nil
    self.others = whose ~= nil and whose ~= self.from
  end
  local events = bytes and self.machine:feed(bytes) or self.machine:finish()
  if not bytes then
    self.file:close()
    self.file = nil
  end
  for _, one in ipairs(events) do
    self.events[#self.events + 1] = one
  end
end

function Source:next()
  while self.file and not self.events[self.place] do
    self.events, self.place = {}, 1
    self:read()
  end
  local one = self.events[self.place]
  self.place = self.place + 1
  return one
end

-- What a server agrees to counts for the client's frames, too, so its handshakes are read first; where there is no end
-- of them, so many pieces.
local MOST_AHEAD = 16

local function read_ahead(source)
  for _ = 1, MOST_AHEAD do
    if not source.file or source.machine:is_settled() then
      return
    end
    source:read()
  end
end

-- The handshakes' messages answer each other, the rest follows, the client's first.
local function decode_both(show, given)
  local shared = {}
  local server, client = new_source(given.server, "server", shared), new_source(given.client, "client", shared)
  read_ahead(server)
  local turn, others, last = client, server, nil
  while true do
    local one = turn:next()
    if one then
      show:event(one)
    elseif last == "end" then
      break
    end
    last = one and one.what or "end"
    if last == "end" or last == "head" or last == "extended" then
      turn, others = others, turn
    end
  end
  for _, source in ipairs { client, server } do
    if source.others and not show.good then
      cli.complain(("decode: %s looks like what a %s sent"):format(source.path, source == client and "server" or
        "client"), "Are --client and --server swapped?")
    end
  end
  return show.good and cli.OK or cli.FAILED
end

-- Captured packets ---------------------------------------------------------------------------------------------------

local UPGRADE = "\n[Uu][Pp][Gg][Rr][Aa][Dd][Ee]:[ \t]*[Ww][Ee][Bb][Ss][Oo][Cc][Kk][Ee][Tt]"

-- Others than WebSockets are in a capture, too: how do the two directions begin?
local function is_websocket(one, other)
  if one:find(UPGRADE) or other:find(UPGRADE) then
    return true
  end
  local first, second = begins_with_frames(one), begins_with_frames(other)
  return first ~= second and (first ~= nil or one == "") and (second ~= nil or other == "")
end

-- Likewise, where all is there: another request, or another response, may stand before the opening.
local function has_websocket(connection)
  local beginnings = { client = "", server = "" }
  for _, piece in ipairs(connection.pieces) do
    if piece.bytes:find(UPGRADE) then
      return true
    elseif #beginnings[piece.from] < 1024 then
      beginnings[piece.from] = (beginnings[piece.from] .. piece.bytes):sub(1, 1024)
    end
  end
  return is_websocket(beginnings.client, beginnings.server)
end

-- Where a capture begins later, its first packet may be the server's.
local function set_roles(connection)
  local first = connection.pieces[1]
  local whose, is_frames = dissect.whose(first.bytes)
  whose = is_frames and begins_with_frames(first.bytes) or not is_frames and whose
  if whose and whose ~= first.from then
    connection.client, connection.server = connection.server, connection.client
    for _, piece in ipairs(connection.pieces) do
      piece.from = piece.from == "client" and "server" or "client"
    end
  end
end

local function decode_connection(show, connection)
  local shared, machines = { timed = true }, {}
  set_roles(connection)
  show:connection(connection)
  for _, from in ipairs { "client", "server" } do
    machines[from] = dissect.new(from, shared)
  end
  for _, piece in ipairs(connection.pieces) do
    local machine = machines[piece.from]
    show:all(piece.missing and machine:skip(piece.missing) or machine:feed(piece.bytes))
  end
  for _, from in ipairs { "client", "server" } do
    show:all(machines[from]:finish())
  end
end

local function decode_pcap(show, path)
  if not pcap.is_possible() then
    return cli.fail("decode: --pcap needs tshark, which is not installed",
      "Install it (apt-get install tshark), or give the bytes of each direction: --client FILE --server FILE")
  end
  local file = open(path)
  read_piece(file, path)
  file:close()
  local found = 0
  local problem = pcap.find(path, "websocket", is_websocket, function(connection)
    if has_websocket(connection) then
      found = found + 1
      decode_connection(show, connection)
    end
  end)
  if found == 0 and problem then
    return cli.fail(("decode: tshark cannot read %s: %s"):format(path, problem), "Is it a file of captured packets?")
  elseif found == 0 then
    return cli.fail(("decode: there is no WebSocket to be seen in %s"):format(path),
      "TLS hides what is inside, and what begins in the middle of a frame is not recognised.")
  elseif problem then
    cli.flush()
    return cli.fail(("decode: that is not all of %s: %s"):format(path, problem))
  end
  return show.good and cli.OK or cli.FAILED
end

-- Two sources that exclude each other, or nil.
local function contradiction(given)
  local listed = {}
  for _, name in ipairs { "pcap", "client", "server" } do
    listed[#listed + 1] = given[name] and "--" .. name or nil
  end
  listed[#listed + 1] = given.file and "FILE" or nil
  local is_pair = listed[1] == "--client" and listed[2] == "--server"
  return listed[is_pair and 3 or 2] and table.concat(listed, " and ") or nil
end

---@param given table
---@return integer status
function decode.run(given)
  local wrong = contradiction(given)
  if wrong then
    return cli.misuse(("decode: %s exclude each other"):format(wrong),
      "usage: khp decode [FILE], or --client FILE --server FILE, or --pcap FILE")
  end
  local show = decoded.new(given)
  if given.pcap then
    return decode_pcap(show, given.pcap)
  elseif given.client or given.server then
    return decode_both(show, given)
  elseif given.file then
    return decode_stream(show, open(given.file), given.file)
  elseif terminal.at(0) then
    return cli.misuse("decode: which bytes? There is a terminal at standard input",
      "khp decode < FILE, or khp decode --pcap FILE; khp decode --help tells more.")
  end
  return decode_stream(show, io.stdin, "standard input")
end

return decode
