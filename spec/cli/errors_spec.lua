-- Every mistake that a user of the command line can make or meet, by command, and what khp says of it: what happened,
-- with the file, address or option that it is about, and what to try; on standard error, with the exit status for its
-- kind, and never with a traceback. What becomes of connections that fail is in spec/e2e/connect_spec.lua.

local command = require "spec.support.command"
local net = require "spec.support.net"

local FAILED, MISUSE = 1, 2

-- What stands before the program.
local before

-- Runs khp with these arguments; what it says must fit the status, the words (plain text) in this order, and the rules
-- for all messages.
local function says(arguments, status, ...)
  local output, errors, code = command.khp(arguments .. " </dev/null", before)
  local seen = ("khp %s\n%s"):format(arguments, errors)
  assert.equal("", output, seen)
  assert.equal(status, code, seen)
  assert.matches("^khp: %S", errors, seen)
  assert.matches("\n.", errors, seen) -- what to try has a line of its own
  assert.is_nil(errors:find("stack traceback", 1, true), seen)
  assert.is_nil(errors:find("should not happen", 1, true), seen)
  assert.is_nil(errors:find("\n\n", 1, true), seen)
  assert.is_nil(errors:find "%.lua:%d+: bad argument", seen)
  local at = 1
  for _, words in ipairs { ... } do
    local first, last = errors:find(words, at, true)
    assert.truthy(first, ("%s\nlacks %q"):format(seen, words))
    at = last + 1
  end
  if status == MISUSE then
    assert.truthy(errors:find "khp[%w ]* %-%-help tells more%.\n$" or errors:find "\nDid you mean [^\n]*%?\n$", seen)
  end
end

local function all_say(status, list)
  for _, one in ipairs(list) do
    says(one[1], status, (table.unpack or unpack)(one, 2)) -- luacheck: ignore 113
  end
end

