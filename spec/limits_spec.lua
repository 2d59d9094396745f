-- The limits and the error codes: complete lists, and what is done with values given.

local errors = require "khp.errors"
local limits = require "khp.limits"

-- What f throws, with the position, which busted's own error_matches cuts off.
local function thrown(f)
  local ok, message = pcall(f)
  assert.is_false(ok)
  return message
end

describe("limits", function()
  it("are all there with the defaults, units and meanings that are promised [H11]", function()
    local byname = {}
    for _, limit in ipairs(limits.list) do
      assert.is_string(limit.what)
      assert.is_nil(byname[limit.name])
      byname[limit.name] = limit.default .. " " .. limit.unit
    end
    assert.same({
      connections = "65536 connections", opening = "10 seconds", opening_head = "16384 bytes", line = "8192 bytes",
      fields = "100 fields", body = "65536 bytes", extended = "15 seconds", extended_message = "65536 bytes",
      attempts = "5 attempts", wait = "10 seconds", redirects = "5 redirects", message = "16777216 bytes",
      fragments = "1024 fragments", queue = "16777216 bytes", ping = "30 seconds", pong = "20 seconds",
      close = "5 seconds", stall = "30 seconds", policy_instructions = "10000000 instructions",
      policy_memory = "67108864 bytes", policy_time = "0.8 seconds",
    }, byname)
  end)

  it("fill in what is not given", function()
    local resolved = limits.resolve { message = 10 }
    assert.equal(10, resolved.message)
    assert.equal(100, resolved.fields)
    assert.equal(resolved, limits.resolve(resolved))
    assert.equal(limits.defaults, limits.resolve(nil))
    assert.equal(math.huge, limits.resolve { ping = math.huge }.ping)
  end)

  it("throw at the caller's line for what is no limit", function()
    local function with(given)
      return function()
        local function listen()
          limits.resolve(given)
        end
        listen()
      end
    end
    assert.matches("limits_spec.lua:%d+: limits: unknown option 'mesage', did you mean 'message'%?",
      thrown(with { mesage = 1 }))
    assert.matches("at least 1", thrown(with { message = 0 }))
    assert.matches("integer", thrown(with { message = 1.5 }))
    assert.matches("integer", thrown(with { message = math.huge }))
    assert.matches("at most 65536", thrown(with { fields = 65537 }))
    assert.matches("at most 1073741824", thrown(with { body = 2 ^ 31 }))
    assert.matches("at least 0", thrown(with { opening = -1 }))
    assert.matches("must be a table", thrown(with(5)))
  end)
end)

describe("errors", function()
  it("are few and known", function()
    local codes = {}
    for i, entry in ipairs(errors.list) do
      codes[i] = entry.code
      assert.equal(entry.meaning, errors.meaning(entry.code))
    end
    assert.equal("ECONNECT ETLS ETIMEOUT ECLOSED EHANDSHAKE EAUTH EREDIRECT EEXTENSION EPROTOCOL ELIMIT EPOLICY",
      table.concat(codes, " "))
    assert.is_nil(errors.meaning("EWHAT"))
  end)

  it("make the four returns", function()
    local detail = { status = 404 }
    local none, message, code, same = errors.fail("gone", "EHANDSHAKE", detail)
    assert.is_nil(none)
    assert.same({ "gone", "EHANDSHAKE" }, { message, code })
    assert.equal(detail, same)
    assert.same({}, (select(4, errors.fail("gone", "ECLOSED"))))
    assert.matches("limits_spec.lua:%d+: unknown error code EWHAT", thrown(function()
      errors.fail("gone", "EWHAT")
    end))
  end)
end)
