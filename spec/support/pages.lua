-- Plays what a page of the documentation shows. A block of code is played when an HTML comment stands in the line
-- before it:
--
--   <!-- run -->              a program, or shell commands: must end by itself, with status 0
--   <!-- run client.lua -->   likewise, and it is kept under this name
--   <!-- serve server.lua --> a program, or one command that ends in "&": goes on in the background until the next one,
--                             or the page's end. It is there when it calls khp.run(), or has written a line
--   <!-- policy joe.lua -->   a policy, or nothing but its file's text: it loads, and its tests hold
--   <!-- file notes.txt -->   a file and nothing more
--   <!-- prints -->           what the last one that was run has printed; "…" is anything
--
-- In a Lua program, "--> text" is what the program prints there. khp is required where the block does not do so. The
-- files of a page lie in a folder of their own, together with the example policies, and certificates where the page
-- has some; ports (8…) are replaced by free ones; "%1" in shell commands is what serves.

local net = require "spec.support.net"

local pages = {}

local function output_of(command)
  local pipe = assert(io.popen(command))
  local text = pipe:read "a"
  return text, pipe:close()
end

local function first_line(command)
  return assert(output_of(command):match "^[^\n]+", command .. " says nothing")
end

local ROOT = first_line "pwd"
local LUA = first_line("command -v " .. (os.getenv "LUA" or "lua5.4")) -- absolute: the pages' lua5.4 is another

