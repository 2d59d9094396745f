-- The static files of a folder: answers GET and HEAD requests, with conditions and ranges (RFC 7232, 7233). Files
-- outside the folder and hidden files are never served. Files are read in pieces, never as a whole into memory. This
-- file must not know connections, nor how an answer is sent.

local core = require "khp.core"
local decision = require "khp.policy.decision"
local http = require "khp.http"
local log = require "khp.log"

local static = {}

local byte, char, find, format, gmatch, gsub, lower, match, sub = string.byte, string.char, string.find, string.format,
  string.gmatch, string.gsub, string.lower, string.match, string.sub
local open = core.files.open

--- The files of one folder.
---@class khp.Static
---@field root string the folder
---@field prefix string what request paths have before the names in the folder
local methods = {}
local mt = { __name = "khp.static", __index = methods }

--- Media types by file name extension in lower case; any other is application/octet-stream.
---@type table<string, string>
static.types = {
  avif = "image/avif", bmp = "image/bmp", gif = "image/gif", ico = "image/x-icon", jpeg = "image/jpeg",
  jpg = "image/jpeg", png = "image/png", svg = "image/svg+xml", webp = "image/webp",
  flac = "audio/flac", m4a = "audio/mp4", mp3 = "audio/mpeg", oga = "audio/ogg", ogg = "audio/ogg", opus = "audio/ogg",
  wav = "audio/wav",
  mkv = "video/matroska", mov = "video/quicktime", mp4 = "video/mp4", ogv = "video/ogg", webm = "video/webm",
  otf = "font/otf", ttf = "font/ttf", woff = "font/woff", woff2 = "font/woff2",
  css = "text/css; charset=utf-8", csv = "text/csv; charset=utf-8", htm = "text/html; charset=utf-8",
  html = "text/html; charset=utf-8", js = "text/javascript; charset=utf-8", lua = "text/plain; charset=utf-8",
  map = "application/json", md = "text/markdown; charset=utf-8", mjs = "text/javascript; charset=utf-8",
  txt = "text/plain; charset=utf-8", vtt = "text/vtt; charset=utf-8", xml = "application/xml",
  gz = "application/gzip", json = "application/json", pdf = "application/pdf", rss = "application/rss+xml",
  tar = "application/x-tar", wasm = "application/wasm", webmanifest = "application/manifest+json",
  zip = "application/zip",
}

local INDEX = "index.html"

--- Opens a folder.
---@param root string
---@param prefix string? what request paths have before the names in the folder: with "/public", the request for
---  /public/a is answered with the file "a"
---@return khp.Static? files
---@return string? message
function static.new(root, prefix)
  local folder, message = open(root, "")
  if not folder then
    return nil, root .. ": " .. message
  end
  folder:close()
  return setmetatable({ root = root, prefix = prefix and prefix:gsub("/$", "") or "" }, mt)
end

-- Names -------------------------------------------------------------------------------------------------------------

local function decode(segment)
  if find(gsub(segment, "%%%x%x", ""), "%", 1, true) then
    return nil
  end
  return (gsub(segment, "%%(%x%x)", function(digits)
    return char(tonumber(digits, 16))
  end))
end

