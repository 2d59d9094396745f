-- Declared options: what passes, what throws, whose line is blamed.

local options = require "khp.options"

local declaration = options.declare("play", {
  timeout = { type = "number", default = 10, min = 0 },
  port = { type = "integer", min = 0, max = 65535 },
  name = { type = "string", required = true },
  protocols = { type = "strings" },
  policy = { type = "string|table" },
  kind = { type = "string", choices = { "text", "binary" } },
  even = { type = "integer", check = function(n) return n % 2 == 0, "must be even" end },
  on = { type = "boolean", default = false },
})

local function play(given)
  local checked = options.check(declaration, given)
  return checked
end

-- What f throws, with the position, which busted's own error_matches cuts off.
local function thrown(f)
  local ok, message = pcall(f)
  assert.is_false(ok)
  return message
end

local function with(name, value)
  return function()
    play { name = "x", [name] = value }
  end
end

describe("options.check", function()
  it("returns a new table with the defaults filled in", function()
    local given = { name = "x", port = 80 }
    assert.same({ name = "x", port = 80, timeout = 10, on = false }, play(given))
    assert.same({ name = "x", port = 80 }, given)
    assert.equal(false, play { name = "x", on = false }.on)
    assert.equal(0, play { name = "x", timeout = 0 }.timeout)
  end)

  it("takes each of several types", function()
    assert.equal("p.lua", play { name = "x", policy = "p.lua" }.policy)
    assert.same({}, play { name = "x", policy = {} }.policy)
    assert.matches("play: option 'policy' must be a string or a table, not 1", thrown(with("policy", 1)))
  end)

  it("names the option, what is wrong and the caller's line", function()
    for _, case in ipairs {
      { with("timeout", "10"), "'timeout' must be a number, not string" },
      { with("timeout", -1), "'timeout' must be at least 0, not %-1" },
      { with("timeout", 0 / 0), "'timeout' must be a number, not %-?nan" },
      { with("port", 1.5), "'port' must be an integer, not 1.5" },
      { with("port", 1 / 0), "'port' must be an integer, not inf" },
      { with("port", 65536), "'port' must be at most 65535, not 65536" },
      { with("protocols", "chat"), "'protocols' must be an array of strings, not string" },
      { with("protocols", { "chat", 1 }), "'protocols' must be an array of strings, not table" },
      { with("protocols", { a = "chat" }), "'protocols' must be an array of strings, not table" },
      { with("kind", "json"), "'kind' must be one of text, binary, not 'json'" },
      { with("even", 3), "'even' must be even" },
    } do
      assert.matches("^[^\n]*options_spec.lua:%d+: play: option " .. case[2], thrown(case[1]))
    end
  end)

  it("blames the line that called", function()
    local line = debug.getinfo(1, "l").currentline + 2
    local message = thrown(function()
      play { name = "x", prot = 1 }
    end)
    assert.truthy(message:find("options_spec.lua:" .. line .. ":", 1, true))
  end)

  it("suggests the name that was probably meant", function()
    assert.matches("unknown option 'tiemout', did you mean 'timeout'%?", thrown(with("tiemout", 1)))
    assert.matches("did you mean 'protocols'%?", thrown(with("protocol", {})))
    assert.matches("did you mean 'port'%?", thrown(with("Port", 1)))
    assert.matches("unknown option 'zzzzzzzz' %(known: even, kind, name, on, policy, port, protocols, timeout%)",
      thrown(with("zzzzzzzz", 1)))
    assert.matches("unknown option %[1%]", thrown(with(1, "x")))
  end)

  it("wants what is required, and a table", function()
    assert.matches("play: option 'name' is missing", thrown(function() play() end))
    assert.matches("options_spec.lua:%d+: play: option 'name' is missing", thrown(function() play {} end))
    assert.matches("play: options must be a table, not string", thrown(function() play "x" end))
  end)

  it("refuses a declaration whose default does not fit", function()
    assert.matches("options_spec.lua:%d+: play: the default of 'size' must be an integer", thrown(function()
      options.declare("play", { size = { type = "integer", default = "big" } })
    end))
  end)
end)
