-- That the page of the manual is what the commands say of themselves, and that what reads such pages understands it.

local frame = require "khp.cli.frame"

local LUA = os.getenv "LUA" or "lua5.4"

local function has(program)
  return os.execute("command -v " .. program .. " >/dev/null")
end

local function output_of(command)
  local pipe = io.popen(command .. " 2>&1")
  local text = pipe:read "a"
  pipe:close()
  return text
end

describe("docs/khp.1", function()
  it("is up to date", function()
    assert.equal("", output_of(LUA .. " scripts/manual.lua --check"))
  end)

  it("has no mistakes that mandoc knows", function()
    if not has "mandoc" then
      return pending "mandoc is not installed"
    end
    assert.equal("", output_of "mandoc -T lint -W error docs/khp.1")
  end)

  it("shows every option of every command, as it is typed", function()
    if not has "mandoc" then
      return pending "mandoc is not installed"
    end
    local text = output_of "mandoc -T ascii docs/khp.1 | col -b"
    local _, commands = frame.parser()
    local shown = 0
    for _, command in pairs(commands) do
      for _, option in ipairs(command._options) do
        assert.is_truthy(text:find("\n +" .. option._name:gsub("%p", "%%%0") .. "%f[%s,]"), option._name)
        shown = shown + 1
      end
    end
    assert.is_true(shown > 30)
    assert.is_truthy(text:find("jq 'select(.event == \"error\")'", 1, true))
  end)
end)
