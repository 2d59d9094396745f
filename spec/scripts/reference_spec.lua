-- That docs/reference.md has all that is public, as the source says it, and that the reader of annotations reads them.

local khp = require "khp"
local net = require "spec.support.net"

local annotations = dofile "scripts/annotations.lua"
local found = assert(loadfile "scripts/reference.lua")("found")

-- What is there only where the system has it.
local OPTIONAL = { ["khp.crypto.crypt"] = true }

local LUA = os.getenv "LUA" or "lua5.4"

local function read(path)
  local file = assert(io.open(path))
  local text = file:read "a"
  file:close()
  return text
end

local function names(list)
  local set = {}
  for _, one in ipairs(list) do
    set[one.name] = true
  end
  return set
end

-- What a class has, with what it has from others.
local function members_of(name)
  local set = {}
  assert(found.classes[name], "there is no class " .. name)
  while found.classes[name] do
    local class = found.classes[name]
    for _, list in ipairs { class.fields, class.methods } do
      for one in pairs(names(list)) do
        set[one] = true
      end
    end
    name = class.parent
  end
  return set
end

local function missing(have, documented, what)
  local list = {}
  for name in pairs(have) do
    if type(name) == "string" and not documented[name] and name:sub(1, 2) ~= "__" then
      list[#list + 1] = what .. name
    end
  end
  table.sort(list)
  return list
end

describe("docs/reference.md", function()
  it("is what make reference writes, and has words for everything", function()
    assert.same({}, found.missing)
    assert.is_true(read "docs/reference.md" == found.text, "it is not as it should be: make reference")
  end)

  it("has all that khp has", function()
    local documented = names(found.entrance.functions)
    for _, part in ipairs(found.entrance.parts) do
      documented[part.name] = true
    end
    for _, field in ipairs(found.modules["khp"].class.fields) do
      documented[field.name] = true
    end
    assert.same({}, missing(khp, documented, "khp."))
    for name in pairs(documented) do
      assert.truthy(khp[name], "there is no khp." .. name)
    end
  end)

  for _, name in ipairs(found.entrance.shown) do
    it("has all that " .. name .. " has", function()
      local module, documented = found.modules[name], {}
      for _, one in ipairs(module.members) do
        documented[one.name] = true
      end
      for hidden in pairs(module.hidden) do
        documented[hidden] = true
      end
      if module.class then
        for one in pairs(members_of(module.class.name)) do
          documented[one] = true
        end
      end
      assert.same({}, missing(require(name), documented, name .. "."))
    end)
  end

  it("has all methods", function()
    local session, conn
    local server, url = net.serve {
      policy = {
        extended = function(_, its)
          session = its
        end,
      },
    }
    local kept = assert(khp.keep(url))
    conn = assert(kept:wait_up(5))
    local core = require "khp.core"
    assert.equal(core.conn.methods.send, conn.send)
    assert.same({}, missing(core.conn.methods, members_of "khp.Connection", "conn:"))
    assert.same({}, missing(getmetatable(server).__index, members_of "khp.Server", "server:"))
    assert.same({}, missing(getmetatable(kept).__index, members_of "khp.Keep", "kept:"))
    assert.same({}, missing(getmetatable(khp.promise()).__index, members_of "khp.Promise", "promise:"))
    for name in pairs(members_of "khp.Connection") do
      assert(pcall(function()
        return conn[name]
      end))
    end
    for name, class in pairs { random = true, fetch = true, basic = true, digest = true, bearer = true } do
      assert.equal("function", type(session[name]))
      assert.equal(class, members_of "khp.Session"[name])
    end
    kept:close()
    server:close()
    local link = members_of "khp.Link"
    for _, name in ipairs { "send", "deliver", "ping", "after", "close", "abort", "silence", "limit" } do
      assert.is_true(link[name], name)
    end
  end)

  -- Each heading of the page with what it means when it is typed: the name, "(" where it is called, and the value.
  local function each_heading(f)
    local scope = { khp = khp }
    for line in found.text:gmatch "[^\n]+" do
      local variable, module = line:match '^`local ([%w_]+) = require "([%w_.]+)"`$'
      local name, mark = line:match "^###? ([%a_][%w_.]*)(%(?)"
      if variable then
        scope[variable] = require(module)
      elseif name and scope[name:match "^[%w_]+"] and not name:find "%.%u[%w_]*%l[%w_]*$" then
        local value = scope[name:match "^[%w_]+"]
        for field in name:gmatch "%.([%w_]+)" do
          value = value and value[field]
        end
        f(name, mark, value)
      end
    end
  end

  it("says how to get a module: as a field of khp, or with require", function()
    for _, part in ipairs(found.entrance.parts) do
      assert.truthy(found.text:find(("\n## %s\n\nA field of `khp`: `%s`."):format(part.module, part.module), 1, true))
      assert.equal(require(part.module), khp[part.name])
    end
    for _, group in ipairs(found.entrance.groups) do
      for _, name in ipairs(group) do
        assert.truthy(found.text:find(("\n## require %q\n\n`local "):format(name), 1, true), name)
      end
    end
    for name in found.text:gmatch 'require "([%w_.]+)"' do
      assert.truthy(require(name))
    end
  end)

  it("has a heading for every type that it mentions", function()
    for name in pairs(found.public) do
      local class = found.classes[name]
      assert.truthy(class and class.is_module or found.text:find("\n### " .. name .. "\n", 1, true), name)
    end
  end)

  it("has headings that work when they are typed", function()
    local count, wrong = 0, {}
    each_heading(function(name, mark, value)
      count = count + 1
      if mark == "(" and type(value) ~= "function" or value == nil then
        wrong[#wrong + 1] = not OPTIONAL[name] and name .. mark or nil
      end
    end)
    assert.same({}, wrong)
    assert.is_true(count > 100)
  end)

  it("has the parameters that the functions have", function()
    local wrong = {}
    local function compare(where, one)
      local documented = {}
      for i, param in ipairs(one.item.params) do
        documented[i] = param.name
      end
      local said, real = table.concat(documented, ", "), one.arguments or ""
      if one.arguments and said ~= real and "self, " .. said ~= real and not (said == "" and real == "self") then
        wrong[#wrong + 1] = ("%s%s(%s) is documented as (%s)"):format(where, one.name, real, said)
      end
    end
    for _, name in ipairs(found.entrance.shown) do
      for _, one in ipairs(found.modules[name].members) do
        compare(name .. ".", one)
      end
    end
    for name in pairs(found.public) do
      for _, one in ipairs(found.classes[name] and found.classes[name].methods or {}) do
        compare(name .. ":", one)
      end
    end
    assert.same({}, wrong)
  end)

  it("has no method that is not there", function()
    local settings = require("khp.opening.server").settings()
    local nonces = require("khp.auth.nonces").new()
    local machine = require("khp.extended.server")
    local opened = { request = { protocols = {}, extensions = {}, headers = {} }, accept = "", extensions = {} }
    local core = require "khp.core"
    local server = assert(khp.listen { host = "127.0.0.1" })
    local kept = assert(khp.keep "ws://127.0.0.1:1/")
    local real = {
      ["khp.Server"] = server,
      ["khp.Connection"] = core.conn.methods,
      ["khp.Keep"] = kept,
      ["khp.Promise"] = khp.promise(),
      ["khp.Origins"] = assert(khp.origin.new {}),
      ["khp.http.Parser"] = khp.http.parser "request",
      ["khp.auth.Answerer"] = require("khp.auth").new {},
      ["khp.auth.Htpasswd"] = assert(require("khp.auth.htpasswd").parse ""),
      ["khp.auth.Nonces"] = nonces,
      ["khp.auth.DigestServer"] = require("khp.auth.digest_server").new { realm = "r", users = {} },
      ["khp.redirect.Tracker"] = assert(require("khp.redirect").new "ws://example.org/"),
      ["khp.Static"] = assert(require("khp.static").new "docs"),
      ["khp.opening.Client"] = require("khp.opening.client").new { host = "example.org" },
      ["khp.opening.Server"] = require("khp.opening.server").new(settings),
      ["khp.extended.Client"] = require("khp.extended.client").new { target = "/" },
      ["khp.extended.Server"] = machine.new(machine.settings(), opened),
    }
    server:close()
    kept:close()
    -- Those that there are only in the middle of a connection; the tests above and of extensions call them.
    local elsewhere = { ["khp.Session"] = true, ["khp.Link"] = true }
    for name in pairs(found.public) do
      local class = found.classes[name]
      if class and class.methods[1] and not elsewhere[name] then
        assert.truthy(real[name], "nothing here makes a " .. name)
        for _, one in ipairs(class.methods) do
          assert.equal("function", type(real[name][one.name]), name .. ":" .. one.name)
        end
      end
    end
  end)

  describe("has the options of", function()
    -- The class that describes what is declared under a name; false: its type says all.
    local CLASSES = {
      ["khp.listen"] = "khp.ListenOptions",
      ["khp.connect"] = "khp.ConnectOptions",
      ["khp.keep"] = "khp.KeepOptions",
      ["khp.connect: credentials"] = "khp.Credentials",
      ["khp.redirect.new"] = "khp.redirect.Options",
      ["khp.opening.client"] = "khp.opening.ClientOptions",
      ["khp.opening.server"] = false, -- the words of settings() name them
      ["khp.opening.proxy"] = "khp.opening.ProxyOptions",
      ["khp.extended.client.new"] = "khp.extended.ClientOptions",
      ["khp.extended.server"] = false, -- likewise
      ["khp.auth.digest_server.new"] = "khp.auth.DigestServerOptions",
      ["khp.auth.nonces.new"] = false,
      ["khp.listen: routes[1]"] = "khp.Route",
      extension = "khp.Extension",
      ["khp.extension.permessage_deflate"] = "khp.PermessageDeflateOptions",
      ["x-kaazing-idle-timeout"] = false,
      ["x-kaazing-ping-pong"] = false,
      tls = "khp.ServerTls|khp.ClientTls",
      ["tls.names"] = false,
      fetch = "khp.FetchOptions",
      request = "khp.RequestAdditions",
      limits = false, -- the table of limits
    }

    -- What options.declare() is told while khp and its parts are loaded: "what \t name \t type \t default" a line.
    local SCRIPT = [[
      local options = require "khp.options"
      local declare = options.declare
      function options.declare(what, entries)
        for name, option in pairs(entries) do
          io.write(table.concat({ what, name, option.type, tostring(option.default) }, "\t"), "\n")
        end
        return declare(what, entries)
      end
      local stock = "khp.extension.idle_timeout khp.extension.ping_pong khp.extension.permessage_deflate "
      for name in (stock .. "khp khp.fetch %s"):gmatch "%%S+" do
        require(name)
      end
      local khp = require "khp"
      local own = { name = "own", start = print }
      khp.listen({ host = "127.0.0.1", routes = { { path = "/" } }, extensions = { own } }):close()
    ]]

    local function text_of(class, name)
      while class do
        local one = assert(found.classes[class])
        for _, field in ipairs(one.fields) do
          if field.name == name then
            return field.text
          end
        end
        class = one.parent
      end
      return nil
    end

    local function complaint(class, option)
      local texts = {}
      for one in class:gmatch "[^|]+" do
        texts[#texts + 1] = text_of(one, option.name)
      end
      local said = table.concat(texts, " ")
      if not texts[1] then
        return option.name .. " is not there"
      elseif option.default ~= "nil" and not option.type:find "table" and option.type ~= "strings"
        and not said:find("default:? [^;]-" .. option.default:gsub("%p", "%%%0"))
        and not said:find(option.default .. " (default)", 1, true) then
        return option.name .. " has the default " .. option.default .. ", and its words do not say so: " .. said
      end
      return nil
    end

    local declared, order = {}, {}
    local modules = table.concat(found.entrance.shown, " ")
    local pipe = assert(io.popen(LUA .. " -e '" .. SCRIPT:format(modules) .. "'"))
    for line in pipe:lines() do
      local what, name, kind, default = line:match "^(.-)\t(.-)\t(.-)\t(.*)$"
      if not declared[what] then
        declared[what], order[#order + 1] = {}, what
      end
      table.insert(declared[what], { name = name, type = kind, default = default })
    end
    pipe:close()

    for _, what in ipairs(order) do
      if CLASSES[what] ~= false then
        it(what .. ", with their defaults", function()
          local class, wrong = CLASSES[what], {}
          assert(class, "nothing here says which class describes them")
          for _, option in ipairs(declared[what]) do
            wrong[#wrong + 1] = complaint(class, option)
          end
          table.sort(wrong)
          assert.same({}, wrong)
        end)
      end
    end

    it("all that have any", function()
      for what in pairs(CLASSES) do
        assert.truthy(declared[what], what .. " declares none")
      end
    end)
  end)

  it("has the error codes and the limits", function()
    for _, entry in ipairs(khp.errors.list) do
      assert.truthy(found.text:find("- `" .. entry.code .. "`: " .. entry.meaning, 1, true))
    end
    for _, limit in ipairs(khp.limits.list) do
      assert.truthy(found.text:find("| `" .. limit.name .. "` | ", 1, true))
    end
  end)

  it("has the ranges of the limits", function()
    local function allows(name, value)
      return (pcall(khp.limits.resolve, { [name] = value }))
    end
    for _, limit in ipairs(khp.limits.list) do
      local range = found.text:match("\n| `" .. limit.name .. "` | [^|]+ | ([^|]+) |")
      local least, most = range:match "^(%d) to `?([%w.]+)`?$"
      least = tonumber(least or range:match "^(%d) and more$")
      assert.is_true(allows(limit.name, least), limit.name)
      assert.is_false(allows(limit.name, least - 1), limit.name)
      assert.equal(most == "math.huge", allows(limit.name, math.huge), limit.name)
      if tonumber(most) then
        assert.is_true(allows(limit.name, tonumber(most)), limit.name)
        assert.is_false(allows(limit.name, tonumber(most) + 1), limit.name)
      end
    end
  end)

  it("is written by the Makefile", function()
    assert.truthy(read "Makefile":find("\nreference:[^\n]*\n\t[^\n]*scripts/reference.lua"))
  end)
end)

describe("scripts/annotations.lua", function()
  local file = annotations.read [[
-- What it is for.
-- It must not know more.

local other = require "khp.other"

local module = {}

---@class khp.Thing: khp.Other  a thing
---@field one string? in words
---@field two (fun(a: string, b: { c: integer }): boolean?, string)|nil which
---  go on
---@field three "a|b"|"c"
--- Before it.
---@field four fun(x?: integer): table<string, fun(): string?>
---@field package five integer
local methods = {}

--- Does it.
---@since 0.2
---@param first string|integer[] so
---@param last? khp.Thing
---@param ... any
---@return khp.Thing? thing, string|nil message
---@return { a: string, b: integer }[] list of them
function methods:act(first, last, ...)
end

---@alias khp.Kind
---| "x" # the one
---| "y"

--- For others.
---@package
function module.hidden() end

--- Both.
module.a, module.b = 1, 2

return module
]]

  local function item(n)
    return file.items[n]
  end

  it("reads what a file is for, requires and returns", function()
    assert.same({ "What it is for.", "It must not know more." }, file.about)
    assert.same({ other = "khp.other" }, file.requires)
    assert.equal("module", file.returned)
  end)

  it("reads classes and their fields", function()
    assert.same({ name = "khp.Thing", parent = "khp.Other", text = "a thing" }, item(1).class)
    assert.same({
      { name = "one", type = "string?", text = "in words", hidden = false },
      { name = "two", type = "(fun(a: string, b: { c: integer }): boolean?, string)|nil", text = "which go on",
        hidden = false },
      { name = "three", type = '"a|b"|"c"', text = "", hidden = false },
      { name = "four", type = "fun(x?: integer): table<string, fun(): string?>", text = "Before it.", hidden = false },
      { name = "five", type = "integer", text = "", hidden = true },
    }, item(1).fields)
    assert.equal("methods", item(1).targets[1].name)
  end)

  it("reads functions", function()
    assert.same({
      { name = "first", type = "string|integer[]", text = "so" },
      { name = "last", type = "khp.Thing?", text = "" },
      { name = "...", type = "any", text = "" },
    }, item(2).params)
    assert.same({
      { type = "khp.Thing?", text = "thing" },
      { type = "string|nil", text = "message" },
      { type = "{ a: string, b: integer }[]", text = "list of them" },
    }, item(2).returns)
    assert.equal("0.2", item(2).since)
    assert.same({ "methods", "act", true }, { item(2).targets[1].owner, item(2).targets[1].name,
      item(2).targets[1].method })
  end)

  it("reads what functions take and return out of their types", function()
    local params, returns = annotations.signature(
      'fun(self, kind: "a"|"b", given?: { x: integer }, ...: any): ok: true?, string')
    assert.same({
      { name = "self", type = "any", text = "" },
      { name = "kind", type = '"a"|"b"', text = "" },
      { name = "given", type = "{ x: integer }?", text = "" },
      { name = "...", type = "any", text = "" },
    }, params)
    assert.same({ { type = "true?", text = "ok" }, { type = "string", text = "" } }, returns)
    assert.same({ {}, {} }, { annotations.signature "fun()" })
    assert.same({ {}, { { type = "fun(): string", text = "" } } }, { annotations.signature "(fun(): fun(): string)?" })
    assert.is_nil(annotations.signature "string")
  end)

  it("reads names for types, what is hidden, and words for several at once", function()
    assert.same({ { value = '"x"', text = "the one" }, { value = '"y"', text = "" } }, item(3).alias.values)
    assert.is_true(item(4).hidden)
    assert.same({ "a", "b" }, { item(5).targets[1].name, item(5).targets[2].name })
  end)
end)
