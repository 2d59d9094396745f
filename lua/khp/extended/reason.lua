-- A message as the reason of a close frame: at most 123 bytes (RFC 6455 5.5), and UTF-8 without control characters,
-- whatever a peer's text put into the message. This file must not know why anything is closed.

local core = require "khp.core"

local byte, find, gsub, sub = string.byte, string.find, string.gsub, string.sub

local MOST, ELLIPSIS = 123, "..."

---@param message string
---@return string
return function(message)
  if find(message, "[%c\127]") or not core.conn.utf8(message) then
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
