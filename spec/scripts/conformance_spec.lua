-- The table of requirements against results that are made up.

local rows = dofile "spec/conformance/requirements.lua"

local folder, results, page

--- Runs the program; returns what it printed and whether every row holds.
local function conformance(lines, options)
  local file = assert(io.open(results, "wb"))
  file:write(table.concat(lines, "\n"), "\n")
  file:close()
  local pipe = assert(io.popen(("%s scripts/conformance.lua %s %s %s 2>&1"):format(
    os.getenv "LUA" or "lua5.4", options or "", results, page)))
  local output = pipe:read "a"
  return output, pipe:close() == true
end

-- A passed test for each row but one.
local function all_but(id)
  local lines = {}
  for _, row in ipairs(rows) do
    if row.id ~= id then
      lines[#lines + 1] = ("spec/a_spec.lua\tok\ta client and a server [%s]"):format(row.id)
    end
  end
  return lines
end

describe("scripts/conformance.lua", function()
  setup(function()
    folder = os.tmpname()
    os.remove(folder)
    assert(os.execute("mkdir " .. folder))
    results, page = folder .. "/results", folder .. "/page.md"
    conformance(all_but(nil), "--write")
  end)

  teardown(function()
    os.execute("rm -r " .. folder)
  end)

  local function fails(lines, pattern)
    local output, ok = conformance(lines)
    assert.is_false(ok)
    assert.truthy(output:find(pattern), output)
    local tap
    tap, ok = conformance(lines, "--tap")
    assert.is_false(ok)
    assert.truthy(tap:find("not ok %d+ %- [^\n]*" .. pattern), tap)
  end

  it("is content when each row has a test that passed in each role", function()
    local output, ok = conformance(all_but(nil))
    assert.is_true(ok, output)
    assert.truthy(output:find(("%d rows, 0 of %d checks failed"):format(#rows, #rows + 1), 1, true))
    output, ok = conformance(all_but(nil), "--tap")
    assert.is_true(ok)
    local _, count = output:gsub("\nok %d+ %- ", "")
    assert.equal(#rows, count) -- and one on the first line
    assert.truthy(output:find(("\n1..%d\n"):format(#rows + 1), 1, true))
  end)

  it("fails a row without a test, or with tests that were skipped", function()
    local lines = all_but "E13"
    fails(lines, "E13: no test names it")
    lines[#lines + 1] = "spec/a_spec.lua\tskip\ta client and a server [E13]"
    fails(lines, "E13: no test names it")
  end)

  it("fails a row with a test that failed, and says which", function()
    local lines = all_but(nil)
    lines[#lines + 1] = "spec/a_spec.lua on uv\tnot ok\tthe client does it badly [E1 S404]"
    fails(lines, "S404: a test failed")
    local output = conformance(lines)
    assert.truthy(output:find("failed: spec/a_spec.lua on uv: the client does it badly [E1 S404]", 1, true))
  end)

  it("fails a row for both roles with tests of one", function()
    local lines = all_but "E13"
    lines[#lines + 1] = "spec/client_spec.lua\tok\tanswers the server [E13]" -- the file's name decides
    fails(lines, "E13: no test names it for the server")
    lines[#lines] = "spec/a_spec.lua\tok\tx.md client: what the server says [E13]"
    fails(lines, "E13: no test names it for the server")
    lines[#lines + 1] = "spec/a_spec.lua\tok\tx.md server: what the client says [E13]"
    assert.is_nil(conformance(lines):find "E13: ")
  end)

  it("takes the codec's tests for both roles in rows of the codec, and in no other", function()
    local lines = all_but "H7"
    lines[#lines + 1] = "spec/c/http_date_test.c\tok\treads dates [H7]"
    assert.is_nil(conformance(lines):find "H7: ")
    lines = all_but "H8"
    lines[#lines + 1] = "spec/c/http_head_test.c\tok\treads heads [H8]"
    fails(lines, "H8: no test names it for the client")
  end)

  it("fails a test that names a row which there is not", function()
    local lines = all_but(nil)
    lines[#lines + 1] = "spec/a_spec.lua\tok\tdoes more than it should [E99]"
    fails(lines, "there is no row E99")
  end)

  it("reads the last brackets of a title", function()
    local lines = all_but "E13"
    lines[#lines + 1] = "spec/a_spec.lua\tok\ta client [E2] and a server [H9 E13]"
    assert.is_nil(conformance(lines):find "E13: ")
  end)

  it("writes the same document where tests were skipped", function()
    local lines = all_but(nil)
    lines[#lines + 1] = "spec/b_spec.lua\tok\tanother client [O1]"
    assert.is_true(select(2, conformance(lines, "--write")))
    lines[#lines] = "spec/b_spec.lua\tskip\tanother client [O1] (no peer)"
    assert.is_true(select(2, conformance(lines)))
    assert.is_true(select(2, conformance(all_but(nil), "--write")))
  end)

  it("fails where the document is stale, and writes it", function()
    local lines = all_but(nil)
    lines[#lines + 1] = "spec/b_spec.lua\tok\tanother client [O1]"
    fails(lines, "page.md: is not as it should be")
    assert.is_true(select(2, conformance(lines, "--write")))
    assert.is_true(select(2, conformance(lines)))
    local file = assert(io.open(page))
    local text = file:read "a"
    file:close()
    assert.truthy(text:find("| O1 | client | ", 1, true))
    assert.truthy(text:find(" | [a_spec], [b_spec] |", 1, true))
    assert.truthy(text:find("\n[a_spec]: ../spec/a_spec.lua\n", 1, true))
    assert.is_true(select(2, conformance(all_but(nil), "--write")))
  end)
end)
