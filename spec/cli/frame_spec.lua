-- The frame of the command line: help, version, completion, and how khp says that it was called wrongly.

local command = require "spec.support.command"
local khp = command.khp

local LUA = os.getenv "LUA" or "lua5.4"
local NAMES = { "serve", "connect", "check", "decode", "limits", "completion" }

describe("khp", function()
  it("lists its commands and teaches by examples", function()
    local output, errors, status = khp "--help"
    assert.same({ "", 0 }, { errors, status })
    for _, name in ipairs(NAMES) do
      assert.matches("\n +" .. name .. " ", output)
    end
    assert.matches("Examples:\n", output)
    assert.same({ output, "", 0 }, { khp "help" })
    assert.same({ output, "", 0 }, { khp "-h" })
  end)

  it("explains each command, with examples, in lines that fit a terminal", function()
    for _, name in ipairs(NAMES) do
      local output, errors, status = khp(name .. " --help")
      assert.same({ "", 0 }, { errors, status })
      assert.matches("^usage: khp " .. name, output)
      assert.matches("Examples:\n +%S*.*khp " .. name, output)
      for line in output:gmatch "[^\n]+" do
        assert.is_true(utf8.len(line) <= 80, line)
        assert.is_nil(line:match "^    +%-%a ", line) -- names of options begin in one column
      end
      assert.same({ output, "", 0 }, { khp("help " .. name) })
    end
  end)

  it("tells its version and those of what it stands on", function()
    local output = khp "--version"
    assert.matches("^khp " .. require("khp")._VERSION:gsub("%p", "%%%0") .. "\n", output)
    for _, name in ipairs { "libwebsockets", "OpenSSL", "libuv", "zlib" } do
      assert.matches("\n" .. name .. " %d+%.%d+", output)
    end
    assert.matches("\nLua %d+%.%d+%.%d+\n", output)
  end)

  it("lists the limits, which --help shows how to search", function()
    local word = khp("limits --help"):match "khp limits | grep (%w+)"
    local output = khp "limits"
    assert.matches(word, output)
    for _, limit in ipairs(require("khp.limits").list) do
      assert.matches("\n" .. limit.name .. " +[%d.]+ " .. limit.unit, "\n" .. output)
    end
  end)

  it("says what is wrong with how it was called, and what to try, and ends with 2", function()
    for arguments, expected in pairs {
      [""] = "^usage: khp COMMAND.*Examples:",
      ["chekc x.lua"] = "khp: unknown command 'chekc'\nDid you mean 'check'%?\n.*khp %-%-help",
      ["help chekc"] = "khp: unknown command 'chekc'\nDid you mean 'check'%?\n",
      ["check"] = "khp: check: missing argument 'FILE'\nusage: khp check FILE…\nkhp check %-%-help tells more",
      ["check --colour x"] = "khp: check: unknown option '%-%-colour'\nusage",
      ["limits x"] = "khp: limits: too many arguments\nusage: khp limits\n",
      ["serve --hots 1"] = "khp: serve: unknown option '%-%-hots'\nDid you mean '%-%-host'%?\n",
      ["completion tcsh"] = "khp: completion: argument 'SHELL' must be one of 'bash', 'zsh', 'fish'\n",
    } do
      local output, errors, status = khp(arguments)
      assert.same({ "", 2 }, { output, status }, arguments)
      assert.matches(expected, errors)
    end
  end)

  it("completes in bash and zsh, where these are installed to try it", function()
    for shell, check in pairs { bash = "bash -n", zsh = "zsh -n", fish = "fish -n" } do
      local output, errors, status = khp("completion " .. shell)
      assert.same({ "", 0 }, { errors, status })
      assert.matches("serve", output)
      if os.execute("command -v " .. shell .. " >/dev/null") then
        local path = command.file(output)
        assert.is_true(os.execute(check .. " " .. path), shell)
        os.remove(path)
      end
    end
  end)

  it("offers the commands and a command's options to bash", function()
    if not os.execute "command -v bash >/dev/null" then
      return pending "there is no bash here"
    end
    local function offers(words)
      local script = ([[
        %s
        COMP_WORDS=(%s) COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        _khp; echo "${COMPREPLY[@]}"]]):format((khp "completion bash"), words)
      local path = command.file(script)
      local pipe = io.popen("bash " .. path)
      local output = pipe:read "*a"
      pipe:close()
      os.remove(path)
      return output
    end
    assert.matches("check", offers "khp ch")
    assert.matches("%-%-port", offers "khp serve --p")
    assert.equal("error\n", offers "khp serve --level er")
    assert.equal("bash zsh fish\n", offers "khp completion ''")
    assert.equal("-h --help\n", offers "khp limits -")
  end)

  it("offers the shells to fish", function()
    if not os.execute "command -v fish >/dev/null" then
      return pending "there is no fish here"
    end
    local path = command.file(khp "completion fish" .. "complete -C 'khp completion '\n")
    local pipe = io.popen("HOME=/nonexistent fish --no-config " .. path .. " 2>/dev/null")
    local output = pipe:read "*a"
    pipe:close()
    os.remove(path)
    for _, shell in ipairs { "bash", "zsh", "fish" } do
      assert.matches("%f[%w]" .. shell .. "%f[%W]", output)
    end
  end)

  it("completes what is typed in zsh", function()
    if not os.execute "command -v zsh >/dev/null" then
      return pending "zsh is not installed"
    end
    local folder = os.tmpname()
    os.remove(folder)
    assert(os.execute(("mkdir %s && %s bin/khp completion zsh >%s/_khp"):format(folder, LUA, folder)))
    local script = command.file(([[
      zmodload zsh/zpty
      zpty typist TERM=dumb zsh -f -i
      zpty -w typist 'fpath=(%s $fpath); autoload -Uz compinit; compinit -u -D; echo rea""dy'
      zpty -r typist seen '*ready*'
      zpty -w -n typist $'khp serve --por\t0 --clien\t'
      zpty -r typist seen '*--port*0*--client-ca*'
      print -r -- $seen
      zpty -d typist]]):format(folder))
    local pipe = io.popen("timeout 30 zsh -f " .. script)
    local output = pipe:read "*a"
    pipe:close()
    os.remove(script)
    os.execute("rm -r " .. folder)
    assert.matches("%-%-port.*%-%-client%-ca", output)
  end)

  it("ends quietly where nobody reads what it writes", function()
    local pipe = io.popen("{ { sleep 0.1; " .. LUA .. " bin/khp limits 2>&3; echo $? >&3; } | true; } 3>&1")
    local output = pipe:read "*a"
    pipe:close()
    assert.equal("0\n", output)
  end)

  it("says how to be found where Lua does not find its modules", function()
    local away = "env -u LUA_PATH_5_4 -u LUA_CPATH_5_4 LUA_CPATH=/nonexistent/?.so LUA_PATH="
    local output, errors, status = khp("limits", away .. "'/nonexistent/?.lua'")
    assert.same({ "", 2 }, { output, status })
    assert.equal([[
khp: Lua does not find the module khp.cli
In a checkout, run: make && eval "$(make -s env)"
Elsewhere, LUA_PATH and LUA_CPATH must name the folders in which khp was installed.
]], errors)
    output, errors, status = khp("limits", away .. "'lua/?.lua;lua/?/init.lua;;'")
    assert.same({ "", 2 }, { output, status })
    assert.matches("^khp: Lua does not find the module khp.core, .*\n.*make.*\n.*LUA_CPATH[^\n]*\n$", errors)
  end)

  it("says what to install where argparse is not there, and the library does without", function()
    local path = os.tmpname()
    os.remove(path)
    assert(os.execute(("mkdir %s && ln -s %s/lua/khp %s/khp"):format(path, os.getenv "PWD", path)))
    local before = ("LUA_PATH='%s/?.lua;%s/?/init.lua'"):format(path, path)
    local output, errors, status = khp("limits", before)
    assert.same({ "", 2 }, { output, status })
    assert.matches("argparse, which is not installed\n.*apt%-get install lua%-argparse.*luarocks", errors)
    assert(os.execute(("%s %s -e 'assert(require(\"khp\").listen)'"):format(before, LUA)))
    os.execute("rm -r " .. path)
  end)
end)
