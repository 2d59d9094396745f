-- What a session does for a policy: Basic, Digest and Bearer, for the first request of a client and for the replay.

local auth = require "khp.auth"
local crypto = require "khp.crypto"
local http = require "khp.http"
local session = require "khp.policy.session"

local MEMBERS = { joe = "welcome", ann = "hi" }

describe("a policy's session", function()
  local clock, world

  local function new()
    return session.new({ peer = { host = "127.0.0.1", port = 1 } }, world)
  end

  before_each(function()
    clock = 1000
    local bytes = 0
    world = {
      now = function()
        return clock
      end,
      random = function(n)
        bytes = bytes + 1
        return string.char(bytes):rep(n)
      end,
      sequence = function()
        return 1
      end,
      getenv = function() end,
    }
  end)

  local function request(authorization, target)
    local head = "GET " .. (target or "/a?b") .. " HTTP/1.1\r\n" ..
      (authorization and "Authorization: " .. authorization .. "\r\n" or "") .. "\r\n"
    return assert(http.parse_request(head))
  end

  -- What a client with these credentials says to these challenges.
  local function answer(credentials, challenges, target)
    local answerer = type(credentials.answer) == "function" and credentials or auth.new(credentials)
    local list = http.challenges(table.concat(challenges, ", "))
    local value, problem = answerer:answer(list, { target = target or "/a?b" })
    assert(value, problem)
    return value
  end

  it("checks Basic, whoever asks for it in whatever form [H9 E13]", function()
    for _, challenge in ipairs { 'Basic realm="m"', 'Application Basic realm="m"' } do
      local right = answer({ username = "joe", password = "welcome" }, { challenge })
      assert.equal("joe", (new():basic(request(right), MEMBERS)))
    end
    assert.is_nil((new():basic(request(), MEMBERS)))
    assert.is_nil((new():basic(request(answer({ username = "joe", password = "x" }, { "Basic realm=m" })), MEMBERS)))
  end)

  it("checks Digest, with a challenge for each algorithm [H9 E13]", function()
    local user, asked, message = new():digest(request(), MEMBERS, { realm = "m" })
    assert.is_nil(user)
    assert.equal("no Digest credentials", message)
    assert.equal(2, #asked)
    assert.matches("algorithm=SHA%-256", asked[1])
    assert.matches("algorithm=MD5", asked[2])
    local joe = { username = "joe", password = "welcome" }
    for i = 1, 2 do
      local fresh = select(2, new():digest(request(), MEMBERS, { realm = "m" }))
      assert.equal("joe", (new():digest(request(answer(joe, { fresh[i] })), MEMBERS, { realm = "m" })))
    end
    asked = select(2, new():digest(request(), MEMBERS, { realm = "m", algorithms = { "MD5" }, prefix = "Application" }))
    assert.equal(1, #asked)
    assert.matches("^Application Digest ", asked[1])
    local wrong = answer({ username = "joe", password = "x" }, asked)
    user, asked, message = new():digest(request(wrong), MEMBERS, { realm = "m", algorithms = { "MD5" } })
    assert.is_nil(user)
    assert.equal("wrong username or password", message)
    assert.is_nil(asked[1]:find "stale")
  end)

  it("knows the nonces of its server, and lets each answer count once [H9]", function()
    local joe = auth.new { username = "joe", password = "welcome" }
    local _, asked = new():digest(request(), MEMBERS, { realm = "m" })
    local first = answer(joe, asked)
    assert.equal("joe", (new():digest(request(first), MEMBERS, { realm = "m" }))) -- on another connection
    local user, again = new():digest(request(first), MEMBERS, { realm = "m" })
    assert.is_nil(user)
    assert.matches("stale=true", again[1])
    assert.equal("joe", (new():digest(request(answer(joe, again)), MEMBERS, { realm = "m" })))
    local other = {} -- another server
    for name, value in pairs(world) do
      other[name] = name ~= "nonces" and value or nil
    end
    _, asked = new():digest(request(), MEMBERS, { realm = "m" })
    local message
    user, again, message = session.new({}, other):digest(
      request(answer({ username = "joe", password = "welcome" }, asked)), MEMBERS, { realm = "m" })
    assert.is_nil(user)
    assert.equal("a nonce that is not ours", message)
    assert.is_nil(again[1]:find "stale")
  end)

  it("says stale when a nonce is too old, and only when the password is right [H9]", function()
    local options = { realm = "m", lifetime = 60 }
    local _, asked = new():digest(request(), MEMBERS, options)
    clock = 1061
    local right = answer({ username = "joe", password = "welcome" }, asked)
    local user, again = new():digest(request(right), MEMBERS, options)
    assert.is_nil(user)
    assert.matches("stale=true", again[1])
    _, again = new():digest(request(answer({ username = "joe", password = "x" }, asked)), MEMBERS, options)
    assert.is_nil(again[1]:find "stale")
  end)

  it("takes an answer for the request's own target alone [H9]", function()
    local _, asked = new():digest(request(), MEMBERS, { realm = "m" })
    local elsewhere = answer({ username = "joe", password = "welcome" }, asked, "/other")
    assert.is_nil((new():digest(request(elsewhere), MEMBERS, { realm = "m" })))
  end)

  it("tells a policy's author what is missing, at his line", function()
    local ok, message = pcall(function()
      local user = new():digest(request(), MEMBERS)
      return user
    end)
    assert.is_false(ok)
    assert.matches("^spec/policy/session_spec.lua:%d+: .*'realm' is missing", message)
    ok, message = pcall(function()
      local user = new():digest(request(), MEMBERS, { realm = "m", algorithms = { "SHA-3" } })
      return user
    end)
    assert.is_false(ok)
    assert.matches("^spec/policy/session_spec.lua:%d+: .*unknown algorithm 'SHA%-3'", message)
  end)

  it("hands on what a check of a token says, of Bearer and of Token [H9]", function()
    local function check(token)
      if token == "abc" then
        return { name = "joe" }, "admin"
      end
      return nil, "unknown token " .. token
    end
    for _, challenge in ipairs { "Bearer", "Application Bearer", "Token", "Application Token" } do
      local user, role = new():bearer(request(answer({ token = "abc" }, { challenge })), check)
      assert.same({ name = "joe" }, user)
      assert.equal("admin", role)
    end
    local user, message = new():bearer(request "Bearer x", check)
    assert.is_nil(user)
    assert.equal("unknown token x", message)
    for _, value in ipairs { false, "Basic YTpi", "Bearer", "Bearer a b" } do
      user, message = new():bearer(request(value or nil), error)
      assert.is_nil(user)
      assert.is_string(message)
    end
  end)

  it("remembers for the log whom it has accepted last, and never a token", function()
    local one = new()
    local function check(said)
      return function()
        return said
      end
    end
    assert.is_nil(session.user(one))
    one:basic(request("Basic " .. crypto.base64 "joe:welcome"), MEMBERS)
    assert.equal("joe", session.user(one))
    one:basic(request("Basic " .. crypto.base64 "joe:wrong"), MEMBERS)
    assert.is_nil(session.user(one))
    for said, user in pairs { ann = "ann", t0ken = false, [true] = false, [check] = false } do
      one:bearer(request "Bearer t0ken", check(said))
      assert.equal(user or nil, session.user(one))
    end
    one:bearer(request "Bearer t0ken", check "ann")
    one:bearer(request(), check "ann")
    assert.is_nil(session.user(one))
  end)
end)
