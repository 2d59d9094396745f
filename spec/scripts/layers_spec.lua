-- That dependencies run one way in this checkout, and that the check would notice if they did not.

local directory

local function run(root)
  local pipe = assert(io.popen(("%s scripts/layers.lua '%s' 2>&1"):format(os.getenv "LUA" or "lua5.4", root)))
  local output = pipe:read "a"
  local ok = pipe:close()
  return ok == true, output
end

--- A tree that has only this file; returns what the check says of it.
local function with_file(name, text)
  assert(os.execute(("cd '%s' && mkdir -p csrc lua '%s'"):format(directory, name:match "^(.+)/")))
  local file = assert(io.open(directory .. "/" .. name, "w"))
  file:write(text, "\n")
  file:close()
  return run(directory)
end

describe("scripts/layers.lua", function()
  before_each(function()
    local pipe = assert(io.popen "mktemp -d")
    directory = pipe:read "l"
    pipe:close()
  end)

  after_each(function()
    os.execute(("rm -r '%s'"):format(directory))
  end)

  it("finds nothing wrong with this checkout", function()
    local ok, output = run "."
    assert.equal("", output)
    assert.is_true(ok)
  end)

  local allowed = {
    { "csrc/lua/a.c", '#include "core/connection.h"' },
    { "csrc/lua/a.c", "#include <lua.h>" },
    { "csrc/lua/a.c", "#include <openssl/evp.h>" },
    { "csrc/core/a.c", '#include "ws/frame.h"' },
    { "csrc/core/a.c", '#include "http/parser.h"' },
    { "csrc/ws/a.c", "#include <openssl/rand.h>" },
    { "csrc/ws/a.c", "#include <zlib.h>" },
    { "csrc/net/a.c", "#include <libwebsockets.h>\n#include <uv.h>\n#include <openssl/x509v3.h>" },
    { "csrc/http/a.c", "#include <string.h>" },
    { "lua/khp/server.lua", 'local core = require "khp.core"' },
    { "lua/khp/opening/client.lua", 'local http = require("khp.http")' },
    { "lua/khp/auth/digest.lua", 'local basic = require "khp.auth.basic"' },
    { "lua/khp/status.lua", '--- local khp = require "khp"' },
  }
  for _, case in ipairs(allowed) do
    it("allows " .. case[2]:gsub("\n", ", ") .. " in " .. case[1], function()
      local ok, output = with_file(case[1], case[2])
      assert.equal("", output)
      assert.is_true(ok)
    end)
  end

  local refused = {
    { "csrc/core/a.c", '#include "lua/conn.h"' },
    { "csrc/core/a.c", "#include <lua.h>" },
    { "csrc/core/a.c", "#include <lauxlib.h>" },
    { "csrc/core/a.c", "#include <libwebsockets.h>" },
    { "csrc/core/a.c", "#  include <openssl/evp.h>" },
    { "csrc/lua/a.c", "#include <uv.h>" },
    { "csrc/lua/a.c", "#include <zlib.h>" },
    { "csrc/lua/a.c", "#include <openssl/ssl.h>" },
    { "csrc/ws/a.c", "#include <openssl/ssl.h>" },
    { "csrc/ws/a.h", '#include "http/parser.h"' },
    { "csrc/http/a.c", '#include "ws/frame.h"' },
    { "csrc/http/a.c", "#include <openssl/sha.h>" },
    { "csrc/net/a.c", '#include "core/connection.h"' },
    { "csrc/net/a.c", '#include "internal.h"' },
    { "csrc/cellar/a.c", "#include <string.h>" },
    { "lua/khp/opening/server.lua", 'local khp = require "khp"' },
    { "lua/khp/opening/server.lua", 'local core = require("khp.core")' },
    { "lua/khp/extended/client.lua", "local client = require 'khp.client'" },
    { "lua/khp/auth/digest.lua", 'local ok, server = pcall(require, "khp.server")' },
    { "lua/khp/status.lua", 'local connection = require "khp.connection"' },
    { "lua/khp/redirect.lua", 'local socket = require "socket"' },
  }
  for _, case in ipairs(refused) do
    it("refuses " .. case[2] .. " in " .. case[1], function()
      local ok, output = with_file(case[1], case[2])
      assert.is_false(ok)
      assert.equal(directory .. "/" .. case[1] .. ":1: ", output:match "^(.-:1: )")
      assert.equal(1, select(2, output:gsub("\n", "")))
    end)
  end

  it("does not take an empty place for a good one", function()
    assert.is_false((run(directory)))
  end)
end)
