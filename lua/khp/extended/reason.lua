-- A message as the reason of a close frame: at most 123 bytes (RFC 6455 5.5), and valid UTF-8 whatever a peer's
-- text put into the message. This file must not know why anything is closed.

local gsub, sub = string.gsub, string.sub

---@param message string
---@return string
return function(message)
  message = gsub(message, "[^\32-\126]", "?")
  return #message <= 123 and message or sub(message, 1, 120) .. "..."
end
