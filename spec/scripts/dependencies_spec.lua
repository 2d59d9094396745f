-- What scripts/dependencies does about what is missing, on a system that is made up: a PATH with some of this system's
-- programs and a package manager of our own.

describe("scripts/dependencies", function()
  local folder

  local PROGRAMS = "sh env sed grep cat ls ln cc gcc make pkg-config openssl busted luarocks "
    .. (os.getenv "LUA" or "lua5.4")

  local function write(path, text)
    local file = assert(io.open(path, "w"))
    file:write(text)
    file:close()
    assert(os.execute("chmod +x " .. path))
  end

  -- has: more programs; apt_get: what the package manager does with its arguments.
  local function make_up(has, apt_get)
    folder = os.tmpname()
    os.remove(folder)
    assert(os.execute(("mkdir %s; for program in %s %s; do ln -s \"$(command -v $program)\" %s/${program##*/}; done")
      :format(folder, PROGRAMS, has, folder)))
    write(folder .. "/id", "#!/bin/sh\necho 0\n")
    write(folder .. "/apt-get", ("#!/bin/sh\necho \"$*\" >>%s/asked\n%s\n"):format(folder, apt_get))
  end

  -- Gives what it said, and its status.
  local function run(arguments)
    local pipe = assert(io.popen(("PATH=%s scripts/dependencies %s 2>&1"):format(folder, arguments)))
    local text = pipe:read "*a"
    local _, _, status = pipe:close()
    return text, status
  end

  local function asked()
    local file = io.open(folder .. "/asked")
    local text = file and file:read "*a" or ""
    return text, file and file:close()
  end

  after_each(function()
    os.execute("rm -r " .. folder)
  end)

  it("says nothing where nothing is missing", function()
    make_up("", "exit 1")
    assert.same({ "", 0 }, { run "" })
    assert.equal("", (asked()))
  end)

  it("ends with 1 where something cannot be had", function()
    make_up("", "exit 1") -- no luacheck
    local text, status = run "test"
    assert.equal(1, status)
    assert.matches("by hand:.*luacheck", text)
  end)

  it("tells which peers are missing, and ends with 0 all the same", function()
    make_up("luacheck", "exit 1")
    local text, status = run "test"
    assert.equal(0, status)
    assert.matches("The tests skip what needs these.*Chromium", text)
    assert.matches("install.* chromium", (asked()))
  end)

  it("installs those that can be had", function()
    make_up("luacheck", 'case " $* " in *" chromium "*) exit 1 ;; *" npm "*) ln -s /bin/sh ${0%/*}/npm ;; esac')
    local text, status = run "test"
    assert.equal(0, status)
    local before, after = text:match "^(.-)\ninstalling(.*)$"
    assert.matches("npm", before)
    assert.matches("Chromium", after)
    assert.is_nil(after:match "\n  npm")
  end)

  it("installs nothing when asked what is missing", function()
    make_up("luacheck", "exit 1")
    local text, status = run "--check test"
    assert.equal(1, status)
    assert.matches("Chromium", text)
    assert.equal("", (asked()))
  end)
end)
