-- The sums that decide whether `make check` passed.

--- Runs the tally; returns what it printed, its last line, and whether it ended with status 0.
local function tally(arguments)
  local pipe = assert(io.popen((os.getenv "LUA" or "lua5.4") .. " scripts/tally.lua " .. arguments))
  local output = pipe:read "a"
  local ok = pipe:close()
  return output, output:match "([^\n]*)\n$", ok == true
end

describe("scripts/tally.lua", function()
  it("adds up the tests of several programs", function()
    local _, last, ok = tally [[--tap one 'printf "1..2\nok 1 - a\nok 2 - b\n"' --tap two 'printf "ok 1 c\n1..1\n"' \
      --run three true]]
    assert.equal("4 passed, 0 failed", last)
    assert.is_true(ok)
  end)

  it("fails and repeats what the program said when a test failed", function()
    local output, last, ok = tally [[--tap one 'printf "1..2\nok 1 - a\nnot ok 2 - b\n# because\n"']]
    assert.equal("1 passed, 1 failed", last)
    assert.is_false(ok)
    assert.truthy(output:find("# because", 1, true))
    assert.truthy(output:find("one: b", 1, true))
  end)

  it("names skips only when there are any, with their reasons", function()
    local output, last, ok =
      tally [[--tap one 'printf "1..3\nok 1 - a\nok 2 # SKIP no key\nnot ok 3 - # SKIP no peer\n"']]
    assert.equal("1 passed, 0 failed, 2 skipped", last)
    assert.is_true(ok)
    assert.truthy(output:find("skipped: no key\n", 1, true))
    assert.truthy(output:find("skipped: no peer\n", 1, true))
  end)

  it("counts a program that printed nothing as failed", function()
    local output, last, ok = tally "--tap silent true --run fine true"
    assert.equal("1 passed, 1 failed", last)
    assert.is_false(ok)
    assert.truthy(output:find("silent: printed no result", 1, true))
  end)

  it("counts a program that planned tests and ran none as failed", function()
    local _, last, ok = tally [[--tap empty 'echo 1..0' --run fine true]]
    assert.equal("1 passed, 1 failed", last)
    assert.is_false(ok)
  end)

  it("counts a program that stopped half-way as failed", function()
    local output, last, ok = tally [[--tap half 'printf "1..3\nok 1 - a\n"']]
    assert.equal("1 passed, 1 failed", last)
    assert.is_false(ok)
    assert.truthy(output:find("planned 3 tests and ran 1", 1, true))
  end)

  it("counts a crash after the last test as failed", function()
    local output, last, ok = tally [[--tap crash 'printf "1..1\nok 1 - a\n"; kill -ABRT $$']]
    assert.equal("1 passed, 1 failed", last)
    assert.is_false(ok)
    assert.truthy(output:find("ended by signal 6", 1, true))
  end)

  it("counts a status other than 0 as failed", function()
    local _, last, ok = tally "--run bad 'exit 3'"
    assert.equal("0 passed, 1 failed", last)
    assert.is_false(ok)
  end)

  it("logs what became of each test", function()
    local path = os.tmpname()
    tally("--log " .. path .. [[ --tap 'one on uv' 'printf "1..3\nok 1 - a [E1]\nnot ok 2 - b\nok 3 # SKIP no c\n"' \
      --run two false --tap three 'printf "ok 1 d\n1..1\n"']])
    local file = assert(io.open(path))
    local text = file:read "a"
    file:close()
    os.remove(path)
    assert.equal("one on uv\tok\ta [E1]\none on uv\tnot ok\tb\none on uv\tskip\tno c\nthree\tok\td\n", text)
  end)
end)
