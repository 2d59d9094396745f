-- What --trace shows of a handshake, whatever the pieces in which it comes, and what it leaves out.

local trace = require "khp.cli.trace"

describe("a trace", function()
  local texts, now

  local function new(secrets)
    texts, now = {}, 0
    return trace.new {
      clock = function()
        return now
      end,
      paint = function(_, text)
        return text
      end,
      write = function(text)
        texts[#texts + 1] = text
      end,
      secrets = secrets,
    }
  end

  it("leaves out what proves who one is, wherever the head is cut", function()
    local head = "HTTP/1.1 101 Switching Protocols\r\nSet-Cookie: session=TOPSECRET; HttpOnly\r\n" ..
      "Location: ws://joe:TOPSECRET@h/?access_token=TOPSECRET&id=TOPSECRET#x=TOPSECRET\r\n" ..
      "X-Api-Key:\r\n TOPSECRET\r\nX-Last: 1\r\n\r\n"
    for at = 1, #head do
      local show, finish = new()
      show("receive", "opening", head:sub(1, at))
      show("receive", "opening", head:sub(at + 1))
      finish()
      local all = table.concat(texts)
      for n = 3, #"TOPSECRET" do
        assert.is_nil(all:find(("TOPSECRET"):sub(1, n), 1, true), all)
        assert.is_nil(all:find(("TOPSECRET"):sub(-n), 1, true), all)
      end
      assert.matches("Set%-Cookie: %(not shown%)\n", all)
      assert.matches("Location: ws://…@h/%?access_token=…&id=…#x=…\n", all)
      assert.matches("X%-Api%-Key:%(not shown%)\n", all)
      assert.matches("X%-Last: 1\n", all)
    end
  end)

  it("says that a head goes on, and what was left of it at the end", function()
    local show, finish = new()
    show("receive", "opening", "HTTP/1.1 101 Switching Pro")
    assert.same({}, texts)
    now = 0.25
    show("receive", "opening", "tocols\r\nServer: a\r\nSet-Coo")
    show("receive", "opening", "kie: b\r\nX: y")
    finish()
    assert.same({
      "   0.250 s  client ◀── server  opening   HTTP/1.1 101 Switching Protocols\n" .. (" "):rep(41) .. "Server: a\n",
      "   0.250 s  client ◀── server  opening   (continued)\n" .. (" "):rep(41) .. "Set-Cookie: (not shown)\n",
      "   0.250 s  client ◀── server  opening   (4 bytes of a line that does not end, not shown)\n",
    }, texts)
  end)

  it("shows at once what is no HTTP", function()
    local show = new()
    show("receive", "extended", "\239\131\191Rws://h/?token=x")
    show("receive", "extended", "")
    show("receive", "opening", "SSH-2.0")
    assert.matches("extended  \239\131\191Rws://h/%?token=…\n$", texts[1])
    assert.matches("extended  0 bytes\n$", texts[2])
    assert.matches("opening   SSH%-2%.0\n$", texts[3])
  end)

  it("shows a body until the next message begins", function()
    local show = new()
    show("send", "extended", "GET /?a=b HTTP/1.1\r\nAuthorization : Basic xyz=\r\n\r\n")
    show("receive", "extended", "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"m\"\r\n\r\n")
    show("receive", "extended", "who?\n")
    show("receive", "extended", "HTTP/1.1 101 OK\r\nSec-WebSocket-Key: k\r\n\r\n")
    assert.matches("GET /%?a=… HTTP/1.1\n +Authorization : Basic %(not shown%)\n$", texts[1])
    assert.matches('401 Unauthorized\n +WWW%-Authenticate: Basic realm="m"\n$', texts[2])
    assert.matches("%(continued%)\n +who%?\n$", texts[3])
    assert.matches("extended  HTTP/1.1 101 OK\n +Sec%-WebSocket%-Key: k\n$", texts[4])
  end)

  it("leaves out the bodies of requests", function()
    local show = new()
    show("send", "opening", "POST / HTTP/1.1\r\n\r\npassword=x")
    assert.matches("POST / HTTP/1.1\n +%(10 bytes, not shown%)\n$", texts[1])
  end)

  it("leaves out nothing where secrets are asked for", function()
    local show = new(true)
    show("send", "opening", "GET /?a=b HTTP/1.1\r\nCookie: c\r\n d\r\n\r\n")
    assert.matches("GET /%?a=b HTTP/1.1\n +Cookie: c\n + d\n$", texts[1])
  end)
end)
