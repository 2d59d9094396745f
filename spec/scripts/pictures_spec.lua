-- That the pictures in docs/pictures are what the transcripts say, and well-formed.

local LUA = os.getenv "LUA" or "lua5.4"

local function read(path)
  local file = assert(io.open(path))
  local text = file:read "a"
  file:close()
  return text
end

local function pictures()
  local list = {}
  local pipe = assert(io.popen "ls docs/pictures/*")
  for path in pipe:lines() do
    list[#list + 1] = path
  end
  pipe:close()
  return list
end

-- What is wrong with a text as XML, as far as these pictures go: tags that do not close, bare "&" and "<".
local function malformed(text)
  local open = {}
  for content, slash, name, rest in text:gmatch "([^<]*)<(/?)([%w]+)([^>]*)>" do
    if content:find "&%f[^&]" and not content:find "&%a+;" then
      return "a bare & in " .. content
    elseif slash == "/" then
      local last = table.remove(open)
      if last ~= name then
        return ("</%s> closes <%s>"):format(name, tostring(last))
      end
    elseif rest:sub(-1) ~= "/" then
      open[#open + 1] = name
    end
  end
  return open[1] and open[#open] .. " is not closed"
end

describe("scripts/pictures.lua", function()
  it("has drawn what is in docs/pictures", function()
    local pipe = assert(io.popen(LUA .. " scripts/pictures.lua --check 2>&1"))
    local said = pipe:read "a"
    assert.is_true((pipe:close()), said)
  end)

  it("draws well-formed pictures with a title, which a page shows", function()
    local list = pictures()
    assert.is_true(#list >= 5)
    local pipe = assert(io.popen "cat README.md docs/*.md")
    local pages = pipe:read "a"
    pipe:close()
    for _, path in ipairs(list) do
      local text = read(path)
      assert.is_nil(malformed(text), path)
      assert.truthy(text:find "<title>[^<]+</title>", path)
      assert.truthy(pages:find("pictures/" .. path:match "[^/]+$", 1, true), "no page shows " .. path)
    end
  end)

  it("tells of what is not so", function()
    assert.truthy(malformed "<svg><text>a</svg>")
    assert.truthy(malformed "<svg><text>a & b</text></svg>")
    assert.is_nil(malformed "<svg><line x='1'/><text>a &amp; b</text></svg>")
  end)
end)
