-- Damages bytes in ways that repeat from run to run. This file must not know what the bytes mean.

local mutate = {}

--- Numbers from 1 to n that look random and are the same in every run.
---@param seed integer
---@return fun(n: integer): integer
function mutate.random(seed)
  return function(n)
    seed = (seed * 1103515245 + 12345) % 2147483648
    return math.floor(seed / 65536) % n + 1
  end
end

local interesting = { "\0", "\r", "\n", "\r\n", " ", "\t", ":", ",", ";", "=", "\"", "\255", "0", "9", "\r\n\r\n", "a" }

--- The bytes with one to four pieces changed, added, dropped or doubled.
---@param bytes string
---@param random fun(n: integer): integer
---@return string
function mutate.bytes(bytes, random)
  for _ = 1, random(4) do
    local from = random(#bytes + 1)
    local to = math.min(#bytes, from + random(6) - 2)
    local how = random(4)
    local piece = interesting[random(#interesting)]
    if how == 1 then
      bytes = bytes:sub(1, from - 1) .. piece .. bytes:sub(to + 1)
    elseif how == 2 then
      bytes = bytes:sub(1, from - 1) .. piece .. bytes:sub(from)
    elseif how == 3 then
      bytes = bytes:sub(1, from - 1) .. bytes:sub(to + 1)
    else
      bytes = bytes:sub(1, to) .. bytes:sub(from)
    end
  end
  return bytes
end

return mutate
