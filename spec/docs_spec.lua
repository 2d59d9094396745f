-- The documentation tells the truth: the blocks of code that are marked do what the pages say (spec/support/pages.lua
-- tells of the marks), the others are Lua where they say so, and links lead somewhere.

local pages = require "spec.support.pages"

local function list(command)
  local names = {}
  local pipe = assert(io.popen(command))
  for name in pipe:lines() do
    names[#names + 1] = name
  end
  pipe:close()
  return names
end

local FILES = list "ls README.md CONTRIBUTING.md docs/*.md docs/decisions/*.md"

for _, path in ipairs(FILES) do
  local text = pages.read(path)
  local blocks, marked = pages.blocks(text), {}
  for _, block in ipairs(blocks) do
    if block.verb then
      marked[#marked + 1] = block
    end
  end

  if marked[1] then
    describe(path, function()
      local story, failed

      setup(function()
        story = pages.story(text)
      end)

      teardown(function()
        story:close()
      end)

      for _, block in ipairs(marked) do
        it(("line %d: %s %s"):format(block.line, block.verb, block.name or block.language), function()
          assert(not failed, "the story has ended before")
          failed = true
          story:play(block)
          failed = false
        end)
      end
    end)
  end
end

describe("the documentation", function()
  it("runs what it shows", function()
    local counts = {}
    for _, path in ipairs(FILES) do
      for _, block in ipairs(pages.blocks(pages.read(path))) do
        counts[path] = (counts[path] or 0) + (block.verb and 1 or 0)
      end
    end
    assert.is_true(counts["docs/getting-started.md"] >= 8)
    assert.is_true(counts["docs/guide.md"] >= 8)
    assert.is_true(counts["docs/policies.md"] >= 1)
  end)

  -- Parts of tables and of functions are Lua when they stand in one.
  local function is_lua(text)
    for _, dots in ipairs { "", "nil" } do
      for _, form in ipairs { "%s", "return { %s }", "return %s", "do %s end end" } do
        local whole = form:gsub("%%s", (text:gsub("…", dots):gsub("%%", "%%%%")))
        if load(whole, "=block", "t") then
          return true
        end
      end
    end
    return false
  end

  it("shows nothing as Lua that is none", function()
    for _, path in ipairs(FILES) do
      for _, block in ipairs(pages.blocks(pages.read(path))) do
        if block.language == "lua" then
          assert.is_true(is_lua(block.text), ("%s:%d is no Lua"):format(path, block.line))
        end
      end
    end
  end)

  local function anchors(path)
    local set = {}
    for heading in ("\n" .. pages.read(path):gsub("```.-\n```", "")):gmatch "\n#+ ([^\n]+)" do
      local text = heading:gsub("%[([^%]]*)%]%b()", "%1"):lower():gsub("[^%w_ \128-\255-]", ""):gsub(" ", "-")
      local name, n = text, 0
      while set[name] do
        n = n + 1
        name = text .. "-" .. n
      end
      set[name] = true
    end
    return set
  end

  local function exists(path)
    local file = io.open(path)
    if file then
      file:close()
    end
    return file ~= nil
  end

  it("has no link that leads nowhere", function()
    local wrong = {}
    for _, path in ipairs(FILES) do
      local folder = path:match "^(.*/)" or ""
      local text = pages.read(path):gsub("```.-\n```", ""):gsub("`[^`\n]*`", "")
      for target in text:gmatch "%]%(([^)%s]+)%)" do
        local file, anchor = target:match "^([^#]*)#?(.*)$"
        if not file:find "^%a+://" then
          local to = file == "" and path or folder .. file
          while to:find "[^/]+/%.%./" do
            to = to:gsub("[^/]+/%.%./", "", 1)
          end
          if not exists(to) or anchor ~= "" and not anchors(to)[anchor] then
            wrong[#wrong + 1] = path .. ": " .. target
          end
        end
      end
    end
    assert.same({}, wrong)
  end)

  it("has a page of contents that names every page", function()
    local contents = pages.read "docs/README.md"
    for _, path in ipairs(list "cd docs && ls *.md") do
      local is_there = path == "README.md" or contents:find("](" .. path .. ")", 1, true)
      assert.truthy(is_there, path .. " is not in docs/README.md")
    end
  end)
end)
