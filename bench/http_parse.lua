-- How long it takes to turn a request of 315 bytes and 8 headers into tables: the codec, and the same done with Lua's
-- own patterns, in turn. Prints nanoseconds per request and the ratio of the two; only the ratio means anything.
-- usage: lua bench/http_parse.lua [rounds]

local http = require "khp.core".http

local request = table.concat({
  "GET /chat/room/4?user=joe&token=abcdef HTTP/1.1",
  "Host: server.example.com:8000",
  "Upgrade: websocket",
  "Connection: keep-alive, Upgrade",
  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
  "Sec-WebSocket-Version: 13",
  "Sec-WebSocket-Protocol: x-kaazing-handshake, chat",
  "Origin: http://www.example.com",
  "User-Agent: Mozilla/5.0",
  "", "",
}, "\r\n")

local function parse_with_patterns(bytes)
  local head_end = bytes:find("\r\n\r\n", 1, true)
  local method, target, version, at = bytes:match("^(%S+) (%S+) HTTP/(%d%.%d)\r\n()")
  local path, query = target:match("^([^?]*)%??(.*)$")
  local headers = {}
  for name, value in bytes:sub(at, head_end + 1):gmatch("([^:\r\n]+):[ \t]*([^\r\n]*)\r\n") do
    local key = name:lower()
    local before = headers[key]
    headers[key] = before and before .. ", " .. value or value
  end
  return {
    method = method, target = target, path = path, query = query, version = version,
    headers = headers, body = "",
  }, bytes:sub(head_end + 4)
end

local function parse_with_new_parser(bytes)
  local parser = http.parser("request")
  local message = parser:head(bytes)
  parser:body()
  return message, parser:rest()
end

local parser = http.parser("request")

local function parse_with_parser(bytes)
  local message = parser:head(bytes)
  parser:body()
  return message, parser:rest()
end

local function measure(parse, count)
  local clock = os.clock
  collectgarbage()
  local start = clock()
  for _ = 1, count do parse(request) end
  return (clock() - start) / count * 1e9
end

local function median(list)
  table.sort(list)
  return list[math.floor((#list + 1) / 2)]
end

local rounds = tonumber((...)) or 15
local contenders = {
  { name = "Lua patterns", parse = parse_with_patterns },
  { name = "http.parse_request", parse = http.parse_request },
  { name = "parser:head, body, rest", parse = parse_with_parser },
  { name = "with a parser for each", parse = parse_with_new_parser },
}

for _, contender in ipairs(contenders) do
  local message, rest = contender.parse(request)
  assert(message.headers["sec-websocket-key"] == "dGhlIHNhbXBsZSBub25jZQ==" and rest == "")
  contender.times = {}
end
for _ = 1, rounds do
  for _, contender in ipairs(contenders) do
    table.insert(contender.times, measure(contender.parse, 20000))
  end
end

print(string.format("%d bytes, %d rounds", #request, rounds))
local reference = median(contenders[1].times)
for _, contender in ipairs(contenders) do
  local time = median(contender.times)
  print(string.format("%-24s %6.0f ns  %.2f", contender.name, time, reference / time))
end
