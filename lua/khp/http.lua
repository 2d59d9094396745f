-- HTTP/1.1 messages: reading, writing, and the grammar of the header values that handshakes use. The codec is C; this
-- file says what there is, and adds the one function that is easier said in Lua. It must not know what a handshake is.
--
-- Whatever the bytes or a message can be wrong in comes back as nil, message, code, detail; code is "EPROTOCOL" or
-- "ELIMIT", and detail.status is what a server would answer: 400, 413, 414, 431, 501 or 505.

---What a peer may cost us. Each has a default.
---@class khp.http.limits
---@field head? integer bytes of the head, line ends included; 16384
---@field line? integer bytes of one line of it; 8192
---@field fields? integer number of headers; 100
---@field body? integer bytes of the body; 65536
---@field strict? boolean refuse lines that end in LF alone; false

---Data and nothing else. A value is found under its name in any spelling; values of a repeated header are joined with
---", ". Names and values in wire order, as they were spelled, are at [1], [2], [3], [4]…; pairs() goes through these.
---@class khp.http.headers
---@field [string] string
---@field [integer] string

---@class khp.http.message
---@field version string "1.1"; always "1." and a number
---@field headers khp.http.headers
---@field body? string "" where there is none; nil until parser:body() has it

---@class khp.http.request: khp.http.message
---@field method string
---@field target string as it was sent: "/path?query", "http://host/path", "host:port" (CONNECT) or "*"
---@field path string without the query; "/" where an absolute URI has none; "" for CONNECT
---@field query? string nil where there is no "?"

---@class khp.http.response: khp.http.message
---@field status integer
---@field reason string may be ""

---What can be written as headers: a headers object, a list of name, value, name, value …, or of { name, value }, or a
---map of name to value or array of values, which goes out sorted by name.
---@alias khp.http.writable_headers
---| khp.http.headers
---| (string|number)[]
---| [string, string|number][]
---| table<string, string|number|(string|number)[]>

---One after the other: head() until there is one, body() until there is one, rest(). After a failure the parser says
---the same failure again. Calls in another order are errors.
---@class khp.http.parser
---The message without its body. nil alone: more bytes are needed.
---@field head fun(self, bytes?: string): khp.http.message?, string?, string?, table?
---The body, which is also put into the message. nil alone: more bytes are needed.
---@field body fun(self, bytes?: string): string?, string?, string?, table?
---The bytes after the message, or after the head when body() was not called. Ready for the next message.
---@field rest fun(self): string

---@class khp.http.writable_request
---@field method string
---@field target string
---@field version? string "1.1"
---@field headers? khp.http.writable_headers
---@field body? string Content-Length is added for it

---@class khp.http.writable_response
---@field status integer
---@field reason? string the standard phrase
---@field version? string "1.1"
---@field headers? khp.http.writable_headers
---@field body? string likewise

---Both as names in order and as a map of name to value, true where a name has no value. Of equal names the first one's
---value is in the map, and all of them are among the names.
---@class khp.http.parameters
---@field [integer] string
---@field [string] string|true

---@class khp.http.extension
---@field name string
---@field parameters khp.http.parameters

---@class khp.http.challenge
---@field scheme string as it was spelled
---@field prefix? "Application" where two words name the scheme
---@field token68? string what is there instead of parameters
---@field parameters khp.http.parameters names in lower case

---@class khp.http
---The same limits, checked: wherever limits are taken these cost nothing more.
---@field limits fun(limits?: khp.http.limits): userdata
---@field parser fun(kind: "request"|"response", limits?: khp.http.limits): khp.http.parser
---The message with its body, and the bytes after it. nil alone: it is not all there.
---@field parse_request fun(bytes: string, limits?: khp.http.limits): khp.http.request?, string?, string?, table?
---@field parse_response fun(bytes: string, limits?: khp.http.limits): khp.http.response?, string?, string?, table?
---The bytes, or nil, message, "EPROTOCOL".
---@field write_request fun(message: khp.http.writable_request): string?, string?, string?
---@field write_response fun(message: khp.http.writable_response): string?, string?, string?
---@field fields fun(headers: khp.http.headers): fun(): string?, string? as pairs(headers) from Lua 5.2 on
---@field values fun(headers: khp.http.headers, name: string): string[] the separate values of a header
---@field reason fun(status: integer): string the standard phrase, or ""
---@field is_token fun(value: any): boolean
---@field is_host fun(value: string): boolean can it be the value of a Host header, or be empty?
---@field tokens fun(value: string): string[]?, string? empty elements do not count, so the array may be empty
---@field extensions fun(value: string): khp.http.extension[]?, string? RFC 6455 9.1; the array may be empty
---@field challenges fun(value: string): khp.http.challenge[]?, string? of WWW-Authenticate, Proxy-Authenticate
---@field is_challenge fun(value: string): boolean one or more that challenges() can read
---@field quote fun(text: string): string?, string? as a quoted string; nil, message: it has control characters
---@field unquote fun(quoted: string): string?, string?
---@field date fun(seconds?: number): string of seconds since 1970, or now: "Sun, 06 Nov 1994 08:49:37 GMT"
---@field parse_date fun(text: string): integer? any of the three formats of RFC 2616 3.3.1
local http = require("khp.core").http

-- Appends "; name" or "; name=value" to parts, or returns nil, message.
local function add_parameter(parts, extension, name, value)
  if type(value) == "number" then value = tostring(value) end
  if not http.is_token(name) then
    return nil, "a parameter of the extension " .. extension .. " has a malformed name"
  end
  if value == nil or value == true then
    parts[#parts + 1] = "; " .. name
  elseif http.is_token(value) then
    parts[#parts + 1] = "; " .. name .. "=" .. value
  else
    return nil, "the parameter " .. name .. " of the extension " .. extension .. " has a malformed value"
  end
  return true
end

local function format_extension(extension)
  if type(extension) == "string" then
    local parsed = http.extensions(extension)
    if not parsed or #parsed ~= 1 then return nil, "an extension is malformed" end
    extension = parsed[1]
  end
  if type(extension) ~= "table" or not http.is_token(extension.name) then
    return nil, "an extension has no name, or a malformed one"
  end
  local parameters = extension.parameters or {}
  local parts, listed, others = { extension.name }, {}, {}
  for _, name in ipairs(parameters) do
    local ok, message = listed[name], nil
    if not ok then ok, message = add_parameter(parts, extension.name, name, parameters[name]) end
    if not ok then return nil, message end
    listed[name] = true
  end
  for name in pairs(parameters) do
    if type(name) == "string" and not listed[name] then others[#others + 1] = name end
  end
  table.sort(others)
  for _, name in ipairs(others) do
    local ok, message = add_parameter(parts, extension.name, name, parameters[name])
    if not ok then return nil, message end
  end
  return table.concat(parts)
end

---The value of a Sec-WebSocket-Extensions header. Each extension is a table as http.extensions gives them, or a string.
---Parameters go out once, in the order of their names in the array part; those that are only in the map follow, sorted.
---@param extensions (khp.http.extension|string)[]
---@return string? value "" for an empty array
---@return string? message
function http.format_extensions(extensions)
  if type(extensions) ~= "table" then
    error("bad argument #1 to 'format_extensions' (table expected, got " .. type(extensions) .. ")", 2)
  end
  local values = {}
  for i, extension in ipairs(extensions) do
    local value, message = format_extension(extension)
    if not value then return nil, message end
    values[i] = value
  end
  return table.concat(values, ", ")
end

return http
