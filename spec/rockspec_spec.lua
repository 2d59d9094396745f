-- That the rock has every file of the library and no file that is not there.

local function load_rockspec()
  local rockspec = {}
  assert(loadfile("khp-scm-1.rockspec", "t", rockspec))()
  return rockspec
end

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

--- One line for each name that is on disk or in the rockspec and not in the other.
local function differences(disk, rockspec)
  local seen, lines = {}, {}
  for _, name in ipairs(rockspec) do
    seen[name] = true
  end
  for _, name in ipairs(disk) do
    if not seen[name] then
      lines[#lines + 1] = name .. " is missing"
    end
    seen[name] = nil
  end
  for name in pairs(seen) do
    lines[#lines + 1] = name .. " is not on disk"
  end
  return table.concat(lines, "\n")
end

describe("khp-scm-1.rockspec (make rockspec writes its lists)", function()
  local build = load_rockspec().build

  it("compiles every C file of the rooms", function()
    local sources = find "csrc -name '*.c'"
    assert.is_true(#sources > 0)
    assert.equal("", differences(sources, build.modules["khp.core"].sources))
  end)

  it("installs every Lua file under the name that is required", function()
    local names, files = {}, {}
    for name, path in pairs(build.modules) do
      if type(path) == "string" then
        names[path] = name
        files[#files + 1] = path
      end
    end
    assert.equal("", differences(find "lua/khp -name '*.lua'", files))
    for path, name in pairs(names) do
      local stem = "lua/" .. name:gsub("%.", "/")
      assert.is_true(path == stem .. ".lua" or path == stem .. "/init.lua", name .. " is not " .. path)
    end
  end)

  it("installs every program", function()
    local programs = {}
    for _, path in pairs(build.install.bin) do
      programs[#programs + 1] = path
    end
    assert.equal("", differences(find "bin -type f", programs))
  end)

  it("links what the Makefile links, and no Lua library", function()
    local file = assert(io.open "Makefile")
    local libraries = {}
    for name in file:read("a"):match("\nKHP_LIBS := ([^\n]*)"):gmatch "%-l(%S+)" do
      libraries[#libraries + 1] = name
    end
    file:close()
    assert.same(libraries, build.modules["khp.core"].libraries)
  end)
end)
