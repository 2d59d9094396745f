-- khp connect with somebody who types: a line that is edited while messages arrive, passwords that are not shown, the
-- line that tells how far a transfer is. The terminal is a pseudo terminal that a script types at.

local command = require "spec.support.command"
local hand = require "spec.support.hand"
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
    assert.truthy(output:find(BEGIN .. "closed by this side: 1000\r\n", 1, true))
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

  -- What stands on the terminal when the program has ended: its status, and the modes.
  local REPORT = [[sh -c 'trap : INT; "$@"; echo over $?; stty -a; echo all' sh]]

  -- The same, where a signal is only for the program.
  local JOB = [[sh -c 'set -m; "$@"; echo over $?; stty -a; echo all' sh]]

  local function is_as_it_was(output, status)
    assert.matches("over " .. status, output)
    assert.matches("[^-]icanon", output)
    assert.matches("[^-]echo ", output)
    assert.is_nil(output:find("traceback", 1, true), output)
    assert.is_nil(output:find("this should not happen", 1, true), output)
  end

  it("gives the terminal back when a password is not typed to its end", function()
    local before = "env -u KHP_PASSWORD TERM=xterm"
    local output = type_at({ "< Password of joe: ", "> secr\\x03", "< all" }, "--user joe " .. url, before, REPORT)
    is_as_it_was(output, 130)
    assert.is_nil(output:find("secr", 1, true))
    output = type_at({ "< Password of joe: ", "> secr\\x1c", "< all" }, "--user joe " .. url, before, REPORT)
    is_as_it_was(output, 131)
    output = type_at({ "< Password of joe: ", "signal TERM", "< all" }, "--user joe " .. url, before, JOB)
    is_as_it_was(output, 143)
  end)

  it("takes nothing for a password that was typed before it asked", function()
    local expected
    server:close()
    server, url = net.serve { on_message = net.echo, policy = { extended = function(request, session)
      local decision = require "khp.policy.decision"
      expected = session:basic(request, { joe = "right" }) or expected
      return expected and decision.accept {} or decision.challenge 'Basic realm="members"'
    end } }
    local output, status = type_at({
      "< ready", "> early\\r", "< early", "signal USR1", "< Password of joe: ", "> right\\r", "< open: ", "> \\x04",
    }, "--user joe " .. url, "env -u KHP_PASSWORD TERM=xterm",
      [[sh -c 'trap go=1 USR1; echo ready; until [ "$go" ]; do sleep 0.05; done; exec "$@"' sh]])
    assert.equal(0, status, output)
    assert.equal("joe", expected)
  end)

  -- A server that reads the opening, and answers it where it is told to; then it hears nothing.
  local function deaf(answer)
    server:close()
    server = hand.server(function(peer)
      local request = peer:http()
      if answer then
        peer:write(hand.switch(request))
        peer:extended()
        peer:binary(hand.COMPLETED)
      end
      peer:await_end()
    end)
    url = server.url
  end

  it("gives up connecting on Ctrl-C, Ctrl-D and SIGTERM, and says so in one line", function()
    deaf()
    for step, status in pairs { ["> \\x03"] = 130, ["> \\x04"] = 1, ["signal TERM"] = 143 } do
      local output = type_at({ "< opening", step, "< all" }, "--trace " .. url, nil, JOB)
      is_as_it_was(output, status)
      assert.matches("khp: connect: interrupted while connecting\r\n", output)
    end
  end)

  it("stops on Ctrl-Z with the terminal as it was, and goes on where it was", function()
    local output = type_at({
      "< open: ", "> half", "< half", "> \\x1a", "< stopped", "<  icanon", "< > half", "> way\\r", "< < halfway\\r\\n",
      "> \\x04", "< all",
    }, url, nil, [[sh -c 'set -m; "$@"; echo stopped; stty -a; fg; echo over $?; stty -a; echo all' sh]])
    is_as_it_was(output, 0)
    assert.same({ "halfway" }, typed)
  end)

  it("takes the terminal again where others have stopped and continued it", function()
    local output = type_at({
      "< open: ", "> half", "< half", "signal STOP", "< stopped", "< > half", "> way\\r", "< < halfway\\r\\n",
      "> \\x04", "< all",
    }, url, nil, [[sh -c 'set -m; "$@"; stty sane; echo stopped; fg; echo over $?; stty -a; echo all' sh]])
    is_as_it_was(output, 0)
    assert.same({ "halfway" }, typed)
  end)

  it("leaves a terminal that waits for keys, as the shell had it", function()
    local output = type_at({ "< open: ", "> \\x04", "< over 0", "> more\\r", "< it read more\\r\\n" }, url, nil,
      [[sh -c '"$@"; echo over $?; read line; echo it read $line' sh]])
    assert.matches("it read more", output)
  end)

  it("leaves the terminal to the shell while it is in the background", function()
    local output = type_at({
      "< open: ", "> \\x1a", "< ready", "> for the shell\\r", "< it read for the shell\\r\\n", "< typed", "< > ",
      "> x\\r", "< < x\\r\\n", "> \\x04", "< all",
    }, url, nil, [[sh -c 'set -m; "$@"; bg; echo ready; read line; echo it read $line; echo typed; fg;]] ..
      [[ echo over $?; stty -a; echo all' sh]])
    is_as_it_was(output, 0)
    assert.same({ "x" }, typed)
  end)

  it("ends at once on Ctrl-\\", function()
    is_as_it_was(type_at({ "< open: ", "> half", "< half", "> \\x1c", "< all" }, url, nil, REPORT), 131)
  end)

  it("says that it is closing where the server does not answer, and ends on Ctrl-C", function()
    deaf(true)
    for _, keys in ipairs { "\\x04", "\\x03" } do
      local output = type_at({
        "< open: ", "> " .. keys, "< closing; Ctrl-C ends at once", "> \\x03", "< all",
      }, url, nil, REPORT)
      is_as_it_was(output, 130)
    end
  end)

  it("takes lines while there is no connection, and sends them when there is one", function()
    local decision = require "khp.policy.decision"
    local tries, down = 0, false
    server:close()
    server, url = net.serve { on_open = function(conn)
      typed[#typed + 1] = conn:receive()
      if not typed[2] then
        down = true
        conn:close(1012)
      end
      conn:receive()
    end, policy = { extended = function()
      tries = tries + 1
      return (not down or tries > 3) and decision.accept {} or decision.reject(503)
    end } }
    local output, status = type_at({
      "< open: ", "> x\\r", "< again in ", "> hel\\x7f\\x7f", "< > h\\x1b[K", "> ey\\r",
      "< kept until there is a connection", "< open: ", "> \\x04",
    }, "--reconnect " .. url)
    assert.equal(0, status, output)
    assert.same({ "x", "hey" }, typed)
  end)

  it("keeps what was typed in a file that nobody else may read", function()
    local path = os.tmpname()
    os.remove(path)
    type_at({ "< open: ", "> one\\r", "< \\x1b[33m< \\x1b[0mone", "> \\x04" }, url, "TERM=xterm KHP_HISTORY=" .. path,
      [[sh -c 'umask 022; exec "$@"' sh]])
    local pipe = io.popen("ls -l " .. path)
    assert.matches("^%-rw%-%-%-%-%-%-%-", pipe:read "*l")
    pipe:close()
    os.remove(path)
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
