-- A peer that resets the connection while its messages are being answered: nothing can be sent any more, and what it
-- had sent still comes. Who waited for room then waited for ever, and took the whole loop along.

local core = require "khp.core"
local net = require "spec.support.net"
local served = require "spec.support.served"

-- Sends all that, reads nothing of the answers, and goes without a word.
local function talk_and_go(port, count)
  local frames = net.frame(0x81, "hello"):rep(count)
  local peer = net.peer(port)
  peer:upgrade()
  core.conn.pause(peer.conn)
  peer:send(frames)
  net.await(function()
    return core.conn.queued(peer.conn) <= #frames / 2
  end, "the messages to go")
  core.conn.abort(peer.conn)
end

describe("a connection that is lost while its messages still come", function()
  after_each(served.stop)

  it("does not stop khp serve", function()
    local server = served.anywhere "--level off"
    for _, count in ipairs { 100, 2000, 100, 20000 } do
      talk_and_go(tonumber(server.url:match ":(%d+)/"), count)
      assert.is_true((served.echoes(server.url, { timeout = 10 })))
    end
    server:signal "TERM"
    assert.equal(0, (select(2, server:finish())))
  end)

  it("is closed to who sends on it and to who waits for room", function()
    local outcomes, count, done = {}, 0, false
    local server, _, port = net.serve {
      on_open = function(conn)
        for message, kind in conn:each() do
          count = count + 1
          local sent, text, code = conn:send(message, kind)
          if not sent then
            local drained, _, why = conn:drain()
            outcomes[#outcomes + 1] = ("%s %s %s %s %s"):format(text, code, conn.state, drained, why)
          end
        end
        done = true
      end,
    }
    talk_and_go(port, 20000)
    net.await(function()
      return done
    end, "the end")
    assert.is_true(count > 0)
    for _, outcome in ipairs(outcomes) do
      assert.matches("^closed ECLOSED clos%a+ nil ECLOSED$", outcome)
    end
    server:close(1)
  end)
end)
