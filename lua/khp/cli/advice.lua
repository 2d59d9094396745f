-- What to try when something failed: for each failure of a connection that people meet, the next thing that they would
-- have to find out, with the option or the command that helps. This file must not know how failures are found.

local terminal = require "khp.cli.terminal"

local advice = {}

local INSECURE = "--insecure accepts any certificate: use it for tests only."

-- The first pattern that the message has decides: its texts, in which {host} and others are filled in; one that needs
-- what there is not is left out.
local by_code = {}

by_code.ECONNECT = {
  { "^the proxy .*refused", "Nobody listens at the proxy's address: is --proxy right?" },
  { "^the proxy", "Is --proxy right?" },
  { "[Cc]onnection refused", "Nobody listens on {host}, port {port}: is the server running, is the port right?",
    "khp serve --port {open_port} starts one to try.",
    "Nobody listens at the socket {unix}: is the server still running?" },
  { "^no address", "Is the name {host} right? Is there a network?" },
  { "No such file", "There is no socket {unix}: is the path right, is the server running?" },
  { "Permission denied", "You may not use the socket {unix}: its owner decides who may." },
  { "unreachable", "There is no way to {host} from here: is the network up, is a proxy needed (--proxy)?" },
}

by_code.ETIMEOUT = {
  { "connecting", "{host} does not answer on port {port}: a firewall, a wrong address, or (for wss) no TLS there?",
    "--timeout SECONDS waits longer." },
  { "", "The server took the connection and did not answer. --trace shows how far it went." },
}

by_code.ETLS = {
  { "alert certificate required", "The server wants a certificate of yours: --cert FILE --key FILE" },
  { "alert unknown ca", "The server does not trust who signed your certificate (--cert)." },
  { "alert certificate expired", "Your certificate (--cert) has expired." },
  { "alert .*certificate", "The server does not accept your certificate (--cert)." },
  { "key values mismatch", "--key is not the key of the certificate in --cert." },
  { "does not speak TLS", "The server speaks without TLS there: try {plain_url}" },
  { "hostname mismatch", "The certificate is not for {host}: use a name that it is for.", INSECURE },
  { "IP address mismatch", "The certificate is not for {host}: use a name that it is for.", INSECURE },
  { "expired", "Whoever runs the server must renew its certificate.", INSECURE },
  { "not yet valid", "Is the clock right, here and there?", INSECURE },
  { "verify failed", "If you trust who signed it: --ca FILE, the authority's certificate.", INSECURE },
  { "self.signed", "If you trust who signed it: --ca FILE, the authority's certificate.", INSECURE },
}

by_code.EAUTH = {
  { "Bearer", "A token goes into the policy's challenge(), or: -H 'Authorization: Bearer TOKEN'" },
  { "refused", "The name or the password is wrong." },
  { "proxy", "The proxy's user and password stand in its URL: --proxy http://USER:PASSWORD@HOST:PORT" },
  { "none were given", "--user NAME asks for the password, or takes it from KHP_PASSWORD." },
  { "", "--user NAME asks for the password, or takes it from KHP_PASSWORD." },
}

by_code.EREDIRECT = {
  { "", "It was redirected: {urls}" },
}

by_code.EPOLICY = {
  { "", "khp check {policy} tells what is wrong with a policy, and runs its tests." },
}

by_code.EPROTOCOL = {
  { "^the server closed", "If it speaks TLS there, try {secure_url}" },
  { "", "Is that a WebSocket server? --trace shows what it said.", "If it speaks TLS there, try {secure_url}" },
}

by_code.ECLOSED = {
  { "", "--trace shows how far it went.", "If it speaks TLS there, try {secure_url}" },
}

by_code.EEXTENSION = {
  { "", "Try it without --extension." },
}

