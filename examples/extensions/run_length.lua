-- x-run-length: an extension that compresses messages. A run of equal bytes becomes its length and the byte; a
-- compressed message has the second reserved bit set. server.lua and client.lua both use this file.

local function pack(message)
  local out, i = {}, 1
  while i <= #message do
    local byte, count = message:byte(i), 1
    while count < 255 and message:byte(i + count) == byte do count = count + 1 end
    out[#out + 1], i = string.char(count, byte), i + count
  end
  return table.concat(out)
end

-- The limit is checked before memory is allocated: a few bytes can stand for many.
local function unpack(packed, most)
  local size = 0
  for i = 1, #packed, 2 do size = size + packed:byte(i) end
  if size > most then return nil, "the message is too large", 1009 end
  if #packed % 2 == 1 then return nil, "half a run", 1007 end
  return (packed:gsub("(.)(.)", function(count, byte) return byte:rep(count:byte()) end))
end

return {
  name = "x-run-length",
  rsv = 2,
  offer = "x-run-length; least=16", -- bytes from which on it is worth the trouble
  answer = function(parameters)
    local least = tostring(parameters.least or 64):match "^%d+$"
    return least and { least = least } or nil -- declines anything else
  end,
  start = function(link, parameters)
    local session, least = {}, tonumber(parameters.least)
    function session.send(_, message, kind)
      local packed = least and #message >= least and pack(message)
      if packed and #packed < #message then return packed, kind, true end
      return message, kind
    end
    function session.receive(_, message, kind, marked)
      if not marked then return message, kind end
      local whole, wrong, code = unpack(message, link:limit())
      return whole, whole and kind or wrong, code
    end
    return session
  end,
}
