-- khp connect with somebody who types: a line that is edited while messages arrive, passwords that are not shown, the
-- line that tells how far a transfer is. The terminal is a pseudo terminal that a script types at.

local command = require "spec.support.command"
local net = require "spec.support.net"

local BEGIN = "\r\27[K" -- the line is taken away before another is printed above it

describe("khp connect on a terminal", function()
  local server, url, typed

  before_each(function()
    typed = {}
    server, url = net.serve { on_message = function(conn, message, kind)
      typed[#typed + 1] = message
      conn:send(message, kind)
    end }
  end)

  after_each(function()
    server:close()
  end)

  -- Runs khp with these arguments while the steps are typed, and gives what was shown and the exit status. `inside`
  -- stands before khp, on the terminal.
  local function type_at(steps, arguments, before, inside)
    local path = command.file(table.concat(steps, "\n") .. "\n")
    local output, errors, status = command.begin("connect " .. arguments,
      ("%s python3 spec/support/typist.py %s %s"):format(before or "TERM=xterm NO_COLOR=1", path, inside or ""))
      :finish()
    os.remove(path)
    assert.equal("", errors)
    return output, status
  end

  it("sends the lines that are typed, shows what comes above them, and ends with Ctrl-D", function()
    local output, status = type_at({
      "< open: ", "> hello\\r", "< \\x1b[K< hello\\r\\n", "> wrld\\x1b[D\\x1b[D\\x1b[Do\\r", "< \\x1b[K< world\\r\\n",
      "> \\x04",
    }, url)
    assert.equal(0, status)
    assert.same({ "hello", "world" }, typed)
    assert.truthy(output:find(BEGIN .. "open: " .. url .. ", with KHP\r\n", 1, true), output)
    assert.truthy(output:find(BEGIN .. "closed by local: 1000\r\n", 1, true))
    assert.is_nil(output:find("\27[3", 1, true)) -- NO_COLOR
  end)

  it("leaves the line that is being typed as it was when a message comes", function()
    server:close()
    server, url = net.serve { on_open = function(conn)
      local message
      repeat
        conn:send "meanwhile"
        message = conn:receive(0.03)
      until message
      conn:send(message)
      conn:receive()
    end }
    local output, status = type_at({
      "< open: ", "> half", "< half", "< < meanwhile\\r\\n", "< > half", "> way\\r",
      "< < halfway\\r\\n", "> \\x04",
    }, url)
    assert.equal(0, status, output)
  end)

  it("paints where NO_COLOR does not forbid it", function()
    local output = type_at({ "< open: ", "> \\x04" }, url, "env -u NO_COLOR TERM=xterm")
    assert.truthy(output:find("\27[32mopen: ", 1, true))
    -- plain lines, as the terminal has them
    output = type_at({ "> x\\n", "< x\\r\\nx\\r\\n", "> \\x04" }, url, "TERM=dumb")
    assert.is_nil(output:find("\27", 1, true), output)
  end)

  it("remembers what was typed, beyond its end where KHP_HISTORY names a file", function()
    local path = os.tmpname()
    local before = "TERM=xterm KHP_HISTORY=" .. path
    type_at({ "< open: ", "> one\\rtwo\\r", "< \\x1b[33m< \\x1b[0mtwo\\r\\n", "> \\x04" }, url, before)
    type_at({ "< open: ", "> \\x10\\x10!\\r", "< \\x1b[0mone!\\r\\n", "> \\x04" }, url, before)
    os.remove(path)
    assert.same({ "one", "two", "one!" }, typed)
  end)

  it("shows nothing of a peer's that the terminal would obey", function()
    local output = type_at({ "< open: ", "> \\x10a\\tb\\r", "< < a\\tb", "> \\x04" }, url)
    assert.is_nil(output:find("\\x09", 1, true))
    server:close()
    server, url = net.serve { on_open = function(conn)
      conn:send "\27]0;owned\7\194\155"
      conn:send("\0\1\255", "binary")
      conn:receive()
    end }
    output = type_at({ "< binary, 3 bytes: 00 01 ff", "> \\x04" }, url)
    assert.truthy(output:find("\\x1B]0;owned\\x07\\xC2\\x9B", 1, true), output)
  end)

  it("closes in order on Ctrl-C and gives the terminal back as it was", function()
    local closed
    server:close()
    server, url = net.serve { on_close = function(_, code)
      closed = code
    end, on_message = net.echo }
    local output = type_at({ "< open: ", "> half", "< half", "> \\x03", "< over 0" }, url, nil,
      [[sh -c 'trap : INT; "$@"; echo over $?; stty -a' sh]])
    assert.matches("[^-]icanon", output)
    assert.matches("[^-]echo ", output)
    net.await(function()
      return closed
    end)
    assert.equal(1000, closed)
  end)

  it("asks for the password of --user, and does not show it", function()
    server:close()
    server, url = net.serve { on_message = net.echo, policy = { extended = function(request, session)
      local decision = require "khp.policy.decision"
      return session:basic(request, { joe = "open sesame" }) and decision.accept {} or
        decision.challenge 'Basic realm="members"'
    end } }
    local steps = { "< Password of joe: ", "> open sesame\\n", "< open: ", "> \\x04" }
    local output, status = type_at(steps, "--user joe " .. url, "env -u KHP_PASSWORD TERM=xterm")
    assert.equal(0, status)
    assert.is_nil(output:find("sesame", 1, true))
  end)

  it("tells how far a transfer is while standard input and output are no terminals", function()
    local path = command.file(("x"):rep(99) .. "\n")
    local output, status = type_at({ "< sent 99 bytes of 100 bytes (99 %), received 99 bytes, " }, "--wait 1.5 " .. url,
      nil, ([[sh -c 'exec "$@" <%s >/dev/null' sh]]):format(path))
    os.remove(path)
    assert.equal(0, status, output)
    assert.matches("/s\27%[K\r\27%[K$", output)
  end)
end)