local function quote(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

function pages.read(path)
  local file = assert(io.open(path))
  local text = file:read "a"
  file:close()
  return text
end

--- The blocks of code of a page: { language =, text =, line =, verb =, name = }, verb and name from the mark.
function pages.blocks(text)
  local list, number, block, mark = {}, 0, nil, nil
  for line in text:gmatch "([^\n]*)\n" do
    number = number + 1
    if block and line:match "^```%s*$" then
      block.text = table.concat(block, "\n") .. "\n"
      list[#list + 1], block, mark = block, nil, nil
    elseif block then
      block[#block + 1] = line
    elseif line:match "^```" then
      local verb, name = (mark or ""):match "^<!%-%-%s*(%a+)%s*([%w_.-]*)%s*%-%->$"
      block = { language = line:match "^```(%a*)", line = number, verb = verb, name = name ~= "" and name or nil }
    else
      mark = line:match "^<!%-%-.*$"
    end
  end
  return list
end

local story = {}
story.__index = story

-- The files that pages of TLS speak of: server.pem, server.key, for localhost, and my-ca.pem, who has signed them.
local function make_certificates(folder)
  local made = os.execute(("sh %s/spec/support/certs.sh %s/.certs >/dev/null"):format(quote(ROOT), folder))
  assert(made, "no certificates were made")
  local names = { ["localhost.pem"] = "server.pem", ["localhost.key"] = "server.key", ["ca.pem"] = "my-ca.pem" }
  for from, to in pairs(names) do
    os.execute(("cp %s/.certs/%s %s/%s"):format(folder, from, folder, to))
  end
end

--- A page that is going to be played, block after block.
---@param text string
function pages.story(text)
  local folder = first_line "mktemp -d"
  os.execute(("cp %s/examples/policies/* %s && mkdir %s/.bin"):format(quote(ROOT), folder, folder))
  local self = setmetatable({ folder = folder, ports = {}, count = 0 }, story)
  if text:find("server.pem", 1, true) then
    make_certificates(folder)
  end
  self:write(".bin/lua5.4", ('#!/bin/sh\nexec %s "$@"\n'):format(LUA))
  self:write(".bin/khp", ('#!/bin/sh\nexec %s %s/bin/khp "$@"\n'):format(LUA, quote(ROOT)))
  os.execute(("chmod 755 %s/.bin/*"):format(folder))
  self.prefix = ("cd %s && LUA_PATH=%s LUA_CPATH=%s PATH=%s:\"$PATH\" KHP_USER= KHP_PASSWORD= NO_COLOR=1; "):format(
    folder, quote(package.path), quote(package.cpath), quote(folder .. "/.bin"))
    .. "export LUA_PATH LUA_CPATH PATH NO_COLOR; unset LUA_PATH_5_4 LUA_CPATH_5_4; "
  return self
end

function story:write(name, text)
  local file = assert(io.open(self.folder .. "/" .. name, "w"))
  file:write(text)
  file:close()
end

-- The block's text with ports that are free here.
local function on_free_ports(self, text)
  return (text:gsub("%f[%d](8%d%d%d)%f[%D]", function(port)
    if not self.ports[port] then
      local probe, _, free = net.serve {}
      probe:close()
      self.ports[port] = ("%d"):format(free)
    end
    return self.ports[port]
  end))
end

-- The file of a block, and the command that runs it.
local function prepare(self, block, wrapper)
  self.count = self.count + 1
  local text = on_free_ports(self, block.text)
  local name = block.name or ("block_%d.%s"):format(self.count, block.language == "lua" and "lua" or "sh")
  if block.language == "lua" and block.verb ~= "policy" and not text:find 'require "khp"' then
    text = 'local khp = require "khp" ' .. text
  elseif block.language == "sh" then
    text = text:gsub("%%1", self.pid or "%%1"):gsub("%s*&%s*$", "\n")
  end
  self:write(name, text)
  if block.language == "lua" then
    return name, ("%s %s %s"):format(LUA, wrapper or "", name)
  end
  return name, "sh -e " .. name
end

local function lines_of(text)
  local list = {}
  for line in text:gmatch "[^\n]+" do
    list[#list + 1] = (line:gsub("%s+", " "):gsub("^ ", ""):gsub(" $", ""))
  end
  return list
end

-- What was to be printed: nil, or what is wrong. In both, ports are those of the page.
local function differs(self, expected, printed)
  local want, got = lines_of(on_free_ports(self, expected)), lines_of(printed)
  for i = 1, math.max(#want, #got) do
    local pattern = (want[i] or ""):gsub("%p", "%%%0"):gsub("…", ".-")
    if not want[i] or not (got[i] or ""):find("^" .. pattern .. "$") then
      return ("expected %q, it printed %q; all of it:\n%s"):format(want[i] or "nothing", got[i] or "nothing", printed)
    end
  end
  return nil
end

-- Until the server has said what became of a SIGHUP.
local function await_reload(self)
  local line
  repeat
    line = assert(self.server:read "l", "the server has ended")
  until line:find "loaded again" or line:find "nothing has changed"
end

local verbs = {}

function verbs.run(self, block)
  local _, command = prepare(self, block)
  local printed, ok = output_of(self.prefix .. command .. " 2>&1 </dev/null")
  self.printed = printed
  assert(ok, "it failed: " .. printed)
  local expected = {}
  for text in block.text:gmatch "%-%->%s([^\n]*)" do
    expected[#expected + 1] = text
  end
  local wrong = block.language == "lua" and expected[1] and differs(self, table.concat(expected, "\n"), printed)
  assert(not wrong, wrong)
  if block.text:find "kill %-HUP" then
    await_reload(self)
  end
end

-- Says when the server is there.
local WRAPPER = [[-e 'local khp = require "khp" local run = khp.run
  function khp.run() io.stdout:write("ready\n") io.stdout:flush() run() end']]

function verbs.serve(self, block)
  self:stop()
  local _, command = prepare(self, block, WRAPPER)
  if block.language == "sh" then
    command = block.text:match "^%s*(.-)%s*&?%s*$"
    command = on_free_ports(self, command)
  end
  self.server = assert(io.popen(self.prefix .. "echo $$; exec " .. command .. " 2>&1 </dev/null"))
  self.pid = assert(self.server:read "l")
  local line = self.server:read "l"
  assert(line == "ready" or line and line:find "^%w+://", "it does not serve: " .. tostring(line))
end

function verbs.policy(self, block)
  local name = prepare(self, block)
  local functions, results = require("khp.policy.test").run(self.folder .. "/" .. name)
  assert(functions, results)
  for _, result in ipairs(results) do
    assert(not result.failure, result.failure)
  end
end

function verbs.file(self, block)
  self:write(assert(block.name, "a file needs a name"), on_free_ports(self, block.text))
end

function verbs.prints(self, block)
  local wrong = differs(self, block.text, assert(self.printed, "nothing was run"))
  assert(not wrong, wrong)
end

--- Plays a block that has a mark; throws what is wrong.
function story:play(block)
  local play = assert(verbs[block.verb], "there is no mark " .. tostring(block.verb))
  play(self, block)
end

function story:stop()
  if self.server then
    os.execute("kill " .. self.pid)
    self.server:close()
    self.server, self.pid = nil, nil
  end
end

function story:close()
  self:stop()
  os.execute("rm -r " .. quote(self.folder))
end

return pages
