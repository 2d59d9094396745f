-- Which challenge is answered, and with which credentials.

local auth = require "khp.auth"
local http = require "khp.http"

local function answer(credentials, value, request)
  return auth.new(credentials):answer(assert(http.challenges(value)), request)
end

local BOTH = { username = "joe", password = "welcome", token = "abc" }

describe("khp.auth", function()
  it("answers the strongest challenge first, whatever the server's order [H9]", function()
    local all = 'Basic realm="a", Bearer realm="a", Digest realm="a", nonce="n", qop="auth", '
      .. 'Digest realm="a", nonce="n", qop="auth", algorithm=SHA-256, '
      .. 'Digest realm="a", nonce="n", qop="auth", algorithm=SHA-512-256'
    local value, scheme = answer(BOTH, all)
    assert.equal("Digest", scheme)
    assert.matches("algorithm=SHA%-512%-256", value)
    value = answer(BOTH, 'Digest realm="a", nonce="n", qop="auth", Digest realm="a", nonce="n", algorithm=SHA-256')
    assert.matches("algorithm=SHA%-256", value)
    assert.equal("Bearer abc", (answer(BOTH, 'Basic realm="a", Bearer realm="a"')))
    local joe = { username = "joe", password = "welcome" }
    assert.equal("Basic am9lOndlbGNvbWU=", (answer(joe, 'Bearer, Basic realm="a"')))
  end)

  it("takes the server's order among equals [H9]", function()
    assert.equal("Token abc", (answer(BOTH, "Token, Bearer")))
    assert.equal("Bearer abc", (answer(BOTH, "Bearer, Token")))
  end)

  it("answers the Application form with the scheme alone [H9]", function()
    assert.equal("Basic am9lOndlbGNvbWU=", (answer(BOTH, 'Application Basic realm="demo"')))
    assert.equal("Token abc", (answer(BOTH, "Application Token")))
    assert.equal("Token abc", (answer(BOTH, "application token")))
  end)

  it("leaves what it does not know, and says when there is nothing else [H9]", function()
    local unknown = 'Negotiate, Digest realm="a", nonce="n", algorithm=X, '
    assert.equal("Basic am9lOndlbGNvbWU=", (answer(BOTH, unknown .. 'Basic realm="a"')))
    local value, message, code = answer(BOTH, "Application Negotiate")
    assert.is_nil(value)
    assert.is_string(message)
    assert.equal("EAUTH", code)
    value, message = answer({ token = "x" }, 'Basic realm="a"')
    assert.is_nil(value)
    assert.matches("needs a username", message)
  end)

  it("asks a function about schemes that it does not know, the known ones first", function()
    local asked = {}
    local answerer = auth.new(function(_, _, scheme, challenge)
      asked[#asked + 1] = scheme .. " " .. (challenge.token68 or "")
      return scheme == "Negotiate" and { token = "YII" .. challenge.token68 } or nil
    end)
    local challenges = http.challenges 'Application Negotiate abc=, Basic realm="a"'
    assert.equal("Negotiate YIIabc=", (answerer:answer(challenges)))
    assert.same({ "Basic ", "Negotiate abc=" }, asked)
    local _, message = auth.new(function()
      return { username = "joe", password = "welcome" }
    end):answer(http.challenges "Negotiate")
    assert.equal("Negotiate needs a token", message)
  end)

  it("does not offer the same credentials twice [E13]", function()
    local answerer = auth.new(BOTH)
    local challenges = http.challenges 'Basic realm="a"'
    assert.is_string((answerer:answer(challenges)))
    local value, message, code = answerer:answer(challenges)
    assert.is_nil(value)
    assert.matches("refused", message)
    assert.equal("EAUTH", code)
    assert.is_string((answerer:answer(http.challenges 'Basic realm="b"')))
    assert.is_string((answerer:answer(http.challenges 'Basic realm="a", Token')))
  end)

  it("offers them again when only the nonce was stale [E13 H9]", function()
    local answerer = auth.new(BOTH)
    assert.is_string((answerer:answer(http.challenges 'Digest realm="a", nonce="1", qop="auth"')))
    local value = answerer:answer(http.challenges 'Digest realm="a", nonce="2", qop="auth", stale=TRUE')
    assert.matches('nonce="2"', value)
    assert.is_nil((answerer:answer(http.challenges 'Digest realm="a", nonce="3", qop="auth"')))
  end)

  it("offers them again once they were accepted [E13]", function()
    local answerer = auth.new(BOTH)
    local challenges = http.challenges 'Basic realm="a"'
    assert.is_string((answerer:answer(challenges)))
    answerer:accepted()
    assert.is_string((answerer:answer(challenges)))
    assert.is_nil((answerer:answer(challenges)))
  end)

  it("asks a function each time, with realm, location, scheme and challenge [H9]", function()
    local asked = {}
    local answerer = auth.new(function(realm, location, scheme, challenge)
      asked[#asked + 1] = { realm, location, scheme, challenge.scheme }
      return scheme == "Basic" and { username = "u", password = tostring(#asked) } or nil
    end)
    local challenges = http.challenges 'Basic realm="a", Token'
    assert.equal("Basic dToy", (answerer:answer(challenges, { location = "ws://example.com/" })))
    assert.same({ nil, "ws://example.com/", "Token", "Token" }, asked[1])
    assert.same({ "a", "ws://example.com/", "Basic", "Basic" }, asked[2])
    assert.equal("Basic dTo0", (answerer:answer(challenges)))
  end)

  it("takes further schemes [H9]", function()
    local mine = {
      name = "Mine",
      strength = function()
        return 100
      end,
      answer = function(challenge, credentials, request)
        return "Mine " .. credentials.token .. challenge.parameters.a .. request.target
      end,
    }
    local answerer = auth.new({ token = "t" }, { mine })
    assert.equal("Mine tb/x", (answerer:answer(http.challenges "Mine a=b", { target = "/x" })))
    assert.is_nil((answerer:answer(http.challenges "Bearer")))
  end)

  it("throws for what are no credentials", function()
    assert.has_error(function()
      auth.new "joe:welcome"
    end)
  end)
end)
