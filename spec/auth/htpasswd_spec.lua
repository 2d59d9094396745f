-- Password files. The hashes are those of `openssl passwd -apr1` and of `openssl dgst -sha1`.

local crypto = require "khp.crypto"
local htpasswd = require "khp.auth.htpasswd"

describe("khp.auth.htpasswd", function()
  it("checks Apache's MD5 at any length of password and salt [H9]", function()
    local users = assert(htpasswd.parse [[
a:$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/
b:$apr1$abcdefgh$82JubPF2dQkt1tVfvLnXS.
c:$apr1$a$NulQQCkEYFbJBDowLuPV/0
]])
    assert.is_true(users:verify("a", "myPassword"))
    assert.is_true(users:verify("b", "x"))
    assert.is_true(users:verify("c", "a-password-of-more-than-sixteen-bytes-in-all"))
    assert.is_false(users:verify("a", "mypassword"))
    assert.is_false(users:verify("b", ""))
    assert.is_false(users:verify("c", ("x"):rep(10000)))
    assert.is_false(users:verify("d", "x"))
  end)

  it("checks SHA-1 [H9]", function()
    local users = assert(htpasswd.parse "joe:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=")
    assert.is_true(users:verify("joe", "secret"))
    assert.is_false(users:verify("joe", "secret\0"))
    assert.is_false(users:verify("", "secret"))
  end)

  -- The password of all is "secret"; made with crypt(3) of libxcrypt, and by htpasswd -B.
  local HASHES = {
    ["$2y$"] = "$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a",
    ["$5$"] = "$5$saltsalt$0IyaXrmV7.sGNS6tirgqHLqX/G.FBvgkYA.lpPdS5sA",
    ["$6$"] = "$6$saltsalt$TVLlQcbpFVof5W3Yz4DTP6gRstiNuHwwTt6GLc1E5n0U0aDehy0S5knV8wiOQSpT0Y77vwPZN.Pq.H91p5hVO1",
  }

  it("checks what crypt(3) makes, bcrypt among it [H9]", function()
    if not crypto.crypt then
      return pending "this system has no crypt(3)"
    end
    for kind, hash in pairs(HASHES) do
      local users = assert(htpasswd.parse("joe:" .. hash .. "\nann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="))
      assert.is_true(users:verify("joe", "secret"), kind)
      assert.is_false(users:verify("joe", "Secret"), kind)
      assert.is_false(users:verify("joe", "secret\0"), kind)
      assert.is_false(users:verify("joe", ""), kind)
      assert.is_true(users:verify("ann", "secret"))
    end
    local users = assert(htpasswd.parse "joe:$2y$05$cut") -- never anybody's
    assert.is_false(users:verify("joe", "secret"))
    assert.is_nil((crypto.crypt("secret", "*0")))
    assert.is_nil((crypto.crypt("secret", "")))
    assert.is_nil((crypto.crypt("sec\0ret", HASHES["$6$"])))
  end)

  it("refuses a hash that needs crypt(3) where there is none, and those that are worth nothing [H9]", function()
    local users, message = htpasswd.parse("joe:" .. HASHES["$2y$"], { crypt = false })
    assert.is_nil(users)
    assert.equal("line 1: a hash ($2y$) that needs crypt(3), and khp was built without it", message)
    for _, hash in ipairs { "rqXexS6ZhobKA", "secret", "_J9..CCCCXBrJUJV154M", "$" } do -- DES, plain text, BSDi's
      users, message = htpasswd.parse("joe:" .. hash)
      assert.is_nil(users)
      assert.matches("plain text, or a hash of an old kind", message)
    end
  end)

  it("leaves other hashes to a function like crypt(3) [H9]", function()
    local text = "# members\r\n\r\njoe:$2y$05$abc\r\nann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\r\n"
    local users, message = htpasswd.parse(text, { crypt = false })
    assert.is_nil(users)
    assert.matches("^line 3: .*crypt", message)
    local asked
    users = assert(htpasswd.parse(text, {
      crypt = function(password, hash)
        asked = { password, hash }
        return password == "secret" and hash or nil
      end,
    }))
    assert.is_true(users:verify("joe", "secret"))
    assert.same({ "secret", "$2y$05$abc" }, asked)
    assert.is_false(users:verify("joe", "other"))
    assert.is_true(users:verify("ann", "secret"))
    assert.is_false(users:verify("nobody", "secret"))
  end)

  it("reads the lines of htdigest [H9]", function()
    local users = assert(htpasswd.parse "Mufasa:testrealm@host.com:939E7578ED9E3C518A452ACEE763BCE9\n")
    assert.equal("939e7578ed9e3c518a452acee763bce9", users:secret("Mufasa", "testrealm@host.com", "md5"))
    assert.is_nil(users:secret("Mufasa", "testrealm@host.com", "sha256"))
    assert.is_nil(users:secret("Mufasa", "other", "md5"))
    assert.is_false(users:verify("Mufasa", "Circle Of Life"))
  end)

  it("says which line it cannot read", function()
    for _, text in ipairs { "joe", ":x", "joe:", "joe:plain", "a:b:c:d", "joe:realm:12" } do
      local users, message = htpasswd.parse("# one\n" .. text)
      assert.is_nil(users)
      assert.matches("^line 2: ", message)
    end
  end)

  it("reads files, and says which it cannot", function()
    local path = os.tmpname()
    local file = assert(io.open(path, "w"))
    file:write "joe:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n"
    file:close()
    assert.is_true(assert(htpasswd.load(path)):verify("joe", "secret"))
    file = assert(io.open(path, "w"))
    file:write "joe"
    file:close()
    local users, message = htpasswd.load(path)
    assert.is_nil(users)
    assert.is_truthy(message:find(path .. ": line 1", 1, true))
    os.remove(path)
    users, message = htpasswd.load(path)
    assert.is_nil(users)
    assert.is_truthy(message:find(path, 1, true))
  end)
end)
