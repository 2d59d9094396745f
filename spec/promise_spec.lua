-- Promises: values for tasks from those who know nothing of tasks.

local khp = require "khp"

local function log_of(f)
  local lines = {}
  local sink = khp.log.sink
  khp.log.sink = function(_, text)
    lines[#lines + 1] = text
  end
  local ok, message = pcall(f)
  khp.log.sink = sink
  assert(ok, message)
  return lines
end

describe("a promise", function()
  it("gives its values to all who wait, and to all who come later", function()
    local p, heard = khp.promise(), {}
    for i = 1, 3 do
      khp.spawn(function()
        heard[i] = { p:wait() }
      end)
    end
    assert.same({}, heard)
    assert.is_true(p:resolve("a", nil, 3))
    assert.same({ { "a", nil, 3 }, { "a", nil, 3 }, { "a", nil, 3 } }, heard)
    assert.same({ "a", nil, 3 }, { p:wait() })
  end)

  it("is settled once", function()
    local p = khp.promise()
    assert.is_true(p:resolve(1))
    assert.is_false(p:resolve(2))
    assert.is_false(p:reject "no")
    assert.equal(1, (p:wait()))
  end)

  it("may be broken", function()
    local p = khp.promise()
    p:reject("no database", "ECONNECT", { host = "db" })
    assert.same({ nil, "no database", "ECONNECT", { host = "db" } }, { p:wait() })
  end)

  it("waits only so long", function()
    local p = khp.promise()
    local value, message, code, detail = p:wait(0.01)
    assert.is_nil(value)
    assert.equal("timeout: nothing came in 0.01 s", message)
    assert.equal("ETIMEOUT", code)
    assert.same({}, detail)
    p:resolve "late"
    assert.equal("late", (p:wait(0)))
  end)

  it("turns the loop where the main chunk waits", function()
    local p = khp.promise()
    khp.spawn(function()
      khp.sleep(0.01)
      p:resolve "done"
    end)
    assert.equal("done", (p:wait(5)))
  end)

  it("outlives those who wait no more", function()
    local p = khp.promise()
    local task = require "khp.task"
    local waiting = task.spawn(function()
      p:wait()
      error "not reached"
    end)
    local last
    khp.spawn(function()
      last = p:wait()
    end)
    task.cancel(waiting)
    assert.same({}, log_of(function()
      p:resolve(7)
    end))
    assert.equal(7, last)
  end)

  it("refuses nonsense at the caller's line", function()
    local ok, message = pcall(function()
      local value = khp.promise():wait "long"
      return value
    end)
    assert.is_false(ok)
    assert.matches("promise_spec.lua:%d+: wait: a time in seconds expected, not long", message)
  end)
end)
