-- The sandbox, one escape after the other: what a policy file cannot reach, cannot change, and cannot make run on.

local policies = require "khp.policy"

describe("from a policy file", function()
  local folder

  local function write(name, text)
    local file = assert(io.open(folder .. "/" .. name, "wb"))
    file:write(text)
    file:close()
    return folder .. "/" .. name
  end

  before_each(function()
    folder = os.tmpname()
    os.remove(folder)
    assert(os.execute("mkdir -p " .. folder .. "/keys"))
  end)

  after_each(function()
    assert(os.execute("rm -r " .. folder))
  end)

  -- Runs the text as a policy file, and returns what it returns.
  local function run(text, given)
    local functions, message = policies.load(write("p.lua", "return { tests = (function() " .. text .. " end)() }"),
      "server", nil, given)
    assert(functions, message)
    return functions.tests
  end

  local function fails(text, pattern)
    local none, message, code = policies.load(write("p.lua", text .. "\nreturn {}"), "server")
    assert.is_nil(none)
    assert.equal("EPOLICY", code)
    assert.matches(pattern, message)
  end

  for _, name in ipairs {
    "io", "debug", "package", "coroutine", "load", "loadstring", "loadfile", "dofile", "collectgarbage", "setmetatable",
    "getmetatable", "rawset", "rawget", "print", "warn", "newproxy", "getfenv", "setfenv", "os.execute", "os.exit",
    "os.remove", "os.rename", "os.tmpname", "os.getenv", "os.setlocale", "string.dump", "math.randomseed", "khp.listen",
    "khp.spawn", "khp.run", "khp.log.sink",
  } do
    it(name .. " is not there", function()
      assert.equal("nil", run("return type(" .. name .. ")"))
    end)
  end

  it("the host's globals are out of reach", function()
    _G.of_the_host = "secret"
    assert.equal("nil", run "return type(of_the_host)")
    assert.equal("nil", run "return type(_G.of_the_host)")
    assert.equal("nil", run "return type(_ENV.of_the_host)")
    run "_G.of_the_host = 'changed' of_the_host = 'changed' return 1"
    assert.equal("secret", _G.of_the_host)
    _G.of_the_host = nil
  end)

  it("nothing of the host's libraries can be changed", function()
    for _, text in ipairs {
      "string.format = nil", "table.insert = nil", "math.huge = 0", "os.time = nil", "utf8.char = nil",
      "khp.sleep = nil", "khp.log.error = nil",
      "('').format = nil", "require('khp.http').reason = nil", "require('khp.uri').x = 1",
    } do
      fails(text, text:find "''" and "attempt to index a string value" or "is read%-only in a policy")
    end
    run "local next, view = pairs(string) return type(view)"
    assert.equal(string.format, ("").format)
  end)

  it("one policy's globals are not another's", function()
    run "mine = 1 return mine"
    assert.equal("nil", run "return type(mine)")
  end)

  it("bytecode is not loaded", function()
    local code = string.dump(function()
      return {}
    end)
    local none, message = policies.load(write("b.lua", code), "server")
    assert.is_nil(none)
    assert.matches("bytecode is not loaded, only text", message)
    write("part.lua", code)
    fails("require 'part'", "bytecode is not loaded, only text")
  end)

  describe("require", function()
    it("finds the files of the policy's own folder", function()
      write("part.lua", "local name = ... return { name = name, decide = accept ~= nil }")
      write("keys/old.lua", "return { require 'part' }")
      assert.same({ "part", true, true },
        run "local part = require 'part' return { part.name, part.decide, require 'keys.old'[1] == part }")
    end)

    it("has no way out of it", function()
      assert(os.execute("mkdir " .. folder .. "/in"))
      write("out.lua", "return 'out'")
      for _, name in ipairs {
        "../out", "..out", "...out", "keys/../out", "/etc/passwd", "keys//old", "keys\\old", "", ".", "..", "out.", "~",
        "out\0.x", "-", "%2e%2e", "C:x",
      } do
        fails(("require(%q)"):format(name), "require: a policy may not load")
      end
      for _, name in ipairs { "io", "debug", "khp.core", "khp.server", "khp.policy.sandbox", "os", "package" } do
        fails(("require(%q)"):format(name), "No such file")
      end
      fails("require(5)", "a name expected, not number")
      fails("require()", "a name expected, not nil")
    end)

    it("ends where files require one another", function()
      write("a.lua", "return require 'b'")
      write("b.lua", "return require 'a'")
      fails("require 'a'", "'a' requires itself")
    end)

    it("tells the mistakes of the file", function()
      write("broken.lua", "return {")
      fails("require 'broken'", "broken.lua:1: unexpected symbol")
      write("throws.lua", "error 'oops'")
      fails("require 'throws'", "throws.lua:1: oops")
    end)
  end)

  it("crypt() takes no hash that takes longer than there is time", function()
    if not require("khp.crypto").crypt then
      pending "khp was built without crypt(3)"
      return
    end
    for _, hash in ipairs {
      "$2y$31$7DNuihQfLxYWVONQrCOIl.", "$6$rounds=999999999$saltstring", "$5$rounds=10000000$x", "$y$jFT$abcdefgh",
      "$7$x", "$sha1$40000000$jtNX3nZ2$", "ab",
    } do
      fails(("require('khp.crypto').crypt('x', %q)"):format(hash), "crypt: a policy has no time for such a hash: ")
    end
    fails("require('khp.auth.htpasswd').parse('joe:$2y$31$7DNuihQfLxYWVONQrCOIl.'):verify('joe', 'x')", "has no time")
    assert.matches("^%$6%$rounds=1000%$salt%$", run "return require('khp.crypto').crypt('x', '$6$rounds=1000$salt')")
  end)

  it("xpcall runs its handler when the stack is unwound", function()
    assert.same({ false, "handled p.lua:1: oops", true, 1, 2 }, run [[
      local a = { xpcall(error, function(m) return "handled " .. m end, "p.lua:1: oops") }
      local b = { xpcall(function(...) return ... end, error, 1, 2) }
      return { a[1], a[2], b[1], b[2], b[3] } ]])
  end)

  describe("what cannot be interrupted is bounded:", function()
    local tight = { limits = { policy_instructions = 3000000, policy_time = 0.5 } }

    local function ended(text)
      local before = os.clock()
      local functions, message = policies.load(write("p.lua", text .. "\nreturn {}"), "server", nil, tight)
      assert.is_nil(functions)
      assert.matches("p.lua: the %a+ budget is spent", message)
      assert.truthy(os.clock() - before < (os.getenv "KHP_SPEC_TOOL" and 60 or 2), os.clock() - before)
    end

    -- A table whose length is 2^52, with few elements.
    local sparse = {}
    for i = 0, 52 do
      sparse[#sparse + 1] = ("[%d] = 1"):format(2 ^ i)
    end
    sparse = "local t = { " .. table.concat(sparse, ", ") .. " } assert(#t == 2^52) "

    for name, text in pairs {
      ["patterns that backtrack"] = "('a'):rep(10000):find(('.-'):rep(10) .. 'b')",
      ["patterns of string.match"] = "string.match(('a'):rep(10000), ('a*'):rep(10) .. 'b')",
      ["patterns of gmatch"] = "for _ in ('a'):rep(10000):gmatch(('a-'):rep(10) .. 'b') do end",
      ["patterns of gsub"] = "('a'):rep(10000):gsub(('a?'):rep(30) .. ('a'):rep(30) .. ('a-'):rep(5) .. 'b', '')",
      ["patterns for numbers"] = "while true do string.find(1e300, ('.-'):rep(12) .. 'b') end",
      ["plain searches"] = "local s = ('a'):rep(4000000) s:find(('a'):rep(2000000) .. 'b', 1, true)",
      ["table.move"] = "table.move({}, 1, 2^53, 2)",
      ["table.concat"] = sparse .. "table.concat(t)",
      ["table.insert in the middle"] = sparse .. "table.insert(t, 1, 1)",
      ["table.remove from the middle"] = sparse .. "table.remove(t, 1)",
      ["table.unpack"] = "while true do table.unpack({}, 1, 900000) end",
      ["table.sort"] = "local t = {} for i = 1, 200000 do t[i] = i % 7 end while true do table.sort(t) end",
      ["messages whose headers are one"] =
        "require('khp.http').parse_request('GET / HTTP/1.1\\r\\n' .. ('A: ' .. ('x'):rep(200) .. '\\r\\n'):rep(60000)"
        .. " .. '\\r\\n', { head = 2^29, fields = 65536, line = 2^29 })",
      ["formats of string.pack"] = "local a = (' '):rep(25000000) while true do pcall(string.packsize, a) end",
      ["formats of string.unpack"] = "local a = (' '):rep(25000000) while true do pcall(string.unpack, a, '') end",
      ["numbers with many digits"] = "local a = ('1'):rep(25000000) while true do tonumber(a, 10) end",
      ["strings of many megabytes"] = "while true do local s = ('x'):rep(20000000) end",
      ["comparisons of such strings"] =
        "local a, b = ('x'):rep(9000000), ('x'):rep(9000000) .. 'y' while true do local _ = a < b end",
    } do
      it(name, function()
        ended(text)
      end)
    end

    it("the methods of strings are those of the sandbox, and afterwards the host's again", function()
      assert.equal(0, run "return #(''):rep(1e15)")
      assert.equal(0, run "return #string.rep('', 1e15, '')")
      assert.is_false(run "return ('').rep ~= string.rep")
      assert.equal(string.rep, ("").rep)
      assert.is_nil((policies.load(write("p.lua", "error 'x'"), "server")))
      assert.equal(string.rep, ("").rep)
      assert.is_nil((policies.load(write("p.lua", "while true do end"), "server")))
      assert.equal(string.rep, ("").rep)
    end)
  end)

  it("the library is otherwise what it is elsewhere", function()
    assert.same({ "a-b-c", 3, "b", "x,y", 7, "ab", 2, "1970", true, true }, run [[
      local t = { 3, 1, 2 }
      table.sort(t)
      table.insert(t, 4)
      table.insert(t, 1, 0)
      assert(table.concat(t) == "01234" and table.remove(t) == 4 and table.remove(t, 1) == 0)
      assert(select("#", table.unpack({ 1, nil, 3 }, 1, 3)) == 3 and table.pack(1, nil).n == 2)
      assert(table.concat(table.move({ 1, 2 }, 1, 2, 2), ",") == "1,1,2")
      local r = math.random(3)
      return { ("a b c"):gsub(" ", "-"), #"abc", ("abc"):match "b", ("x.y"):gsub("%.", ","), ("%d"):format(7) + 0,
        ("ab"):rep(1), utf8.len "aé", os.date("!%Y", 0), r >= 1 and r <= 3, math.random() < 1 } ]])
  end)

  it("time and chance are the world's", function()
    local world = {
      now = function()
        return 1000.5
      end,
      random = function(n)
        return ("\1"):rep(n)
      end,
    }
    local path = write("p.lua", [[return { tests = function()
      return { os.time(), os.date "!%H:%M:%S", khp.now(), math.random(100), require("khp.crypto").random(2) }
    end }]])
    local functions = assert(policies.load(path, "server"))
    local ok, values = require("khp.task").run_bounded(policies.budget(path, { world = world }), functions.tests)
    assert.is_true(ok)
    assert.same({ 1000, "00:16:40", 1000.5, values[4], "\1\1" }, values)
    local _, again = require("khp.task").run_bounded(policies.budget(path, { world = world }), functions.tests)
    assert.equal(values[4], again[4])
  end)

  describe("where it is trusted", function()
    it("everything is there, and what it makes global is its own", function()
      local path = write("p.lua", [[
        mine = 1
        return { tests = {
          type(io.open), type(debug), type(coroutine), type(khp.listen), type(accept), type(setmetatable) } }
      ]])
      local functions = assert(policies.load(path, "server", nil, {
        trusted = true, limits = { policy_time = os.getenv "KHP_SPEC_TOOL" and 60 or 0.8 },
      }))
      assert.same({ "function", "table", "table", "function", "function", "function" }, functions.tests)
      assert.is_nil(rawget(_G, "mine"))
    end)

    it("its folder comes first, then the program's modules", function()
      write("part.lua", "return 'own'")
      local path = write("p.lua", "return { tests = { require 'part', require 'khp.task' } }")
      local functions = assert(policies.load(path, "server", nil, { trusted = true }))
      assert.same({ "own", require "khp.task" }, functions.tests)
    end)
  end)

  it("khp.connect takes no code and no files", function()
    for text, pattern in pairs {
      ["on_message = function() end"] = "option 'on_message'",
      ["policy = 'p.lua'"] = "option 'policy'",
      ["credentials = function() end"] = "option 'credentials' a function",
      ["redirects = function() end"] = "option 'redirects' a function",
      ["tls = { cert = '/etc/passwd' }"] = "option 'tls'",
      ["limits = { message = 2^40 }"] = "option 'limits'",
      ["trace = error"] = "option 'trace'",
    } do
      fails("khp.connect('ws://127.0.0.1:1/', { " .. text .. " })",
        "p.lua:1: khp.connect: no policy may give the " .. pattern)
    end
  end)
end)
