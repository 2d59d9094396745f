-- khp check as its users call it.

local command = require "spec.support.command"

local khp, write = command.khp, command.file

local POLICY = [==[
return {
  extended = function(request)
    if request.headers.authorization ~= "Token 7" then
      return challenge "Token"
    end
    return accept {}
  end,
  tests = [[
# Who has no token

```khp
C binary
| GET /echo HTTP/1.1
|
S binary
| HTTP/1.1 401 Unauthorized
| WWW-Authenticate: Token
| Server: khp
| Date: Sun, 22 Nov 2026 12:00:00 GMT
| Content-Length: 0
|
```

# Who has one

```khp
C binary
| GET /echo HTTP/1.1
| Authorization: Token 7
|
S binary
| HTTP/1.1 101 Switching Protocols
* the rest
|
S opens
```
]],
}
]==]

describe("khp check", function()
  local function check(...)
    local paths = {}
    for i, text in ipairs { ... } do
      paths[i] = write(text)
    end
    local output, errors, status = khp("check " .. table.concat(paths, " "))
    for i, path in ipairs(paths) do
      output = output:gsub(path:gsub("%p", "%%%0"), "policy" .. i)
      os.remove(path)
    end
    assert.equal("", errors)
    return output, status
  end

  it("runs the tests of each policy, and prints a line for each", function()
    local output, status = check(POLICY, "return { challenge = function() end }")
    assert.equal([[
ok 1 - policy1: a server's policy
ok 2 - policy1:12: Who has no token
ok 3 - policy1:27: Who has one
ok 4 - policy2: a client's policy
1..4
]], output)
    assert.equal(0, status)
  end)

  it("shows what differs line by line, beside its place in the policy", function()
    local output, status = check((POLICY:gsub('challenge "Token"', 'challenge("Bearer", { body = "No.\\n" })')))
    assert.equal([[
ok 1 - policy1: a server's policy
not ok 2 - policy1:12: Who has no token
# policy1:15: the message differs from what is expected
# policy1:16:   | HTTP/1.1 401 Unauthorized
# policy1:17: - | WWW-Authenticate: Token
#             + | WWW-Authenticate: Bearer
# policy1:18:   | Server: khp
# policy1:19:   | Date: Sun, 22 Nov 2026 12:00:00 GMT
# policy1:20: - | Content-Length: 0
#             + | Content-Length: 4
# policy1:21:   |
#             + + No.\n
ok 3 - policy1:27: Who has one
1..3
]], (output:gsub("\n# +%+", "\n#             +")))
    assert.equal(1, status)
  end)

  it("shows what the policy died of", function()
    local output, status = check((POLICY:gsub('return challenge "Token"', "return request.nothing.at_all")))
    assert.equal(1, status)
    assert.matches("+ | HTTP/1.1 500 Internal Server Error", output, 1, true)
    assert.matches("extended: policy1:4: attempt to index a nil value", output)
    assert.matches("stack traceback", output)
  end)

  it("finds a policy that is none, a test that is none, and a file that is not there", function()
    local misspelt, number, nonsense =
      "return { extnded = function() end }", "return { tests = 1 }", "return { tests = 'C x' }"
    local output, status = check(misspelt, number, nonsense)
    assert.equal(1, status)
    assert.matches("not ok 1 %- policy1\n# policy1: .*'extnded', did you mean 'extended'", output)
    assert.matches("not ok 2 %- policy2\n# policy2: tests: a transcript or a table of transcripts", output)
    assert.matches("not ok 3 %- policy3\n# policy3:1: not a step: C x", output)
    assert.matches("not ok 1 .*No such file", (khp "check /no/such/file.lua"))
  end)
end)
