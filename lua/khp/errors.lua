-- The codes of everything that can go wrong outside the program, and the one way to return them. A function that fails
-- returns nil, message, code, detail: the message is for people and may change; code and detail are for programs.
-- Mistakes of the caller are not here: those are thrown with error().
-- This file must not know who fails, or why.

local errors = {}

--- All codes with their meaning, in the order in which a connection can meet them.
---@type { code: string, meaning: string }[]
errors.list = {
  { code = "ECONNECT", meaning = "no connection: the name, the address, the port or the socket" },
  { code = "ETLS", meaning = "TLS failed: a certificate, a host name, a version" },
  { code = "ETIMEOUT", meaning = "something did not happen in time" },
  { code = "ECLOSED", meaning = "the connection is closed, or the peer left" },
  { code = "EHANDSHAKE", meaning = "lawful HTTP, but no handshake, or one that was refused" },
  { code = "EAUTH", meaning = "no credentials, or none that the peer takes" },
  { code = "EREDIRECT", meaning = "a redirect that is not followed: refused, a loop, too many" },
  { code = "EEXTENSION", meaning = "an extension that cannot be used as negotiated" },
  { code = "EPROTOCOL", meaning = "the peer broke the rules of HTTP or WebSocket" },
  { code = "ELIMIT", meaning = "a limit was reached" },
  { code = "EPOLICY", meaning = "a policy failed, or asked for what is not lawful" },
}

local known = {}
for _, entry in ipairs(errors.list) do
  known[entry.code] = entry.meaning
end

--- The meaning of a code; nil if there is no such code.
---@param code string
---@return string? meaning
function errors.meaning(code)
  return known[code]
end

--- Returns the four values of a failure: `return errors.fail("no route", "ECONNECT", { url = url })`.
---@param message string
---@param code string one of the codes; any other throws
---@param detail table? more about it, for programs; default: an empty table
---@return nil
---@return string message
---@return string code
---@return table detail
function errors.fail(message, code, detail)
  if not known[code] then
    error("unknown error code " .. tostring(code), 2)
  end
  return nil, message, code, detail or {}
end

return errors
