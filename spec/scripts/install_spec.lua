-- What make install makes: a program that works, wherever it was installed, and a word for those that would look for
-- the library in vain.

local LUA = os.getenv "LUA" or "lua5.4"

local function shell(script)
  local pipe = assert(io.popen(script .. " 2>&1"))
  local text = pipe:read "*a"
  local _, _, status = pipe:close()
  return text, status
end

describe("make install", function()
  local folder

  before_each(function()
    folder = os.tmpname()
    os.remove(folder)
  end)

  after_each(function()
    os.execute("rm -rf " .. folder)
  end)

  local CLEAN = "env -u LUA_PATH -u LUA_CPATH -u LUA_PATH_5_4 -u LUA_CPATH_5_4"

  it("installs to a place where Lua does not look a program that finds its modules, and tells the way to others",
    function()
      local text, status = shell("make --no-print-directory install PREFIX=" .. folder)
      assert.equal(0, status, text)
      assert.equal("khp ", (shell(("cd / && %s %s/bin/khp --version"):format(CLEAN, folder)):sub(1, 4)))
      local paths = text:match "\nexport (LUA_PATH='[^']*' LUA_CPATH='[^']*')\n"
      assert.truthy(paths, text)
      assert.equal("function\n", (shell(("cd / && %s %s %s -e 'print(type(require(\"khp\").listen))'"):format(CLEAN,
        paths, LUA))))
      assert.equal(0, select(2, shell("make --no-print-directory uninstall PREFIX=" .. folder)))
      assert.equal("", (shell(("find %s -type f"):format(folder))))
    end)

  it("installs to a place where Lua looks the program as it is, also into a package's folder", function()
    local text, status = shell(("make --no-print-directory install PREFIX=/usr/local DESTDIR=%s"):format(folder))
    assert.equal(0, status, text)
    assert.is_nil(text:find "LUA_PATH")
    local file = assert(io.open(folder .. "/usr/local/bin/khp"))
    local program = file:read "*a"
    file:close()
    assert.is_nil(program:find "package.path")
    assert.matches("^#![^\n]*lua[^\n]*\n%-%- The command line", program)
  end)
end)
