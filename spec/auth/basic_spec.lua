-- Basic authentication on both sides.

local basic = require "khp.auth.basic"
local htpasswd = require "khp.auth.htpasswd"
local http = require "khp.http"

local ALADDIN = "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==" -- RFC 2617 2

describe("khp.auth.basic", function()
  it("writes the example of RFC 2617 [H9]", function()
    assert.equal(ALADDIN, (basic.answer({}, { username = "Aladdin", password = "open sesame" })))
  end)

  it("writes UTF-8 as RFC 7617 has it [H9]", function()
    assert.equal("Basic dGVzdDoxMjPCow==", (basic.answer({}, { username = "test", password = "123\194\163" })))
  end)

  it("cannot carry a colon in the name, or controls [H9]", function()
    for _, credentials in ipairs {
      { username = "a:b", password = "c" }, { username = "a\n", password = "c" }, { username = "a", password = "\0" },
      { username = "a" }, { password = "a" },
    } do
      local value, message = basic.answer({}, credentials)
      assert.is_nil(value)
      assert.is_string(message)
    end
  end)

  it("makes challenges that can be read [H9]", function()
    local list = http.challenges(basic.challenge 'say "friend"')
    assert.same({ "Basic", nil, 'say "friend"', "UTF-8" },
      { list[1].scheme, list[1].prefix, list[1].parameters.realm, list[1].parameters.charset })
    list = http.challenges(basic.challenge("demo", "Application"))
    assert.same({ "Basic", "Application" }, { list[1].scheme, list[1].prefix })
    assert.is_nil((basic.challenge "a\r\nb"))
  end)

  it("reads credentials, and nothing else [H9]", function()
    assert.same({ "Aladdin", "open sesame" }, { basic.parse(ALADDIN) })
    assert.same({ "Aladdin", "open sesame" }, { basic.parse("basic   QWxhZGRpbjpvcGVuIHNlc2FtZQ==") })
    assert.same({ "a", "b:c" }, { basic.parse "Basic YTpiOmM=" })
    assert.same({ "", "" }, { basic.parse "Basic Og==" })
    for _, value in ipairs {
      "", "Basic", "Basic ", "Basic *", "Basic YTpi YTpi", "Bearer YTpi", "Basic YQ==", "Basic YTpi=", "Basic YToK",
      'Basic realm="a"', "Basic YTpi, Basic YTpi", "Basic YToA",
    } do
      local name, message = basic.parse(value)
      assert.is_nil(name)
      assert.is_string(message)
    end
    assert.is_nil((basic.parse(nil)))
  end)

  it("checks against a table [H9]", function()
    local users = { Aladdin = "open sesame", verify = "x", [1] = "y" }
    assert.equal("Aladdin", (basic.check(ALADDIN, users)))
    assert.is_nil((basic.check(ALADDIN, { Aladdin = "open sesam" })))
    assert.is_nil((basic.check(ALADDIN, { Aladdin = true })))
    assert.is_nil((basic.check(ALADDIN, {})))
    assert.is_nil((basic.check("Basic eDo=", {}))) -- nobody's empty password
    assert.equal("verify", (basic.check(basic.answer({}, { username = "verify", password = "x" }), users)))
    local name, message = basic.check(nil, users)
    assert.is_nil(name)
    assert.matches("no Basic credentials", message)
  end)

  it("checks against a function [H9]", function()
    local asked
    assert.equal("Aladdin", (basic.check(ALADDIN, function(...)
      asked = { ... }
      return 1
    end, "cave")))
    assert.same({ "Aladdin", "open sesame", "cave" }, asked)
    assert.is_nil((basic.check(ALADDIN, function() end)))
  end)

  it("checks against a password file [H9]", function()
    local users = assert(htpasswd.parse "Aladdin:{SHA}qTrjhn7ZSwzI8ZKbI9hPEVV+yXc=\n")
    assert.is_nil((basic.check(ALADDIN, users)))
    users = assert(htpasswd.parse(
      "joe:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\nAladdin:$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/\n"))
    assert.equal("joe", (basic.check(basic.answer({}, { username = "joe", password = "secret" }), users)))
    assert.is_nil((basic.check(basic.answer({}, { username = "joe", password = "Secret" }), users)))
    assert.equal("Aladdin", (basic.check(basic.answer({}, { username = "Aladdin", password = "myPassword" }), users)))
  end)

  it("throws for what are no users", function()
    assert.has_error(function()
      basic.check(ALADDIN, "Aladdin")
    end)
  end)
end)
