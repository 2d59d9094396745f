-- The JSON that --json prints, held against another program's reader.

local json = require "khp.json"

describe("json.write", function()
  it("writes values in one line, with names in order and the event first", function()
    assert.equal('{"event":"open","a":1,"b":[true,null,"x"],"c":{}}',
      json.write { b = json.array { true, nil, "x", n = 3 }, a = 1, event = "open", c = {} })
    assert.equal("[]", json.write(json.array {}))
    assert.equal("[1,2.5,-3,1e+20,null]", (json.write(json.array { 1, 2.5, -3, 1e20, 0 / 0 }):gsub("1%d+", "1e+20")))
  end)

  it("escapes what a string must not hold, and nothing else", function()
    assert.equal([["\"\\\b\f\n\r\t\u0000\u001f\u007fé/"]], json.string "\"\\\b\f\n\r\t\0\31\127é/")
  end)

  it("replaces what is not UTF-8, byte by byte", function()
    local bad = "\239\191\189"
    for text, expected in pairs {
      ["\128"] = bad,
      ["a\255b"] = "a" .. bad .. "b",
      ["\195"] = bad,
      ["\195\169\169"] = "é" .. bad,
      ["\224\128\128"] = bad:rep(3), -- overlong
      ["\237\160\128"] = bad:rep(3), -- a surrogate
      ["\244\144\128\128"] = bad:rep(4), -- above U+10FFFF
      ["\240\159\152\128"] = "\240\159\152\128",
      ["\226\130x"] = bad:rep(2) .. "x",
    } do
      assert.equal('"' .. expected .. '"', json.string(text))
    end
  end)

  it("writes what Python reads back, for every byte", function()
    local text = ""
    for i = 0, 127 do
      text = text .. string.char(i)
    end
    local path = os.tmpname()
    local file = assert(io.open(path, "w"))
    file:write(json.write { text = text .. "é€\240\159\152\128" })
    file:close()
    local check = [[import json, sys; v = json.load(open(sys.argv[1], encoding='utf-8'))['text'];]] ..
      [[sys.exit(v != ''.join(map(chr, range(128))) + 'é€\U0001F600')]]
    assert.is_true(os.execute(('python3 -c "%s" %s'):format(check:gsub("\\", "\\\\"), path)))
    os.remove(path)
  end)
end)