describe("khp says what is wrong, and what to try:", function()
  local folder

  lazy_setup(function()
    folder = os.tmpname()
    os.remove(folder)
    assert(os.execute(("mkdir %s && spec/support/certs.sh %s/certs >/dev/null 2>&1"):format(folder, folder)))
  end)

  lazy_teardown(function()
    os.execute("rm -r " .. folder)
  end)

  local function file(name, text)
    local path = folder .. "/" .. name
    local out = assert(io.open(path, "wb"))
    out:write(text)
    out:close()
    return path
  end

  local function usage(name)
    return "khp: " .. name .. ": ", "usage: khp " .. name
  end

  it("options that do not exist, of every command", function()
    for name, least in pairs { serve = "", connect = "ws://a/", check = "a", decode = "", limits = "",
      completion = "bash" } do
      local who, how = usage(name)
      says(name .. " --nonsense " .. least, MISUSE, who, "unknown option '--nonsense'", how)
      says(name .. " --help=1 " .. least, MISUSE, who, "option '--help' does not take arguments", how)
    end
  end)

  it("commands and options of khp itself", function()
    all_say(MISUSE, {
      { "srve", "unknown command 'srve'", "Did you mean 'serve'?", "usage: khp COMMAND" },
      { "''", "unknown command ''", "usage: khp COMMAND" },
      { "--nonsense", "unknown option '--nonsense'", "usage: khp COMMAND" },
      { "help srve", "unknown command 'srve'", "Did you mean 'serve'?" },
    })
    local output, errors, status = command.khp ""
    assert.same({ "", MISUSE }, { output, status })
    assert.matches("^usage: khp COMMAND", errors)
  end)

  it("missing arguments, and too many", function()
    all_say(MISUSE, {
      { "serve a b", "khp: serve: too many arguments", "usage: khp serve" },
      { "connect", "khp: connect: missing argument 'URL'", "usage: khp connect" },
      { "connect ws://a/ ws://b/", "khp: connect: too many arguments", "usage: khp connect" },
      { "check", "khp: check: missing argument 'FILE'", "usage: khp check" },
      { "check ''", "khp: check: FILE wants a file, not ''", "usage: khp check" },
      { "decode a b", "khp: decode: too many arguments", "usage: khp decode" },
      { "limits message", "khp: limits: too many arguments", "usage: khp limits" },
      { "completion", "khp: completion: missing argument 'SHELL'", "usage: khp completion bash|zsh|fish" },
      { "completion tcsh", "khp: completion: argument 'SHELL' must be one of 'bash', 'zsh', 'fish'", "usage:" },
      { "completion bash zsh", "khp: completion: too many arguments", "usage: khp completion" },
    })
    for name, options in pairs {
      serve = "script host port unix client-ca protocol root drain log level",
      connect = "send binary wait ping protocol extension header user policy ca cert key proxy timeout",
      decode = "client server pcap",
    } do
      for option in options:gmatch "%S+" do
        says(name .. " --" .. option, MISUSE, "khp: " .. name .. ": ", "option '--" .. option ..
          "' requires an argument", "usage: khp " .. name)
      end
    end
    says("serve --tls cert.pem", MISUSE, "option '--tls' requires 2 arguments")
  end)

  it("numbers", function()
    for arguments, wants in pairs {
      ["serve --port %s"] = "--port wants a whole number from 0 to 65535",
      ["serve --drain %s"] = "--drain wants a number from 0 on",
      ["connect --wait %s ws://a/"] = "--wait wants a number of seconds, or 'forever'",
      ["connect --ping %s ws://a/"] = "--ping wants a number from 0.001 on",
      ["connect --timeout %s ws://a/"] = "--timeout wants a number from 0.001 on",
    } do
      for _, number in ipairs { "x", "''", "-1", "-.5", "1.2.3", "0x10", "1e", "nan", "inf", "1e999", "' 1'" } do
        says(arguments:format(number), MISUSE, ("%s, not '%s'"):format(wants, (number:gsub("'", ""))))
      end
    end
    all_say(MISUSE, {
      { "serve --port 65536", "--port wants a whole number from 0 to 65535, not '65536'" },
      { "serve --port 1.5", "--port wants a whole number from 0 to 65535, not '1.5'" },
      { "connect --timeout 0 ws://a/", "--timeout wants a number from 0.001 on, not '0'" },
      { "limits -1", "khp: limits: unknown option '-1'" },
    })
  end)

  it("what serve is asked for and cannot be meant", function()
    all_say(MISUSE, {
      { "serve --log xml", "option '--log' must be one of 'text', 'json'" },
      { "serve --level loud", "option '--level' must be one of 'error', 'warn', 'info', 'debug', 'off'" },
      { "serve --protocol 'a b'", "--protocol wants a name without spaces and commas, not 'a b'" },
      { "serve --protocol ''", "--protocol wants a name without spaces and commas, not ''" },
      { "serve --hots 1", "unknown option '--hots'", "Did you mean '--host'?" },
      { "serve --unix x --port 1", "--unix", "--host and --port" },
      { "serve --unix x --host a", "--unix", "--host and --port" },
      { "serve --client-ca ca.pem", "--client-ca needs --tls CERT KEY" },
      { "serve ''", "POLICY wants a file, not ''" },
      { "serve --script ''", "--script wants a file, not ''" },
      { "serve --unix ''", "--unix wants a path, not ''" },
      { "serve --host ''", "--host wants a name or an address, not ''" },
      { "serve --host '[]'", "--host wants a name or an address, not ''" },
      { "serve --root ''", "--root wants a folder, not ''" },
      { "serve --tls '' ''", "--tls wants two files, not ''" },
      { "serve --tls a b --client-ca ''", "--client-ca wants a file, not ''" },
    })
  end)

  it("places where serve cannot listen", function()
    local server = net.serve {}
    local _, port = server:address()
    local taken = file("taken", "")
    all_say(FAILED, {
      { "serve --port " .. port, "127.0.0.1:" .. port .. ": Address already in use", "choose another --port" },
      { "serve --port 0 --host 203.0.113.1", "203.0.113.1", "--host wants a name or an address of this machine" },
      { "serve --port 0 --host nonsense.invalid", "nonsense.invalid: ", "--host wants a name or an address" },
      { "serve --unix /no/such/place", "/no/such/place: No such file", "The folder of the socket does not exist" },
      { "serve --unix " .. ("x"):rep(200), "unix socket has 1 to 107 bytes, not 200", "Choose a shorter path." },
      { "serve --unix " .. taken, taken .. ": Address already in use", "choose another path" },
      { "serve --unix " .. folder, folder .. ": Address already in use", "choose another path" },
      { "serve --unix /proc/self/x", "/proc/self/x: ", "choose another path" },
    })
    server:close()
  end)

  it("a socket that another server has, also where a script names it", function()
    local path = folder .. "/socket"
    local server = assert(require("khp").listen { path = path, on_message = print })
    says("serve --unix " .. path, FAILED, path .. ": Address already in use", "choose another path")
    local script = file("socket.lua", ("return { path = %q, on_message = print }"):format(path))
    says("serve --script " .. script, FAILED, path .. ": Address already in use", "choose another path")
    server:close()
    says("serve --script " .. file("nowhere.lua", "return { path = '/no/such/place', on_message = print }"), FAILED,
      "/no/such/place: No such file", "The folder of the socket does not exist")
  end)

  it("what may not be read or written", function()
    finally(function()
      before = nil
    end)
    local pipe = io.popen "id -u"
    if pipe:read "*l" == "0" then -- for whom nothing is forbidden
      before = "setpriv --reuid=65534 --regid=65534 --clear-groups"
      if select(3, command.khp("--version", before)) ~= 0 then
        return pending "the superuser may do everything, and nobody else can run khp here"
      end
    end
    pipe:close()
    assert(os.execute("chmod 755 " .. folder))
    local secret = file("secret.lua", "return {}")
    assert(os.execute(("chmod 000 %s && mkdir %s/dark && chmod 000 %s/dark"):format(secret, folder, folder)))
    all_say(FAILED, {
      { "serve --port 0 " .. secret, secret .. ": Permission denied", "Is the path right, may you read it?" },
      { "serve --port 0 --script " .. secret, secret .. ": Permission denied", "--script wants a Lua file" },
      { "serve --port 0 --root " .. folder .. "/dark", "/dark: Permission denied", "--root wants a folder" },
      { "serve --unix " .. folder .. "/dark/s", "/dark/s: Permission denied", "choose another path" },
      { "decode " .. secret, secret .. ": Permission denied" },
    })
    os.execute("chmod 700 " .. folder .. "/dark")
  end)

  it("policies that serve cannot use", function()
    local wrong = file("wrong.lua", "return {\n  extnded = function() end }")
    local broken = file("broken.lua", "return {")
    local failing = file("failing.lua", [==[
return {
  extended = function() return reject(403) end,
  tests = "# Nobody\n\n```khp\nC binary\n| GET / HTTP/1.1\n|\nS opens\n```\n",
}]==])
    local app = file("routes.lua", ("return { routes = { { policy = %q, on_message = print } } }"):format(wrong))
    local nowhere = file("gone.lua", "return { routes = { { policy = '/no/such.lua', on_message = print } } }")
    all_say(FAILED, {
      { "serve --port 0 /no/such.lua", "/no/such.lua: No such file", "Is the path right, may you read it?" },
      { "serve --port 0 " .. folder, folder .. ": ", "Is the path right, may you read it?" },
      { "serve --port 0 " .. wrong, wrong, "'extnded', did you mean 'extended'", "khp check " .. wrong },
      { "serve --port 0 " .. broken, broken .. ":1: ", "khp check " .. broken },
      { "serve --port 0 " .. failing, failing, "khp check " .. failing },
      { "serve --port 0 --script " .. app, wrong, "khp check " .. wrong },
      { "serve --port 0 --script " .. nowhere, "/no/such.lua: No such file", "Is the path right, may you read it?" },
    })
  end)

  it("certificates and folders that serve cannot use", function()
    local certs = folder .. "/certs/"
    local pair = ("--port 0 --tls %slocalhost.pem %slocalhost.key "):format(certs, certs)
    local text = file("text", "no certificate")
    all_say(FAILED, {
      { "serve --port 0 --tls /no/cert.pem /no/key.pem", "/no/cert.pem: No such file", "--tls CERT KEY", "openssl" },
      { ("serve --port 0 --tls %slocalhost.pem %sca.key"):format(certs, certs), "openssl req" },
      { ("serve --port 0 --tls %s %s"):format(text, text), text .. ": ", "openssl req" },
      { "serve --port 0 --tls " .. folder .. " " .. folder, folder .. ": ", "openssl req" },
      { "serve " .. pair .. "--client-ca /no/ca.pem", "/no/ca.pem: No such file", "--client-ca wants a PEM file" },
      { "serve " .. pair .. "--client-ca " .. text, text .. ": ", "--client-ca wants a PEM file" },
      { "serve --port 0 --root /no/such/folder", "/no/such/folder: No such file", "--root wants a folder" },
      { "serve --port 0 --root " .. text, text .. ": Not a directory", "--root wants a folder" },
    })
  end)

  it("scripts that serve cannot use", function()
    says("serve --port 0 --script /no/app.lua", FAILED, "/no/app.lua: No such file", "--script wants a Lua file")
    says("serve --port 0 --script " .. folder, FAILED, folder .. ": Is a directory", "--script wants a Lua file")
    for text, words in pairs {
      ["return {"] = ":1: unexpected symbol near <eof>",
      ["\nlocal x = nil + 1"] = ":2: attempt to perform arithmetic on a nil value",
      ["x = 1"] = ": must return a function on_open(conn), or a table of khp.listen's options, not nothing",
      ["return 5"] = ": must return a function on_open(conn), or a table of khp.listen's options, not number",
      ["return { on_open = 5 }"] = ": on_open: a function expected, not number",
      ["error {}"] = ": an error that is a table",
      ["require 'no.such.module'"] = "module 'no.such.module' not found",
    } do
      says("serve --port 0 --script " .. file("app.lua", text), FAILED, folder .. "/app.lua" .. (words:find "^:" and
        words or ""), words:find "^:" and "" or words, "--script wants a Lua file")
    end
    for text, words in pairs {
      ["return { on_opne = print }"] = "unknown option 'on_opne', did you mean 'on_open'?",
      ["return { routes = 5 }"] = "'routes'",
      ["return { routes = {} , on_message = print }"] = "",
      ["return { routes = { 5 } }"] = "routes[1]: a table expected, not number",
      ["return { routes = { { pth = '/' } } }"] = "routes[1]: unknown option 'pth', did you mean 'path'?",
      ["return { host = 5 }"] = "'host'",
      ["return { port = 'x' }"] = "'port'",
      ["return { port = 1, path = 'x' }"] = "one of 'host' and 'port', 'path', or 'fd', not several",
      ["return { tls = 5 }"] = "'tls'",
      ["return { tls = {} }"] = "",
      ["return { origins = { 'x' } }"] = "origins",
      ["return { extensions = { ';;;' } }"] = "",
    } do
      for _, more in ipairs { "", "--metrics " } do
        if not (more ~= "" and text:find("routes = {} ", 1, true)) then
          says("serve " .. more .. "--script " .. file("app.lua", text), FAILED, folder .. "/app.lua: ", words,
            "The file returns on_open(conn), or a table of the options of khp.listen.")
        end
      end
    end
    says("serve --port 0 --script " .. file("app.lua", "return { tls = { cert = '/no/c', key = '/no/k' } }"), FAILED,
      "/no/c: No such file", "the script's option tls")
    says("serve --port 0 --script " .. file("app.lua", "return { root = '/no/such' }"), FAILED,
      "/no/such: No such file", "The script's option root wants a folder")
    says("serve --script " .. file("app.lua", "return { limits = { mesage = 1 } }"), FAILED,
      "app.lua: limits: unknown option 'mesage', did you mean 'message'?", "khp limits lists")
  end)

  it("policies that check cannot read, in its own form of output", function()
    for path, words in pairs {
      ["/no/such.lua"] = "not ok 1 - /no/such.lua\n# /no/such.lua: No such file or directory\n" ..
        "# Is the path right, may you read it?\n1..1\n",
      [folder] = "not ok 1 - " .. folder .. "\n# " .. folder .. ": cannot be read\n" ..
        "# Is the path right, may you read it?\n1..1\n",
    } do
      assert.same({ words, "", FAILED }, { command.khp("check " .. path) })
    end
    for text, words in pairs {
      ["return {"] = "app.lua:1: ",
      ["return 5"] = "app.lua: a policy returns a table of functions, not number",
      ["return { extnded = function() end }"] = "'extnded', did you mean 'extended'",
      ["return { tests = 1 }"] = "tests: ",
      ["error {}"] = "app.lua",
      ["while true do end"] = "app.lua",
    } do
      local output, errors, status = command.khp("check " .. file("app.lua", text))
      assert.same({ "", FAILED }, { errors, status }, text)
      assert.matches("^not ok 1 %- ", output)
      assert.truthy(output:match("\n# [^\n]*" .. words:gsub("%p", "%%%0")), output)
      assert.is_nil(output:find "should not happen")
    end
  end)

  it("URLs, headers and settings that connect cannot use", function()
    all_say(MISUSE, {
      { "connect ''", "bad URL ''" },
      { "connect 127.0.0.1:1", "bad URL '127.0.0.1:1'" },
      { "connect ftp://a/", "bad URL 'ftp://a/'" },
      { "connect -H nonsense ws://a/", "--header wants 'Name: value', not 'nonsense'" },
    })
  end)

  it("files that decode cannot read", function()
    says("decode /no/such", FAILED, "/no/such: No such file")
    says("decode --client /no/such", FAILED, "/no/such: No such file")
    says("decode --server /no/such", FAILED, "/no/such: No such file")
  end)

  it("output that cannot be written", function()
    if not io.open "/dev/full" then
      return pending "there is no /dev/full here"
    end
    for _, arguments in ipairs { "--help", "--version", "help serve", "limits", "completion bash", "check bin/khp",
      "serve --port 0" } do
      local output, errors, status = command.khp(arguments .. " >/dev/full")
      assert.same({ "", "khp: standard output: No space left on device\n", FAILED }, { output, errors, status },
        arguments)
    end
  end)
end)
