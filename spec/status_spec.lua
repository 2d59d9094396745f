-- The table of status codes against the protocol text: its 67 codes, what a client does on each, and the words with
-- which the text asks for it.

local status = require "khp.status"

-- Action, word, and whether closing comes first; what is not here closes.
local special = {
  [100] = { "continue", "MUST" },
  [101] = { "complete", "MUST" },
  [201] = { "complete", "MUST" },
  [202] = { "wait", "MAY" },
  [204] = { "complete", "MUST" },
  [205] = { "complete", "MUST" },
  [300] = { "redirect", "SHOULD", "MUST" },
  [301] = { "redirect", "SHOULD", "MUST" },
  [302] = { "redirect", "SHOULD", "MUST" },
  [303] = { "redirect", "MUST", "MUST" },
  [307] = { "redirect", "MUST", "MUST" },
  [401] = { "authenticate", "SHOULD" },
  [407] = { "proxy", "MAY", "MUST" },
  [426] = { "upgrade", "MAY", "MUST" },
}

local listed = {
  100, 101, 102, 103, 122, 200, 201, 202, 203, 204, 205, 206, 207, 226, 300, 301, 302, 303, 304, 305, 306, 307, 308,
  400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 418, 422, 423, 424, 425,
  426, 428, 429, 431, 444, 449, 450, 499, 500, 501, 502, 503, 504, 505, 506, 507, 509, 510, 511, 598, 599,
}

describe("status", function()
  it("lists the 67 codes of the protocol and no other", function()
    assert.equal(67, #listed)
    local count = 0
    for _ in pairs(status.rows) do
      count = count + 1
    end
    assert.equal(67, count)
  end)

  for _, code in ipairs(listed) do
    local action, word, close = table.unpack(special[code] or { "close", "MUST" })
    it(("has the client %s on %d [S%d]"):format(action, code, code), function()
      local row = status.rows[code]
      assert.same({ action, word, close }, { row.action, row.must, row.close })
      assert.equal(action, status.action(code, "GET", true))
    end)
  end

  it("continues on 100 only when it was asked for [S100]", function()
    assert.equal("continue", status.action(100, "POST", true))
    assert.equal("close", status.action(100, "POST", false))
    assert.equal("close", status.action(100))
  end)

  it("redirects on 307 only when the method was GET [S307 E12]", function()
    assert.equal("redirect", status.action(307))
    assert.equal("redirect", status.action(307, "GET"))
    assert.equal("close", status.action(307, "POST"))
    assert.equal("redirect", status.action(302, "POST"))
  end)

  it("takes a code that is not listed as the x00 of its class [S100 S200 S300 S400 S500]", function()
    for code, like in pairs { [199] = 100, [299] = 200, [399] = 300, [420] = 400, [599 - 20] = 500 } do
      assert.equal(status.rows[like], status.row(code))
    end
    assert.equal("close", status.action(142))
    assert.equal("close", status.action(600))
    assert.equal("close", status.action(99))
  end)

  it("knows what may pass by itself [E10]", function()
    for _, code in ipairs { 202, 404, 408, 423, 429, 500, 502, 503, 504, 507, 509, 598, 599, 520 } do
      assert.is_true(status.is_temporary(code))
    end
    for _, code in ipairs { 200, 400, 401, 403, 405, 410, 417, 426, 501, 505, 511 } do
      assert.is_false(status.is_temporary(code))
    end
  end)
end)
