-- Callbacks that throw take nobody else with them.

local khp = require "khp"
local net = require "spec.support.net"

local function quietly(f)
  local sink, lines = khp.log.sink, {}
  khp.log.sink = function(_, text)
    lines[#lines + 1] = text
  end
  local ok, message = pcall(f)
  khp.log.sink = sink
  assert(ok, message)
  return table.concat(lines, "\n")
end

describe("an on_close that throws", function()
  it("leaves nobody waiting", function()
    local server, url = net.serve { on_message = net.echo }
    local log = quietly(function()
      local conn = assert(khp.connect(url, {
        on_close = function()
          error "in on_close"
        end,
      }))
      local woken
      khp.spawn(function()
        woken = { conn:receive() }
      end)
      conn:close()
      assert.equal("ECLOSED", woken[3])
    end)
    assert.truthy(log:match "in on_close")
    server:close()
  end)
end)

describe("a trace that throws", function()
  it("leaves nothing of the connection", function()
    local server, url = net.serve { on_message = net.echo }
    local ok, message = pcall(khp.connect, url, {
      trace = function()
        error "in trace"
      end,
    })
    assert.is_false(ok)
    assert.truthy(message:match "in trace")
    net.await(function()
      return server:stats().connections == 0
    end, "the connection to go")
    server:close()
  end)
end)
