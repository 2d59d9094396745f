-- Nonces: made here or not, how old, and used once.

local nonces = require "khp.auth.nonces"

describe("khp.auth.nonces", function()
  local clock

  local function new(random)
    return nonces.new {
      random = random,
      now = function()
        return clock
      end,
    }
  end

  before_each(function()
    clock = 1000
  end)

  it("knows its own, and how old they are [H9]", function()
    local mine, other = new(), new()
    local nonce = mine:make()
    assert.is_true(#nonce <= nonces.LONGEST)
    assert.equal(0, mine:age(nonce))
    clock = 1042.5
    assert.equal(42.5, mine:age(nonce))
    assert.is_nil(other:age(nonce))
    assert.are_not.equal(nonce, mine:make())
    for at = 1, #nonce do
      local changed = nonce:sub(1, at - 1) .. (nonce:sub(at, at) == "0" and "1" or "0") .. nonce:sub(at + 1)
      assert.is_nil(mine:age(changed))
    end
    for _, text in ipairs { "", "-", "1-2-3", nonce .. "0", nonce:sub(2), nonce:upper() .. "G", ("1"):rep(100000) } do
      assert.is_nil(mine:age(text))
    end
  end)

  it("lets a count be used once, and no lower one after it [H9]", function()
    local mine = new()
    local nonce = mine:make()
    assert.is_true(mine:use(nonce, 1, 60))
    assert.is_false(mine:use(nonce, 1, 60))
    assert.is_true(mine:use(nonce, 5, 60))
    assert.is_false(mine:use(nonce, 4, 60))
    assert.is_true(mine:use(mine:make(), 1, 60))
  end)

  it("remembers as long as the longest lifetime that was asked for, and no longer than twice that [H9]", function()
    local mine = new()
    local nonce = mine:make()
    assert.is_true(mine:use(nonce, 1, 300))
    for _ = 1, 30 do
      clock = clock + 10
      assert.is_true(mine:use(mine:make(), 1, 10))
    end
    assert.is_false(mine:use(nonce, 1, 300))
    clock = clock + 300
    mine:use(mine:make(), 1, 10)
    assert.is_nil(mine.counts[nonce])
    clock = clock + 600
    mine:use(mine:make(), 1, 10)
    local kept = 0
    for _, generation in ipairs { mine.counts, mine.earlier } do
      for _ in pairs(generation) do
        kept = kept + 1
      end
    end
    assert.equal(1, kept)
  end)

  it("takes its random bytes from where it is told", function()
    local function zeros(n)
      return ("\0"):rep(n)
    end
    assert.equal(new(zeros):make(), new(zeros):make())
  end)
end)
