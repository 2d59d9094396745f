-- The versions of the libraries, as a bug report wants them.
local core = require "khp.core"

describe("khp.core.versions", function()
  it("gives the number of each library", function()
    local names = {}
    for name, version in pairs(core.versions()) do
      names[#names + 1] = name
      assert.matches("^%d+%.%d+[%w.]*$", version)
    end
    table.sort(names)
    assert.same({ "libuv", "libwebsockets", "lua", "openssl", "zlib" }, names)
  end)
end)