local by_status = {
  [400] = "The server does not understand the request: --trace shows both sides of it.",
  [403] = "The server refuses: is the path right, does it want an Origin (-H 'Origin: https://{host}') or another " ..
    "--user?",
  [404] = "Is the path right? It was {target}",
  [426] = "--trace shows what the server asks for instead.",
  [429] = "The server asks for fewer connections: try later, or --reconnect.",
  [503] = "The server is not available at present: try later, or --reconnect.",
}

local function of_status(status)
  if by_status[status] then
    return by_status[status]
  elseif status == 101 then
    return "The server, or a proxy in between, breaks RFC 6455: --trace shows what it answered."
  elseif status < 300 then
    return "There is HTTP at that address, but no WebSocket: is the path right? It was {target}"
  elseif status >= 500 then
    return "The server failed. Its log says why."
  end
  return "--trace shows both sides of it."
end

-- Its answer to the request for a way to the server.
local function of_proxy(code)
  if code == "EPROTOCOL" or code == "ECLOSED" then
    return "Is there an HTTP proxy at {proxy}? --trace shows what it said."
  elseif code == "EHANDSHAKE" then
    return "The proxy does not lead to {host}: --trace shows what it said."
  end
  return nil
end

local function over(url, scheme)
  return (url:gsub("^[^:]+", scheme, 1))
end

-- What the texts speak of.
local function facts(target, given, detail)
  local url = detail.url or given.url
  return {
    host = target.host,
    port = target.port,
    open_port = target.port and target.port >= 1024 and target.port or nil, -- others are for the system's servers
    proxy = detail.proxy,
    unix = target.unix,
    target = target.target,
    policy = given.policy,
    plain_url = over(url, "ws"),
    secure_url = not target.secure and over(url, "wss") or nil,
    urls = table.concat(detail.urls or {}, " → "),
  }
end

-- nil where a fact is missing.
local function fill(text, known)
  local missing = false
  text = text:gsub("{([%a_]+)}", function(name)
    missing = missing or known[name] == nil
    return tostring(known[name])
  end)
  return not missing and text or nil
end

--- What to say where the file of an option cannot be read.
---@param option string
---@return string
function advice.file(option)
  return ("It is the file of %s: does it exist, may you read it, is it what it should be?"):format(option)
end

-- A file of an option that cannot be read is named first.
local function option_of(message, given)
  for _, name in ipairs { "ca", "cert", "key", "policy" } do
    if given[name] and message:sub(1, #given[name]) == given[name] then
      return advice.file("--" .. name)
    end
  end
  return nil
end

local function entry_of(message, code)
  for _, entry in ipairs(by_code[code] or {}) do
    if message:find(entry[1]) then
      return entry
    end
  end
  return {}
end

local function find(message, code, detail, given)
  local about
  if detail.proxy and of_proxy(code) then
    about = of_proxy(code)
  elseif detail.status and code == "EHANDSHAKE" then
    about = of_status(detail.status)
  elseif code == "ETLS" and not message:find "key values mismatch" or
    code == "EPOLICY" and message:find "No such file" then
    about = option_of(message, given)
  end
  return about and { "", about } or entry_of(message, code)
end

--- What to say about a connection that failed: the message with its URL, and lines that tell what to try.
---@param given table options of khp connect: url, policy, ca, cert, key
---@param target khp.Uri
---@param message string
---@param code string
---@param detail table
---@return string message
---@return string ... what to try
function advice.connect(given, target, message, code, detail)
  local hints, known = {}, facts(target, given, detail)
  local body = detail.status and detail.body and detail.body:match "%S[^\r\n]*"
  if body then
    hints[1] = "It said: " .. terminal.harmless(body:sub(1, 200))
  end
  for i, text in ipairs(find(message, code, detail, given)) do
    hints[#hints + 1] = i > 1 and fill(text, known) or nil
  end
  local place = detail.url or (code == "ECONNECT" or code == "ETIMEOUT") and given.url
  place = place and place:gsub("%?.*$", "?…") -- a query may hold a token, and messages are pasted elsewhere
  return (place and place .. ": " or "") .. terminal.harmless(message), (table.unpack or unpack)(hints)
end

return advice
