-- What a policy file finds around it: khp's helpers, the password files of its folder, and no way to change any of it
-- for others.

local auth = require "khp.auth"
local policies = require "khp.policy"

-- Tools that look for errors make everything slower; nothing here is about time.
local patient = { limits = { policy_time = os.getenv "KHP_SPEC_TOOL" and 60 or 0.8 } }

describe("a policy file", function()
  local folder

  local function write(name, text)
    local file = assert(io.open(folder .. "/" .. name, "w"))
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

  -- Loads a policy whose text is run when it is loaded; it returns its results through `tests`.
  local function run(text)
    local path = write("p.lua", "return { tests = (function() " .. text .. " end)() }")
    return assert(policies.load(path, "server", nil, patient)).tests
  end

  local function fails(text, pattern)
    local none, message, code = policies.load(write("p.lua", text .. " return {}"), "server")
    assert.is_nil(none)
    assert.equal("EPOLICY", code)
    assert.matches(pattern, message)
  end

  it("may require khp's helpers [H9]", function()
    local names = run [[
      local auth, basic, bearer = require "khp.auth", require "khp.auth.basic", require "khp.auth.bearer"
      local digest, server = require "khp.auth.digest", require "khp.auth.digest_server"
      local users, http, crypto = require "khp.auth.users", require "khp.http", require "khp.crypto"
      assert(require "khp.auth" == auth)
      local joe = auth.new({ username = "joe", password = "x" }, auth.schemes)
      local checker = server.new { realm = "m", users = { joe = "x" } }
      local value = joe:answer(http.challenges(table.concat(checker:challenge(), ", ")), { target = "/" })
      local count = #auth.schemes
      for _, scheme in ipairs(auth.schemes) do assert(scheme.name) count = count - 1 end
      local algorithms = 0
      for name in pairs(digest.algorithms) do algorithms = algorithms + #name end
      return { checker:check(value, "GET", "/"), (basic.parse(basic.answer(nil, { username = "ann", password = "p" }))),
        bearer.challenge "m", users.verify({ a = "b" }, "a", "b"), crypto.hex "a", count, algorithms > 0 }
    ]]
    assert.same({ "joe", "ann", 'Bearer realm="m"', true, "61", 0, true }, names)
  end)

  it("cannot change them, not even for itself [H9]", function()
    local schemes = #auth.schemes
    for _, text in ipairs {
      "require('khp.auth').new = nil", "require('khp.auth').schemes = {}", "require('khp.auth').schemes[1] = nil",
      "require('khp.auth').schemes[1].strength = nil", "require('khp.status').rows[200].action = 'complete'",
      "local joe = require('khp.auth').new { username = 'x' } joe.by_name.basic.answer = nil",
      "require('khp.crypto').random = nil", "string.format = nil", "os.time = nil", "require('khp').sleep = nil",
    } do
      fails(text, "is read%-only in a policy")
    end
    assert.equal(schemes, #auth.schemes)
    assert.equal("close", require("khp.status").rows[200].action)
    fails("require('khp.status').row(401).action = 'complete'", "row")
    assert.equal("authenticate", require("khp.status").action(401))
  end)

  it("reads the password files of its own folder, and no other [H9]", function()
    local line = "joe:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n"
    write("members", line)
    write("keys/members", line)
    assert.same({ true, false, true }, run [[
      local htpasswd = require "khp.auth.htpasswd"
      local members = assert(htpasswd.load "members")
      return { members:verify("joe", "secret"), members:verify("joe", "x"),
        assert(htpasswd.load "keys/members"):verify("joe", "secret") }
    ]])
    for _, path in ipairs { folder .. "/members", "../members", "keys/../../members", "..", "/etc/passwd", "a\\..\\b",
      "c:members" } do
      fails(("require('khp.auth.htpasswd').load(%q)"):format(path), "p%.lua:1: htpasswd%.load: a policy may not read")
    end
    fails("require('khp.auth.htpasswd').load()", "may not read 'nil'")
    fails("assert(require('khp.auth.htpasswd').load 'none')", "none: No such file")
  end)

  it("may wait and connect, and may not listen [H9]", function()
    assert.same({ "function", "nil", "function" },
      run "local khp = require 'khp' return { type(khp.sleep), type(khp.listen), type(khp.connect) }")
    for _, name in ipairs { "khp.core", "khp.server", "khp.policy", "khp.task", "io", "debug" } do
      fails("require '" .. name .. "'", name)
    end
  end)
end)
