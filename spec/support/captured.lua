-- For specs of khp decode: the bytes of a connection with both handshakes, and files of captured packets.

local net = require "spec.support.net"

local frame = net.frame

local captured = {}

--- A frame of a server: first byte and payload.
local function plain(first, payload, length)
  return frame(first, payload, { unmasked = true, length = length })
end

captured.plain = plain

local REQUEST = "GET /echo HTTP/1.1\r\nHost: example.org\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" ..
  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n" ..
  "Sec-WebSocket-Protocol: x-kaazing-handshake, echo\r\nCookie: session=1234\r\n\r\n"
local RESPONSE = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" ..
  "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: x-kaazing-handshake\r\n\r\n"
local FIRST = "GET /echo HTTP/1.1\r\nSec-WebSocket-Protocol: echo\r\n\r\n"
local CHALLENGE = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"m\"\r\nContent-Length: 3\r\n\r\nno\n"
local SECOND = "GET /echo HTTP/1.1\r\nAuthorization: Basic am9lOm9wZW4=\r\n\r\n"
local COMPLETED = "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Protocol: echo\r\n\r\n"

local CLIENT = REQUEST .. frame(0x82, FIRST) .. frame(0x82, SECOND) .. frame(0x01, "Hel") .. frame(0x89, "") ..
  frame(0x80, "lo") .. frame(0x82, "\0\1\255") .. frame(0x88, "\3\232done")
local SERVER = RESPONSE .. plain(0x82, CHALLENGE) .. plain(0x02, COMPLETED:sub(1, 20)) ..
  plain(0x80, COMPLETED:sub(21)) .. plain(0x8A, "") .. plain(0x81, "GET / HTTP/1.1\r\n\r\n") .. plain(0x88, "\3\232")

captured.REQUEST, captured.RESPONSE, captured.FIRST, captured.CHALLENGE = REQUEST, RESPONSE, FIRST, CHALLENGE
captured.SECOND, captured.COMPLETED, captured.CLIENT, captured.SERVER = SECOND, COMPLETED, CLIENT, SERVER

--- A file of packets of TCP without Ethernet, in the oldest format (LINKTYPE_RAW). A piece is { 1, bytes } of the
--- client or { 2, bytes } of the server; lost: bytes before it that are in no packet. late: without the connection's
--- beginning; port: the client's.
function captured.packets(pieces, late, port)
  port = port or 40000
  local parts, next_byte = { string.pack("<I4I2I2i4I4I4I4", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 101) }, { 1000, 5000 }
  local function packet(side, flags, payload)
    local ports = side == 1 and { port, 8000 } or { 8000, port }
    local tcp = string.pack(">I2I2I4I4I1I1I2I2I2", ports[1], ports[2], next_byte[side], next_byte[3 - side], 0x50,
      flags, 65535, 0, 0) .. payload
    local from, to = "\10\0\0" .. string.char(side), "\10\0\0" .. string.char(3 - side)
    local ip = string.pack(">I1I1I2I2I2I1I1I2", 0x45, 0, 20 + #tcp, #parts, 0, 64, 6, 0) .. from .. to .. tcp
    parts[#parts + 1] = string.pack("<I4I4I4I4", #parts, 0, #ip, #ip) .. ip
    next_byte[side] = next_byte[side] + #payload + (flags % 4 > 0 and 1 or 0)
  end
  if not late then
    packet(1, 2, "")
    packet(2, 18, "")
    packet(1, 16, "")
  end
  for _, piece in ipairs(pieces) do
    next_byte[piece[1]] = next_byte[piece[1]] + (piece.lost or 0)
    packet(piece[1], 24, piece[2])
  end
  return table.concat(parts)
end

return captured
