-- The matcher for patterns that may take long: it must say what the string library says.

local pattern = require "khp.policy.pattern"

local function packed(...)
  return { n = select("#", ...), ... }
end

-- What a function of both libraries returns; of gmatch, all that its iterator does.
local function call(of, name, ...)
  local result = packed(pcall(of[name], ...))
  if name == "gmatch" and result[1] then
    local list = {}
    result[1] = pcall(function()
      for a, b in result[2] do
        list[#list + 1] = tostring(a) .. "," .. tostring(b)
      end
    end)
    result[2] = table.concat(list, ";")
  end
  return result
end

local items = {
  "a", "b", "%a", "%d", "[ab]", "[^a]", "[%w-]", ".", "%%", "1", " ", "]", "[]]", "[a-c]", "(", ")", "()", "%1",
  "%b()", "%f[a]", "%f[%w]", "$", "^",
}
local signs = { "", "", "", "*", "+", "-", "?" }
local bytes = { "a", "b", "c", "1", " ", "(", ")", "]", "-", "$" }

local state = 1

local function one_of(list)
  state = (state * 48271) % 2147483647
  return list[state % #list + 1]
end

local function several(n, f)
  local parts = {}
  for i = 1, n do
    parts[i] = f()
  end
  return table.concat(parts)
end

describe("the matcher of policies", function()
  it("says what the string library says", function()
    local compared = 0
    for _ = 1, tonumber(os.getenv "KHP_SPEC_TOOL" and 500) or 5000 do
      local text = several(one_of { 0, 1, 2, 3, 4, 5 }, function()
        return one_of(items) .. one_of(signs)
      end)
      local subject = several(one_of { 0, 1, 3, 6, 9, 12 }, function()
        return one_of(bytes)
      end)
      local init = one_of { 1, 1, 2, 5, -1, -3, 20 }
      for _, arguments in ipairs {
        { "find", init }, { "match", init }, { "gmatch" }, { "gsub", one_of { "<%0>", "<%1>", "%%", "" } },
        { "gsub", string.upper, 2 }, { "gsub", { a = "1", b = false, ab = 2 } },
      } do
        local name = arguments[1]
        local theirs = call(string, name, subject, text, table.unpack(arguments, 2))
        if theirs[1] then -- a mistake that they come upon only sometimes is always one here
          local ours = call(pattern, name, subject, text, table.unpack(arguments, 2))
          local mistake = not ours[1] and (ours[2]:find "malformed" or ours[2]:find "capture" or ours[2]:find "missing")
          if not mistake then
            assert.same(theirs, ours, ("%s(%q, %q)"):format(name, subject, text))
            compared = compared + 1
          end
        end
      end
    end
    assert.truthy(compared > 1000)
  end)

  it("finds plain text", function()
    assert.same({ 3, 4, n = 2 }, packed(pattern.find("a.%d.%d", "%d", 1, true)))
    assert.same({ 6, 7, n = 2 }, packed(pattern.find("a.%d.%d", "%d", 4, true)))
    assert.is_nil((pattern.find("abc", "", 5, true)))
    assert.equal(2, (pattern.find("a)", ")")))
  end)

  it("tells what is wrong with a pattern in the library's words", function()
    for text, message in pairs {
      ["a%"] = "malformed pattern (ends with '%')", ["[a"] = "malformed pattern (missing ']')",
      ["(a"] = "unfinished capture", ["a?)"] = "invalid pattern capture", ["%f"] = "missing '[' after '%f' in pattern",
      ["%b("] = "malformed pattern (missing arguments to '%b')", ["%1"] = "invalid capture index %1",
    } do
      local ok, wrong = pcall(pattern.find, "a", text)
      assert.is_false(ok)
      assert.equal(message, wrong)
      local fine, theirs = pcall(string.find, "a", text)
      assert.truthy(not fine and theirs:find(message, 1, true), text)
    end
  end)

  it("looks no further than a match needs", function()
    local subject = ("a"):rep(3000)
    assert.equal(3000, #pattern.match(subject, "^a*"))
    assert.equal(subject, pattern.match("  " .. subject .. "  ", "^%s*(.-)%s*$"))
  end)
end)
