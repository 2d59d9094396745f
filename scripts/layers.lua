-- Proves that dependencies run one way, by looking at the includes of csrc and the requires of lua/khp.
--
--   lua5.4 scripts/layers.lua [DIRECTORY]
--
-- csrc/lua stands on csrc/core, that on csrc/{net,ws,http}, and these three know nothing of one another. Each library
-- has its one room. The handshake machines and what they use are Lua without sockets. Prints one line for each
-- violation and ends with status 1 when there is one.

local function set(words)
  local s = {}
  for word in words:gmatch "%S+" do
    s[word] = true
  end
  return s
end

-- Which rooms a room may include from.
local ROOMS = {
  http = set "http",
  ws = set "ws",
  net = set "net",
  core = set "core net ws http",
  lua = set "lua core net ws http",
}

-- Which rooms may include a header of somebody else; the first pattern that fits decides, others are free.
local DIGESTS = set "net ws lua"
local LIBRARIES = {
  { "^libwebsockets", set "net" },
  { "^lws", set "net" },
  { "^uv%.h$", set "net" },
  { "^uv/", set "net" },
  { "^openssl/evp%.h$", DIGESTS },
  { "^openssl/rand%.h$", DIGESTS },
  { "^openssl/hmac%.h$", DIGESTS },
  { "^openssl/crypto%.h$", DIGESTS },
  { "^openssl/sha%.h$", DIGESTS },
  { "^openssl/err%.h$", DIGESTS },
  { "^openssl/", set "net" },
  { "^zlib%.h$", set "ws" },
  { "^lua%.h", set "lua" },
  { "^luaconf%.h$", set "lua" },
  { "^lualib%.h$", set "lua" },
  { "^lauxlib%.h$", set "lua" },
}

-- The Lua rooms that do no input or output, and all that these may require.
local PURE = {
  "^opening/", "^extended/", "^auth/", "^auth%.lua$", "^status%.lua$", "^redirect%.lua$", "^uri%.lua$", "^errors%.lua$",
  "^limits%.lua$", "^options%.lua$", "^kaazing/dialect%.lua$", "^kaazing/client%.lua$", "^kaazing/server%.lua$",
}
local PURE_REQUIRES = set [[
  khp.http khp.crypto khp.errors khp.limits khp.options khp.uri khp.status khp.redirect khp.auth
]]
local PURE_PREFIXES = { "^khp%.auth%.", "^khp%.opening%.", "^khp%.extended%.", "^khp%.kaazing%.dialect$" }

local function matches(name, patterns)
  for _, pattern in ipairs(patterns) do
    if name:find(pattern) then
      return true
    end
  end
  return false
end

--- What is wrong with this include in a file of this room, or nil.
local function judge_include(room, header, own)
  if own then
    local from = header:match "^([^/]+)/[^/]+$"
    if not from or not ROOMS[from] then
      return "is not named by its room"
    elseif not ROOMS[room][from] then
      return ("csrc/%s must not know csrc/%s"):format(room, from)
    end
    return nil
  end
  for _, library in ipairs(LIBRARIES) do
    if header:find(library[1]) then
      return not library[2][room] and ("is not for csrc/%s"):format(room) or nil
    end
  end
  return nil
end

local function judge_require(file, module)
  if not matches(file, PURE) or PURE_REQUIRES[module] or matches(module, PURE_PREFIXES) then
    return nil
  end
  return "a machine without input and output must not know it"
end

local violations, files = 0, 0

local function complain(path, number, what, why)
  violations = violations + 1
  io.write(("%s:%d: %s: %s\n"):format(path, number, what, why))
end

local function check_c(path, room)
  local number = 0
  for line in io.lines(path) do
    number = number + 1
    local mark, header = line:match '^%s*#%s*include%s*([<"])([^>"]+)[>"]'
    local why = header and judge_include(room, header, mark == '"')
    if why then
      complain(path, number, "#include " .. header, why)
    end
  end
end

local function check_lua(path, file)
  local number = 0
  for line in io.lines(path) do
    number = number + 1
    for module in line:gsub("%-%-.*", ""):gmatch "require%s*[,(]?%s*[\"']([^\"']+)[\"']" do
      local why = judge_require(file, module)
      if why then
        complain(path, number, "require " .. module, why)
      end
    end
  end
end

local root = arg[1] or "."
local quoted = "'" .. root:gsub("'", "'\\''") .. "'"
local list = assert(io.popen(("cd %s && find csrc lua -type f \\( -name '*.[ch]' -o -name '*.lua' \\)"):format(quoted)))
for name in list:lines() do
  local path = root == "." and name or root .. "/" .. name
  local room = name:match "^csrc/([^/]+)/"
  local file = name:match "^lua/khp/(.+)$"
  if room and not ROOMS[room] then
    complain(path, 1, "csrc/" .. room, "is a room that scripts/layers.lua does not know")
  elseif room then
    check_c(path, room)
  elseif file then
    check_lua(path, file)
  end
  files = files + 1
end

if not list:close() or files == 0 then
  io.stderr:write("scripts/layers.lua: no sources in ", root, "\n")
  os.exit(2)
end
os.exit(violations == 0)
