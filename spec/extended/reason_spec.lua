-- What stands in our close frames.

local reason = require "khp.extended.reason"

describe("the reason of a close", function()
  it("is the message, as far as a close frame has room for it [E16 E19]", function()
    assert.equal("", reason "")
    assert.equal(("x"):rep(123), reason(("x"):rep(123)))
    assert.equal(("x"):rep(120) .. "...", reason(("x"):rep(124)))
    assert.equal("a" .. ("x"):rep(119) .. "...", reason("a" .. ("x"):rep(1000)))
  end)

  it("is text, whatever a peer put into the message [E16 E19]", function()
    assert.equal("a?b??c ~", reason "a\255b\r\nc ~")
    for _, bad in ipairs {
      "\194\155", "\192\128", "\224\128\128", "\237\160\128", "\244\144\128\128", "\194", "\127",
    } do
      assert.equal("a" .. ("?"):rep(#bad) .. "b", reason("a" .. bad .. "b"))
    end
    for _, good in ipairs { "\194\160", "ß", "€", "\239\187\191", "\240\144\128\128", "\244\143\191\191" } do
      assert.equal("a" .. good .. "b", reason("a" .. good .. "b"))
    end
    assert.equal(("ü"):rep(60) .. "...", reason(("ü"):rep(100))) -- no half of a character
    assert.equal(("ü"):rep(61), reason(("ü"):rep(61)))
    assert.equal("a" .. ("€"):rep(39) .. "...", reason("a" .. ("€"):rep(50)))
  end)
end)
