-- khp.crypto against published vectors: RFC 6455 1.3, RFC 1321 A.5, the examples of FIPS 180-4, RFC 2202, RFC 4231,
-- RFC 4648 10, RFC 7616 3.9.1.
local crypto = require "khp.crypto"

local function unhex(text)
  return (text:gsub("%x%x", function(pair) return string.char(tonumber(pair, 16)) end))
end

describe("khp.crypto", function()
  it("computes Sec-WebSocket-Accept [E11]", function()
    assert.equal("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", crypto.accept "dGhlIHNhbXBsZSBub25jZQ==")
    assert.equal("HSmrc0sMlYUkAGmm5OPpG2HaGWk=", crypto.accept "x3JJHMbDL1EzLkh9GBhXDw==")
  end)

  it("knows a Sec-WebSocket-Key [O2]", function()
    assert.is_true(crypto.is_key "dGhlIHNhbXBsZSBub25jZQ==")
    assert.is_true(crypto.is_key "+/+/+/+/+/+/+/+/+/+/+w==")
    for _, key in ipairs {
      "", "dGhlIHNhbXBsZSBub25jZQ=", "dGhlIHNhbXBsZSBub25jZQ===", "dGhlIHNhbXBsZSBub25jZ===",
      "dGhlIHNhbXBsZSBub25jZWE=", "dGhlIHNhbXBsZSBub25jZWEh",
      "dGhl HNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25j\0Q==", "====aGhlIHNhbXBsZSBub25j",
    } do
      assert.is_false(crypto.is_key(key), key)
    end
  end)

  it("computes digests [H9]", function()
    local vectors = {
      { "md5", "", "d41d8cd98f00b204e9800998ecf8427e" },
      { "md5", "abc", "900150983cd24fb0d6963f7d28e17f72" },
      { "md5", "message digest", "f96b697d7cb7938d525a2f31aaf161d0" },
      { "sha1", "abc", "a9993e364706816aba3e25717850c26c9cd0d89d" },
      { "sha256", "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
      { "sha256", "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
      { "sha512-256", "abc", "53048e2681941ef99b2e29b76b4c7dabe4c2d0c634fc6d46e0e2f13107e7af23" },
      { "SHA256", "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
    }
    for _, vector in ipairs(vectors) do
      assert.equal(vector[3], crypto.hex(crypto.digest(vector[1], vector[2])), vector[1] .. " of '" .. vector[2] .. "'")
    end
  end)

  it("computes the Digest responses of RFC 7616 3.9.1 [H9]", function()
    local function response(name)
      local function h(text) return crypto.hex(crypto.digest(name, text)) end
      return h(h "Mufasa:http-auth@example.org:Circle of Life" .. ":7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
        .. ":00000001:f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ:auth:" .. h "GET:/dir/index.html")
    end
    assert.equal("8ca523f5e9506fed4657c9700eebdbec", response "md5")
    assert.equal("753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1", response "sha256")
  end)

  it("computes HMACs", function()
    local long = ("\170"):rep(131)
    local vectors = {
      { "md5", ("\11"):rep(16), "Hi There", "9294727a3638bb1c13f48ef8158bfc9d" },
      { "md5", "Jefe", "what do ya want for nothing?", "750c783e6ab0b503eaa86e310a5db738" },
      { "sha1", ("\11"):rep(20), "Hi There", "b617318655057264e28bc0b6fb378c8ef146be00" },
      { "sha256", ("\11"):rep(20), "Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7" },
      { "sha256", "Jefe", "what do ya want for nothing?",
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843" },
      { "sha256", long, "Test Using Larger Than Block-Size Key - Hash Key First",
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54" },
      { "sha256", "", "", "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad" },
    }
    for _, vector in ipairs(vectors) do
      assert.equal(vector[4], crypto.hex(crypto.hmac(vector[1], vector[2], vector[3])), vector[1] .. ": " .. vector[3])
    end
  end)

  it("writes and reads Base64", function()
    local vectors = { [""] = "", f = "Zg==", fo = "Zm8=", foo = "Zm9v", foob = "Zm9vYg==", fooba = "Zm9vYmE=",
      foobar = "Zm9vYmFy", ["\0\255\254"] = "AP/+", ["\251\239\190"] = "++++" }
    for bytes, text in pairs(vectors) do
      assert.equal(text, crypto.base64(bytes))
      assert.equal(bytes, crypto.unbase64(text))
    end
    for n = 0, 300 do
      local bytes = crypto.random(n)
      assert.equal(bytes, crypto.unbase64(crypto.base64(bytes)))
    end
    local large = ("0123456789"):rep(100000)
    assert.equal(large, crypto.unbase64(crypto.base64(large)))
  end)

  it("refuses Base64 that it would not write", function()
    local bad = { "Z", "Zg", "Zg=", "Zm8", "Zm9v=", "Zg===", "=", "==", "====", "Z===", "Zm=v", "Zg==Zg==", "Zm9v\n",
      " Zm9v", "Zm9 ", "Zm9-", "Zm9_", "Zm9\0", "Zm9\195", "Zh==", "Zm9=", "Zm9vZ", "Zm9vZg=a" }
    for _, text in ipairs(bad) do assert.is_nil(crypto.unbase64(text), text) end
  end)

  it("writes hexadecimal", function()
    assert.equal("", crypto.hex "")
    assert.equal("00017f80ff", crypto.hex "\0\1\127\128\255")
    assert.equal("\0\1\127\128\255", unhex(crypto.hex "\0\1\127\128\255"))
  end)

  it("gives random bytes of the length asked for", function()
    assert.equal("", crypto.random(0))
    assert.equal(16, #crypto.random(16))
    assert.equal(1048576, #crypto.random(1048576))
    assert.not_equal(crypto.random(16), crypto.random(16))
  end)

  it("compares", function()
    assert.is_true(crypto.equal("", ""))
    assert.is_true(crypto.equal("a\0b", "a\0b"))
    assert.is_false(crypto.equal("a\0b", "a\0c"))
    assert.is_false(crypto.equal("a", "ab"))
    assert.is_false(crypto.equal("", "a"))
  end)

  it("throws at misuse", function()
    assert.has_error(function() crypto.digest("sha999", "") end,
      "bad argument #1 to 'digest' (unknown digest 'sha999')")
    assert.has_error(function() crypto.hmac("", "", "") end, "bad argument #1 to 'hmac' (unknown digest '')")
    assert.has_error(function() crypto.random(-1) end, "bad argument #1 to 'random' (not between 0 and 1048576)")
    assert.has_error(function() crypto.random(1048577) end, "bad argument #1 to 'random' (not between 0 and 1048576)")
    for _, name in ipairs { "accept", "base64", "unbase64", "hex", "equal" } do
      assert.is_false(pcall(crypto[name], {}))
      assert.is_false(pcall(crypto[name]))
    end
  end)
end)
