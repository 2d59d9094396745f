-- A message as the reason of a close frame: at most 123 bytes (RFC 6455 5.5), and UTF-8 without control characters,
-- whatever a peer's text put into the message. This file must not know why anything is closed.

local byte, find, gsub, ipairs, sub = string.byte, string.find, string.gsub, ipairs, string.sub

local MOST, ELLIPSIS = 123, "..."

-- RFC 3629 4: every character of more than one byte. C1's controls are left out.
local CHARACTERS = {
  "\194[\160-\191]", "[\195-\223][\128-\191]", "\224[\160-\191][\128-\191]",
  "[\225-\236\238\239][\128-\191][\128-\191]", "\237[\128-\159][\128-\191]",
  "\240[\144-\191][\128-\191][\128-\191]", "[\241-\243][\128-\191][\128-\191][\128-\191]",
  "\244[\128-\143][\128-\191][\128-\191]",
}

local function is_text(message)
  for _, character in ipairs(CHARACTERS) do
    message = gsub(message, character, "x")
  end
  return not find(message, "[^\32-\126]")
end

---@param message string
---@return string
return function(message)
  if not is_text(message) then
    message = gsub(message, "[^\32-\126]", "?")
  end
  if #message <= MOST then
    return message
  end
  local last = MOST - #ELLIPSIS
  while byte(message, last + 1) >= 0x80 and byte(message, last + 1) < 0xC0 do -- not inside a character
    last = last - 1
  end
  return sub(message, 1, last) .. ELLIPSIS
end