-- The name below the folder that a path on the wire means, or nil where it can mean none: what would change its meaning
-- if it were decoded once more, or read by another system, is not guessed at.
local function name_of(path, prefix)
  if sub(path, 1, #prefix) ~= prefix then
    return nil
  end
  local rest = sub(path, #prefix + 1)
  if rest == "" then -- the prefix itself
    return "", false
  elseif byte(rest) ~= 47 then
    return nil
  end
  local names, is_folder = {}, sub(rest, -1) == "/"
  for segment in gmatch(sub(rest, 2, is_folder and -2 or -1) .. "/", "([^/]*)/") do
    local name = decode(segment)
    if not name or name == "" and rest ~= "/" or find(name, "[%c\127/\\]") then
      return nil
    elseif byte(name) == 46 and name ~= ".well-known" then -- hidden, or a way up
      return nil
    end
    names[#names + 1] = name
  end
  return table.concat(names, "/"), is_folder
end

-- Answers -----------------------------------------------------------------------------------------------------------

local problems = {
  absent = { 404, "There is no such file.\n" },
  denied = { 403, "This file may not be read.\n" },
  failed = { 503, "The file cannot be read now.\n" },
}

local function refuse(how)
  return decision.reject(problems[how][1], problems[how][2])
end

local function type_of(name)
  local ending = match(name, "%.([^./]+)$")
  return ending and static.types[lower(ending)] or "application/octet-stream"
end

---@type khp.Body
local body = { length = 0 }
body.__index = body

function body:read(n)
  local bytes, message = self.file:read(self.offset, n)
  if not bytes then
    return nil, message
  elseif bytes == "" then
    return nil, "it has become shorter"
  end
  self.offset = self.offset + #bytes
  return bytes
end

function body:close()
  self.file:close()
end

-- Is one of these entity tags ours? RFC 7232 2.3.2: in the weak comparison, W/ makes no difference.
local function lists_tag(list, tag, weakly)
  if match(list, "^%s*%*%s*$") then
    return true
  end
  for weak, one in gmatch(list, '(W?/?)("[^"]*")') do
    if one == tag and (weakly or weak == "") then
      return true
    end
  end
  return false
end

-- RFC 7232 6: what the conditions of a request make of it: 304, 412 or nil.
local function judge_conditions(headers, about)
  local if_match, unmodified = headers["if-match"], headers["if-unmodified-since"]
  local none_match, modified = headers["if-none-match"], headers["if-modified-since"]
  if if_match then
    if not lists_tag(if_match, about.tag) then
      return 412
    end
  elseif unmodified then
    local since = http.parse_date(unmodified)
    if since and about.seconds > since then
      return 412
    end
  end
  if none_match then
    return lists_tag(none_match, about.tag, true) and 304 or nil
  end
  local since = modified and http.parse_date(modified)
  return since and about.seconds <= since and 304 or nil
end

-- RFC 7233: the first and the last byte that are asked for; false where there are none such; nil for all of it.
local function range_of(headers, about)
  local wanted, only_if = headers.range, headers["if-range"]
  if not wanted or about.size == 0 then -- of nothing there are no parts
    return nil
  elseif only_if and only_if ~= about.tag and http.parse_date(only_if) ~= about.seconds then
    return nil
  end
  local first, last = match(wanted, "^%s*[bB][yY][tT][eE][sS]%s*=%s*(%d*)%s*%-%s*(%d*)%s*$")
  if not first or #first > 15 or #last > 15 then -- several, or nonsense
    return nil
  end
  first, last = tonumber(first), tonumber(last)
  local size = about.size
  if not first then
    if not last then
      return nil
    end
    return last > 0 and size > 0 and math.max(size - last, 0), size - 1
  elseif last and last < first then
    return nil
  end
  return first < size and first, math.min(last or size, size - 1)
end

-- The answer for an open file, which is closed unless its bytes are part of the answer.
local function show(file, name, about, request)
  local headers = {
    "Last-Modified", http.date(about.seconds),
    "ETag", about.tag,
    "Accept-Ranges", "bytes",
  }
  local function add(key, value)
    headers[#headers + 1], headers[#headers + 2] = key, value
  end
  local status = judge_conditions(request.headers, about)
  if status then
    file:close()
    return decision.reject(status, { headers = status == 304 and headers or nil })
  end
  local first, last
  if request.method == "GET" then
    first, last = range_of(request.headers, about)
  end
  if first == false then
    file:close()
    return decision.reject(416, { headers = { "Content-Range", format("bytes */%d", about.size) } })
  elseif first then
    add("Content-Range", format("bytes %d-%d/%d", first, last, about.size))
  end
  add("Content-Type", type_of(name))
  add("X-Content-Type-Options", "nosniff")
  local length = first and last - first + 1 or about.size
  return decision.reject(first and 206 or 200, {
    headers = headers,
    body = setmetatable({ length = length, file = file, offset = first or 0 }, body),
  })
end

-- The file behind a name and what is known about it, or nil and the refusal.
local function look(self, name)
  local file, message, how = open(self.root, name)
  local kind, size, seconds, nanoseconds
  if file then
    kind, size, seconds, nanoseconds = file:stat()
    if not kind then
      file:close()
      file, message, how = nil, size, seconds
    end
  end
  if not file then
    if how == "failed" then
      log.error("%s: %s: %s", self.root, log.quote(name), message)
    end
    return nil, refuse(how)
  end
  return file, {
    kind = kind, size = size, seconds = seconds, tag = format('"%x-%x-%x"', seconds, nanoseconds, size),
  }
end

-- A folder is asked for without the slash at its end: relative links on its page would lead elsewhere.
local function add_slash(request)
  local query = request.query and "?" .. request.query or ""
  return decision.redirect(request.path .. "/" .. query, { status = 301 })
end

--- The answer to a request.
---@param request table an ordinary HTTP request, as an opening policy gets it
---@return khp.Decision
function methods:answer(request)
  if request.method ~= "GET" and request.method ~= "HEAD" then
    return decision.reject(405, { headers = { "Allow", "GET, HEAD" } })
  end
  local name, is_folder = name_of(request.path, self.prefix)
  if not name then
    return refuse "absent"
  end
  local file, about = look(self, name)
  if file and about.kind == "folder" then
    file:close()
    if not is_folder then
      return add_slash(request)
    end
    name = name == "" and INDEX or name .. "/" .. INDEX
    file, about = look(self, name)
  elseif file and is_folder then
    file:close()
    return refuse "absent"
  end
  if not file then
    return about
  elseif about.kind ~= "file" then
    file:close()
    return refuse "absent"
  end
  return show(file, name, about, request)
end

return static
