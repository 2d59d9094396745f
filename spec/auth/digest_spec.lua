-- Digest authentication: the examples of RFC 2617 and RFC 7616, and both sides against each other.

local crypto = require "khp.crypto"
local digest = require "khp.auth.digest"
local digest_server = require "khp.auth.digest_server"
local htpasswd = require "khp.auth.htpasswd"
local http = require "khp.http"

local function challenge_of(value)
  return assert(http.challenges(value))[1]
end

-- The parameters of an answer whose client nonce is given.
local function answer(challenge, credentials, request, cnonce, count)
  local parsed = challenge_of(challenge)
  local memory = { [parsed.parameters.nonce] = { count = count or 0, cnonce = cnonce } }
  return challenge_of(assert(digest.answer(parsed, credentials, request, memory))).parameters
end

describe("khp.auth.digest", function()
  it("computes the example of RFC 2617 3.5 [H9]", function()
    local p = answer('Digest realm="testrealm@host.com", qop="auth,auth-int", '
      .. 'nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc069c403ebaf9f0171e9517f40e41"',
      { username = "Mufasa", password = "Circle Of Life" }, { target = "/dir/index.html" }, "0a4f113b")
    assert.equal("6629fae49393a05397450978507c4ef1", p.response)
    assert.same({ "Mufasa", "testrealm@host.com", "/dir/index.html", "auth", "00000001", "0a4f113b",
      "5ccc069c403ebaf9f0171e9517f40e41", nil },
      { p.username, p.realm, p.uri, p.qop, p.nc, p.cnonce, p.opaque, p.algorithm })
  end)

  it("computes the examples of RFC 7616 3.9.1 [H9]", function()
    for algorithm, response in pairs {
      ["MD5"] = "8ca523f5e9506fed4657c9700eebdbec",
      ["SHA-256"] = "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
    } do
      local p = answer('Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm=' .. algorithm
        .. ', nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", '
        .. 'opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"',
        { username = "Mufasa", password = "Circle of Life" }, { target = "/dir/index.html" },
        "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ")
      assert.equal(response, p.response)
      assert.equal(algorithm, p.algorithm)
    end
  end)

  it("computes the example of RFC 7616 3.9.2 as its erratum 4897 has it [H9]", function()
    local p = answer('Digest realm="api@example.org", qop="auth", algorithm=SHA-512-256, charset=UTF-8, userhash=true, '
      .. 'nonce="5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK", opaque="HRPCssKJSGjCrkzDg8OhwpzCiGPChXYjwrI2QmXDnsOS"',
      { username = "J\195\164s\195\184n Doe", password = "Secret, or not?" }, { target = "/doe.json" },
      "NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v")
    assert.equal("793263caabb707a56211940d90411ea4a575adeccb7e360aeb624ed06ece9b0b", p.username)
    assert.equal("3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5", p.response)
    assert.equal("true", p.userhash)
  end)

  it("answers servers without a quality of protection as RFC 2069 has it [H9]", function()
    local value = digest.answer(challenge_of 'Digest realm="a", nonce="n"', { username = "u", password = "p" },
      { target = "/" }, {})
    local function md5(text)
      return crypto.hex(crypto.digest("md5", text))
    end
    assert.equal('Digest username="u", realm="a", nonce="n", uri="/", response="'
      .. md5(md5 "u:a:p" .. ":n:" .. md5 "GET:/") .. '"', value)
  end)

  it("counts the uses of a nonce, with one of its own for all [H9]", function()
    local memory = {}
    local challenge = challenge_of 'Digest realm="a", nonce="n", qop=auth, algorithm=SHA-256-sess'
    local first = challenge_of(digest.answer(challenge, { username = "u", password = "p" }, {}, memory)).parameters
    local second = challenge_of(digest.answer(challenge, { username = "u", password = "p" }, {}, memory)).parameters
    assert.same({ "00000001", "00000002" }, { first.nc, second.nc })
    assert.equal(first.cnonce, second.cnonce)
    assert.is_true(#first.cnonce >= 16)
    assert.equal("SHA-256-sess", first.algorithm)
    local other = challenge_of(digest.answer(challenge, { username = "u", password = "p" }, {}, {})).parameters
    assert.are_not.equal(first.cnonce, other.cnonce)
  end)

  it("cannot answer what it does not know [H9]", function()
    for _, value in ipairs {
      'Digest realm="a"', 'Digest nonce="n"', 'Digest realm="a", nonce="n", algorithm=SHA-3',
      'Digest realm="a", nonce="n", qop="auth-int"', 'Digest realm="a", nonce="n", qop=""', "Digest abc==",
    } do
      assert.is_nil(digest.strength(challenge_of(value)))
    end
    local value, message = digest.answer(challenge_of 'Digest realm="a", nonce="n"', { username = "u" }, {}, {})
    assert.is_nil(value)
    assert.is_string(message)
  end)

  it("quotes what needs it [H9]", function()
    local p = answer('Digest realm="say \\"friend\\", and enter", nonce="n\\\\", qop="auth"',
      { username = 'a"b', password = "p" }, { target = '/"' }, "c")
    assert.same({ 'a"b', 'say "friend", and enter', "n\\", '/"' }, { p.username, p.realm, p.nonce, p.uri })
  end)
end)

describe("khp.auth.digest_server", function()
  local clock

  local function new(options)
    local given = {
      realm = "members",
      users = { joe = "welcome", ["J\195\164s"] = "p" },
      now = function()
        return clock
      end,
    }
    for name, value in pairs(options or {}) do
      given[name] = value
    end
    return digest_server.new(given)
  end

  before_each(function()
    clock = 1000
  end)

  local JOE = { username = "joe", password = "welcome" }

  local function authorization(server, credentials, request, memory, which, stale)
    local challenge = challenge_of(server:challenge(stale)[which or 1])
    return assert(digest.answer(challenge, credentials, request or {}, memory or {}))
  end

  it("accepts the right password with every algorithm [H9]", function()
    for _, name in ipairs { "MD5", "SHA-256", "SHA-512-256", "MD5-sess", "SHA-256-sess", "SHA-512-256-sess" } do
      local server = new { algorithms = { name } }
      assert.equal("joe", (server:check(authorization(server, JOE), "GET", "/")))
    end
  end)

  it("challenges with fresh nonces, the strongest algorithm first [H9]", function()
    local server = new()
    local list = server:challenge()
    assert.equal(2, #list)
    local first, second = challenge_of(list[1]).parameters, challenge_of(list[2]).parameters
    assert.same({ "SHA-256", "MD5", "auth", "members" }, { first.algorithm, second.algorithm, first.qop, first.realm })
    assert.equal(first.nonce, second.nonce)
    assert.are_not.equal(first.nonce, challenge_of(server:challenge()[1]).parameters.nonce)
    assert.equal("joe", (server:check(authorization(server, JOE, nil, nil, 2), "GET", "/")))
    assert.is_nil(first.stale)
    assert.equal("true", challenge_of(server:challenge(true)[1]).parameters.stale)
    assert.equal("Application", challenge_of(new({ prefix = "Application" }):challenge()[1]).prefix)
  end)

  it("refuses a wrong password, user, method, target, realm and algorithm [H9]", function()
    local server = new()
    local function refused(value, method, target)
      local name, message, stale = server:check(value, method or "GET", target or "/")
      assert.is_nil(name)
      assert.is_string(message)
      assert.is_falsy(stale)
    end
    refused(authorization(server, { username = "joe", password = "Welcome" }))
    refused(authorization(server, { username = "eve", password = "welcome" }))
    refused(authorization(server, { username = "eve", password = "" }))
    refused(authorization(server, JOE), "POST")
    refused(authorization(server, JOE), "GET", "/other")
    refused((authorization(server, JOE):gsub('realm="members"', 'realm="other"')))
    refused((authorization(server, JOE):gsub("algorithm=SHA%-256", "algorithm=SHA-512-256")))
    refused((authorization(server, JOE):gsub("algorithm=SHA%-256, ", "")))
  end)

  it("refuses nonces that are not its own [H9]", function()
    local server, other = new(), new()
    assert.is_nil((server:check(authorization(other, JOE), "GET", "/")))
    for _, nonce in ipairs { "x", "1-2-3", ("f"):rep(20) .. "-1-1", ("0"):rep(200) } do
      local challenge = challenge_of('Digest realm="members", qop="auth", algorithm=SHA-256, nonce="' .. nonce .. '"')
      local value = digest.answer(challenge, JOE, {}, {})
      local name, _, stale = server:check(value, "GET", "/")
      assert.is_nil(name)
      assert.is_falsy(stale)
    end
  end)

  it("takes each answer once, and counts that rise [H9]", function()
    local server, memory = new(), {}
    local challenge = challenge_of(server:challenge()[1])
    local first, second = digest.answer(challenge, JOE, {}, memory), digest.answer(challenge, JOE, {}, memory)
    assert.equal("joe", (server:check(second, "GET", "/")))
    for _, value in ipairs { first, second } do
      local name, _, stale = server:check(value, "GET", "/")
      assert.is_nil(name)
      assert.is_true(stale)
    end
    assert.equal("joe", (server:check(digest.answer(challenge, JOE, {}, memory), "GET", "/")))
  end)

  it("says of an old nonce that it is old, to those who know the password [H9]", function()
    local server = new { lifetime = 60 }
    local right = authorization(server, JOE)
    local wrong = authorization(server, { username = "joe", password = "x" })
    clock = 1060
    local name, _, stale = server:check(right, "GET", "/")
    assert.is_nil(name)
    assert.is_true(stale)
    name, _, stale = server:check(wrong, "GET", "/")
    assert.is_nil(name)
    assert.is_falsy(stale)
  end)

  it("remembers what was used for as long as it could be used again [H9]", function()
    local server = new { lifetime = 60 }
    for start = 1000, 1300, 7 do
      clock = start
      local value = authorization(server, JOE)
      clock = start + 30
      assert.equal("joe", (server:check(value, "GET", "/")))
      clock = start + 59
      assert.equal("joe", (server:check(authorization(server, JOE), "GET", "/")))
      local name, _, stale = server:check(value, "GET", "/")
      assert.is_nil(name)
      assert.is_true(stale)
    end
    clock = 5000
    assert.equal("joe", (server:check(authorization(server, JOE), "GET", "/")))
    local count = 0
    for _ in pairs(server.nonces.counts) do
      count = count + 1
    end
    for _ in pairs(server.nonces.earlier) do
      count = count + 1
    end
    assert.equal(1, count)
  end)

  it("reads names that a quoted string cannot hold [H9]", function()
    local server = new()
    local value = authorization(server, { username = "J\195\164s", password = "p" })
    assert.equal("J\195\164s", (server:check(value, "GET", "/")))
    value = authorization(server, { username = "J\195\164s", password = "p" })
    value = value:gsub('username="[^"]*"', "username*=UTF-8''J%%C3%%A4s")
    assert.equal("J\195\164s", (server:check(value, "GET", "/")))
  end)

  it("does not fall over credentials that are malformed [H9]", function()
    local server = new()
    local right = authorization(server, JOE)
    assert.is_nil((server:check(nil, "GET", "/")))
    for _, value in ipairs { "", "Digest", "Digest =", "Basic YTpi", "Digest a, Digest b", "Digest abc==" } do
      assert.is_nil((server:check(value, "GET", "/")))
    end
    for _, change in ipairs {
      { "nc=00000001", "nc=1" }, { "nc=00000001", "nc=0000000g" }, { "nc=00000001, ", "" },
      { "qop=auth", "qop=auth-int" }, { "qop=auth, ", "" }, { 'cnonce="[^"]*"', 'cnonce=""' },
      { 'response="[^"]*"', "response" }, { 'username="joe"', "username*=latin1''joe" },
      { 'username="joe"', "username" }, { "nc=00000001", "nc=00000000" },
    } do
      local value, count = right:gsub(change[1], change[2])
      assert.equal(1, count)
      assert.is_nil((server:check(value, "GET", "/")))
    end
    assert.equal("joe", (server:check(right, "GET", "/")))
  end)

  it("asks a function or a password file [H9]", function()
    local asked
    local server = new {
      users = function(...)
        asked = { ... }
        return "welcome"
      end,
    }
    assert.equal("joe", (server:check(authorization(server, JOE), "GET", "/")))
    assert.same({ "joe", nil, "members" }, asked)
    server = new { users = function() end }
    assert.is_nil((server:check(authorization(server, JOE), "GET", "/")))

    local file = assert(htpasswd.parse("joe:members:" .. crypto.hex(crypto.digest("md5", "joe:members:welcome"))))
    server = new { users = file, algorithms = { "MD5" } }
    assert.equal("joe", (server:check(authorization(server, JOE), "GET", "/")))
    server = new { users = file }
    assert.is_nil((server:check(authorization(server, JOE), "GET", "/")))
  end)

  it("throws for wrong options", function()
    for _, wrong in ipairs {
      {}, { realm = "a" }, { realm = "a", users = {}, algorithms = { "SHA-3" } }, { realm = "a\n", users = {} },
      { realm = "a", users = {}, qop = "auth" },
    } do
      assert.has_error(function()
        digest_server.new(wrong)
      end)
    end
  end)
end)
