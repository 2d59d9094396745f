-- x-run-length: an extension that compresses. A run of equal bytes becomes its length and the byte; such a message has
-- the second reserved bit set. Server and client use this same file: see server.lua and client.lua.

local function pack(message)
  local out, i = {}, 1
  while i <= #message do
    local byte, last = message:byte(i), i
    while last - i < 254 and message:byte(last + 1) == byte do
      last = last + 1
    end
    out[#out + 1] = string.char(last - i + 1, byte)
    i = last + 1
  end
  return table.concat(out)
end

-- The limit is checked before memory is allocated: a peer may claim any length.
local function unpack(packed, most)
  local out, size = {}, 0
  for i = 1, #packed - 1, 2 do
    size = size + packed:byte(i)
    if size > most then
      return nil, "the message is too large", 1009
    end
    out[#out + 1] = packed:sub(i + 1, i + 1):rep(packed:byte(i))
  end
  if #packed % 2 == 1 then
    return nil, "half a run", 1007
  end
  return table.concat(out)
end

return {
  name = "x-run-length",
  rsv = 2,
  offer = "x-run-length; least=16", -- shorter messages are not compressed
  answer = function(parameters)
    return { least = tonumber(parameters.least) or 64 }
  end,
  start = function(link, parameters)
    local least = tonumber(parameters.least)
    if not least then
      return nil, "x-run-length without 'least'"
    end
    local session = {}
    function session:send(message, kind) -- luacheck: no self
      if #message < least then
        return message, kind
      end
      return pack(message), kind, true
    end
    function session:receive(message, kind, marked) -- luacheck: no self
      if not marked then
        return message, kind
      end
      local whole, wrong, code = unpack(message, link:limit())
      return whole, whole and kind or wrong, code
    end
    return session
  end,
}
