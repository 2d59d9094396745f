-- Tokens: Bearer, and Token as Kaazing's servers call it.

local bearer = require "khp.auth.bearer"
local http = require "khp.http"

describe("khp.auth.bearer", function()
  it("writes the token under the scheme's name [H9]", function()
    assert.equal("Bearer mF_9.B5f-4.1JqM", (bearer.answer({}, { token = "mF_9.B5f-4.1JqM" }))) -- RFC 6750 2.1
    assert.equal("Token a:b", (bearer.token.answer({}, { token = "a:b" })))
    for _, token in ipairs { "", "a b", "a\n", "\195\164", 7 } do
      assert.is_nil((bearer.answer({}, { token = token })))
    end
    local value, message = bearer.token.answer({}, {})
    assert.is_nil(value)
    assert.equal("Token needs a token", message)
  end)

  it("makes challenges that can be read [H9]", function()
    assert.equal("Bearer", (bearer.challenge()))
    local list = http.challenges(bearer.challenge("a, b", "invalid_token"))
    assert.same({ "Bearer", "a, b", "invalid_token" },
      { list[1].scheme, list[1].parameters.realm, list[1].parameters.error })
    assert.is_nil((bearer.challenge "a\0"))
  end)

  it("asks a function what a token is worth [H9]", function()
    local function verify(token)
      return token == "a:b==" and { user = "joe" } or nil
    end
    assert.same({ user = "joe" }, (bearer.check("Bearer a:b==", verify)))
    assert.same({ user = "joe" }, (bearer.check("bearer   a:b==", verify)))
    assert.same({ user = "joe" }, (bearer.check("Token a:b==", verify, "Token")))
    local result, message = bearer.check("Bearer x", verify)
    assert.is_nil(result)
    assert.equal("wrong token", message)
    for _, value in ipairs { "", "Bearer", "Bearer ", "Bearer a b", "Token a:b==", "Bearera:b==", "Bearer \195\164" } do
      result, message = bearer.check(value, verify)
      assert.is_nil(result)
      assert.matches("Bearer credentials", message)
    end
    assert.is_nil((bearer.check(nil, verify)))
  end)
end)
