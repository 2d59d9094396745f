-- Writes the lists of files in khp-scm-1.rockspec as they are on disk, and nothing else in it.
--
--   lua5.4 scripts/rockspec.lua

local NAME = "khp-scm-1.rockspec"

local function find(arguments)
  local names = {}
  local pipe = assert(io.popen("find " .. arguments .. " 2>/dev/null"))
  for name in pipe:lines() do
    names[#names + 1] = name
  end
  pipe:close()
  table.sort(names)
  return names
end

--- "lua/khp/auth/init.lua" is the module khp.auth.
local function module_name(path)
  return (path:gsub("^lua/", ""):gsub("%.lua$", ""):gsub("/init$", ""):gsub("/", "."))
end

local file = assert(io.open(NAME))
local text = file:read "*a"
file:close()

--- Puts these lines between the one that ends with `opening` and the one that is `closing`.
local function fill(opening, closing, lines)
  local _, first = text:find(opening .. "\n", 1, true)
  local last = text:find(closing .. "\n", first, true)
  text = text:sub(1, first) .. table.concat(lines) .. text:sub(last)
end

local sources, modules, programs = {}, {}, {}
for _, path in ipairs(find "csrc -name '*.c'") do
  sources[#sources + 1] = ('        "%s",\n'):format(path)
end
for _, path in ipairs(find "lua/khp -name '*.lua'") do
  modules[#modules + 1] = ('    ["%s"] = "%s",\n'):format(module_name(path), path)
end
for _, path in ipairs(find "bin -type f") do
  programs[#programs + 1] = ('      %s = "%s",\n'):format(path:match "[^/]+$", path)
end
table.sort(modules)

fill("sources = {", "      },", sources)
fill("    -- Lua", "  },", modules)
fill("bin = {", "    },", programs)

file = assert(io.open(NAME, "w"))
file:write(text)
file:close()
