-- The cookbook of docs/policies.md tells the truth: the recipes show what stands in their files, and no policy of the
-- examples is without tests or without a recipe. What the page shows to be run, docs_spec.lua runs.

local test = require "khp.policy.test"

local FOLDER = "examples/policies/"

local function read(path)
  local file = assert(io.open(path))
  local text = file:read "*a"
  file:close()
  return text
end

local function policies()
  local names = {}
  local pipe = io.popen("ls " .. FOLDER .. "*.lua")
  for path in pipe:lines() do
    names[#names + 1] = path:match "[^/]+$"
  end
  pipe:close()
  return names
end

describe("docs/policies.md", function()
  local text = read "docs/policies.md"
  local cookbook = text:match "\n## Cookbook\n(.*)$"

  it("shows recipes as they stand in their files", function()
    local count = 0
    for recipe in (cookbook .. "\n### "):gmatch "### (.-)\n%f[#\0]" do
      local name = recipe:match "%.%./examples/policies/([%w_]+%.lua)"
      local core = recipe:match "```lua\n(.-)```"
      if core then
        count = count + 1
        assert.truthy(read(FOLDER .. name):find(core, 1, true), name .. " has no " .. core)
      end
    end
    assert.is_true(count >= 15, "recipes found: " .. count)
  end)

  it("has a recipe for each policy, and tests in each", function()
    local demo = { ["joe.lua"] = true, ["stranger.lua"] = true } -- the two clients of the demo
    for _, name in ipairs(policies()) do
      assert.truthy(demo[name] or cookbook:find("/" .. name, 1, true), name .. " is not in the cookbook")
      local functions, results = test.run(FOLDER .. name)
      assert(functions, results)
      assert.is_true(#results > 0, name .. " has no tests")
    end
  end)
end)
