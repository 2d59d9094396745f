-- HTTP/1.1 messages: reading, writing, and the grammar of the header values that handshakes use. The codec is C; this
-- file says what there is, and adds the one function that is easier said in Lua. It must not know what a handshake is.
--
-- Whatever the bytes or a message can be wrong in comes back as nil, message, code, detail; code is "EPROTOCOL" or
-- "ELIMIT", and detail.status is what a server would answer: 400, 413, 414, 431, 501 or 505.

--- Limits of a parser.
---@class khp.http.Limits
---@field head? integer bytes of the head, including line ends; default 16384
---@field line? integer bytes of one line of the head; default 8192
---@field fields? integer number of header fields; default 100
---@field body? integer bytes of the body; default 65536
---@field strict? boolean whether to reject lines that end in LF without CR; default false

--- The header fields of a parsed message: plain data. `headers[name]` finds a value by name, ignoring case; the values
--- of a repeated field are joined with ", ". The array part has names and values as sent: name, value, name, value, …,
--- which is what pairs() iterates over, too.
---@class khp.http.Headers
---@field [string] string
---@field [integer] string

---@class khp.http.Message
---@field version string "1." and a digit, such as "1.1"
---@field headers khp.http.Headers
---@field body? string "" if the message has none; nil until parser:body() has read it

---@class khp.http.Request: khp.http.Message
---@field method string
---@field target string as sent: "/path?query", "http://host/path", "host:port" (CONNECT) or "*"
---@field path string without the query; "/" if an absolute URI has no path; "" for CONNECT
---@field query? string nil if there is no "?"

---@class khp.http.Response: khp.http.Message
---@field status integer
---@field reason string reason phrase; may be ""

--- What can be written as header fields: khp.http.Headers; an array name, value, name, value, …; an array of
--- { name, value }; or a table from name to value or array of values, which is written sorted by name.
---@alias khp.http.WritableHeaders
---| khp.http.Headers
---| (string|number)[]
---| [string, string|number][]
---| table<string, string|number|(string|number)[]>

--- Reads one message after another. For each: call head() until it returns one, then body() until it returns one, then
--- rest(). After a failure every call returns the same failure. Calls in another order throw.
---@class khp.http.Parser
--- Returns the message without its body. A single nil means that more bytes are needed.
---@field head fun(self, bytes?: string): result: khp.http.Message?, message: string?, code: string?, detail: table?
--- Returns the body, and stores it in the message. A single nil means that more bytes are needed.
---@field body fun(self, bytes?: string): body: string?, message: string?, code: string?, detail: table?
--- Returns the bytes after the message, or after the head if body() was not called. The parser is then ready for the
--- next message.
---@field rest fun(self): bytes: string

---@class khp.http.WritableRequest
---@field method string
---@field target string
---@field version? string default "1.1"
---@field headers? khp.http.WritableHeaders
---@field body? string Content-Length is added for it

---@class khp.http.WritableResponse
---@field status integer
---@field reason? string default: the standard reason phrase
---@field version? string default "1.1"
---@field headers? khp.http.WritableHeaders
---@field body? string Content-Length is added for it

--- The names in order as an array, and a table from name to value; the value is true for a name without one. If a name
--- is repeated, the table has its first value, the array all of them.
---@class khp.http.Parameters
---@field [integer] string
---@field [string] string|true

---@class khp.http.Extension
---@field name string
---@field parameters khp.http.Parameters

---@class khp.http.Challenge
---@field scheme string as written
---@field prefix? "Application" if the scheme is written in two words, as Kaazing's servers do
---@field token68? string sent instead of parameters
---@field parameters khp.http.Parameters names in lower case

---@class khp.http
--- Checks limits once, for use wherever limits are taken.
---@field limits fun(limits?: khp.http.Limits): checked: userdata
--- Creates a parser.
---@field parser fun(kind: "request"|"response", limits?: khp.http.Limits|userdata): parser: khp.http.Parser
--- Parses a request with its body. Returns it and the bytes after it; a single nil if it is incomplete; on failure nil,
--- message, code, detail.
---@field parse_request fun(bytes: string, limits?: khp.http.Limits|userdata): khp.http.Request?, string?, string?,
---  table?
--- Parses a response with its body. Returns it and the bytes after it; a single nil if it is incomplete; on failure
--- nil, message, code, detail.
---@field parse_response fun(bytes: string, limits?: khp.http.Limits|userdata): khp.http.Response?, string?, string?,
---  table?
--- Writes a request. On failure returns nil, a message and "EPROTOCOL".
---@field write_request fun(message: khp.http.WritableRequest): bytes: string?, message: string?, code: string?
--- Writes a response. On failure returns nil, a message and "EPROTOCOL".
---@field write_response fun(message: khp.http.WritableResponse): bytes: string?, message: string?, code: string?
--- Iterates over names and values as sent; the same as pairs(headers), which LuaJIT and Lua 5.1 cannot do.
---@field fields fun(headers: khp.http.Headers): next: fun(): string?, string?
--- The separate values of a repeated field.
---@field values fun(headers: khp.http.Headers, name: string): values: string[]
--- The standard reason phrase of a status code, or "".
---@field reason fun(status: integer): phrase: string
--- Whether a value is an HTTP token: a string of letters, digits and some punctuation.
---@field is_token fun(value: any): boolean
--- Whether a string is a valid value of a Host header; an empty one is.
---@field is_host fun(value: string): boolean
--- Splits a comma-separated list of tokens. Empty elements are skipped, so the array may be empty.
---@field tokens fun(value: string): tokens: string[]?, message: string?
--- Parses a value of Sec-WebSocket-Extensions (RFC 6455 9.1). The array may be empty.
---@field extensions fun(value: string): list: khp.http.Extension[]?, message: string?
--- Parses a value of WWW-Authenticate or Proxy-Authenticate.
---@field challenges fun(value: string): list: khp.http.Challenge[]?, message: string?
--- Whether challenges() can parse a value, and finds at least one.
---@field is_challenge fun(value: string): boolean
--- Writes a quoted string. Fails if the text has control characters.
---@field quote fun(text: string): quoted: string?, message: string?
--- Reads a quoted string.
---@field unquote fun(quoted: string): text: string?, message: string?
--- Formats a time (seconds since 1970, default now) for HTTP: "Sun, 06 Nov 1994 08:49:37 GMT".
---@field date fun(seconds?: number): string
--- Parses a date in any of the three formats of RFC 2616 3.3.1. Returns seconds since 1970, or nil.
---@field parse_date fun(text: string): seconds: integer?
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

--- Writes a value of Sec-WebSocket-Extensions. Each extension is a string, or a table as http.extensions() returns it.
--- Parameters are written once each: first those in the array part, in that order, then the others, sorted by name.
---@param extensions (khp.http.Extension|string)[]
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
